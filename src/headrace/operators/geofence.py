"""Geofence: which vehicle enters, leaves, crosses or breaks the rules of which zone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import BeforeValidator

from headrace.core.component import DurationField
from headrace.core.errors import ConfigError, DataError, PlanError
from headrace.core.log import OP
from headrace.core.protocols import LATE, MAIN, Meaning, Operator, Tables, TableSpec, Task
from headrace.core.time import HIDDEN_SCHEMA
from headrace.operators.columns import ColumnNames
from headrace.operators.geo.zone_history import VERSION
from headrace.operators.geo.zone_set import (
    ZONE_ID,
    ZoneSet,
    check_zone_columns,
    zones_from_geojson,
)
from headrace.operators.geofence_task import (
    BUFFER,
    CHANGES,
    EVENT_COLUMNS,
    FENCES,
    KEYS,
    LAST,
    PLACE,
    POSITIONS,
    VISIT,
    VISITS,
    ZONES,
    ZONES_PORT,
    GeofenceTask,
)

__all__ = ["FENCES", "POSITIONS", "Geofence"]

Event = Literal["enter", "exit", "cross", "inside", "outside", "dwell", "breach", "restore"]


def _geojson_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, Mapping) else value


class Geofence(Operator):
    """Follow vehicles through zones.

    Port main gives one row per event: the position's columns, `zone_id`, `event`, `entered_at`,
    `dwell_s` (seconds since `entered_at`), `reason`, and `attributes` of the zone. Port
    `positions` gives every position once, in the order they were judged, with its events as the
    list `fences`. Port `late` gives positions that came too late to be judged.

    Events:

    - `enter`: the first position inside, also when it is the vehicle's first of all. With
      `min_dwell`, the first position that is inside for at least that long without a break;
      `entered_at` is then still the first position inside, and a shorter visit has no events.
    - `exit`: the first position outside. With `border_m`, the first that is more than this
      many metres outside the border; until then a visit goes on, while entering always takes a
      position inside. Silence is no exit.
    - `cross`: a straight leg from the previous position through a zone that holds neither end.
    - `inside`: each position of a reported visit. `dwell`: each but the entering one. `outside`:
      each position in no zone, with `zone_id` null.
    - `breach`, `restore`: see rules. They are reported whatever `detect` says.

    Per position exits come first, then enters, then others, each by `zone_id`. A border belongs
    to its zone. A position without coordinates, or with impossible ones, is passed on and
    changes nothing.

    Zones come from a control table on the second input, or as GeoJSON. Columns: `zone_id`,
    `geometry` (GeoJSON Polygon, MultiPolygon, or Point with `radius_m`); optional `min_depth_m`
    and `max_depth_m` (both inclusive), `active_from` and `active_to` (UTC times of day, the end
    exclusive, may pass midnight), and `rule`. Where `rule` is null or "volume", the zone is
    there only within its depths and hours; an exit by them has `reason` "depth" or "hours".
    Where it is "limits", the zone is its outline, and a position inside that is out of depths
    or hours is a `breach` with that reason; the first one that is not is a `restore`. A
    vehicle's last known depth counts until it sends another; where none is known it is in no
    band, and breaks no rule. A change of zones counts from a vehicle's next position on, not for
    positions that came before it and wait; if its zone was deleted, that is an `exit` with
    reason "zone removed".

    Attributes:
        by: Columns that identify a vehicle.
        lon: Longitude in degrees, -180 to 180 or 0 to 360.
        lat: Latitude in degrees.
        depth: Depth in metres, positive down; without it depth bands do not count.
        detect: The events to report.
        min_dwell: How long a visit lasts before it is reported.
        border_m: How far outside a visit goes on.
        order: `event` judges positions in event-time order once the watermark has passed them;
            `arrival` at once, those older than the vehicle's latest go to `late`.
        attributes: Zone columns to carry along.
        forget: A vehicle silent for longer, by event time, begins anew: no exit, and an enter.
        zones: GeoJSON FeatureCollection (text or parsed) with `zone_id` and the columns above
            as properties; None where zones come from a control table.

    State: one row per vehicle, with its open visits. Cost: O(depth + hits) per position for the
    zones, whatever their number, and O(log vehicles) per vehicle and batch.
    """

    kind: ClassVar[str] = "geofence"
    control_ports: ClassVar[frozenset[int]] = frozenset({ZONES_PORT})

    by: ColumnNames
    lon: str
    lat: str
    depth: str | None = None
    detect: tuple[Event, ...] = ("enter", "exit")
    min_dwell: DurationField | None = None
    border_m: float = 0.0
    order: Literal["event", "arrival"] = "event"
    attributes: tuple[str, ...] = ()
    forget: DurationField = timedelta(hours=24)
    zones: Annotated[str | None, BeforeValidator(_geojson_text)] = None

    def outputs(self) -> tuple[str, ...]:
        """Name main, positions and late."""
        return (MAIN, POSITIONS, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Rows of one vehicle belong together."""
        return self.by

    def meaning(self) -> Meaning:
        """By arrival, the order of rows decides."""
        return "rows" if self.order == "event" else "arrival"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of events, of positions with `fences`, and of late positions.

        Raises:
            PlanError: A column is missing, taken, or of a wrong type; a parameter is wrong.
            ConfigError: A zone given as GeoJSON is invalid.
        """
        self._check(inputs)
        event = EVENT_COLUMNS | self._carried(inputs)
        fences = pl.List(pl.Struct(event))
        return {
            MAIN: pl.Schema([*inputs[0].items(), *event.items()]),
            POSITIONS: pl.Schema([*inputs[0].items(), (FENCES, fences)]),
            LATE: inputs[0],
        }

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare what is known of vehicles, of zones, and the rows that wait."""
        keys = {column: inputs[0][column] for column in self.by}
        known = pl.Schema({**keys, LAST: pl.Int64(), **PLACE, VISITS: pl.List(VISIT)})
        specs = [TableSpec(KEYS, "keyed", known, key=self.by)]
        waiting = pl.Schema([*inputs[0].items(), *HIDDEN_SCHEMA.items(), (VERSION, pl.Int64())])
        if self.order == "event":
            specs.append(TableSpec(BUFFER, "rows", waiting))
        if self.zones is None:
            columns = [column for column in inputs[ZONES_PORT].items() if column[0] != OP]
            specs.append(TableSpec(ZONES, "keyed", pl.Schema(columns), key=(ZONE_ID,)))
            changes = pl.Schema([*columns, (OP, pl.String()), (VERSION, pl.Int64())])
            if self.order == "event":
                specs.append(TableSpec(CHANGES, "rows", changes))
        return tuple(specs)

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return the task; the zone index is built from the table of zones."""
        return GeofenceTask(self, tables, inputs)

    @cached_property
    def static_zones(self) -> pl.DataFrame:
        """The zones given as GeoJSON, a row each.

        Raises:
            ConfigError: They are invalid.
        """
        try:
            return zones_from_geojson(json.loads(self.zones or "null") or {})
        except DataError as error:
            raise ConfigError(f"geofence: {error.message}", hint=error.hint) from error
        except ValueError as error:
            raise ConfigError(f"geofence: the zones are not JSON: {error}") from error

    def _carried(self, inputs: tuple[pl.Schema, ...]) -> dict[str, pl.DataType]:
        schema = inputs[ZONES_PORT] if self.zones is None else self.static_zones.schema
        return {column: schema[column] for column in self.attributes}

    def _check(self, inputs: tuple[pl.Schema, ...]) -> None:
        schema = inputs[0]
        _check_parameters(self)
        _check_columns(self, schema)
        if self.zones is None and len(inputs) <= ZONES_PORT:
            raise PlanError(
                "geofence has no zones", hint="give a control table, or GeoJSON as zones="
            )
        zone_schema = inputs[ZONES_PORT] if self.zones is None else self.static_zones.schema
        check_zone_columns(zone_schema, self.attributes)
        if self.zones is not None:
            try:
                ZoneSet.of(self.static_zones, self.attributes)
            except DataError as error:
                raise ConfigError(f"geofence: {error.message}", hint=error.hint) from error


def _check_parameters(geofence: Geofence) -> None:
    if not geofence.by:
        raise PlanError("geofence needs by=", hint='e.g. by="vehicle_id"')
    if not 0 <= geofence.border_m < np.inf:
        raise PlanError(f"geofence: border_m is {geofence.border_m}", hint="give metres from 0 on")
    if geofence.min_dwell is not None and geofence.min_dwell < timedelta(0):
        raise PlanError("geofence: min_dwell must not be negative")
    if geofence.forget <= timedelta(0):
        raise PlanError("geofence: forget must be longer than zero")


def _check_columns(geofence: Geofence, schema: pl.Schema) -> None:
    numbers = [geofence.lon, geofence.lat, *([geofence.depth] if geofence.depth else [])]
    for column in (*geofence.by, *numbers):
        if column not in schema:
            raise PlanError(
                f"geofence: the stream has no column {column!r}",
                hint=f"it has {', '.join(schema)}",
            )
    for column in numbers:
        if not schema[column].is_numeric():
            raise PlanError(f"geofence: column {column!r} is {schema[column]}, not a number")
    taken = [name for name in (*EVENT_COLUMNS, *geofence.attributes, FENCES) if name in schema]
    taken += [name for name in geofence.attributes if name in EVENT_COLUMNS]
    if taken:
        raise PlanError(
            f"geofence: the columns {', '.join(taken)} would be there twice",
            hint="rename them before",
        )
