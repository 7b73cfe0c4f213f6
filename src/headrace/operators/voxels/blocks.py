"""Blocks: the present statistics of voxels, dense where there is something."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.core.errors import StateError
from headrace.operators.voxels.lattice import BLOCK, Floats, Ints

Places = npt.NDArray[np.int32]

_DENSE_UP_TO: Final = 1 << 24
_FIRST_BLOCKS: Final = 16


COUNT, MEAN, M2, LEAST, MOST, LAST = range(6)
"""Columns of statistics; M2 is the sum of squared distances from the mean."""
COLUMNS: Final = 6


class BlockIndex:
    """Where in memory a block lies, by its number.

    Numbers up to 2^24 index a table of their own; larger ones are searched for.
    """

    def __init__(self) -> None:
        self._table: Places | None = np.full(1024, -1, dtype=np.int32)
        self._numbers: Ints = np.empty(0, dtype=np.int64)
        self._slots: Places = np.empty(0, dtype=np.int32)

    def find(self, numbers: Ints) -> Places:
        """Return the slot of each block, -1 where it has none. Cost: O(n), or O(n log blocks)."""
        if self._table is not None:
            if not numbers.size or int(numbers.max()) < self._table.size:
                return self._table[numbers]
            if int(numbers.max()) < _DENSE_UP_TO:
                size = min(2 * int(numbers.max()) + 2, _DENSE_UP_TO)
                table = np.full(size, -1, dtype=np.int32)
                table[: self._table.size] = self._table
                self._table = table
                return table[numbers]
            self._numbers = np.flatnonzero(self._table >= 0)
            self._slots = self._table[self._numbers]
            self._table = None
        if not self._numbers.size:
            return np.full(numbers.size, -1, dtype=np.int32)
        # Points that follow one another mostly share their block.
        changed = np.ones(numbers.size, dtype=np.bool_)
        np.not_equal(numbers[1:], numbers[:-1], out=changed[1:])
        some = numbers[changed]
        at = np.minimum(np.searchsorted(self._numbers, some), self._numbers.size - 1)
        slots = np.where(self._numbers[at] == some, self._slots[at], np.int32(-1))
        places: Places = slots[np.cumsum(changed) - 1]
        return places

    def between(self, first: int, end: int) -> tuple[Ints, Places]:
        """Return the numbers from `first` to `end` that have a slot, ascending, and the slots."""
        if self._table is not None:
            slots = self._table[first:end]
            held = np.flatnonzero(slots >= 0)
            return held + first, slots[held]
        low, high = np.searchsorted(self._numbers, [first, end])
        return self._numbers[low:high], self._slots[low:high]

    def add(self, numbers: Ints, slots: Places) -> None:
        """Give slots to blocks that `find` did not know."""
        if self._table is not None:
            self._table[numbers] = slots
            return
        order = np.argsort(np.concatenate([self._numbers, numbers]), kind="stable")
        self._numbers = np.concatenate([self._numbers, numbers])[order]
        self._slots = np.concatenate([self._slots, slots])[order]

    def remove(self, numbers: Ints) -> None:
        """Take the slots of blocks away."""
        if self._table is not None:
            self._table[numbers] = -1
            return
        kept = np.isin(self._numbers, numbers, assume_unique=True, invert=True)
        self._numbers, self._slots = self._numbers[kept], self._slots[kept]


class Blocks:
    """Blocks of `BLOCK` voxels that points are merged into.

    It holds nothing that the task's table does not say too, so it is made anew from that.

    Args:
        most: How many blocks there may be.

    Attributes:
        statistics: A row of `COLUMNS` numbers per voxel, so that one lies in one cache line.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._index = BlockIndex()
        self._free: list[int] = []
        self._used = 0
        self.statistics: Floats = np.zeros((_FIRST_BLOCKS * BLOCK, COLUMNS))
        self._mark = np.zeros(_FIRST_BLOCKS * BLOCK, dtype=np.int32)

    def places(self, block: Ints, place: Ints) -> Ints:
        """Return where voxels lie, making room for blocks that are new.

        Raises:
            StateError: There would be more blocks than allowed.
        """
        slots = self._index.find(block)
        if slots.size and int(slots.min()) < 0:
            fresh = np.unique(block[slots < 0])
            self._index.add(fresh, self._room(fresh.size))
            slots = self._index.find(block)
        at = slots.astype(np.int64)
        at *= BLOCK
        at += place
        return at

    def last_of_each(self, at: Ints) -> Ints:
        """Return the rows that are the last of their voxel, ascending. Cost: O(n), no sorting."""
        number = np.arange(at.size, dtype=np.int32)
        # Of equal places the last assignment stays.
        self._mark[at] = number
        return np.flatnonzero(self._mark[at] == number)

    def merge(self, at: Ints, values: Floats) -> Ints:
        """Merge points into their voxels; return the rows that are the last of each voxel.

        Counts, means and squared distances of the points are found first and then merged into
        those of the voxels as in Chan, Golub and LeVeque, "Updating formulae and a pairwise
        algorithm for computing sample variances" (1979), so nothing cancels.
        """
        # Points that follow one another mostly lie in one voxel; a run of them is looked at once.
        changed = np.ones(at.size, dtype=np.bool_)
        np.not_equal(at[1:], at[:-1], out=changed[1:])
        starts = np.flatnonzero(changed)
        ends = np.append(starts[1:], at.size)
        runs = at[starts]
        last = self.last_of_each(runs)
        cells, size = runs[last], last.size
        self._mark[cells] = np.arange(size, dtype=np.int32)
        code_of = self._mark[runs]
        code = np.repeat(code_of, ends - starts)
        number = np.bincount(code, minlength=size).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.bincount(code, values, size) / number
            apart = values - mean[code]
            rest = np.bincount(code, apart, size)
            m2 = np.maximum(np.bincount(code, apart * apart, size) - rest * rest / number, 0.0)
            mean += rest / number
            held = self.statistics[cells]
            known = held[:, COUNT] > 0
            count = held[:, COUNT] + number
            part = number / count
            shift = np.where(known, mean - held[:, MEAN], 0.0)
            merged = np.empty_like(held)
            merged[:, COUNT] = count
            merged[:, MEAN] = np.where(known, held[:, MEAN] + shift * part, mean)
            merged[:, M2] = held[:, M2] + m2 + shift * shift * (held[:, COUNT] * part)
        least = np.where(known, held[:, LEAST], np.inf)
        most = np.where(known, held[:, MOST], -np.inf)
        np.minimum.at(least, code_of, np.minimum.reduceat(values, starts))
        np.maximum.at(most, code_of, np.maximum.reduceat(values, starts))
        merged[:, LEAST], merged[:, MOST] = least, most
        rows = ends[last] - 1
        merged[:, LAST] = values[rows]
        self.statistics[cells] = merged
        return rows

    def voxels(self, first: int, end: int) -> tuple[Ints, Ints]:
        """Return the voxels of the blocks `first` to `end` that hold points, by number, and
        where they lie.
        """
        numbers, slots = self._index.between(first, end)
        at = (slots.astype(np.int64)[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        held = np.flatnonzero(self.statistics[at, COUNT] > 0)
        cells = (numbers[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        return cells[held], at[held]

    def drop(self, first: int, end: int) -> None:
        """Forget the blocks `first` to `end`."""
        numbers, slots = self._index.between(first, end)
        at = (slots.astype(np.int64)[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        self.statistics[at] = 0.0
        self._free.extend(slots.tolist())
        self._index.remove(numbers)

    def _room(self, count: int) -> Places:
        free = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = count - len(free)
        if self._used + fresh > self._most:
            raise StateError(
                f"a voxel grid would take more than {self._most} blocks of {BLOCK} voxels",
                hint="give a coarser resolution, a smaller box, a shorter forget=, or reset grids "
                "that are done; max_blocks= allows more, at 26 kB each",
            )
        if (self._used + fresh) * BLOCK > self._mark.size:
            size = max(2 * self._used, self._used + fresh) * BLOCK
            held, self.statistics = self.statistics, np.zeros((size, COLUMNS))
            self.statistics[: held.shape[0]] = held
            self._mark = np.zeros(size, dtype=np.int32)
        slots = np.array([*free, *range(self._used, self._used + fresh)], dtype=np.int32)
        self._used += fresh
        return slots
