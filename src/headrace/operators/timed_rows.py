"""TimedRows: rows kept in state that are found by key and a stretch of event time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.core.protocols import RowsTable
from headrace.core.time import END_OF_TIME, EVENT_TIME, POSITION
from headrace.operators.key_runs import Bools, Ints, changes

Hashes = npt.NDArray[np.uint64]

_SEED: Final = 11
_RATIO: Final = 2
_MAX_PIECES: Final = 32
_PORTION: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of some rows, ready to be compared with those of other rows.

    Equal keys have equal hashes within this process, no more: hashes find candidates and decide
    neither a match nor an order. NaN equals NaN and -0.0 equals 0.0, in Polars' hashes and `==`.

    Attributes:
        columns: One column per part of the key; none where all rows have the same key.
        hashes: One hash per row.
    """

    columns: tuple[pl.Series, ...]
    hashes: Hashes

    @staticmethod
    def of(frame: pl.DataFrame, by: Sequence[str]) -> Keys:
        """Return the keys of `frame` by the columns `by`."""
        columns = tuple(_comparable(frame[name]) for name in by)
        if not columns:
            return Keys((), np.zeros(frame.height, dtype=np.uint64))
        named = [column.alias(str(place)) for place, column in enumerate(columns)]
        return Keys(columns, pl.DataFrame(named).hash_rows(_SEED).to_numpy())

    def at(self, places: Ints) -> Keys:
        """Return the keys at `places`."""
        return Keys(tuple(column.gather(places) for column in self.columns), self.hashes[places])

    def agree(self, places: Ints, rows: pl.DataFrame, by: Sequence[str]) -> Bools:
        """Return whether the keys at `places` equal those of `rows`, which none of is null."""
        same = np.ones(places.size, dtype=np.bool_)
        for column, name in zip(self.columns, by, strict=True):
            same &= (column[places] == _comparable(rows[name])).to_numpy()
        return same


