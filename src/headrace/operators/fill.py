"""Rows where a series of a key has gaps."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from pydantic import model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, MAIN, Operator, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import (
    BEGINNING,
    EVENT_TIME,
    HIDDEN,
    HIDDEN_SCHEMA,
    POSITION,
    TIME_DTYPE,
    duration_text,
    micros,
    positive_duration,
)
from headrace.operators.columns import ColumnNames
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import ALL, Ints, KeyRuns, key_runs
from headrace.operators.project import check_present

FILLED: Final = "is_filled"

_LAST: Final = "last"
_WAITING: Final = "waiting"
_DEFAULT_PLACES: Final = 100
_MOST_PLACES: Final = 100_000


class Fill(Operator):
    """Add the rows that a key's series lacks, marked `is_filled`.

    After each row of a key one is expected every `every`; where the next row comes later than
    that, rows are added at the places before it, so that no two rows of a key are further apart
    than `every`. What comes at irregular times is best put on a grid first, with a window. Gaps
    longer than `max_gap` stay, and so does the time after a key's last row.

    An added row has the key, its own time in the column `time`, and elsewhere what `value` says.
    Rows leave in (event time, position) order once the watermark has passed them; a gap is
    filled when the row that ends it leaves, so `hold` is `max_gap`. Rows before the watermark go
    to `late`.

    Attributes:
        every: Distance between the rows of a series.
        by: Key columns; none means one series.
        value: `null` leaves the other columns empty, `last` repeats the row before the gap,
            `linear` interpolates numbers between the rows around it (integers are rounded, null
            if either is) and leaves the other columns empty.
        max_gap: The longest distance between two rows that is filled; by default 100 times
            `every`.
        time: The column that shows the event time, None where there is none.
        shift_us: The event time is `time` plus this many microseconds.

    State: the rows that wait, and the last row of each key for `max_gap` (for `null` only its
    time). Cost: O(n log n) for n rows, those added included.
    """

    kind: ClassVar[str] = "fill"

    every: DurationField
    by: ColumnNames = ()
    value: Literal["null", "last", "linear"] = "null"
    max_gap: DurationField | None = None
    time: str | None = None
    shift_us: int = 0

    @model_validator(mode="after")
    def _check(self) -> Fill:
        positive_duration(self.every, "every")
        if self.longest < self.every:
            raise PlanError(
                "a gap shorter than every has no missing rows", hint="let max_gap be longer"
            )
        if self.longest // self.every > _MOST_PLACES:
            raise PlanError(
                f"filling {duration_text(self.longest)} takes more than {_MOST_PLACES} rows",
                hint="let every be longer, or max_gap shorter",
            )
        return self

    @property
    def longest(self) -> timedelta:
        """The longest gap that is filled."""
        return self.every * _DEFAULT_PLACES if self.max_gap is None else self.max_gap

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`."""
        return self.by

    def hold(self) -> timedelta:
        """Return the longest gap: its first row lies that far before the row that ends it."""
        return self.longest

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns and `is_filled`, and the input's for late rows."""
        (schema,) = inputs
        check_present(self.by, schema)
        if FILLED in schema:
            raise PlanError(f"the column {FILLED!r} exists already", hint="rename it before")
        if self.time is not None and (self.time in self.by or schema.get(self.time) != TIME_DTYPE):
            raise PlanError(
                f"{self.time!r} cannot show the time of added rows",
                hint='it must be a pl.Datetime("us", "UTC") column that is no key',
            )
        return {MAIN: pl.Schema({**schema, FILLED: pl.Boolean()}), LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the last row of each key, and rows that wait."""
        (schema,) = inputs
        keys = {name: schema[name] for name in self.by} or {ALL: pl.Boolean()}
        kept = {name: schema[name] for name in self._kept(schema)}
        last = pl.Schema({**keys, **kept, EVENT_TIME: pl.Int64()})
        waiting = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
        return (
            TableSpec(_LAST, "keyed", last, key=tuple(keys)),
            TableSpec(_WAITING, "rows", waiting),
        )

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the last row of each key."""
        (schema,) = inputs
        return _FillTask(self, tables, schema, self._kept(schema))

    def _kept(self, schema: pl.Schema) -> list[str]:
        """Return the columns of a key's last row from which added rows are made."""
        names = [name for name in schema if name not in self.by and name != self.time]
        match self.value:
            case "null":
                return []
            case "last":
                return names
            case "linear":
                return [name for name in names if _is_number(schema[name])]


class _FillTask(Task):
    def __init__(self, fill: Fill, tables: Tables, schema: pl.Schema, kept: list[str]) -> None:
        self._fill = fill
        self._schema = schema
        self._kept = kept
        self._by = list(fill.by)
        self._every = micros(fill.every)
        self._longest = micros(fill.longest)
        self._tables = tables
        self._last = tables.keyed(_LAST)
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        ready = self._waiting.release(watermark)
        if ready is not None:
            yield MAIN, self._complete(ready)
            # The next row of such a key ends a gap that is too long.
            self._last.expire(EVENT_TIME, watermark - self._longest)

    def finish(self) -> Iterable[Out]:
        ready = self._waiting.release_all()
        if ready is not None:
            yield MAIN, self._complete(ready)

    def wake(self) -> Wake:
        return self._waiting.wake()

    def _complete(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return `rows`, which come in order, and those added before them."""
        runs = key_runs(rows, self._by)
        ordered = rows[runs.order]
        times = ordered[EVENT_TIME].to_numpy()
        last = self._last.lookup(runs.keys)
        before = np.roll(times, 1)
        before[runs.starts] = last[EVENT_TIME].fill_null(BEGINNING).to_numpy()
        self._store(runs, ordered)
        marked = rows.select(*self._schema, pl.lit(value=False).alias(FILLED), *HIDDEN)
        gaps = times - before
        missing = np.where(gaps <= self._longest, np.maximum(gaps - 1, 0) // self._every, 0)
        if not missing.any():
            return marked
        # Which row of `ordered` ends the gap, and which of `known` begins it.
        ends = np.repeat(np.arange(times.size), missing)
        turns = np.arange(ends.size) - np.repeat(np.cumsum(missing) - missing, missing) + 1
        moments = before[ends] + turns * self._every
        shares = turns * self._every / gaps[ends]
        columns = [*self._by, *self._kept]
        known = pl.concat(
            [runs.keys.hstack(last).select(columns), ordered.select(columns)], rechunk=True
        )
        begins = np.arange(times.size) + runs.keys.height - 1
        begins[runs.starts] = np.arange(runs.keys.height)
        added = self._added(known[begins[ends]], ordered[ends], moments, shares)
        return pl.concat([marked, added]).sort(EVENT_TIME, POSITION, maintain_order=True).rechunk()

    def _added(
        self, left: pl.DataFrame, right: pl.DataFrame, moments: Ints, shares: np.ndarray
    ) -> pl.DataFrame:
        """Return a row for each of `moments`, `shares` of the way from `left` to `right`."""
        time = pl.Series(EVENT_TIME, moments)
        share = pl.Series(shares)
        columns = []
        for name, dtype in self._schema.items():
            if name == self._fill.time:
                column = (time - self._fill.shift_us).cast(TIME_DTYPE)
            elif name in self._by or (name in self._kept and self._fill.value == "last"):
                column = left[name]
            elif name in self._kept:
                column = _between(left[name], right[name], share)
            else:
                column = pl.Series([None], dtype=dtype).new_from_index(0, len(moments))
            columns.append(column.alias(name))
        filled = pl.Series(FILLED, [True]).new_from_index(0, len(moments))
        return pl.DataFrame([*columns, filled, time, right[POSITION]])

    def _store(self, runs: KeyRuns, ordered: pl.DataFrame) -> None:
        newest = np.append(np.flatnonzero(runs.starts)[1:], ordered.height) - 1
        values = ordered.select(*self._kept, EVENT_TIME)[newest]
        self._last.upsert(runs.keys.hstack(values.get_columns()))


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_float() or dtype.is_integer()


def _between(left: pl.Series, right: pl.Series, share: pl.Series) -> pl.Series:
    low, high = left.cast(pl.Float64), right.cast(pl.Float64)
    value = low + (high - low) * share
    # Not strict: the largest integers are no doubles.
    return (value if left.dtype.is_float() else value.round()).cast(left.dtype, strict=False)
