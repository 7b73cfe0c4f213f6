"""Look up points in cells of several levels: a tree of 4 x 4 nodes in flat arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.operators.geo.cover import (
    DEEPEST,
    FINEST_PER_TOP,
    LEVEL_BITS,
    TOP_COLUMNS,
    TOP_ROWS,
    Cells,
)
from headrace.operators.geo.sphere import Bools, Floats, Ints

_FANOUT: Final = 16
_TOP_SLOTS: Final = TOP_COLUMNS * TOP_ROWS
_FINEST_COLUMNS: Final = TOP_COLUMNS * FINEST_PER_TOP
_FINEST_ROWS: Final = TOP_ROWS * FINEST_PER_TOP
_ROW_BITS: Final = 32


class CellTree:
    """Which cells hold a point, and what was stored on them. Immutable.

    The tree's slots are the level-0 grid followed by nodes of 16 cells each; a slot may lead to
    a node one level deeper and may carry entries, kept together in one array.

    Args:
        cells: The cells.
        labels: One value per cell, handed back by `find`.

    Cost: O(n log n) to build; 4 bytes per cell and 9 per slot.
    """

    def __init__(self, cells: Cells, labels: NDArray[np.int32]) -> None:
        paths = [_path(cells, level) for level in range(DEEPEST + 1)]
        slot = paths[0].copy()
        children: list[NDArray[np.int32]] = []
        slots = _TOP_SLOTS
        first = 0
        for level in range(1, DEEPEST + 1):
            deeper = cells.level >= level
            parent, node = np.unique(slot[deeper], return_inverse=True)
            child = np.full(slots - first, -1, dtype=np.int32)
            child[parent - first] = slots + _FANOUT * np.arange(len(parent))
            children.append(child)
            slot[deeper] = slots + _FANOUT * node + paths[level][deeper]
            first, slots = slots, slots + _FANOUT * len(parent)
        children.append(np.full(slots - first, -1, dtype=np.int32))
        order = np.argsort(slot, kind="stable")
        self._labels = labels[order]
        self._child = np.concatenate(children)
        counts = np.bincount(slot, minlength=slots)
        self._start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._bordered = np.zeros(slots, dtype=np.bool_)
        self._bordered[slot[~cells.inside]] = True

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        arrays = (self._labels, self._child, self._start, self._bordered)
        return sum(array.nbytes for array in arrays)

    def find(self, lon: Floats, lat: Floats) -> tuple[Ints, NDArray[np.int32]]:
        """Find what lies on the cells of points.

        Args:
            lon: n longitudes within [-180, 180).
            lat: n latitudes within [-90, 90].

        Returns:
            Pairs (index of the point, label), in no particular order.

        Cost: O(n depth + pairs).
        """
        points: list[NDArray[np.int32]] = []
        starts: list[NDArray[np.int32]] = []
        counts: list[NDArray[np.int32]] = []
        for point, slot in self._descent(lon, lat):
            start = self._start[slot]
            count = self._start[slot + 1] - start
            held = np.flatnonzero(count)
            points.append(point[held])
            starts.append(start[held])
            counts.append(count[held])
        return self._expanded(points, starts, counts)

    def last_slots(self, lon: Floats, lat: Floats) -> Ints:
        """Return the last slot of each point's way down the tree.

        Points with equal slots lie in one convex cell. Arguments as in `find`.
        """
        last = np.empty(len(lon), dtype=np.int64)
        for point, slot in self._descent(lon, lat):
            last[point] = slot
        return last

    def bordered(self, slots: Ints) -> Bools:
        """Tell which slots carry a border cell; no border passes through the others' cells."""
        return self._bordered[slots]

    def _descent(
        self, lon: Floats, lat: Floats
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Walk down from the top grid: the points still on their way, and their slots."""
        x = _grid(lon + 180.0, _FINEST_COLUMNS / 360.0, _FINEST_COLUMNS)
        y = _grid(lat + 90.0, _FINEST_ROWS / 180.0, _FINEST_ROWS)
        bits = LEVEL_BITS * DEEPEST
        point = np.arange(len(lon), dtype=np.int32)
        slot = (y >> bits) * TOP_COLUMNS + (x >> bits)
        while len(point):
            yield point, slot
            child = self._child[slot]
            deeper = np.flatnonzero(child >= 0)
            bits -= LEVEL_BITS
            point, child = point[deeper], child[deeper]
            slot = child + ((y[point] >> bits & 3) << LEVEL_BITS | (x[point] >> bits & 3))

    def _expanded(
        self,
        points: list[NDArray[np.int32]],
        starts: list[NDArray[np.int32]],
        counts: list[NDArray[np.int32]],
    ) -> tuple[Ints, NDArray[np.int32]]:
        if not points:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        point, start = np.concatenate(points), np.concatenate(starts)
        count = np.concatenate(counts)
        ends = np.cumsum(count, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        entry = np.repeat(start - (ends - count), count) + np.arange(total)
        return np.repeat(point, count).astype(np.int64), self._labels[entry]


def _grid(degrees: Floats, cells_per_degree: float, cells: int) -> NDArray[np.int32]:
    return np.minimum((degrees * cells_per_degree).astype(np.int32), cells - 1)


def _path(cells: Cells, level: int) -> Ints:
    """Return where each cell's ancestor of `level` sits in its node, or in the top grid."""
    up = np.maximum(cells.level - level, 0) * LEVEL_BITS
    row, column = cells.row >> up, cells.column >> up
    place: Ints = row * TOP_COLUMNS + column if level == 0 else (row & 3) << LEVEL_BITS | column & 3
    return place
