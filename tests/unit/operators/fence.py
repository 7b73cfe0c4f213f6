"""A geofence driven by hand: zones and positions in, events out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl

from headrace.core.time import END_OF_TIME, EVENT_TIME, POSITION, TIME_DTYPE
from headrace.operators.geofence import Geofence
from headrace.state.tables import StateTables
from tests.unit.operators.zone_sets import Ring

SECOND = 1_000_000
SCHEMA = pl.Schema(
    {
        "vehicle": pl.String(),
        "time": TIME_DTYPE,
        "lon": pl.Float64(),
        "lat": pl.Float64(),
        "depth_m": pl.Float64(),
    }
)
ZONES = pl.Schema(
    {
        "zone_id": pl.String(),
        "geometry": pl.String(),
        "radius_m": pl.Float64(),
        "min_depth_m": pl.Float64(),
        "max_depth_m": pl.Float64(),
        "active_from": pl.Time(),
        "active_to": pl.Time(),
        "rule": pl.String(),
        "kind": pl.String(),
        "__op": pl.String(),
    }
)
Row = tuple[str | None, float, float | None, float | None, float | None]


def box(west: float, south: float, east: float, north: float) -> Ring:
    return [(west, south), (east, south), (east, north), (west, north), (west, south)]


UNIT = box(0, 0, 1, 1)


def zone(zone_id: str, ring: Ring = UNIT, **columns: Any) -> dict[str, Any]:
    geometry = json.dumps({"type": "Polygon", "coordinates": [ring]})
    return {"zone_id": zone_id, "geometry": geometry, "__op": "upsert", **columns}


def deleted(zone_id: str) -> dict[str, Any]:
    return {"zone_id": zone_id, "__op": "delete"}


class Fence:
    """A geofence with a control table of zones, driven by hand."""

    def __init__(self, *zones: dict[str, Any], **parameters: Any) -> None:
        chosen = {"by": "vehicle", "lon": "lon", "lat": "lat", **parameters}
        self.operator = Geofence(**chosen)
        inputs = (SCHEMA, ZONES) if self.operator.zones is None else (SCHEMA,)
        self.schemas = self.operator.output_schema(*inputs)
        self.tables = StateTables(self.operator.tables(*inputs))
        self.task = self.operator.open(self.tables, *inputs)
        self.position = 0
        self.out: dict[str, list[pl.DataFrame]] = {"main": [], "positions": [], "late": []}
        if zones:
            self.change(*zones)

    def change(self, *zones: dict[str, Any]) -> None:
        frame = pl.DataFrame(list(zones), schema=ZONES)
        self._take(self.task.process(self._placed(frame, [0] * frame.height), 1))

    def move(self, *rows: Row, watermark_s: float | None = None) -> list[tuple[Any, ...]]:
        """Judge rows (vehicle, second, lon, lat, depth); return (vehicle, second, zone, event)."""
        columns = list(zip(*rows, strict=True))
        times = [round(second * SECOND) for second in columns[1]]
        frame = pl.DataFrame(
            [columns[0], times, *columns[2:]], schema={**SCHEMA, "time": pl.Int64}, orient="col"
        ).with_columns(pl.col("time").cast(TIME_DTYPE))
        return self.judge(self._placed(frame, times), watermark_s)

    def judge(self, frame: pl.DataFrame, watermark_s: float | None = None) -> list[tuple[Any, ...]]:
        before = len(self.out["main"])
        self._take(self.task.process(frame.rechunk(), 0))
        if self.operator.order == "event":
            after = END_OF_TIME if watermark_s is None else round(watermark_s * SECOND)
            self.tables.watermark = 0 if watermark_s is None else after
            self._take(self.task.advance(after))
        return [event for one in self.out["main"][before:] for event in summary(one)]

    def port(self, name: str) -> pl.DataFrame:
        visible = pl.DataFrame(schema=self.schemas[name])
        return pl.concat([visible, *(one.select(visible.columns) for one in self.out[name])])

    def _placed(self, frame: pl.DataFrame, times: list[int]) -> pl.DataFrame:
        places = np.arange(self.position, self.position + frame.height)
        self.position += frame.height
        return frame.with_columns(
            pl.Series(EVENT_TIME, times, dtype=pl.Int64),
            pl.Series(POSITION, places, dtype=pl.Int64),
        )

    def _take(self, out: Any) -> None:
        for port, frame in out:
            self.out[port].append(frame)


def summary(events: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Return (vehicle, second, zone, event) per event."""
    seconds = pl.col("time").dt.epoch("us") / SECOND
    return events.select("vehicle", seconds, "zone_id", "event").rows()
