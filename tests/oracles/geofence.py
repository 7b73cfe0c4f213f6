"""Geofence judged one position and one zone at a time, without an index."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import shapely
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, micros
from headrace.operators.geofence import Geofence
from headrace.testing.laws import UNIQUE, Case, InputSpec

EARTH_RADIUS_M = 6_371_008.8
DAY_US = 86_400_000_000


@dataclass
class Visit:
    entered_us: int
    reported: bool = False
    reason: str | None = None


@dataclass
class Vehicle:
    last_us: int
    lon: float | None = None
    lat: float | None = None
    depth_m: float | None = None
    visits: dict[str, Visit] = field(default_factory=dict)


@dataclass(frozen=True)
class Zone:
    zone_id: str
    polygon: Any = None
    circle: tuple[float, float, float] | None = None
    band: tuple[float, float] | None = None
    hours_us: tuple[int, int] | None = None
    is_rule: bool = False
    kind: str | None = None

    def holds(self, lon: float, lat: float) -> bool:
        if self.circle is not None:
            x, y, radius_m = self.circle
            return metres(lon, lat, x, y) <= radius_m
        return bool(shapely.intersects_xy(self.polygon, lon, lat))

    def away_m(self, lon: float, lat: float) -> float:
        if self.circle is not None:
            x, y, radius_m = self.circle
            return metres(lon, lat, x, y) - radius_m
        rings = [self.polygon.exterior, *self.polygon.interiors]
        border = [
            point
            for ring in rings
            for point in shapely.get_coordinates(shapely.segmentize(ring, 0.01)).tolist()
        ]
        return min(metres(lon, lat, x, y) for x, y in border)

    def touches(self, lon0: float, lat0: float, lon1: float, lat1: float) -> bool:
        if self.circle is not None:
            steps = np.linspace(0.0, 1.0, 2001)
            return any(
                self.holds(lon0 + (lon1 - lon0) * share, lat0 + (lat1 - lat0) * share)
                for share in steps.tolist()
            )
        return bool(
            shapely.intersects(self.polygon, shapely.LineString([(lon0, lat0), (lon1, lat1)]))
        )

    def broken(self, depth_m: float | None, time_us: int) -> str | None:
        if self.band is not None:
            if depth_m is None and not self.is_rule:
                return "depth"
            if depth_m is not None and not self.band[0] <= depth_m <= self.band[1]:
                return "depth"
        if self.hours_us is not None:
            begin, end = self.hours_us
            now = time_us % DAY_US
            active = begin <= now < end if begin < end else now >= begin or now < end
            return None if active else "hours"
        return None


def metres(lon0: float, lat0: float, lon1: float, lat1: float) -> float:
    """Return the great-circle distance by way of the chord between unit vectors."""
    a, b = (
        np.array(
            [
                math.cos(math.radians(lat)) * math.cos(math.radians(lon)),
                math.cos(math.radians(lat)) * math.sin(math.radians(lon)),
                math.sin(math.radians(lat)),
            ]
        )
        for lon, lat in ((lon0, lat0), (lon1, lat1))
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, float(np.linalg.norm(a - b)) / 2))


Event = dict[str, Any]


class Judge:
    """Judges positions one by one, in the order they are given."""

    def __init__(self, geofence: Geofence, zones: list[Zone]) -> None:
        self.geofence = geofence
        zones = [zone if geofence.depth else replace(zone, band=None) for zone in zones]
        self.zones = sorted(zones, key=lambda zone: zone.zone_id)
        self.vehicles: dict[Any, Vehicle] = {}

    def judge(self, row: dict[str, Any]) -> list[Event] | None:
        """Return the events of one position; None if it is too late."""
        geofence, now = self.geofence, row[EVENT_TIME]
        key = tuple(row[column] for column in geofence.by)
        vehicle = self.vehicles.get(key)
        if vehicle is not None and geofence.order == "arrival" and now < vehicle.last_us:
            return None
        if vehicle is None or now - vehicle.last_us > micros(geofence.forget):
            vehicle = self.vehicles[key] = Vehicle(now)
        vehicle.last_us = now
        if geofence.depth and is_number(row[geofence.depth]):
            vehicle.depth_m = row[geofence.depth]
        lon, lat = row[geofence.lon], row[geofence.lat]
        if not (is_number(lon) and is_number(lat) and abs(lon) <= 360 and abs(lat) <= 90):
            return []
        events = [
            {**event, "dwell_s": None if event["dwell_s"] is None else event["dwell_s"] / 1e6}
            for zone in self.zones
            for event in self.judge_zone(vehicle, zone, lon, lat, now)
        ]
        vehicle.lon, vehicle.lat = lon, lat
        reported = any(visit.reported for visit in vehicle.visits.values())
        if not reported:
            events.append(event_of("outside", None, None, now, None))
        events = [
            event for event in events if event["event"] in {*geofence.detect, "breach", "restore"}
        ]
        group = {"exit": 0, "enter": 1}
        return sorted(events, key=lambda event: group.get(event["event"], 2))

    def judge_zone(
        self, vehicle: Vehicle, zone: Zone, lon: float, lat: float, now: int
    ) -> list[Event]:
        reason = zone.broken(vehicle.depth_m, now)
        there = zone.is_rule or reason is None
        held = zone.holds(lon, lat)
        visit = vehicle.visits.get(zone.zone_id)
        if there and (held or (visit is not None and self.lingers(zone, lon, lat))):
            visit = vehicle.visits.setdefault(zone.zone_id, Visit(now))
            return self.stay(zone, visit, now, reason)
        if visit is not None:
            del vehicle.visits[zone.zone_id]
            why = reason if held else None
            return [event_of("exit", zone, visit, now, why)] if visit.reported else []
        if held or not there or vehicle.lon is None or vehicle.lat is None:
            return []
        if zone.holds(vehicle.lon, vehicle.lat):
            return []
        crosses = zone.touches(vehicle.lon, vehicle.lat, lon, lat)
        return [event_of("cross", zone, None, now, None)] if crosses else []

    def lingers(self, zone: Zone, lon: float, lat: float) -> bool:
        return self.geofence.border_m > 0 and zone.away_m(lon, lat) <= self.geofence.border_m

    def stay(self, zone: Zone, visit: Visit, now: int, reason: str | None) -> list[Event]:
        """Return the events of a position inside."""
        shortest = micros(self.geofence.min_dwell or timedelta(0))
        is_entry = not visit.reported and now - visit.entered_us >= shortest
        visit.reported |= is_entry
        if not visit.reported:
            return []
        events = [event_of("enter", zone, visit, now, None)] if is_entry else []
        if reason is not None and reason != visit.reason:
            events.append(event_of("breach", zone, visit, now, reason))
        if reason is None and visit.reason is not None:
            events.append(event_of("restore", zone, visit, now, visit.reason))
        visit.reason = reason
        if not is_entry:
            events.append(event_of("dwell", zone, visit, now, None))
        return [*events, event_of("inside", zone, visit, now, None)]


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def event_of(
    event: str, zone: Zone | None, visit: Visit | None, now: int, reason: str | None
) -> Event:
    return {
        "zone_id": None if zone is None else zone.zone_id,
        "event": event,
        "entered_at": None if visit is None else visit.entered_us,
        "dwell_s": None if visit is None else now - visit.entered_us,
        "reason": reason,
        "kind": None if zone is None else zone.kind,
    }


def answers(
    geofence: Geofence, zones: list[Zone], positions: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Return what `geofence` must answer on its ports main and positions."""
    carried = {"kind": pl.String} if geofence.attributes else {}
    schema: dict[str, Any] = {
        "zone_id": pl.String,
        "event": pl.String,
        "entered_at": pl.Int64,
        "dwell_s": pl.Float64,
        "reason": pl.String,
        **carried,
    }
    judge = Judge(geofence, zones)
    if geofence.order == "arrival":
        positions = positions.sort(POSITION)
    rows, fences = [], []
    for row in positions.to_dicts():
        events = judge.judge(row)
        if events is not None:
            rows.append(row)
            fences.append([{name: event[name] for name in schema} for event in events])
    judged = pl.DataFrame(rows, schema=positions.schema)
    lists = pl.Series("fences", fences, dtype=pl.List(pl.Struct(schema)))
    lists = lists.cast(pl.List(pl.Struct({**schema, "entered_at": TIME_DTYPE})))
    visible = [column for column in positions.columns if column != POSITION]
    whole = judged.with_columns(lists).select([*visible, "fences"])
    main = whole.filter(pl.col("fences").list.len() > 0).explode("fences").unnest("fences")
    return {"main": main, "positions": whole}


