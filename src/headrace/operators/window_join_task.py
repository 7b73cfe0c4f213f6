"""The window join at work: rows of both sides wait until their windows end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import polars as pl

from headrace.core.protocols import (
    LATE,
    MAIN,
    NEVER,
    Out,
    RowsTable,
    Tables,
    TableSpec,
    Task,
    Wake,
    on_time,
)
from headrace.core.time import (
    BEGINNING,
    END_OF_TIME,
    EVENT_TIME,
    HIDDEN,
    HIDDEN_SCHEMA,
    POSITION,
    TIME_DTYPE,
)
from headrace.operators.assigners import Sliced
from headrace.operators.join import How
from headrace.operators.joined_columns import LATE_RIGHT, JoinedColumns
from headrace.operators.key_runs import Bools
from headrace.operators.pieces import add_piece, below, drop_below
from headrace.operators.sliced_window import END, SLICE, in_windows
from headrace.operators.timed_rows import null_keys, portions

_LATE: Final = (LATE, LATE_RIGHT)
_SIDES: Final = ("left", "right")
_PROGRESS: Final = "progress"
_KEPT_ALONE: Final[dict[str, tuple[bool, bool]]] = {
    "inner": (False, False),
    "left": (True, False),
    "right": (False, True),
    "outer": (True, True),
    "semi": (False, False),
    "anti": (True, False),
}
"""Whether rows of each side leave that have no match."""

_LEFT: Final = "__left"
_RIGHT: Final = "__right"
_MOST_ROWS: Final = 4_000_000


def window_join_tables(left: pl.Schema, right: pl.Schema) -> tuple[TableSpec, ...]:
    """Declare each side's rows, and which windows have ended."""
    rows = [
        TableSpec(name, "rows", pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)}))
        for name, schema in zip(_SIDES, (left, right), strict=True)
    ]
    return (*rows, TableSpec(_PROGRESS, "blob"))


