"""Detection: how strange is each row, given the rows of its key before it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
import polars as pl
from pydantic import BeforeValidator, model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import (
    LATE,
    MAIN,
    NEVER,
    Meaning,
    Operator,
    Out,
    Tables,
    TableSpec,
    Task,
    Wake,
)
from headrace.core.time import (
    BEGINNING,
    END_OF_TIME,
    EVENT_TIME,
    HIDDEN,
    HIDDEN_SCHEMA,
    micros,
    positive_duration,
)
from headrace.operators.columns import ColumnNames, column_names
from headrace.operators.detectors import DetectorField
from headrace.operators.detectors.book import KNOWN, Book, Verdicts
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import key_runs, running_max
from headrace.operators.project import check_present

_WAITING: Final = "waiting"
ADDED: Final[dict[str, pl.DataType]] = {
    "anomaly_score": pl.Float64(),
    "is_anomaly": pl.Boolean(),
    "is_change": pl.Boolean(),
    "explanation": pl.String(),
}


def _one_column(value: Any) -> Any:
    names = column_names(value)
    if len(names) != 1:
        raise PlanError("detect judges one column", hint='value="temperature"')
    return names[0]


class Detect(Operator):
    """Score every row by how strange its value is, given those of its key before it.

    Port main gives every row once, with `anomaly_score` (0 to 1: one minus the probability of
    something at least as strange; 0 while a key is warming up), `is_anomaly` (the score is at
    the detector's threshold or above), `is_change` (another level begins) and `explanation` (of
    anomalies and changes, else null). A value that is null, NaN or infinite scores 0 and is not
    learnt. Port `late` gives rows that came too late to be judged in their turn.

    Attributes:
        detector: What judges: `hr.detector.ensemble()` and others.
        value: Column with the numbers.
        by: Key columns; none means one series.
        order: `event` judges rows in (event time, position) order once the watermark has passed
            them; `arrival` at once, those older than the latest of their key, or by `forget`
            older than the watermark, go to `late`.
        forget: A key without rows for longer than this (event time) begins anew.

    State: the detector's numbers per key, for twice `forget`; the rows that wait. Cost: the
    detector's per row, in as many rounds of all keys as the busiest key of a batch has rows: a
    batch of one key is a loop over its rows.
    """

    kind: ClassVar[str] = "detect"
    detector: DetectorField
    value: Annotated[str, BeforeValidator(_one_column)]
    by: ColumnNames = ()
    order: Literal["event", "arrival"] = "event"
    forget: DurationField = timedelta(days=30)

    @model_validator(mode="after")
    def _check(self) -> Detect:
        positive_duration(self.forget, "forget")
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`."""
        return self.by

    def meaning(self) -> Meaning:
        """Declare that by arrival the order of rows decides."""
        return "rows" if self.order == "event" else "arrival"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns, with the four that are added for main.

        Raises:
            PlanError: A column is missing, taken, or no number.
        """
        (schema,) = inputs
        check_present((*self.by, self.value), schema)
        dtype = schema[self.value]
        if not dtype.is_numeric() and dtype != pl.Boolean:
            raise PlanError(f"{self.value!r} is {dtype}, and detect judges numbers")
        taken = [name for name in ADDED if name in schema]
        if taken:
            raise PlanError(
                f"{taken} are columns that detect adds",
                hint=f'rename({{"{taken[0]}": "another"}}) first',
            )
        return {MAIN: pl.Schema({**schema, **ADDED}), LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare what is known by key, and by event order the rows that wait."""
        (schema,) = inputs
        specs = [Book.spec(self.detector, pl.Schema({name: schema[name] for name in self.by}))]
        if self.order == "event":
            waiting = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
            specs.append(TableSpec(_WAITING, "rows", waiting))
        return tuple(specs)

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - state says it
        """Return a task over what is known by key."""
        return _DetectTask(self, tables)


class _DetectTask(Task):
    def __init__(self, detect: Detect, tables: Tables) -> None:
        self._tables = tables
        self._detector = detect.detector
        self._value = detect.value
        self._by = detect.by
        self._forget = micros(detect.forget)
        self._book = Book(tables.keyed(KNOWN), detect.detector, detect.by, self._forget)
        self._waiting = None
        if detect.order == "event":
            self._waiting = EventOrderBuffer(tables.rows(_WAITING))

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        if self._waiting is not None:
            late = self._waiting.add(frame, self._tables.watermark)
        else:
            overtaken = self._overtaken(frame)
            late = frame.filter(overtaken)
            yield from self._judged(frame.filter(~overtaken))
            self._book.expire(self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        if self._waiting is not None:
            ready = self._waiting.release(watermark)
            if ready is not None:
                yield from self._judged(ready)
            if watermark < END_OF_TIME:
                self._book.expire(watermark)

    def finish(self) -> Iterable[Out]:
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        return NEVER if self._waiting is None else self._waiting.wake()

    def _overtaken(self, frame: pl.DataFrame) -> pl.Series:
        """Return which rows are older than what their key has shown, or than is remembered."""
        runs = key_runs(frame, self._by)
        times = frame[EVENT_TIME].to_numpy()
        mine = times[runs.order]
        seen = np.maximum(running_max(mine, runs.key_of), self._book.latest(runs)[runs.key_of])
        older = np.empty(times.size, np.bool_)
        older[runs.order] = mine < seen
        if self._tables.watermark > BEGINNING + self._forget:
            older |= times < self._tables.watermark - self._forget
        return pl.Series(older)

    def _judged(self, rows: pl.DataFrame) -> Iterable[Out]:
        if rows.is_empty():
            return
        values = rows[self._value].cast(pl.Float64)
        said = self._book.judge(rows, values)
        score = -np.expm1(-said.surprise)
        anomaly = score >= self._detector.threshold
        visible = [name for name in rows.columns if name not in HIDDEN]
        yield (
            MAIN,
            rows.with_columns(
                pl.Series("anomaly_score", score),
                pl.Series("is_anomaly", anomaly),
                pl.Series("is_change", said.change),
                self._explained(values, said, anomaly | said.change).alias("explanation"),
            ).select(*visible, *ADDED, *HIDDEN),
        )

    def _explained(self, values: pl.Series, said: Verdicts, chosen: Any) -> pl.Series:
        """Return what was compared with what, for the chosen rows."""
        some = np.flatnonzero(chosen)
        text = pl.Series([None], dtype=pl.String).new_from_index(0, len(values))
        if not some.size:
            return text
        odds = np.minimum(said.surprise[some] / math.log(10), 300.0)
        shown = pl.DataFrame(
            {
                "value": values[some],
                "expected": said.expected[some],
                "spread": said.spread[some],
                "odds": odds,
                "reason": pl.Series(self._detector.reasons)[said.reason[some]],
                "change": said.change[some],
            }
        ).select(
            pl.format(
                "{}{} against {} ± {} ({}); tail 1e-{}",
                pl.when("change").then(pl.lit("change: ")).otherwise(pl.lit("")),
                pl.col("value").round_sig_figs(6),
                pl.col("expected").round_sig_figs(6),
                pl.col("spread").round_sig_figs(3),
                "reason",
                pl.col("odds").round(1),
            )
        )
        return text.scatter(some, shown.to_series())
