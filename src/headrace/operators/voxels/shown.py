"""Voxels as rows: what leaves a voxel grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from headrace.core.time import EVENT_TIME, HIDDEN, POSITION
from headrace.operators.voxels.lattice import Bools, Floats, Ints, Lattice

INDICES: Final = ("ix", "iy", "iz")
STATISTICS: Final[dict[str, pl.DataType]] = {
    "value": pl.Float64(),
    "count": pl.Int64(),
    "mean": pl.Float64(),
    "variance": pl.Float64(),
    "min": pl.Float64(),
    "max": pl.Float64(),
    "last": pl.Float64(),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """How voxels are told.

    Attributes:
        lattice: The voxels of the box.
        aggregate: The statistic shown as `value`.
        by: Key columns.
    """

    lattice: Lattice
    aggregate: str
    by: tuple[str, ...]

    def rows(self, beside: pl.DataFrame, cell: Ints, held: Floats) -> pl.DataFrame:
        """Return a row per voxel.

        Args:
            beside: The key and the hidden columns of each, from `hidden_beside`.
            cell: Its number in the lattice.
            held: Its statistics, as blocks hold them.
        """
        count, mean, m2, least, most, last = held.T.copy()
        columns = {
            "count": pl.Series(count.astype(np.int64)),
            "mean": pl.Series(mean),
            "variance": pl.Series(m2 / np.maximum(count - 1, 1)),
            "min": pl.Series(least),
            "max": pl.Series(most),
            "last": pl.Series(last),
        }
        columns["variance"] = _null_where(count <= 1, columns["variance"])
        for name in ("mean", "min", "max", "last"):
            columns[name] = _null_where(count == 0, columns[name])
        columns["value"] = columns[self.aggregate].cast(pl.Float64)
        indices = self.lattice.indices(cell)
        return pl.DataFrame(
            [
                *(_plain(beside[name]) for name in self.by),
                *(
                    pl.Series(name, values.astype(np.int32))
                    for name, values in zip(INDICES, indices, strict=True)
                ),
                *(columns[name].alias(name) for name in STATISTICS),
                *(beside[name] for name in HIDDEN),
            ]
        )


def hidden_beside(keys: Sequence[pl.Series], times: Ints, places: Ints) -> pl.DataFrame:
    """Return key columns with event times and positions."""
    return pl.DataFrame([*keys, pl.Series(EVENT_TIME, times), pl.Series(POSITION, places)])


def _null_where(none: Bools, values: pl.Series) -> pl.Series:
    return values.set(pl.Series(none), None) if none.any() else values


def _plain(key: pl.Series) -> pl.Series:
    # -0.0 and 0.0 are one key, shown as 0.0.
    return key.set(key == 0, 0.0) if key.dtype.is_float() else key
