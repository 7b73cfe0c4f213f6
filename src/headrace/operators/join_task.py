"""The interval join at work: what comes of one side meets what is there of the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import polars as pl

from headrace.core.protocols import LATE, MAIN, Out, Tables, Task, Wake, on_time
from headrace.core.time import END_OF_TIME, EVENT_TIME, HIDDEN, POSITION
from headrace.operators.join_sides import NUMBER, SemiSide, Side, number_found
from headrace.operators.joined_columns import LATE_RIGHT, JoinedColumns
from headrace.operators.timed_rows import Keys, null_keys

_LATE: Final = (LATE, LATE_RIGHT)


class JoinTask(Task):
    """Pairs the rows of two sides.

    Args:
        tables: For the watermark.
        sides: State of the left and the right side.
        columns: How rows become rows of the result.
        within: Bounds of right time - left time, microseconds.
        where: Further condition on a pair.
        left_only: Whether left rows leave and not pairs.
    """

    def __init__(
        self,
        tables: Tables,
        sides: tuple[Side, Side],
        columns: JoinedColumns,
        within: tuple[int, int],
        where: pl.Expr | None,
        *,
        left_only: bool,
    ) -> None:
        low, high = within
        self._tables = tables
        self._sides = sides
        self._columns = columns
        self._reach = ((low, high), (-high, -low))
        self._where = where
        self._left_only = left_only

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Pair rows of one side with the other side's; late ones leave as they came."""
        if frame.is_empty():
            return
        side = self._sides[port]
        taken, late = on_time(frame, self._tables.watermark, EVENT_TIME)
        if late.height:
            yield _LATE[port], late
        nulls = null_keys(taken, side.by)
        if nulls is not None:
            if side.exact:
                yield MAIN, self._unmatched(port, taken.filter(nulls))
            taken = taken.filter(~nulls)
        if taken.height:
            yield from self._meet(side.numbered(taken), port)

    def advance(self, watermark: int) -> Iterable[Out]:
        """Let rows leave that can find no match, or no earlier one, any more."""
        left = self._sides[0]
        if isinstance(left, SemiSide):
            ready = left.ready(watermark)
            if ready.height:
                yield MAIN, self._left(ready)
        alone = [
            self._unmatched(port, rows)
            for port, side in enumerate(self._sides)
            if (rows := side.expire(watermark)) is not None and rows.height
        ]
        if alone:
            yield MAIN, pl.concat(alone).sort(EVENT_TIME, POSITION, maintain_order=True)

    def finish(self) -> Iterable[Out]:
        """Let all rows leave that have no match."""
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        """Ask for the first watermark that lets a row leave or be forgotten."""
        first = min(side.wake() for side in self._sides)
        return Wake(event_time=first if first < END_OF_TIME else None)

    def _meet(self, rows: pl.DataFrame, port: int) -> Iterator[Out]:
        side, other, left = self._sides[port], self._sides[1 - port], self._sides[0]
        found = np.zeros(rows.height, dtype=np.bool_)
        times = rows[EVENT_TIME].to_numpy()
        low, high = self._reach[port]
        keys = Keys.of(rows, side.by)
        for places, others in other.rows.matches(keys, times + low, times + high):
            pairs = None
            if self._where is not None or not self._left_only:
                pairs = self._pairs(port, rows[places], others)
            if pairs is not None and self._where is not None:
                held = pairs.select(self._where).to_series().fill_null(value=False)
                if not held.all():
                    places, others = places[held.to_numpy()], others.filter(held)  # noqa: PLW2901 - fewer
                    pairs = pairs.filter(held)
            if places.size == 0:
                continue
            if pairs is not None and not self._left_only:
                yield MAIN, pairs
            if not isinstance(left, SemiSide):
                found[places] = True
                other.note(others)
                continue
            ours, matches = (rows[places], others) if port == 0 else (others, rows[places])
            now = left.matched(ours, matches[EVENT_TIME], kept=port == 1)
            if now.height:
                yield MAIN, self._left(now)
                if port == 0:
                    found |= number_found(rows, now[NUMBER])
        side.add(rows, found)

    def _pairs(self, port: int, rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
        return self._columns.pairs(*((rows, others) if port == 0 else (others, rows)))

    def _unmatched(self, port: int, rows: pl.DataFrame) -> pl.DataFrame:
        if self._left_only:
            return self._left(rows)
        return self._columns.only_left(rows) if port == 0 else self._columns.only_right(rows)

    def _left(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows[[*self._columns.left, *HIDDEN]]
