"""Proximity: who comes near whom, and who parts again."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Final, Literal

import polars as pl

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, MAIN, Meaning, Operator, Tables, TableSpec, Task
from headrace.core.time import TIME_DTYPE
from headrace.operators.columns import ColumnNames
from headrace.operators.geo.sphere import HALF_TURN_M
from headrace.operators.proximity_task import ProximityTask, proximity_tables

OTHER: Final = "_other"
"""Added to the names of columns that tell of the other one of a pair."""
OTHER_AT: Final = "other_at"


class Proximity(Operator):
    """Follow pairs of vehicles: a row when they come near one another, and when they part.

    Each position is compared with the latest one of every other vehicle of its group. The first
    that lies within `within_m` gives an event "near", the next that does not gives "far"; a pair
    has one row for each, whoever reported. A row has the columns of the position that showed it,
    those of `by` and the coordinates of the other vehicle with `_other` added, `other_at` (the
    time of that position), `event` and `metres` (Float64, along a great circle on the sphere).

    Rows leave in the order of the positions that showed them; for each, those that part come
    first, then by the other vehicle. A position without coordinates (null, NaN, latitude beyond
    90, longitude beyond 360) changes nothing.

    Silence is no parting. A vehicle without a position for longer than `forget` is not there:
    the pairs it was in are forgotten without a row, and its next position begins anew.

    Attributes:
        by: Columns that identify a vehicle.
        lon: Longitude in degrees, -180 to 180 or 0 to 360.
        lat: Latitude in degrees.
        within_m: How near near is, metres, the bound included.
        group: Only vehicles of equal values are compared; none compares all.
        order: `event` judges positions in event-time order once the watermark has passed them;
            `arrival` at once, those before the watermark or older than the vehicle's latest go
            to `late`.
        forget: Event time for which a latest position counts, its end included.

    State: one row per vehicle seen within `forget`, and per pair that is near. Cost per batch:
    O(vehicles held), O(log n) per position and vehicle around it (in cells of `within_m`, 10 m at
    least, that touch its own).
    """

    kind: ClassVar[str] = "proximity"

    by: ColumnNames
    lon: str
    lat: str
    within_m: float
    group: ColumnNames = ()
    order: Literal["event", "arrival"] = "event"
    forget: DurationField = timedelta(hours=24)

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return the columns of the group: vehicles of one group belong together."""
        return self.group

    def meaning(self) -> Meaning:
        """By arrival, the order of rows decides."""
        return "rows" if self.order == "event" else "arrival"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of events, and the input's for late.

        Raises:
            PlanError: A column is missing, taken or of a wrong type; a parameter is wrong.
        """
        (schema,) = inputs
        self._check(schema)
        told = self.told(schema)
        taken = [name for name in told if name in schema]
        if taken:
            raise PlanError(
                f"proximity: the columns {', '.join(taken)} would be there twice",
                hint="rename them before",
            )
        return {MAIN: pl.Schema({**schema, **told}), LATE: schema}

    def told(self, schema: pl.Schema) -> dict[str, pl.DataType]:
        """Return the columns that an event adds to a position."""
        return {
            **{f"{name}{OTHER}": schema[name] for name in self.by},
            f"{self.lon}{OTHER}": pl.Float64(),
            f"{self.lat}{OTHER}": pl.Float64(),
            OTHER_AT: TIME_DTYPE,
            "event": pl.String(),
            "metres": pl.Float64(),
        }

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare what is known of vehicles, the pairs that are near, and rows that wait."""
        return proximity_tables(self, inputs[0])

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the vehicles known."""
        return ProximityTask(self, tables, inputs[0])

    def _check(self, schema: pl.Schema) -> None:
        if not self.by:
            raise PlanError("proximity needs by=", hint='e.g. by="vehicle_id"')
        if set(self.by) & set(self.group):
            raise PlanError("proximity: a column is both in by= and in group=")
        if not 0 < self.within_m <= HALF_TURN_M:
            raise PlanError(
                f"proximity: within_m is {self.within_m}",
                hint=f"give metres from above 0 to {HALF_TURN_M:.0f}",
            )
        if self.forget <= timedelta(0):
            raise PlanError("proximity: forget must be longer than zero")
        for name in (*self.by, *self.group, self.lon, self.lat):
            if name not in schema:
                raise PlanError(
                    f"proximity: the stream has no column {name!r}",
                    hint=f"it has {', '.join(schema)}",
                )
        for name in (self.lon, self.lat):
            if not schema[name].is_numeric():
                raise PlanError(f"proximity: column {name!r} is {schema[name]}, not a number")
