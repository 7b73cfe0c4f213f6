"""Voxel regions: which parts of a voxel grid a step changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Meaning, Operator, Out, Tables, Task
from headrace.core.time import EVENT_TIME, POSITION
from headrace.operators.columns import ColumnNames
from headrace.operators.voxels.lattice import EDGE
from headrace.operators.voxels.shown import INDICES

_BLOCK: Final = [f"__block_{name}" for name in INDICES]
_CORNERS: Final[dict[str, pl.DataType]] = {
    "min_index": pl.List(pl.Int32()),
    "max_index": pl.List(pl.Int32()),
    "voxels": pl.Int64(),
}


class VoxelRegions(Operator):
    """Say where the voxels lie that a step changed: a row per key and block of 8 x 8 x 8.

    `min_index` and `max_index` (lists of three Int32, both ends included) bound the changed
    voxels of a block, `voxels` (Int64) is how many they are; the event time is that of the
    newest. What one row holds depends on how points were cut into steps.

    Attributes:
        by: Columns that tell grids apart.

    Cost: O(changed voxels); no state.
    """

    kind: ClassVar[str] = "voxel_regions"

    by: ColumnNames = ()

    def meaning(self) -> Meaning:
        """Regions are those of a step."""
        return "step"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the key, the corners and the number of voxels.

        Raises:
            PlanError: The input is no stream of voxels.
        """
        (schema,) = inputs
        missing = [name for name in (*self.by, *INDICES) if name not in schema]
        if missing or any(schema[name] != pl.Int32() for name in INDICES):
            raise PlanError(
                "voxel_regions needs the columns ix, iy, iz as Int32, and its key",
                hint="it follows voxel_grid: stream.voxel_grid(...).regions",
            )
        return {MAIN: pl.Schema({**{name: schema[name] for name in self.by}, **_CORNERS})}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _RegionsTask(list(self.by))


class _RegionsTask(Task):
    def __init__(self, by: list[str]) -> None:
        self._by = by

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        if frame.is_empty():
            return
        blocks = [
            (pl.col(name) // EDGE).alias(block) for name, block in zip(INDICES, _BLOCK, strict=True)
        ]
        yield (
            MAIN,
            frame.with_columns(blocks)
            .group_by(*self._by, *_BLOCK, maintain_order=True)
            .agg(
                *(pl.col(name).min().alias(f"min_{name}") for name in INDICES),
                *(pl.col(name).max().alias(f"max_{name}") for name in INDICES),
                pl.struct(INDICES).n_unique().cast(pl.Int64).alias("voxels"),
                pl.col(EVENT_TIME).max(),
                pl.col(POSITION).first(),
            )
            .select(
                *self._by,
                pl.concat_list([f"min_{name}" for name in INDICES]).alias("min_index"),
                pl.concat_list([f"max_{name}" for name in INDICES]).alias("max_index"),
                "voxels",
                EVENT_TIME,
                POSITION,
            ),
        )
