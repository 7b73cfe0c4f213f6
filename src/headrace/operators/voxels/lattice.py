"""Lattice: where in a box of voxels a point lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.core.errors import PlanError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

EDGE: Final = 8
"""Voxels along an edge of a block."""
BLOCK: Final = EDGE**3
_SHIFT: Final = 3
_AXES: Final = 3
_MOST_BLOCKS: Final = 1 << 40
_SLIVER: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Lattice:
    """A box cut into voxels, and voxels gathered into blocks of `EDGE` cubed.

    A voxel is named by its index along x, y, z, and by one number: 512 times the number of its
    block plus its place in it.

    Attributes:
        low: The box's lower corner.
        high: Its upper corner.
        size: Edges of a voxel, in the same unit.
        shape: Voxels along each axis; the last one may reach beyond the box.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    size: tuple[float, float, float]
    shape: tuple[int, int, int]

    @staticmethod
    def of(bbox: Sequence[float], size: Sequence[float]) -> Lattice:
        """Cut the box (x, y, z of the lower corner, then of the upper) into voxels.

        Raises:
            PlanError: The box is empty or not finite, or has too many voxels.

        Example:
            >>> Lattice.of((0, 0, 0, 1, 1, 0.25), (0.1, 0.1, 0.1)).shape
            (10, 10, 3)
        """
        if len(bbox) != 2 * _AXES or not all(math.isfinite(edge) for edge in bbox):
            raise PlanError(
                f"the box is {tuple(bbox)}",
                hint="give six numbers: x, y, z of the lower corner, then of the upper one",
            )
        if len(size) != _AXES or not all(0 < edge < math.inf for edge in size):
            raise PlanError(f"the resolution is {tuple(size)}", hint="edges are longer than zero")
        low, high = bbox[:_AXES], bbox[_AXES:]
        shape = []
        for start, end, edge, axis in zip(low, high, size, "xyz", strict=True):
            if not start < end:
                raise PlanError(f"the box reaches from {start} to {end} along {axis}")
            count = (end - start) / edge
            whole = round(count)
            # 0.6 / 0.2 is a little less than 3, and 1.1 / 0.1 a little more than 11.
            fits = whole > 0 and abs(count - whole) <= _SLIVER * whole
            shape.append(whole if fits else math.ceil(count))
        if math.prod(-(-count // EDGE) for count in shape) > _MOST_BLOCKS:
            raise PlanError(
                f"the box has {' x '.join(map(str, shape))} voxels",
                hint="give a smaller box or a coarser resolution",
            )
        x, y, z = shape
        return Lattice(
            (low[0], low[1], low[2]),
            (high[0], high[1], high[2]),
            (size[0], size[1], size[2]),
            (x, y, z),
        )

    @property
    def block_shape(self) -> tuple[int, int, int]:
        """Blocks along each axis."""
        x, y, z = (-(-count // EDGE) for count in self.shape)
        return x, y, z

    @property
    def blocks(self) -> int:
        """Number of blocks the box has room for."""
        return math.prod(self.block_shape)

    def index(self, coordinate: float, axis: int) -> int:
        """Return the index of the voxels that hold `coordinate` along one axis.

        Raises:
            PlanError: It lies outside the box.
        """
        if not self.low[axis] <= coordinate <= self.high[axis]:
            raise PlanError(
                f"{'xyz'[axis]} = {coordinate} lies outside the box",
                hint=f"it reaches from {self.low[axis]} to {self.high[axis]}",
            )
        count = int((coordinate - self.low[axis]) / self.size[axis])
        return min(count, self.shape[axis] - 1)

    def inside(self, points: Sequence[Floats]) -> Bools:
        """Return which points lie in the box, both faces included; NaN does not."""
        within = np.ones(points[0].size, dtype=np.bool_)
        for values, low, high in zip(points, self.low, self.high, strict=True):
            within &= values >= low
            within &= values <= high
        return within

    def cells(self, points: Sequence[Floats]) -> tuple[Ints, Ints]:
        """Return the block and the place in it of points that lie in the box.

        A voxel holds low <= coordinate < high, the last one along an axis its upper face too:
        the index is floor((coordinate - low corner) / resolution), computed in doubles.
        """
        block = np.zeros(points[0].size, dtype=np.int64)
        place = np.zeros_like(block)
        for axis, values in enumerate(points):
            number = ((values - self.low[axis]) / self.size[axis]).astype(np.int64)
            np.minimum(number, self.shape[axis] - 1, out=number)
            block *= self.block_shape[axis]
            block += number >> _SHIFT
            place <<= _SHIFT
            place |= number & (EDGE - 1)
        return block, place

    def indices(self, cell: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the index along x, y and z of voxels given by their one number."""
        block, place = cell // BLOCK, cell % BLOCK
        _, across, deep = self.block_shape
        z = (block % deep) * EDGE + place % EDGE
        y = (block // deep % across) * EDGE + place // EDGE % EDGE
        x = (block // deep // across) * EDGE + place // EDGE**2
        return x, y, z