ZONES = [
    Zone("box", shapely.box(0, 0, 2, 2), kind="reserve"),
    Zone("circle", circle=(1.0, 1.0, 120_000.0), kind="buoy"),
    Zone("frame", shapely.box(-1, -1, 3, 3).difference(shapely.box(0.5, 0.5, 1.5, 1.5))),
    Zone("slim", shapely.Polygon([(2.25, -1), (2.75, -1), (2.5, 3)])),
    Zone("deep", shapely.box(0, 0, 3, 1), band=(50.0, 200.0)),
    Zone("timed", shapely.box(-1, 1, 2, 3), hours_us=(5_000_000, 12_000_000)),
    Zone("night", shapely.box(1, 0, 3, 3), band=(0.0, 100.0), hours_us=(20_000_000, 10_000_000)),
    Zone("rule", shapely.box(0, 0, 3, 3), band=(20.0, 150.0), is_rule=True, kind="park"),
    Zone("watch", shapely.box(-1, 0, 2, 2), hours_us=(8_000_000, 4_000_000), is_rule=True),
]


def clock_text(time_us: int) -> str:
    seconds = time_us // 1_000_000
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def zone_row(zone: Zone) -> dict[str, Any]:
    """Return a zone as a row of a control table."""
    geometry: dict[str, Any] = (
        json.loads(str(shapely.to_geojson(zone.polygon)))
        if zone.circle is None
        else {"type": "Point", "coordinates": zone.circle[:2]}
    )
    return {
        "zone_id": zone.zone_id,
        "geometry": json.dumps(geometry),
        "radius_m": zone.circle[2] if zone.circle else None,
        "min_depth_m": zone.band[0] if zone.band else None,
        "max_depth_m": zone.band[1] if zone.band else None,
        "active_from": clock_text(zone.hours_us[0]) if zone.hours_us else None,
        "active_to": clock_text(zone.hours_us[1]) if zone.hours_us else None,
        "rule": "limits" if zone.is_rule else None,
        "kind": zone.kind,
    }


