"""What leaves a voxel grid, and views of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from headrace.core.errors import PlanError
from headrace.operators.aggregates import count
from headrace.operators.assigners import tumbling
from headrace.operators.voxel_grid import VoxelGrid
from headrace.operators.voxel_regions import VoxelRegions
from headrace.operators.voxels.shown import INDICES
from headrace.operators.voxels.task import OUTSIDE, REASON, SNAPSHOT
from headrace.plan.graph import Ref
from headrace.stream.stream import Stream


@dataclass(frozen=True, slots=True)
class Voxels(Stream):
    """The voxels that changed: a table keyed by the grid's key and `ix, iy, iz` holds the grid.

    Attributes:
        source: The points.
        grid: How they are merged.
        control: What resets and shows grids, None where nothing does.
    """

    source: Stream
    grid: VoxelGrid
    control: Stream | None

    @property
    def outside(self) -> Stream:
        """The points that no voxel took, with the `reason`."""
        schema = self.graph.nodes[self.ref.node].output_schemas[OUTSIDE]
        return self._at(Ref(self.ref.node, OUTSIDE), schema, self.source.time)

    @property
    def outside_counts(self) -> Stream:
        """How many points no voxel took, per `reason` and minute of event time that had such:
        `reason`, `window_start`, `window_end`, `points`.
        """
        return self.outside.window(tumbling("1m"), by=REASON).agg(points=count())

    @property
    def snapshots(self) -> Stream:
        """All voxels of a grid, whenever the control table asked for it."""
        return self._port(SNAPSHOT)

    @property
    def regions(self) -> Stream:
        """Where each step changed voxels: key, `min_index`, `max_index`, `voxels`."""
        return self.then(VoxelRegions(by=self.grid.by), time=None)

    def slice(self, axis: Literal["x", "y", "z"], at: float) -> Stream:
        """Return the changes in the layer of voxels that holds the coordinate `at`.

        Raises:
            PlanError: It lies outside the box.
        """
        number = "xyz".index(axis)
        layer = self.grid.lattice.index(at, number)
        return self.filter(pl.col(INDICES[number]) == layer)

    def coarser(self, factor: int, *, name: str | None = None) -> Voxels:
        """Return the same box in voxels `factor` times as long, merged from the points.

        It is a grid of its own over the same points: exact, for the cost of a second one.

        Raises:
            PlanError: The factor is less than two.
        """
        if factor <= 1:
            raise PlanError(f"coarser({factor}) is not coarser", hint="give 2 or more")
        edges = tuple(factor * edge for edge in self.grid.resolution)
        grid = self.grid.model_copy(update={"resolution": edges, "name": name})
        return voxels(self.source, grid, self.control)


def voxels(source: Stream, grid: VoxelGrid, control: Stream | None) -> Voxels:
    """Put a voxel grid behind `source`."""
    main = source.then(grid, *(() if control is None else (control,)), time=None)
    main.graph.times[main.ref.node] = source.time
    return Voxels(main.graph, main.ref, main.schema, None, source, grid, control)
