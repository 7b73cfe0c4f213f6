"""Columns of a table beside the rows that name its key: as the table was at the row's time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from headrace.core.component import DurationField, Expression
from headrace.core.protocols import LATE, MAIN, Operator, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import EVENT_TIME, HIDDEN_SCHEMA, micros
from headrace.operators.columns import ColumnNames
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.filter import check_predicate
from headrace.operators.joined_columns import LATE_RIGHT, SUFFIX, JoinedColumns, KeyPairs
from headrace.operators.key_runs import Ints
from headrace.operators.lookup import (
    TABLE_PORT,
    How,
    beside,
    check_names_key,
    has_null,
    output_of,
)
from headrace.operators.project import check_present

_ROWS: Final = "rows"
_COMING: Final = "coming"
_WAITING: Final = "waiting"
_FOUND: Final = "__found"
_SIDE: Final = "__side"
_PLACE: Final = "__place"


class LookupEvent(Operator):
    """Put the columns of a table beside each row that names its key, as of the row's event time.

    The second input brings the rows that the table is kept from. A row sees, of those of its
    key, the last in (event time, position) whose event time is not after its own. Rows wait for
    the watermark, so answers do not depend on how either side arrives; they leave in (event time,
    position) order. What comes before the watermark goes to `late` and `late_right`. Output, nulls
    and equal keys are those of `Lookup`.

    Attributes:
        on: Key, as pairs (column of the rows, column of the table); names all of `key`.
        key: The table's key.
        how: `left`, `inner`, `semi` or `anti`, as in `Lookup`.
        suffix: Added to the name of a column of the table that the rows have too.
        delete: Rows of the table for which this holds delete their key.
        valid_for: A row of the table counts for this long, by event time and the end included;
            None counts until the next one of its key.

    State: the newest row of each key, and what waits. Cost: O(n log n) for n rows of both sides.
    """

    kind: ClassVar[str] = "lookup_event"

    on: KeyPairs = Field(min_length=1)
    key: ColumnNames
    how: How = "left"
    suffix: str = SUFFIX
    delete: Expression | None = None
    valid_for: DurationField | None = None

    @model_validator(mode="after")
    def _check(self) -> LookupEvent:
        check_names_key(self.on, self.key, 'let on= name the whole key, or use as_of="now"')
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main, and late rows of either side."""
        return (MAIN, LATE, LATE_RIGHT)

    def key_columns(self) -> tuple[str, ...]:
        """Return the rows' columns of `on`."""
        return tuple(left for left, _ in self.on)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the rows' columns, and the table's where they are wanted; late rows' own.

        Raises:
            PlanError: A column is missing, there twice, or cannot be compared.
        """
        left, right = inputs
        columns = self._columns(inputs)
        if self.delete is not None:
            check_predicate(self.delete, right)
        return {MAIN: output_of(columns, self.how, left), LATE: left, LATE_RIGHT: right}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the newest row per key, and the rows of both sides that wait."""
        left, right = inputs
        hidden = pl.Schema(HIDDEN_SCHEMA)
        newest = pl.Schema({**right, EVENT_TIME: pl.Int64()})
        return (
            TableSpec(_ROWS, "keyed", newest, key=self.key),
            TableSpec(_COMING, "rows", pl.Schema({**right, **hidden})),
            TableSpec(_WAITING, "rows", pl.Schema({**left, **hidden})),
        )

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the newest row of each key."""
        return _LookupEventTask(self, tables, self._columns(inputs))

    def _columns(self, inputs: tuple[pl.Schema, ...]) -> JoinedColumns:
        left, right = inputs
        check_present(self.key, right)
        return JoinedColumns(left, right, self.on, self.suffix)


class _LookupEventTask(Task):
    def __init__(self, lookup: LookupEvent, tables: Tables, columns: JoinedColumns) -> None:
        self._lookup = lookup
        self._columns = columns
        self._key = list(lookup.key)
        self._valid_for = None if lookup.valid_for is None else micros(lookup.valid_for)
        self._tables = tables
        self._rows = tables.keyed(_ROWS)
        self._coming = EventOrderBuffer(tables.rows(_COMING))
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        buffer = self._coming if port == TABLE_PORT else self._waiting
        late = buffer.add(frame, self._tables.watermark)
        if late.height:
            yield LATE_RIGHT if port == TABLE_PORT else LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        rows, changes = self._waiting.release(watermark), self._coming.release(watermark)
        yield from self._answers(rows, changes)
        if self._valid_for is not None:
            self._rows.expire(EVENT_TIME, watermark - self._valid_for)

    def finish(self) -> Iterable[Out]:
        yield from self._answers(self._waiting.release_all(), self._coming.release_all())

    def wake(self) -> Wake:
        asked = (self._waiting.wake().event_time, self._coming.wake().event_time)
        return Wake(min((time for time in asked if time is not None), default=None))

    def _answers(self, rows: pl.DataFrame | None, changes: pl.DataFrame | None) -> Iterable[Out]:
        """Answer rows that come in order, and take the changes that lie among them."""
        if rows is not None:
            row, found = self._hits(rows, changes)
            answer = beside(self._columns, self._lookup.how, rows, row, found)
            if answer.height:
                yield MAIN, answer
        if changes is not None:
            last = changes.unique(self._key, keep="last", maintain_order=True)
            is_gone = self._deletes(last)
            self._rows.upsert(last.filter(~is_gone))
            self._rows.delete(last.filter(is_gone))

    def _hits(self, rows: pl.DataFrame, changes: pl.DataFrame | None) -> tuple[Ints, pl.DataFrame]:
        """Return the numbers of the rows that find something, and what they find."""
        wanted = rows.select(pl.col(left).alias(right) for left, right in self._lookup.on)
        held = self._rows.lookup(wanted)
        hit = held[_FOUND] & ~has_null(wanted)
        known = wanted.hstack(held.drop(_FOUND).get_columns())
        if changes is not None:
            place = self._newest_change(wanted.with_columns(rows[EVENT_TIME]), changes)
            newer = place.is_not_null()
            alive = (~self._deletes(changes)).gather(place.fill_null(0)) & ~has_null(wanted)
            hit = alive.zip_with(newer, hit)
            at = (place + rows.height).fill_null(pl.int_range(rows.height, eager=True))
            known = pl.concat([known, changes.select(known.columns)])[at]
        if self._valid_for is not None:
            age = rows[EVENT_TIME] - known[EVENT_TIME]
            hit &= (age <= self._valid_for).fill_null(value=False)
        return np.flatnonzero(hit.to_numpy()), known.filter(hit)

    def _newest_change(self, wanted: pl.DataFrame, changes: pl.DataFrame) -> pl.Series:
        """Return for each wanted (key, event time) the number of the last change of its key that
        is not later; null where there is none.
        """
        columns = [*self._key, EVENT_TIME]
        numbers = pl.int_range(pl.len(), dtype=pl.Int64)
        both = pl.concat(
            [
                changes.select(*columns, pl.lit(0).alias(_SIDE), numbers.alias(_PLACE)),
                wanted.select(
                    *columns, pl.lit(1).alias(_SIDE), pl.lit(None, pl.Int64).alias(_PLACE)
                ),
            ]
        )
        return (
            both.sort(EVENT_TIME, _SIDE, maintain_order=True)
            .with_columns(pl.col(_PLACE).forward_fill().over(self._key))
            .filter(pl.col(_SIDE) == 1)[_PLACE]
        )

    def _deletes(self, changes: pl.DataFrame) -> pl.Series:
        if self._lookup.delete is None:
            return pl.Series([False]).new_from_index(0, changes.height)
        return changes.select(self._lookup.delete.fill_null(value=False)).to_series()