def feature_collection(zones: list[Zone]) -> dict[str, Any]:
    """Return zones as GeoJSON."""
    features = []
    for zone in zones:
        row = zone_row(zone)
        geometry = json.loads(row.pop("geometry"))
        features.append({"type": "Feature", "properties": row, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


SCHEMA = pl.Schema(
    {
        "id": pl.Int64(),
        "vehicle": pl.String(),
        "time": TIME_DTYPE,
        "lon": pl.Float64(),
        "lat": pl.Float64(),
        "depth_m": pl.Float64(),
    }
)
GRID = st.integers(-3, 7).map(lambda halves: halves / 2)
ODD = st.sampled_from([None, float("nan"), float("inf"), 1000.0])
DEPTHS = st.sampled_from([None, float("nan"), 0.0, 20.0, 50.0, 75.0, 120.0, 150.0, 200.0, 300.0])

POSITIONS = InputSpec(
    SCHEMA,
    columns={
        "id": UNIQUE,
        "vehicle": st.sampled_from(["a", "b", "c", None]),
        "lon": st.one_of(GRID, GRID, GRID, GRID, GRID, GRID, ODD),
        "lat": st.one_of(GRID, GRID, GRID, GRID, GRID, GRID, ODD),
        "depth_m": DEPTHS,
    },
    max_rows=40,
)
ALL = ("enter", "exit", "cross", "inside", "outside", "dwell")


def static_case(name: str, zones: list[Zone], **parameters: Any) -> Case:
    geofence = Geofence(
        by="vehicle", lon="lon", lat="lat", zones=feature_collection(zones), **parameters
    )
    return Case(
        geofence, (POSITIONS,), oracle=lambda frame: answers(geofence, zones, frame), name=name
    )


CHANGES = InputSpec(
    pl.Schema(
        {
            "zone_id": pl.String(),
            "geometry": pl.String(),
            "min_depth_m": pl.Float64(),
            "max_depth_m": pl.Float64(),
            "rule": pl.String(),
            "kind": pl.String(),
            "__op": pl.String(),
        }
    ),
    columns={
        "zone_id": st.sampled_from(["north", "south", "west"]),
        "geometry": st.sampled_from([zone_row(zone)["geometry"] for zone in ZONES if zone.polygon]),
        "min_depth_m": st.sampled_from([None, None, 0.0, 50.0]),
        "max_depth_m": st.sampled_from([None, None, 100.0, 200.0]),
        "rule": st.sampled_from([None, "volume", "limits"]),
        "__op": st.sampled_from(["upsert", "upsert", "upsert", "delete"]),
    },
    min_rows=1,
    max_rows=12,
)


def changed_zones(changes: pl.DataFrame) -> list[Zone]:
    """Return the zones that are left after `changes`."""
    zones: dict[str, Zone] = {}
    for row in changes.to_dicts():
        zones.pop(row["zone_id"], None)
        if row["__op"] == "delete":
            continue
        low, high = row["min_depth_m"], row["max_depth_m"]
        is_open = low is None and high is None
        zones[row["zone_id"]] = Zone(
            row["zone_id"],
            shapely.from_geojson(row["geometry"]),
            band=None
            if is_open
            else (-math.inf if low is None else low, math.inf if high is None else high),
            is_rule=row["rule"] == "limits",
            kind=row["kind"],
        )
    return list(zones.values())


def live_case(name: str, **parameters: Any) -> Case:
    geofence = Geofence(by="vehicle", lon="lon", lat="lat", attributes=("kind",), **parameters)
    return Case(
        geofence,
        (POSITIONS, CHANGES),
        oracle=lambda frame, changes: answers(geofence, changed_zones(changes), frame),
        name=name,
    )


CASES = [
    live_case("live", detect=ALL, depth="depth_m"),
    live_case("live by arrival", detect=ALL, depth="depth_m", order="arrival"),
    static_case("everything", ZONES, detect=ALL, depth="depth_m", attributes=("kind",)),
    static_case(
        "calm",
        ZONES,
        detect=ALL,
        depth="depth_m",
        border_m=60_000.0,
        min_dwell="3s",
        forget="10s",
    ),
    static_case("arrival", ZONES, detect=ALL, order="arrival", border_m=60_000.0, forget="6s"),
]