class TimedRows:
    """Rows in a rows table, found by key and event time.

    Rows lie in pieces sorted by (event time, position), each with an index by (key, event time);
    small pieces are merged into larger ones, so n rows lie in O(log n) pieces and each is merged
    O(log n) times. Only the pieces decide when, so a restored table behaves the same.

    Args:
        table: A rows table with the hidden columns. No key in it may be null.
        by: Key columns; none means that all rows share one key.
    """

    def __init__(self, table: RowsTable, by: Sequence[str]) -> None:
        self._table = table
        self._by = tuple(by)
        self._pieces = [_Piece(frame, self._by) for frame in table.pieces]

    def add(self, rows: pl.DataFrame) -> None:
        """Keep `rows`. Cost: O(k log n) amortised."""
        if rows.is_empty():
            return
        heights = [piece.height for piece in self._pieces]
        first, tail = len(heights), rows.height
        while first and (heights[first - 1] <= _RATIO * tail or first >= _MAX_PIECES):
            first -= 1
            tail += heights[first]
        frames = [*(piece.frame for piece in self._pieces[first:])]
        merged = pl.concat([*frames, rows[frames[0].columns] if frames else rows])
        self._store([*self._pieces[:first], _Piece(_by_time(merged), self._by)])

    def matches(self, keys: Keys, low: Ints, high: Ints) -> Iterator[tuple[Ints, pl.DataFrame]]:
        """Find for each given key the rows with low <= event time <= high.

        Args:
            keys: k keys, none of them null.
            low: Microseconds, one per key.
            high: The same; both ends are included.

        Yields:
            The numbers of the keys, ascending, and the row found for each: by key number, then
            by (event time, position). Portions hold about a million rows, and whole keys.

        Cost: O(k log² n) and O(found).
        """
        found = self._find(keys, low, high)
        if not found:
            return
        counts = sum((stop - start for _, start, stop in found), np.zeros_like(low))
        for first, last in portions(counts):
            asked, rows = [], []
            for piece, start, stop in found:
                key, place = _spread(start[first:last], stop[first:last])
                key += first
                asked.append(key)
                rows.append(piece.frame[piece.index.order[place] - piece.skipped])
            number, row = np.concatenate(asked), pl.concat(rows)
            same = keys.agree(number, row, self._by)
            if not same.all():
                number, row = number[same], row.filter(same)
            if number.size:
                order = _order(number, row)
                yield number[order], row[order]

    def first(self, keys: Keys, low: Ints, high: Ints) -> tuple[Ints, pl.DataFrame]:
        """Find for each given key the first of the rows that `matches` finds.

        Returns:
            The numbers of the keys that have one, ascending, and that row for each.

        Cost: O(k log² n).
        """
        return self._edge(keys, low, high, "first")

    def last(self, keys: Keys, low: Ints, high: Ints) -> tuple[Ints, pl.DataFrame]:
        """Find for each given key the last of the rows that `matches` finds; see `first`."""
        return self._edge(keys, low, high, "last")

    def _find(self, keys: Keys, low: Ints, high: Ints) -> list[tuple[_Piece, Ints, Ints]]:
        """Return for each piece where in its index the rows of each key begin and end."""
        # Searching for sorted values touches memory in order, which is several times as fast.
        order = np.argsort(keys.hashes)
        hashes, low, high = keys.hashes[order], low[order], high[order]
        back = np.empty_like(order)
        back[order] = np.arange(order.size)
        found = [(piece, piece.index.find(hashes, low, high)) for piece in self._pieces]
        return [(piece, start[back], stop[back]) for piece, (start, stop) in found]

    def _edge(
        self, keys: Keys, low: Ints, high: Ints, which: Literal["first", "last"]
    ) -> tuple[Ints, pl.DataFrame]:
        found = self._find(keys, low, high)
        if not found:
            return np.empty(0, dtype=np.int64), self._table.frame()
        asked, rows = [], []
        for piece, start, stop in found:
            number = np.flatnonzero(stop > start)
            at = start[number] if which == "first" else stop[number] - 1
            asked.append(number)
            rows.append(piece.frame[piece.index.order[at] - piece.skipped])
        number, row = np.concatenate(asked), pl.concat(rows)
        if not keys.agree(number, row, self._by).all():
            # Another key of the same hash stands in front: look at all of them.
            every = list(self.matches(keys, low, high))
            number = np.concatenate([number[:0], *(numbers for numbers, _ in every)])
            row = pl.concat([row.clear(), *(frame for _, frame in every)])
        order = _order(number, row)
        number = number[order]
        edge = changes(number)
        chosen = edge if which == "first" else np.append(edge[1:], True)[: number.size]
        return number[chosen], row[order[chosen]]

    def release(self, before: int) -> pl.DataFrame | None:
        """Give up the rows of event times less than `before`, by (event time, position); None
        when there are none. Cost: O(pieces + rows given up) amortised.
        """
        if not self._pieces or self.oldest() >= before:
            return None
        gone = [piece.frame[: piece.dead(before)] for piece in self._pieces]
        self._store([piece.without(piece.dead(before)) for piece in self._pieces])
        return pl.concat(gone).sort(EVENT_TIME, POSITION, maintain_order=True)

    def forget(self, before: int) -> None:
        """Forget rows of event times less than `before` where they are half of a piece."""
        if self._pieces and self.half() < before:
            self._store(
                [p.without(p.dead(before)) if p.middle < before else p for p in self._pieces]
            )

    def oldest(self) -> int:
        """Return the least event time held, or the end of time."""
        return min((piece.first for piece in self._pieces), default=END_OF_TIME)

    def half(self) -> int:
        """Return the bound beyond which `forget` has something to do, or the end of time."""
        return min((piece.middle for piece in self._pieces), default=END_OF_TIME)

    def _store(self, pieces: Sequence[_Piece]) -> None:
        self._pieces = [piece for piece in pieces if piece.height]
        self._table.replace([piece.frame for piece in self._pieces])
        for piece, frame in zip(self._pieces, self._table.pieces, strict=True):
            piece.frame = frame


