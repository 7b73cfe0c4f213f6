"""Another column as event time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar

import polars as pl

from headrace.core.component import DurationField
from headrace.core.errors import DataError, PlanError
from headrace.core.protocols import LATE, MAIN, Operator, Out, Tables, Task, on_time
from headrace.core.time import BEGINNING, EVENT_TIME, TIME_DTYPE, micros
from headrace.operators.project import check_present


class WithTime(Operator):
    """Take event time from `column` from here on.

    The new times may lie up to `delay` behind the old watermark; rows further back go to
    `late`. A null time is a dead letter: filter such rows first where they are normal.

    Attributes:
        column: A datetime column; other units are cast to microseconds, naive times are UTC.
        delay: How far the new time may lie behind the watermark.
    """

    kind: ClassVar[str] = "with_time"
    column: str
    delay: DurationField = timedelta(0)

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def hold(self) -> timedelta:
        """Return the delay."""
        return self.delay

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns for both."""
        (schema,) = inputs
        check_present([self.column], schema)
        dtype = schema[self.column]
        if not isinstance(dtype, pl.Datetime):
            raise PlanError(
                f"{self.column!r} is {dtype}, not a time",
                hint="cast it first: pl.from_epoch(...) or .str.to_datetime(...)",
            )
        if self.delay < timedelta(0):
            raise PlanError("delay must not be negative")
        return {MAIN: schema, LATE: schema}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _WithTimeTask(self.column, micros(self.delay), tables)


class _WithTimeTask(Task):
    def __init__(self, column: str, delay: int, tables: Tables) -> None:
        self._column = column
        self._delay = delay
        self._tables = tables

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        times = _microseconds(frame[self._column])
        if times.null_count():
            raise DataError(f"{self._column} is null, so the row has no event time")
        timed = frame.with_columns(times.alias(EVENT_TIME))
        watermark = self._tables.watermark
        oldest = watermark if watermark == BEGINNING else watermark - self._delay
        taken, late = on_time(timed, oldest, EVENT_TIME)
        if taken.height:
            yield MAIN, taken
        if late.height:
            yield LATE, late


def _microseconds(times: pl.Series) -> pl.Series:
    aware = times.dtype
    if isinstance(aware, pl.Datetime) and aware.time_zone is None:
        times = times.dt.replace_time_zone("UTC")
    return times.cast(TIME_DTYPE).cast(pl.Int64)
