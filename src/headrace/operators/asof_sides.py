"""The right side of a join as of a time: rows in state, and which of them a left row takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import polars as pl

from headrace.core.protocols import Tables, TableSpec
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, HIDDEN_SCHEMA
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import ALL, Ints, key_runs
from headrace.operators.timed_rows import Hashes, Keys, TimedRows, TimeIndex

RIGHT: Final = "right"
_LAST: Final = "last"

Taken = tuple[Ints, pl.DataFrame]
"""The numbers of the left rows that take a row, ascending, and that row for each."""


class AsofSide(Protocol):
    """What the strategies have in common."""

    def add(self, rows: pl.DataFrame) -> None:
        """Keep right rows; none has a null key."""
        ...

    def settle(self, watermark: int) -> None:
        """Take note that no row before `watermark` will come any more."""
        ...

    def take(self, left: pl.DataFrame) -> Taken:
        """Find the right row that each left row takes; all that could be it are there."""
        ...

    def forget(self, watermark: int) -> None:
        """Forget what no left row can take any more."""
        ...

    def wake(self) -> int:
        """Return the watermark at which there is something to do, or the end of time."""
        ...


class RowsBefore:
    """The strategy `backward`: the last right row at or before a left row.

    Of the rows that the watermark has passed only the last one per key is kept.

    Args:
        tables: State as `tables` of this class declares it.
        by: Key, as (left columns, right columns).
        tolerance: How far back a row may lie, microseconds.
        exact: Whether equal times count.
    """

    def __init__(
        self,
        tables: Tables,
        by: tuple[Sequence[str], Sequence[str]],
        tolerance: int,
        *,
        exact: bool,
    ) -> None:
        self._last = tables.keyed(_LAST)
        self._waiting = EventOrderBuffer(tables.rows(RIGHT))
        self._by = by
        self._tolerance = tolerance
        self._exact = exact
        self._empty = tables.rows(RIGHT).frame().clear()
        self._passed = self._empty

    @staticmethod
    def tables(right: pl.Schema, by: Sequence[str]) -> tuple[TableSpec, ...]:
        """Declare the rows that wait for the watermark, and each key's last one before it."""
        rows = {**right, **pl.Schema(HIDDEN_SCHEMA)}
        key = tuple(by) or (ALL,)
        last = pl.Schema({**({} if by else {ALL: pl.Boolean()}), **rows})
        return (TableSpec(RIGHT, "rows", pl.Schema(rows)), TableSpec(_LAST, "keyed", last, key=key))

    def add(self, rows: pl.DataFrame) -> None:
        """Let rows wait for the watermark."""
        self._waiting.add(rows, BEGINNING)

    def settle(self, watermark: int) -> None:
        """Take up the rows that the watermark has passed."""
        ready = self._waiting.release(watermark)
        self._passed = self._empty if ready is None else ready

    def take(self, left: pl.DataFrame) -> Taken:
        """Search each key's last row, and the rows that the watermark has passed just now."""
        ours, theirs = self._by
        asked = left.select(pl.col(a).alias(b) for a, b in zip(ours, theirs, strict=True))
        distinct = key_runs(asked, theirs).keys
        known = distinct.hstack(self._last.lookup(distinct)).filter("__found")
        columns = self._passed.columns
        rows = pl.concat([known[columns], self._passed])
        left_ids, right_ids = _exact_ids(asked, rows, theirs, left.height)
        times = left[EVENT_TIME].to_numpy()
        index = TimeIndex(right_ids, rows[EVENT_TIME].to_numpy())
        high = times if self._exact else times - 1
        start, stop = index.find(left_ids, times - self._tolerance, high)
        number = np.flatnonzero(stop > start)
        return number, rows[index.order[stop[number] - 1]]

    def forget(self, watermark: int) -> None:
        """Keep of the rows passed just now each key's last one, and nothing out of reach."""
        rows, self._passed = self._passed, self._empty
        everywhere = [] if self._by[1] else [pl.lit(value=True).alias(ALL)]
        self._last.upsert(rows.with_columns(everywhere))
        self._last.expire(EVENT_TIME, watermark - self._tolerance)

    def wake(self) -> int:
        """Return the watermark that passes the first row that waits."""
        at = self._waiting.wake().event_time
        return END_OF_TIME if at is None else at


class RowsAround:
    """The strategies `forward` and `nearest`: right rows at or after a left row, or around it.

    Args:
        tables: State as `tables` of this class declares it.
        by: Key, as (left columns, right columns).
        tolerance: How far away a row may lie, microseconds.
        exact: Whether equal times count.
        nearest: Whether rows before count too.
    """

    def __init__(
        self,
        tables: Tables,
        by: tuple[Sequence[str], Sequence[str]],
        tolerance: int,
        *,
        exact: bool,
        nearest: bool,
    ) -> None:
        self._rows = TimedRows(tables.rows(RIGHT), by[1])
        self._by = by[0]
        self._tolerance = tolerance
        self._gap = 0 if exact else 1
        self._nearest = nearest
        self._reach = 2 * tolerance if nearest else tolerance

    @staticmethod
    def tables(right: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the rows."""
        return (TableSpec(RIGHT, "rows", pl.Schema({**right, **pl.Schema(HIDDEN_SCHEMA)})),)

    def add(self, rows: pl.DataFrame) -> None:
        """Keep rows."""
        self._rows.add(rows)

    def settle(self, watermark: int) -> None:
        """Left rows are asked for when all that they could take is there."""

    def take(self, left: pl.DataFrame) -> Taken:
        """Search the rows after each left row, and for `nearest` those before it."""
        times = left[EVENT_TIME].to_numpy()
        keys = Keys.of(left, self._by)
        number, after = self._rows.first(keys, times + self._gap, times + self._tolerance)
        if not self._nearest:
            return number, after
        # Of rows at the same time the last one counts here.
        at = after[EVENT_TIME].to_numpy()
        _, after = self._rows.last(keys.at(number), at, at)
        before = self._rows.last(keys, times - self._tolerance, times - self._gap)
        return _nearer(times, (number, after), before)

    def forget(self, watermark: int) -> None:
        """Forget rows before all that a left row yet to be answered could take."""
        self._rows.forget(watermark - self._reach)

    def wake(self) -> int:
        """Return the watermark at which rows can be forgotten."""
        half = self._rows.half()
        return half if half == END_OF_TIME else half + self._reach + 1


def _nearer(times: Ints, after: Taken, before: Taken) -> Taken:
    """Choose per left row the nearer one; of equally near ones that after it."""
    number = np.concatenate([before[0], after[0]])
    rows = pl.concat([before[1], after[1]])
    distance = np.abs(rows[EVENT_TIME].to_numpy() - times[number])
    late = np.repeat([1, 0], [before[0].size, after[0].size])
    order = np.lexsort((late, distance, number))
    first = np.unique(number[order], return_index=True)[1]
    chosen = order[first]
    return number[chosen], rows[chosen]


def _exact_ids(
    left: pl.DataFrame, right: pl.DataFrame, by: Sequence[str], height: int
) -> tuple[Hashes, Hashes]:
    """Number the keys of `height` left rows and of the right: equal keys, and no others, agree."""
    ids = np.zeros(height + right.height, dtype=np.uint64)
    if by:
        runs = key_runs(pl.concat([left, right[list(by)]]), by)
        ids[runs.order] = runs.key_of
    return ids[:height], ids[height:]