class TimeIndex:
    """Rows by (key, event time).

    Args:
        hashes: One per row, or any number that tells keys apart.
        times: Event times of the rows, microseconds.
    """

    def __init__(self, hashes: Hashes, times: Ints) -> None:
        self._hashes, key_of = np.unique(hashes, return_inverse=True)
        self._times, rank = np.unique(times, return_inverse=True)
        # Ranks keep (key, time) small enough for one number, whatever the times.
        self._width = np.int64(self._times.size + 1)
        places = key_of.astype(np.int64) * self._width + rank
        self.order: Ints = np.argsort(places, kind="stable")
        self._places = places[self.order]

    def find(self, hashes: Hashes, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Return for each hash the stretch of `order` with low <= event time <= high."""
        if not self._hashes.size:
            return np.zeros_like(low), np.zeros_like(low)
        key = np.minimum(np.searchsorted(self._hashes, hashes), self._hashes.size - 1)
        known = self._hashes[key] == hashes
        first = key * self._width
        start = np.searchsorted(self._places, first + np.searchsorted(self._times, low, "left"))
        stop = np.searchsorted(self._places, first + np.searchsorted(self._times, high, "right"))
        return start, np.where(known, np.maximum(start, stop), start)


class _Piece:
    """Rows in event-time order, less those already given up at the front."""

    def __init__(self, frame: pl.DataFrame, by: Sequence[str]) -> None:
        self.frame = frame
        self._by = by
        self.height = frame.height
        self.skipped = 0
        self._times = frame[EVENT_TIME].to_numpy()

    @cached_property
    def index(self) -> TimeIndex:
        """Made when first asked for: many pieces are merged before that."""
        return TimeIndex(Keys.of(self.frame, self._by).hashes, self._times)

    @property
    def first(self) -> int:
        """The least event time."""
        return int(self._times[self.skipped])

    @property
    def middle(self) -> int:
        """The event time of the row in the middle."""
        return int(self._times[self.skipped + self.height // 2])

    def dead(self, before: int) -> int:
        """Return how many rows at the front are of event times less than `before`."""
        return int(np.searchsorted(self._times, before)) - self.skipped

    def without(self, count: int) -> _Piece:
        """Return this piece without its first `count` rows.

        The index stays while at least half of the rows it knows are left. It may still find
        those given up, which is why nobody asks for times that lie before them.
        """
        if not count:
            return self
        rest = self.frame[count:]
        if 2 * rest.height < self._times.size:
            # A slice would keep the memory of all rows.
            return _Piece(rest[np.arange(rest.height)], self._by)
        piece = _Piece(rest, self._by)
        if "index" in vars(self):
            piece._times = self._times
            piece.skipped = self.skipped + count
            piece.index = self.index
        return piece


def null_keys(frame: pl.DataFrame, by: Sequence[str]) -> pl.Series | None:
    """Return whether a part of each row's key is null, so that it has no match; None if none is."""
    marks = [column.is_null() for name in by if (column := frame[name]).null_count()]
    return reduce(or_, marks) if marks else None


def _comparable(column: pl.Series) -> pl.Series:
    # Categories are numbered as they come; text compares the same everywhere.
    return column.cast(pl.String) if isinstance(column.dtype, pl.Categorical) else column


def _by_time(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(EVENT_TIME, POSITION, maintain_order=True)


def _spread(start: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Return each number from start to stop, and which of the stretches it is of."""
    counts = stop - start
    number = np.repeat(np.arange(counts.size, dtype=np.int64), counts)
    before = np.cumsum(counts) - counts
    return number, np.arange(number.size, dtype=np.int64) + (start - before)[number]


def portions(counts: Ints) -> Iterator[tuple[int, int]]:
    """Cut numbers of rows into stretches that have about `_PORTION` rows together."""
    ends = np.cumsum(counts)
    if not ends.size or not ends[-1]:
        return
    first = 0
    while first < ends.size:
        done = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _PORTION, "right")))
        yield first, last
        first = last


def _order(asked: Ints, rows: pl.DataFrame) -> Ints:
    return np.lexsort((rows[POSITION].to_numpy(), rows[EVENT_TIME].to_numpy(), asked))
