"""Learning as one loop over all rows and labels, with nothing kept but the learners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
from hypothesis import strategies as st
from river import ensemble, linear_model, naive_bayes, preprocessing

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, micros
from headrace.operators.learn import Learn
from headrace.testing.laws import Case, InputSpec

Row = dict[str, Any]

VALUES = st.sampled_from([0.0, 1.0, -2.5, 3.0, None, float("nan"), float("inf")])
ROWS = pl.Schema(
    {
        "time": TIME_DTYPE,
        "k": pl.Float64(),
        "x": pl.Float64(),
        "word": pl.String(),
        "y": pl.Boolean(),
        "n": pl.Float64(),
        "id": pl.Int64(),
    }
)
COLUMNS = {
    "k": st.sampled_from([0.0, -0.0, float("nan"), None]),
    "x": VALUES,
    "word": st.sampled_from(["a", "b", None]),
    "n": VALUES,
    "id": st.sampled_from([0, 1, 2, None]),
}
LABELS = pl.Schema({"time": TIME_DTYPE, "id": pl.Int64(), "n": pl.Float64()})
LABEL_COLUMNS = {"id": st.sampled_from([0, 1, 2, 3, None]), "n": VALUES}


def linear(task: str) -> Any:
    if task == "classify":
        return preprocessing.StandardScaler() | linear_model.LogisticRegression()
    return preprocessing.StandardScaler() | linear_model.LinearRegression(intercept_lr=0.1)


def bagged() -> Any:
    bayes: Any = naive_bayes  # partly without types
    return ensemble.BaggingClassifier(bayes.GaussianNB(), n_models=2, seed=7)


def usable(value: Any) -> bool:
    return value is not None and value not in (float("inf"), float("-inf")) and value == value  # noqa: PLR0124 - NaN


def key_of(learn: Learn, row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name] + 0.0 if row[name] is not None else None) for name in learn.by)


class ByHand:
    """One pass over the events of one input, with a learner per key."""

    def __init__(self, learn: Learn, make: Callable[[], Any]) -> None:
        self.learn = learn
        self.make = make
        self.classifies = learn.label != "n"
        self.models: dict[tuple[str, ...], Any] = {}
        self.latest: dict[tuple[str, ...], int] = {}
        self.open: dict[Any, Row] = {}
        self.told: dict[str, list[Row]] = {"main": [], "scored": [], "unmatched": []}

    def ask(self, model: Any, x: Row) -> Row:
        value = model.predict_one(x)
        if not self.classifies:
            return {"prediction": value}
        shares = model.predict_proba_one(x)
        asked = True if self.learn.label == "y" else value
        return {"prediction": value, "probability": shares.get(asked, 0.0) if shares else None}

    def teach(self, row: Row, label: Any, at: int) -> None:
        self.models[key_of(self.learn, row)].learn_one(row["__x"], label)
        self.told["scored"].append({**row, "label": label, EVENT_TIME: at})

    def row(self, given: Row) -> None:
        learn, time = self.learn, given[EVENT_TIME]
        key = key_of(learn, given)
        if learn.by and time - self.latest.get(key, time) > micros(learn.forget):
            del self.models[key]
        self.latest[key] = time
        x = {name: given[name] for name in learn.features if usable(given[name])}
        row = {**given, "__x": x, **self.ask(self.models.setdefault(key, self.make()), x)}
        self.told["main"].append(row)
        if learn.id is None and usable(row[learn.label]):
            self.teach(row, row[learn.label], time)
        elif learn.id is not None and row[learn.id] is not None:
            self.open[row[learn.id]] = row

    def label(self, given: Row) -> None:
        row, within = self.open.get(given["id"]), self.learn.within
        assert within is not None
        if (
            row is None
            or given[EVENT_TIME] - row[EVENT_TIME] > micros(within)
            or not usable(given["n"])
        ):
            self.told["unmatched"].append(given)
        else:
            self.teach(self.open.pop(given["id"]), given["n"], given[EVENT_TIME])


def by_hand(learn: Learn, make: Callable[[], Any]) -> Callable[..., dict[str, pl.DataFrame]]:
    def oracle(*inputs: pl.DataFrame) -> dict[str, pl.DataFrame]:
        hand = ByHand(learn, make)
        events = [
            (row[EVENT_TIME], side, row[POSITION], row)
            for side, frame in enumerate(inputs)
            for row in frame.to_dicts()
        ]
        for _, side, _, row in sorted(events, key=lambda event: event[:3]):
            (hand.label if side else hand.row)(row)
        ports = learn.output_schema(*(one.drop(EVENT_TIME, POSITION).schema for one in inputs))
        return {
            port: told_as(told, ports[port]) for port, told in hand.told.items() if port in ports
        }

    return oracle


class ManyByHand(ByHand):
    """The same in stretches: first all predictions of one, then all that it teaches."""

    def stretch(self, rows: list[Row]) -> None:
        every = micros(self.learn.every or "1us")
        taught: dict[tuple[str, ...], list[Row]] = {}
        start = None
        for given in rows:
            if given[EVENT_TIME] // every != start:
                self.end(taught)
                taught, start = {}, given[EVENT_TIME] // every
            label = given[self.learn.label]
            self.row({**given, self.learn.label: None})
            row = self.told["main"][-1]
            row[self.learn.label] = label
            if usable(label):
                taught.setdefault(key_of(self.learn, given), []).append(row)
                self.told["scored"].append({**row, "label": label})
        self.end(taught)

    def end(self, taught: dict[tuple[str, ...], list[Row]]) -> None:
        for key, rows in taught.items():
            whole = [row for row in rows if len(row["__x"]) == len(self.learn.features)]
            if whole:
                frame = pl.DataFrame([row["__x"] for row in whole], schema_overrides=FLOATS)
                labels = pl.Series([row[self.learn.label] for row in whole])
                self.models[key].learn_many(frame, labels)
            for row in rows:
                if row not in whole:
                    self.models[key].learn_one(row["__x"], row[self.learn.label])


def many_by_hand(learn: Learn, make: Callable[[], Any]) -> Callable[..., dict[str, pl.DataFrame]]:
    def oracle(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        hand = ManyByHand(learn, make)
        hand.stretch(rows.sort(EVENT_TIME, POSITION).to_dicts())
        ports = learn.output_schema(rows.drop(EVENT_TIME, POSITION).schema)
        return {port: told_as(hand.told[port], ports[port]) for port in ("main", "scored")}

    return oracle


def told_as(told: list[Row], schema: pl.Schema) -> pl.DataFrame:
    return pl.DataFrame(
        [{name: one[name] for name in (*schema, EVENT_TIME)} for one in told],
        schema={**schema, EVENT_TIME: pl.Int64()},
        orient="row",
    )


def case(name: str, make: Callable[[], Any], *labels: InputSpec, **parameters: Any) -> Case:
    learn = Learn(learner=make(), **parameters)
    inputs = (InputSpec(ROWS, COLUMNS), *labels)
    oracle = by_hand if learn.every is None else many_by_hand
    return Case(learn, inputs, oracle(learn, make), name=name)


FLOATS = {"x": pl.Float64(), "n": pl.Float64()}

CASES = [
    case(
        "linear",
        lambda: linear("classify"),
        features=("x", "n"),
        label="y",
        by="k",
        forget="12s",
    ),
    case(
        "later labels",
        lambda: linear("regress"),
        InputSpec(LABELS, LABEL_COLUMNS),
        features="x",
        label="n",
        by="k",
        id="id",
        within="15s",
    ),
    case(
        "stretches",
        lambda: linear("classify"),
        features=("x", "n"),
        label="y",
        by="k",
        every="6s",
        forget="12s",
    ),
    case("drawn", bagged, features=("x", "n", "y"), label="word"),
]
