"""Learners that are refused, that are written down and read again, and what they reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from river import (
    compose,
    forest,
    linear_model,
    metrics,
    preprocessing,
    tree,
)

import headrace as hr
from headrace.core.errors import ConfigError, PlanError
from headrace.core.time import TIME_DTYPE
from headrace.operators.learn import Learn
from headrace.operators.learning import pupils
from headrace.testing.laws import cases_in, verify

SCHEMA = pl.Schema(
    {
        "time": TIME_DTYPE,
        "k": pl.Int64(),
        "x": pl.Float64(),
        "y": pl.Boolean(),
        "n": pl.Float64(),
        "word": pl.String(),
    }
)
CASES = {case.name: case for case in cases_in(Path("tests/oracles/learn.py").absolute())}


def logistic() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def every_second(frame: pl.DataFrame) -> pl.DataFrame:
    times = (pl.int_range(pl.len(), dtype=pl.Int64) * 1_000_000).cast(TIME_DTYPE)
    return frame.with_columns(times.alias("time"))


def commoner(labels: pl.Series) -> Any:
    """Return how often one is right who always says the commoner class."""
    return labels.value_counts(normalize=True)["proportion"].max()


def evaluated(
    rows: pl.DataFrame, learner: Any, label: str, window: str = "30000d", **options: Any
) -> dict[str, pl.DataFrame]:
    app = hr.App("learnt")
    features = [name for name in rows.columns if name not in ("time", label)]
    predicted = app.topic("rows", rows.schema, time="time").predict(
        hr.model.online(learner, label=label, **options), features=features
    )
    app.output("predicted", predicted)
    app.output("metrics", predicted.metrics(window))
    return dict(hr.testing.run(app, {"rows": rows}))


def test_a_forest_without_a_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="draws random numbers") as caught:
        hr.App("a").topic("rows", SCHEMA, time="time").predict(
            hr.model.online(logistic() | forest.ARFClassifier(), label="y"), features="x"
        )

    assert caught.value.hint == "ARFClassifier(seed=...)"


def test_a_seed_deep_within_a_learner_is_looked_for() -> None:
    from river import ensemble

    inner = ensemble.BaggingClassifier(tree.HoeffdingAdaptiveTreeClassifier(), seed=1)

    with pytest.raises(ConfigError, match="HoeffdingAdaptiveTreeClassifier draws"):
        Learn(learner=inner, features="x", label="y")


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ("LogisticRegression ()", "stored plan"),
        (object(), "no river learner"),
        (preprocessing.StandardScaler(), "neither a classifier nor a regressor"),
    ],
)
def test_what_is_no_learner_is_refused(learner: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Learn(learner=learner, features="x", label="y")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"label": "n"}, "learns from a label that is Boolean"),
        ({"learner": linear_model.LinearRegression(), "label": "y"}, "that is a number"),
        ({"label": "y", "features": ("x", "y")}, "among the features"),
        ({"label": "y", "features": "time"}, "read numbers, Booleans and text"),
        ({"label": "y", "id": "k"}, "go together"),
        ({"label": "y", "id": "k", "within": "2h", "forget": "1h", "by": "k"}, "was forgotten"),
        ({"label": "z"}, "z"),
        ({"label": "y", "every": "1m", "id": "k", "within": "1h"}, "labels in the rows"),
        ({"label": "y", "every": "2h", "forget": "1h", "by": "k"}, "before its stretch is over"),
        ({"label": "y", "every": "1m", "features": ("x", "word")}, "features are numbers"),
        (
            {"label": "y", "every": "1m", "learner": tree.HoeffdingTreeClassifier()},
            "HoeffdingTreeClassifier learns row by row only",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused(parameters: dict[str, Any], message: str) -> None:
    given = {"learner": logistic(), "features": "x", **parameters}

    with pytest.raises(PlanError, match=message):
        Learn(**given).output_schema(SCHEMA, *([SCHEMA] if "id" in parameters else []))


def test_equal_learners_are_equal_steps_and_others_are_not() -> None:
    one = Learn(learner=logistic(), features="x", label="y")

    assert one == Learn(learner=logistic(), features="x", label="y")
    assert one != Learn(
        learner=preprocessing.StandardScaler() | linear_model.LogisticRegression(l2=0.1),
        features="x",
        label="y",
    )


@pytest.mark.parametrize("law", ["oracle", "resume", "shard"])
@pytest.mark.parametrize("name", ["linear", "later labels"])
def test_learners_that_are_written_and_put_to_sleep_all_the_time_learn_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, law: str
) -> None:
    monkeypatch.setattr(pupils, "_MOST_LEARNT", 2)
    monkeypatch.setattr(pupils, "_MOST_AWAKE", 1)

    verify(CASES[name], law, examples=10, shrink=False)


def test_a_learner_forgets_nothing_when_it_has_learnt_much() -> None:
    rows = every_second(
        pl.DataFrame({"x": [float(i % 7) for i in range(5000)]}).with_columns(y=pl.col("x") > 3)
    )
    learner, shares = logistic(), []
    for x, y in rows.select("x", "y").rows():
        shares.append(learner.predict_proba_one({"x": x})[True])
        learner.learn_one({"x": x}, y)

    found = evaluated(rows, logistic(), "y")["predicted"]["probability"].to_list()

    assert found == shares


def test_metrics_are_those_of_each_window() -> None:
    rows = every_second(
        pl.DataFrame(
            {
                "x": [0.5, -1.5, 1.0, 2.0, None, 3.0, 1.0],
                "y": [True, False, False, True, True, None, True],
            }
        )
    )

    outputs = evaluated(rows, logistic(), "y", "4s")

    first = outputs["predicted"].head(4)
    hits = (first["prediction"] == first["y"]).sum()
    share = first["probability"].to_list()
    pairs = [
        (share[yes] > share[no]) + (share[yes] == share[no]) / 2 for yes in (0, 3) for no in (1, 2)
    ]
    told = outputs["metrics"].select("rows", "accuracy", "roc_auc").rows()
    assert told[0] == (4, pytest.approx(hits / 4), pytest.approx(sum(pairs) / 4))
    assert told[1][0] == 2
    assert told[1][2] is None


def test_a_regressor_is_judged_by_its_errors() -> None:
    rows = every_second(pl.DataFrame({"x": [1.0, 2.0, 3.0], "n": [2.0, 4.0, 6.0]}))

    outputs = evaluated(rows, linear_model.LinearRegression(), "n")

    errors = (outputs["predicted"]["prediction"] - rows["n"]).to_list()
    assert outputs["metrics"].select("rows", "mae", "rmse").rows() == [
        (
            3,
            pytest.approx(sum(map(abs, errors)) / 3),
            pytest.approx((sum(error**2 for error in errors) / 3) ** 0.5),
        )
    ]


def test_stretches_of_numbers_are_predicted_and_taught_as_river_does() -> None:
    values = [(float(i % 5), float(2 * (i % 5) + 1)) for i in range(40)]
    rows = every_second(pl.DataFrame(values, schema=["x", "n"], orient="row"))
    learner, expected = linear_model.LinearRegression(), []
    for start in range(0, 40, 10):
        part = pl.DataFrame(values[start : start + 10], schema=["x", "n"], orient="row")
        expected += list(learner.predict_many(part.select("x")))
        learner.learn_many(part.select("x"), part["n"])

    outputs = evaluated(rows, linear_model.LinearRegression(), "n", every="10s")

    assert outputs["predicted"]["prediction"].to_list() == pytest.approx(expected)


def test_phishing_pages_are_found_as_well_as_river_finds_them(recorded: Path) -> None:
    pages = pl.read_csv(recorded / "analytics" / "phishing.csv.gz").with_columns(
        pl.col("is_phishing").cast(pl.Boolean)
    )
    judges: Any = metrics  # partly without types
    learner, accuracy, loss = logistic(), judges.Accuracy(), judges.LogLoss()
    for row in pages.to_dicts():
        label = row.pop("is_phishing")
        share = learner.predict_proba_one(row)
        accuracy.update(label, learner.predict_one(row))
        loss.update(label, share)
        learner.learn_one(row, label)

    (told,) = evaluated(every_second(pages), logistic(), "is_phishing")["metrics"].to_dicts()

    assert told["rows"] == 1250
    assert told["accuracy"] == accuracy.get() == 0.8928
    assert told["log_loss"] == pytest.approx(loss.get(), rel=1e-9)
    assert told["roc_auc"] == pytest.approx(0.95335, abs=1e-5)


def test_electricity_prices_are_followed_through_their_drift(recorded: Path) -> None:
    market = pl.read_parquet(recorded / "analytics" / "elec2_first30000.parquet")
    rows = every_second(market.with_columns(pl.col("class").cast(pl.Boolean)))

    (told,) = evaluated(rows, logistic(), "class")["metrics"].to_dicts()

    assert commoner(rows["class"]) == pytest.approx(0.577, abs=5e-4)
    assert told["accuracy"] == pytest.approx(0.820, abs=5e-4)
    assert told["log_loss"] == pytest.approx(0.403, abs=5e-4)
    assert told["roc_auc"] == pytest.approx(0.900, abs=5e-4)


def test_purchases_are_expected_from_numbers_and_words(recorded: Path) -> None:
    sessions = pl.read_parquet(recorded / "analytics" / "online_shoppers.parquet")
    kinds: Any = (int, float)  # river's own examples give several
    numbers = compose.SelectType(kinds) | preprocessing.StandardScaler()
    words = compose.SelectType(str) | preprocessing.OneHotEncoder()
    learner = compose.TransformerUnion(numbers, words) | linear_model.LogisticRegression()

    (told,) = evaluated(every_second(sessions), learner, "Revenue")["metrics"].to_dicts()

    assert commoner(sessions["Revenue"]) == pytest.approx(0.847, abs=5e-4)
    assert told["accuracy"] == pytest.approx(0.881, abs=5e-4)
    assert told["log_loss"] == pytest.approx(0.311, abs=5e-4)
    assert told["roc_auc"] == pytest.approx(0.871, abs=5e-4)
