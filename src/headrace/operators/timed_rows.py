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
_WHOLE: Final = frozenset(
    {pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64}
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of some rows, ready to be compared with those of other rows.

    Equal keys have equal hashes within this process, no more: hashes find candidates and decide
    neither a match nor an order. NaN equals NaN and -0.0 equals 0.0, in Polars' hashes and `==`.

    Attributes:
        columns: One column per part of the key; none where all rows have the same key.
        hashes: One hash per row.
        exact: Whether rows of equal hash have equal keys: a whole number is its own hash.
    """

    columns: tuple[pl.Series, ...]
    hashes: Hashes
    exact: bool = False

    @staticmethod
    def of(frame: pl.DataFrame, by: Sequence[str]) -> Keys:
        """Return the keys of `frame` by the columns `by`."""
        columns = tuple(_comparable(frame[name]) for name in by)
        if not columns:
            return Keys((), np.zeros(frame.height, dtype=np.uint64), exact=True)
        if len(columns) == 1 and columns[0].dtype in _WHOLE:
            numbers = columns[0].cast(pl.Int64, wrap_numerical=True)
            nulls = numbers.null_count() > 0
            known = numbers.fill_null(0) if nulls else numbers
            return Keys(columns, known.to_numpy().view(np.uint64), exact=not nulls)
        named = [column.alias(str(place)) for place, column in enumerate(columns)]
        return Keys(columns, pl.DataFrame(named).hash_rows(_SEED).to_numpy())

    def at(self, places: Ints) -> Keys:
        """Return the keys at `places`."""
        columns = tuple(column.gather(places) for column in self.columns)
        return Keys(columns, self.hashes[places], self.exact)

    def agree(self, places: Ints, rows: pl.DataFrame, by: Sequence[str]) -> Bools:
        """Return whether the keys at `places` equal those of `rows`, which none of is null."""
        same = np.ones(places.size, dtype=np.bool_)
        if self.exact:
            return same
        for column, name in zip(self.columns, by, strict=True):
            same &= column[places].eq_missing(_comparable(rows[name])).to_numpy()
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
            if not keys.exact and not same.all():
                number, row = number[same], row.filter(same)
            if number.size:
                # Each piece gives its rows in order, so one alone needs no sorting.
                order = _order(number, row) if len(found) > 1 else None
                yield (number, row) if order is None else (number[order], row[order])

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
        if not low.size:
            return []
        order = np.argsort(keys.hashes)
        hashes = keys.hashes[order]
        back = np.empty_like(order)
        back[order] = np.arange(order.size)
        least, most = low.min(), high.max()
        found = [
            (piece, piece.index.find(hashes, low, high, order))
            for piece in self._pieces
            if piece.first <= most and piece.last >= least
        ]
        return [(piece, start[back], stop[back]) for piece, (start, stop) in found]

    def _edge(
        self, keys: Keys, low: Ints, high: Ints, which: Literal["first", "last"]
    ) -> tuple[Ints, pl.DataFrame]:
        found = self._find(keys, low, high)
        if not found:
            none = self._pieces[0].frame.clear() if self._pieces else self._table.frame()
            return np.empty(0, dtype=np.int64), none
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
        rows = times.size
        by_key = np.argsort(hashes)
        grouped = hashes[by_key]
        fresh = np.ones(rows, dtype=np.bool_)
        np.not_equal(grouped[1:], grouped[:-1], out=fresh[1:])
        self._hashes = grouped[fresh]
        key = np.cumsum(fresh) - 1
        if bool((times[1:] >= times[:-1]).all()):
            # Then rows in their order are rows by time; sorting numbers is several times as
            # fast as finding the order of numbers.
            begins = changes(times)
            self._times, rank = times[begins], np.cumsum(begins) - 1
            self.order: Ints = np.sort(key * rows + by_key) - key * rows
        else:
            self._times, rank = np.unique(times, return_inverse=True)
            self.order = by_key[np.lexsort((by_key, rank[by_key], key))]
        # Ranks keep (key, time) small enough for one number, whatever the times.
        self._width = np.int64(self._times.size + 1)
        self._places: Ints = key * self._width + rank[self.order]

    def find(
        self, hashes: Hashes, low: Ints, high: Ints, order: Ints | None = None
    ) -> tuple[Ints, Ints]:
        """Return for each hash the stretch of `order` with low <= event time <= high.

        Args:
            hashes: Searched in memory order where they ascend, which is several times as fast.
            low: Microseconds.
            high: The same.
            order: Where `low` and `high` lie that belong to each hash; side by side without.
                They too are searched fastest in an order near their own.
        """
        least = np.searchsorted(self._times, low, "left")
        past = np.searchsorted(self._times, high, "right")
        if order is not None:
            least, past = least[order], past[order]
        if not self._hashes.size:
            return np.zeros_like(least), np.zeros_like(least)
        key = np.minimum(np.searchsorted(self._hashes, hashes), self._hashes.size - 1)
        known = self._hashes[key] == hashes
        first = key * self._width
        start = np.searchsorted(self._places, first + least)
        stop = np.searchsorted(self._places, first + past)
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
    def last(self) -> int:
        """The greatest event time."""
        return int(self._times[-1])

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
    """Return the order of rows by (asked, event time, position)."""
    times, positions = rows[EVENT_TIME].to_numpy(), rows[POSITION].to_numpy()
    # Pieces mostly follow one another in time: a stable sort of runs that ascend is enough then.
    order = np.argsort(asked, kind="stable")
    number, time, position = asked[order], times[order], positions[order]
    earlier = time[1:] < time[:-1]
    earlier |= (time[1:] == time[:-1]) & (position[1:] < position[:-1])
    if bool((earlier & (number[1:] == number[:-1])).any()):
        order = np.lexsort((positions, times, asked))
    return order
