"""Control charts: is a process as steady as it was."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar, Final

import polars as pl
from pydantic import Field, model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, MAIN, Operator, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import (
    END_OF_TIME,
    HIDDEN,
    HIDDEN_SCHEMA,
    TIME_DTYPE,
    micros,
    positive_duration,
)
from headrace.operators.charts import ChartField
from headrace.operators.charts.book import END, START, WEIGHT, Book, value_name
from headrace.operators.charts.capability import CAPABILITY
from headrace.operators.charts.chart import SIZE
from headrace.operators.charts.lives import LABEL
from headrace.operators.charts.phases import NUMBER, TRIAL
from headrace.operators.columns import ColumnNames
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.project import check_present

_WAITING: Final = "waiting"


class ControlChart(Operator):
    """Draw each sample of a key into the key's chart, and say which rules it breaks.

    Rows wait for the watermark and make samples in (event time, position) order, so the answer
    does not depend on how they arrived; rows before the watermark go to `late`. Samples of
    phase I are judged by the limits they give, so they leave together when phase I ends. What is
    unfinished when a key has been silent for longer than `forget`, or when bounded input ends,
    is judged as it is then; its event time is that of the last row plus `forget`.

    Output: `by`, the subgroup, `number` (of the sample within the key, from 1), `sample_start`
    and `sample_end` (event times of its first and last rows), `n` (what it counts), `statistic,
    center, sd, lcl, ucl` (null where there is nothing to say), `phase` (1 or 2), `violations` (a
    list of rule names) and, where asked for, `cp cpl cpu cpk cpm pp ppk`.

    Attributes:
        chart: What to draw: `hr.chart.xbar(...)` and others.
        value: Column with the measurement; `t2` takes several.
        by: Key columns; none means one chart.
        forget: A key without rows for longer than this (event time) begins anew, phase I too.

    State per key: the rows of its unfinished sample (at most 4 096), the samples of phase I
    (at most 10 000) until it has ended, 15 samples after that. Cost: O(k log n) for k rows and
    n keys per batch, and once more the samples kept of the keys it touches.
    """

    kind: ClassVar[str] = "control_chart"
    chart: ChartField
    value: ColumnNames = Field(min_length=1)
    by: ColumnNames = ()
    forget: DurationField = timedelta(days=30)

    @model_validator(mode="after")
    def _check(self) -> ControlChart:
        positive_duration(self.forget, "forget")
        self.chart.check_values(len(self.value))
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`."""
        return self.by

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of samples, and the input's for late rows."""
        (schema,) = inputs
        self._check_columns(schema)
        drawn: dict[str, pl.DataType] = {
            NUMBER: pl.Int64(),
            "sample_start": TIME_DTYPE,
            "sample_end": TIME_DTYPE,
            SIZE: self.chart.size_dtype,
            **dict.fromkeys(("statistic", "center", "sd", "lcl", "ucl"), pl.Float64()),
            "phase": pl.Int64(),
            "violations": pl.List(pl.String()),
        }
        drawn |= dict.fromkeys(self.chart.shows, pl.Float64())
        if self.chart.capability is not None:
            drawn |= dict.fromkeys(CAPABILITY, pl.Float64())
        own = {name: schema[name] for name in (*self.by, *self._label())}
        clashes = [name for name in own if name in drawn]
        if clashes:
            raise PlanError(
                f"{clashes} are columns of every control chart",
                hint=f'rename({{"{clashes[0]}": "another"}}) first',
            )
        return {MAIN: pl.Schema({**own, **drawn}), LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the charts by key, and rows that wait."""
        (schema,) = inputs
        read = (*self.by, *self.value, *self._label(), *self._size(), *self._trial())
        waiting = {name: schema[name] for name in dict.fromkeys(read)}
        rows = TableSpec(_WAITING, "rows", pl.Schema({**waiting, **pl.Schema(HIDDEN_SCHEMA)}))
        keys = pl.Schema({name: schema[name] for name in self.by})
        return (*Book.specs(self.chart, keys, len(self.value), self._label_dtype(schema)), rows)

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the charts by key."""
        (schema,) = inputs
        book = Book(
            tables,
            self.chart,
            self.by,
            len(self.value),
            micros(self.forget),
            self._label_dtype(schema),
        )
        return _ControlChartTask(tables, book, self._rows(), [*self.by, *self._label()])

    def _rows(self) -> list[pl.Expr]:
        """Return what a chart sees of a row."""
        size = self.chart.size
        weight = pl.col(size) if isinstance(size, str) else pl.lit(self._weight())
        trial = self._trial()
        return [
            *map(pl.col, self.by),
            *(
                pl.col(name).cast(pl.Float64).fill_null(float("nan")).alias(value_name(number))
                for number, name in enumerate(self.value)
            ),
            weight.cast(pl.Float64).fill_null(float("nan")).alias(WEIGHT),
            (pl.col(trial[0]).fill_null(value=False) if trial else pl.lit(value=False)).alias(
                TRIAL
            ),
            *(pl.col(name).alias(LABEL) for name in self._label()),
            *map(pl.col, HIDDEN),
        ]

    def _weight(self) -> float:
        size = self.chart.size
        return float(size) if isinstance(size, int) and self.chart.sums_rows else 1.0

    def _label(self) -> tuple[str, ...]:
        """Return the subgroup column where it is not a key column, which has one value only."""
        subgroup = self.chart.subgroup
        return () if subgroup is None or subgroup in self.by else (subgroup,)

    def _label_dtype(self, schema: pl.Schema) -> pl.DataType | None:
        label = self._label()
        return schema[label[0]] if label else None

    def _size(self) -> tuple[str, ...]:
        return (self.chart.size,) if isinstance(self.chart.size, str) else ()

    def _trial(self) -> tuple[str, ...]:
        return (self.chart.phase1,) if isinstance(self.chart.phase1, str) else ()

    def _check_columns(self, schema: pl.Schema) -> None:
        check_present(
            (*self.by, *self.value, *self._label(), *self._size(), *self._trial()), schema
        )
        for name in (*self.value, *self._size()):
            if not schema[name].is_numeric():
                raise PlanError(f"{name!r} is {schema[name]}, and a chart is drawn of numbers")
        for name in self._trial():
            if schema[name] != pl.Boolean:
                raise PlanError(
                    f"phase1={name!r} is {schema[name]}, not true or false",
                    hint="phase1=25, or a Boolean column",
                )


class _ControlChartTask(Task):
    def __init__(self, tables: Tables, book: Book, rows: list[pl.Expr], own: list[str]) -> None:
        self._tables = tables
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))
        self._book = book
        self._rows = rows
        self._own = own

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        ready = self._waiting.release(watermark)
        drawn = self._book.draw(None if ready is None else ready.select(self._rows), watermark)
        if drawn is not None:
            yield MAIN, self._shown(drawn)

    def finish(self) -> Iterable[Out]:
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        waiting, forgotten = self._waiting.wake().event_time, self._book.deadline
        if waiting is None:
            return Wake() if forgotten == END_OF_TIME else Wake(event_time=forgotten)
        return Wake(event_time=min(waiting, forgotten))

    def _shown(self, drawn: pl.DataFrame) -> pl.DataFrame:
        names = {LABEL: self._own[-1]} if LABEL in drawn.columns else {}
        named = drawn.rename(names)
        return named.select(
            *self._own,
            NUMBER,
            pl.col(START).cast(TIME_DTYPE).alias("sample_start"),
            pl.col(END).cast(TIME_DTYPE).alias("sample_end"),
            pl.exclude(*self._own, NUMBER, START, END, "__all"),
        )
