"""Voxel grid: statistics of a value in each cell of a box, kept up to date."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

import polars as pl
from pydantic import BeforeValidator, Field

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, MAIN, Meaning, Operator, Tables, TableSpec, Task
from headrace.operators.columns import ColumnNames
from headrace.operators.voxels.lattice import Lattice
from headrace.operators.voxels.shown import INDICES, STATISTICS
from headrace.operators.voxels.task import (
    ACTION,
    CONTROL_PORT,
    OUTSIDE,
    REASON,
    SNAPSHOT,
    VoxelTask,
    voxel_tables,
)

VoxelAggregate = Literal["count", "mean", "variance", "min", "max", "last"]


def _edges(value: Any) -> Any:
    return (value,) * 3 if isinstance(value, int | float) else value


class VoxelGrid(Operator):
    """Merge points into the voxels of a box, per key.

    Port main is a changelog: a row for each voxel that changed, once per step, with the key,
    `ix iy iz` (Int32, from the box's lower corner), `value` (what `aggregate` names), `count`
    (Int64) and `mean variance min max last` (Float64) of its points so far. `variance` has the
    divisor n - 1 and is null for one point. A voxel that was forgotten or reset leaves a row of
    count 0. The event time is that of the voxel's newest point.

    Port `outside` has the points that no voxel took and why: `reason` "outside", "no
    coordinates" (null, NaN or infinite) or "no value" (the same). Port `late` has points
    that came too late. Port `snapshot` has whole grids, where asked for.

    With `order="event"` points wait for the watermark, so the answer does not depend on how
    they arrived, and those before the watermark are late. With `order="arrival"` they are
    merged at once, `last` is the last to arrive, and only points before the watermark whose key
    has no grid are late.

    A grid is forgotten when its key had no point in the box for longer than `forget`; the next
    point begins another. Inputs of the control port (columns `by`, and optionally `action`) act
    on the grid of their key at once: `action` "snapshot" shows it, anything else, null too,
    resets it: points that came before, waiting ones too, belong to the old grid.

    Attributes:
        bbox: x, y, z of the lower corner, then of the upper; both faces belong to the box.
        resolution: Edge of a voxel, one or along x, y, z. The last voxel of an axis may reach
            beyond the box.
        value: The column aggregated.
        x: Column of the coordinate, in the unit of `bbox`.
        y: The same.
        z: The same.
        by: Columns that tell grids apart; none makes one grid.
        aggregate: What repeated hits of a voxel give as its `value`.
        order: `event` or `arrival`.
        forget: Event time without a point after which a grid is forgotten.
        max_blocks: The most blocks of 8 x 8 x 8 voxels of all grids together; more stop the
            engine with a StateError before the step.

    State: 26 kB of memory per block that has points, and about 64 to 192 bytes per voxel that
    has, in checkpoints too; a checkpoint writes what changed, each row O(log n) times. Cost: O(1)
    per point and O(changed voxels) per step, O(voxels) where a grid is forgotten or reset.
    """

    kind: ClassVar[str] = "voxel_grid"
    control_ports: ClassVar[frozenset[int]] = frozenset({CONTROL_PORT})

    bbox: tuple[float, ...]
    resolution: Annotated[tuple[float, ...], BeforeValidator(_edges)]
    value: str
    x: str = "x"
    y: str = "y"
    z: str = "z"
    by: ColumnNames = ()
    aggregate: VoxelAggregate = "mean"
    order: Literal["event", "arrival"] = "event"
    forget: DurationField = timedelta(hours=24)
    max_blocks: int = Field(default=32_768, ge=1, le=1 << 22)

    @property
    def lattice(self) -> Lattice:
        """The voxels of the box.

        Raises:
            PlanError: The box or the resolution is of no use.
        """
        return Lattice.of(self.bbox, self.resolution)

    def outputs(self) -> tuple[str, ...]:
        """Name main, outside, snapshot and late."""
        return (MAIN, OUTSIDE, SNAPSHOT, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`."""
        return self.by

    def meaning(self) -> Meaning:
        """The last row per voxel counts; by arrival, silences depend on the steps."""
        return "changelog" if self.order == "event" else "step"

    def changelog_key(self) -> tuple[str, ...]:
        """The key and the voxel."""
        return (*self.by, *INDICES) if self.order == "event" else ()

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of voxels, and of points with `reason`.

        Raises:
            PlanError: A column is missing, taken or no number, or the box is of no use.
        """
        schema = inputs[0]
        self._check(schema)
        if len(inputs) > CONTROL_PORT:
            missing = [name for name in self.by if name not in inputs[CONTROL_PORT]]
            if missing:
                raise PlanError(
                    f"voxel_grid: the control input lacks {', '.join(missing)}",
                    hint="it names the grid by the columns by=",
                )
            if inputs[CONTROL_PORT].get(ACTION, pl.String()) != pl.String():
                raise PlanError(f"voxel_grid: the control column {ACTION!r} must be text")
        keys = {name: schema[name] for name in self.by}
        voxels = pl.Schema({**keys, **dict.fromkeys(INDICES, pl.Int32()), **STATISTICS})
        outside = pl.Schema([*schema.items(), (REASON, pl.String())])
        return {MAIN: voxels, OUTSIDE: outside, SNAPSHOT: voxels, LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the grids, their voxels, and points that wait."""
        return voxel_tables(self, inputs[0])

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task; its blocks are filled from the table of voxels."""
        return VoxelTask(self, tables, inputs[0])

    def _check(self, schema: pl.Schema) -> None:
        numbers = (self.x, self.y, self.z, self.value)
        for name in (*self.by, *numbers):
            if name not in schema:
                raise PlanError(
                    f"voxel_grid: the stream has no column {name!r}",
                    hint=f"it has {', '.join(schema)}",
                )
        for name in numbers:
            if not schema[name].is_numeric():
                raise PlanError(f"voxel_grid: column {name!r} is {schema[name]}, not a number")
        taken = [name for name in self.by if name in (*INDICES, *STATISTICS)]
        if taken or REASON in schema:
            raise PlanError(
                f"voxel_grid: the columns {', '.join(taken or [REASON])} would be there twice",
                hint="rename them before",
            )
        if self.forget <= timedelta(0):
            raise PlanError("voxel_grid: forget must be longer than zero")
        _ = self.lattice