class WindowJoinTask(Task):
    """Pairs the rows of windows when they end.

    All windows that end at or before `_ended` have been given or never will be, so a row that
    lies in one of them and in a later one counts in the later one only.

    Args:
        tables: State as `window_join_tables` declares it.
        assigner: Which windows take a row.
        columns: How rows become rows of the result, and their key.
        how: What leaves.
        where: Further condition on a pair.
    """

    def __init__(
        self,
        tables: Tables,
        assigner: Sliced,
        columns: JoinedColumns,
        how: How,
        where: pl.Expr | None,
    ) -> None:
        self._tables = tables
        self._assigner = assigner
        self._columns = columns
        self._by = (columns.on_left, columns.on_right)
        self._alone = _KEPT_ALONE[how]
        self._left_only = how in ("semi", "anti")
        self._semi = how == "semi"
        self._where = where
        self._sides = tuple(tables.rows(name) for name in _SIDES)
        self._progress = tables.blob(_PROGRESS)
        self._ended, self._given = _read_progress(self._progress.value)
        self._next_end = self._find_next_end()

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Keep rows of one side; those whose windows have all ended are late."""
        if frame.is_empty():
            return
        watermark = self._tables.watermark
        self._reach(watermark)
        taken, late = on_time(frame, self._over_before(watermark), EVENT_TIME)
        if late.height:
            yield _LATE[port], late
        if not self._alone[port]:
            nulls = null_keys(taken, self._by[port])
            taken = taken if nulls is None else taken.filter(~nulls)
        if taken.height:
            add_piece(self._sides[port], taken, lambda rows: rows)
            self._next_end = min(self._next_end, self._earliest_end(taken))

    def advance(self, watermark: int) -> Iterable[Out]:
        """Give the windows that end, and forget the rows that lie in no later one."""
        spans = list(self._spans(watermark))
        self._reach(watermark)
        for low, high in spans:
            for rows in self._answers(low, high):
                yield MAIN, self._numbered(rows)
        before = self._over_before(watermark)
        for side in self._sides:
            drop_below(side, EVENT_TIME, before)
        self._next_end = self._find_next_end()

    def finish(self) -> Iterable[Out]:
        """Give every window that has not ended."""
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        """Ask for the end of the earliest window."""
        return NEVER if self._next_end == END_OF_TIME else Wake(event_time=self._next_end)

    def _spans(self, watermark: int) -> Iterator[tuple[int, int]]:
        """Cut the window ends that are due, (low, high], so that rows of many windows are not
        repeated for all of them at once.
        """
        if self._next_end > watermark or self._next_end == END_OF_TIME:
            return
        if self._assigner.whole:
            yield self._ended, watermark
            return
        rows = max(side.rows for side in self._sides)
        stretch = max(_MOST_ROWS // rows, 1) * self._assigner.every_us
        newest = [piece[EVENT_TIME].max() for side in self._sides for piece in side.pieces]
        slices = self._assigner.slices(pl.Series([t for t in newest if isinstance(t, int)]))
        last = max(self._assigner.last_end_of(one) for one in slices)
        low, high = self._next_end - 1, min(watermark, last)
        while low < high:
            yield low, min(low + stretch, high)
            low += stretch

    def _answers(self, low: int, high: int) -> Iterator[pl.DataFrame]:
        """Give what leaves of the windows with low < end <= high, a portion at a time."""
        left, right = self._sides_of(low, high)
        met = np.zeros(right.height, dtype=np.bool_)
        bounds = self._portions(left, right)
        for first, last in bounds:
            ours = left[first:last]
            pairs, found = self._match(ours, right, met)
            parts = [] if pairs is None else [pairs]
            if self._semi:
                parts.append(self._with_window(ours.filter(pl.Series(found))))
            if self._alone[0]:
                parts.append(self._only(0, ours.filter(pl.Series(~found))))
            if self._alone[1] and last == bounds[-1][1]:
                parts.append(self._only(1, right.filter(pl.Series(~met))))
            rows = pl.concat(parts)
            if rows.height:
                yield rows.sort(END, _LEFT, nulls_last=True, maintain_order=True)

    def _match(
        self, left: pl.DataFrame, right: pl.DataFrame, met: Bools
    ) -> tuple[pl.DataFrame | None, Bools]:
        """Return the pairs of `left`, where they leave, and which of its rows have one; note
        those of `right`.
        """
        found = np.zeros(left.height, dtype=np.bool_)
        first = int(left[_LEFT][0]) if left.height else 0
        if self._left_only and self._where is None:
            found[self._with_key_of(0, left, right)[_LEFT].to_numpy() - first] = True
            return None, found
        slots = left.select(END, _LEFT, *self._by[0]).join(
            right.select(END, _RIGHT, *self._by[1]),
            left_on=[END, *self._by[0]],
            right_on=[END, *self._by[1]],
            how="inner",
            maintain_order="left_right",
        )
        ours, theirs = slots[_LEFT].to_numpy(), slots[_RIGHT].to_numpy()
        pairs = self._beside(left[ours - first], right[theirs])
        if self._where is not None:
            held = pairs.select(self._where).to_series().fill_null(value=False)
            pairs = pairs.filter(held)
            ours, theirs = ours[held.to_numpy()], theirs[held.to_numpy()]
        found[ours - first] = True
        met[theirs] = True
        return None if self._left_only else pairs, found

    def _portions(self, left: pl.DataFrame, right: pl.DataFrame) -> list[tuple[int, int]]:
        """Cut `left` so that no more than about a million pairs are made at once."""
        whole = [(0, left.height)]
        if left.height * right.height < _MOST_ROWS:
            return whole
        counts = right.group_by(END, *self._by[1], maintain_order=True).len("__count")
        found = left.select(END, *self._by[0]).join(
            counts,
            left_on=[END, *self._by[0]],
            right_on=[END, *self._by[1]],
            how="left",
            maintain_order="left",
        )["__count"]
        # Rows without a match are counted too, so that the last portion ends with the last row.
        return list(portions(found.fill_null(0).cast(pl.Int64).to_numpy() + 1)) or whole

    def _sides_of(self, low: int, high: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return each side's rows for each window with low < end <= high, by (end, event time),
        without those that cannot be in the result.
        """
        left, right = self._held(0, low, high), self._held(1, low, high)
        if not self._alone[0]:
            left = self._with_key_of(0, left, right)
        if not self._alone[1]:
            right = self._with_key_of(1, right, left)
        return self._ordered(left, _LEFT), self._ordered(right, _RIGHT)

    def _held(self, port: int, low: int, high: int) -> pl.DataFrame:
        table: RowsTable = self._sides[port]
        rows = below(table, EVENT_TIME, high)
        if rows is None:
            rows = table.frame().clear()
        sliced = rows.with_columns(self._assigner.slices(rows[EVENT_TIME]).alias(SLICE))
        return in_windows(self._assigner, sliced, low, high).drop(SLICE)

    def _with_key_of(self, port: int, rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of one side whose key the other side has in the same window."""
        ours, theirs = self._by[port], self._by[1 - port]
        return rows.join(
            others.select(END, *theirs),
            left_on=[END, *ours],
            right_on=[END, *theirs],
            how="semi",
            maintain_order="left",
        )

    @staticmethod
    def _ordered(rows: pl.DataFrame, number: str) -> pl.DataFrame:
        return rows.sort(END, EVENT_TIME, POSITION, maintain_order=True).with_columns(
            pl.int_range(pl.len(), dtype=pl.Int64).alias(number)
        )

    def _beside(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        rows = self._columns.beside(left, right)
        return self._windowed(rows, left[END], left[_LEFT])

    def _only(self, port: int, rows: pl.DataFrame) -> pl.DataFrame:
        if self._left_only:
            return self._with_window(rows)
        if port == 0:
            return self._windowed(self._columns.only_left(rows), rows[END], rows[_LEFT])
        none = pl.Series(_LEFT, [None], dtype=pl.Int64).new_from_index(0, rows.height)
        return self._windowed(self._columns.only_right(rows), rows[END], none)

    def _with_window(self, left: pl.DataFrame) -> pl.DataFrame:
        return self._windowed(left[[*self._columns.left, *HIDDEN]], left[END], left[_LEFT])

    def _windowed(self, rows: pl.DataFrame, ends: pl.Series, left: pl.Series) -> pl.DataFrame:
        return rows.hstack([ends, left]).with_columns(
            self._assigner.start(pl.col(END)).cast(TIME_DTYPE).alias("window_start"),
            pl.col(END).cast(TIME_DTYPE).alias("window_end"),
        )

    def _numbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        first, self._given = self._given, self._given + rows.height
        self._write_progress()
        return rows.select(
            pl.exclude(END, _LEFT, *HIDDEN),
            (pl.col(END) - 1).alias(EVENT_TIME),
            pl.int_range(first, self._given, dtype=pl.Int64).alias(POSITION),
        )

    def _over_before(self, watermark: int) -> int:
        """Return the event time before which all windows of a row have ended."""
        if watermark in (BEGINNING, END_OF_TIME):
            return watermark
        return self._assigner.ended_before(watermark)

    def _reach(self, end: int) -> None:
        if end > self._ended:
            self._ended = end
            self._write_progress()

    def _write_progress(self) -> None:
        self._progress.replace(f"{self._ended} {self._given}".encode())

    def _find_next_end(self) -> int:
        pieces = [piece for side in self._sides for piece in side.pieces]
        return min((self._earliest_end(piece) for piece in pieces), default=END_OF_TIME)

    def _earliest_end(self, rows: pl.DataFrame) -> int:
        """Return the end of the first window over `rows` that has not ended."""
        oldest = rows[EVENT_TIME].min()
        if not isinstance(oldest, int):
            return END_OF_TIME
        return max(self._assigner.first_end_of(oldest), self._assigner.end_after(self._ended))


def _read_progress(value: bytes | None) -> tuple[int, int]:
    if value is None:
        return BEGINNING, 0
    ended, given = value.split()
    return int(ended), int(given)
