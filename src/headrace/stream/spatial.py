"""Steps over places: voxels, proximity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from headrace.core.time import Duration, duration
from headrace.operators.columns import column_names
from headrace.stream.handle import Columns, Handle, Order

if TYPE_CHECKING:
    from headrace.operators.voxel_grid import VoxelAggregate
    from headrace.stream.decided import HasStream
    from headrace.stream.stream import Stream
    from headrace.stream.voxels import Voxels


class Spatial(Handle):
    """Voxels, proximity."""

    __slots__ = ()

    def voxel_grid(  # noqa: PLR0913 - a box, its columns and how long it is kept
        self,
        bbox: Sequence[float],
        resolution: float | Sequence[float],
        *,
        value: str,
        x: str = "x",
        y: str = "y",
        z: str = "z",
        by: Columns | None = None,
        aggregate: VoxelAggregate = "mean",
        order: Order = "event",
        control: HasStream | Stream | None = None,
        forget: Duration = "24h",
        max_blocks: int = 32_768,
        name: str | None = None,
    ) -> Voxels:
        """Merge points into the voxels of a box; changed voxels leave once per step.

        The result has `.outside`, the points no voxel took; `.regions`, where a step changed
        something; `.snapshots`; `.slice(axis, at)`; `.coarser(factor)`; `.late`.

        Args:
            bbox: x, y, z of the lower corner, then of the upper.
            resolution: Edge of a voxel, one or along x, y, z; the unit of the box.
            value: Column aggregated.
            x: Column of the coordinate.
            y: The same.
            z: The same.
            by: Columns that tell grids apart.
            aggregate: What a voxel's `value` is: mean, count, variance, min, max or last.
            order: `event` waits for the watermark, `arrival` merges at once.
            control: A control table or stream whose rows, by `by`, reset their grid, or where
                the column `action` is "snapshot" show it.
            forget: A grid without a point for longer, by event time, is forgotten.
            max_blocks: Most blocks of 8 x 8 x 8 voxels held; more stop the engine.
            name: Identity of the state.

        Raises:
            PlanError: A column is missing or no number, or the box is of no use.

        Example:
            >>> import headrace as hr, polars as pl
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> columns = dict.fromkeys(("x", "y", "z", "kelvin"), pl.Float64)
            >>> points = app.topic("points", {"time": utc, **columns}, time="time")
            >>> grid = points.voxel_grid((0, 0, 0, 10, 10, 5), 0.5, value="kelvin")
            >>> _ = app.table("melt", grid, key=["ix", "iy", "iz"])
            >>> rows = {"time": [0, 1], "x": [1.2, 1.4], "y": [0.1, 0.2], "z": [5.0, 5.0]}
            >>> frame = pl.DataFrame({**rows, "kelvin": [1600.0, 1700.0]}).cast({"time": utc})
            >>> melt = hr.testing.run(app, {"points": frame})["melt"]
            >>> melt.select("ix", "iy", "iz", "value", "count").rows()
            [(2, 0, 9, 1650.0, 2)]
        """
        from headrace.operators.voxel_grid import VoxelGrid
        from headrace.stream.stream import Stream
        from headrace.stream.voxels import voxels

        edges = (resolution,) * 3 if isinstance(resolution, int | float) else tuple(resolution)
        grid = VoxelGrid(
            bbox=tuple(bbox),
            resolution=edges,
            value=value,
            x=x,
            y=y,
            z=z,
            by=column_names(by),
            aggregate=aggregate,
            order=order,
            forget=duration(forget),
            max_blocks=max_blocks,
            name=name,
        )
        changes = control if control is None or isinstance(control, Stream) else control.stream
        return voxels(cast("Stream", self), grid, changes)

    def proximity(  # noqa: PLR0913 - who, where and how near
        self,
        *,
        by: Columns,
        within_m: float,
        lon: str = "longitude",
        lat: str = "latitude",
        group: Columns | None = None,
        order: Order = "event",
        forget: Duration = "24h",
        name: str | None = None,
    ) -> Stream:
        """Tell which vehicles come near one another and which part: events `near` and `far`.

        Args:
            by: Columns that identify a vehicle.
            within_m: How near near is, metres.
            lon: Longitude column, degrees.
            lat: Latitude column, degrees.
            group: Only vehicles of equal values are compared.
            order: `event` waits for the watermark, `arrival` judges at once.
            forget: A vehicle silent for longer is not there, and begins anew.
            name: Identity of the state.

        Raises:
            PlanError: A column is missing or of a wrong type, or a parameter is wrong.

        Example:
            >>> import headrace as hr, polars as pl
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> place = {"longitude": pl.Float64, "latitude": pl.Float64}
            >>> seen = app.topic("seen", {"ship": pl.String, "time": utc, **place}, time="time")
            >>> _ = app.output("meetings", seen.proximity(by="ship", within_m=1_000))
            >>> rows = {"ship": ["a", "b", "b"], "time": [0, 1, 2], "latitude": 0.0}
            >>> frame = pl.DataFrame({**rows, "longitude": [0.0, 0.001, 1.0]}).cast({"time": utc})
            >>> meetings = hr.testing.run(app, {"seen": frame})["meetings"]
            >>> meetings.select("ship", "ship_other", "event", pl.col("metres").round(1)).rows()
            [('b', 'a', 'near', 111.2), ('b', 'a', 'far', 111195.1)]
        """
        from headrace.operators.proximity import Proximity

        return self._then(
            Proximity(
                by=column_names(by),
                lon=lon,
                lat=lat,
                within_m=within_m,
                group=column_names(group),
                order=order,
                forget=duration(forget),
                name=name,
            )
        )
