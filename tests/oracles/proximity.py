"""Every position against the latest of every other vehicle, by angles between unit vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, micros
from headrace.operators.geo.sphere import EARTH_RADIUS_M
from headrace.operators.proximity import Proximity
from headrace.testing.laws import UNIQUE, Case, InputSpec

SCHEMA = pl.Schema(
    {
        "id": pl.Int64(),
        "vehicle": pl.String(),
        "fleet": pl.Float64(),
        "time": TIME_DTYPE,
        "lon": pl.Float64(),
        "lat": pl.Float64(),
    }
)
# Around the antimeridian and the pole; distances never lie near 150 km.
LONS = [179.5, -179.5, 180.0, 180.5, -178.0, 0.0, 90.0]
LATS = [0.0, 1.0, 89.5, 90.0, -89.6, 88.5]
POSITIONS = InputSpec(
    SCHEMA,
    columns={
        "id": UNIQUE,
        "vehicle": st.sampled_from(["a", "b", "c", None]),
        "fleet": st.sampled_from([1.0, 1.0, 0.0, -0.0, math.nan, None]),
        "lon": st.sampled_from([*LONS, *LONS, None, math.nan, 361.0]),
        "lat": st.sampled_from([*LATS, *LATS, None, math.inf, 91.0]),
    },
    max_rows=30,
)
Row = dict[str, Any]


def metres(one: Row, other: Row) -> float:
    """Return the great-circle distance."""
    ours, theirs = (
        np.array([math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)])
        for lon, lat in ((math.radians(p["lon"]), math.radians(p["lat"])) for p in (one, other))
    )
    across = float(np.linalg.norm(np.cross(ours, theirs)))
    return EARTH_RADIUS_M * math.atan2(across, float(ours @ theirs))


def known(value: float | None, most: float) -> bool:
    return value is not None and abs(value) <= most


def name(row: Row, columns: tuple[str, ...]) -> tuple[Any, ...]:
    values = (row[column] for column in columns)
    return tuple("nan" if isinstance(v, float) and math.isnan(v) else v for v in values)


def encounters(operator: Proximity, rows: list[Row]) -> list[Row]:
    latest: dict[Any, Row] = {}
    near: set[frozenset[Any]] = set()
    told = []
    forget = micros(operator.forget)
    for row in rows:
        if not known(row["lon"], 360) or not known(row["lat"], 90):
            continue
        group, time = name(row, operator.group), row[EVENT_TIME]
        mine = (group, name(row, operator.by))
        before = latest.get(mine)
        if before is not None and time < before[EVENT_TIME]:
            continue
        if before is not None and time - before[EVENT_TIME] > forget:
            near = {pair for pair in near if mine not in pair}
        for theirs, other in latest.items():
            if theirs == mine or theirs[0] != group:
                continue
            pair = frozenset((mine, theirs))
            if time - other[EVENT_TIME] > forget:
                near.discard(pair)
                continue
            distance = metres(row, other)
            is_near = distance <= operator.within_m
            if is_near != (pair in near):
                near ^= {pair}
                told.append(
                    {
                        **row,
                        "vehicle_other": other["vehicle"],
                        "lon_other": other["lon"],
                        "lat_other": other["lat"],
                        "other_at": other["time"],
                        "event": "near" if is_near else "far",
                        "metres": distance,
                    }
                )
        latest[mine] = row
    return told


def by_hand(operator: Proximity) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    def oracle(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        ordered = rows if operator.order == "event" else rows.sort(POSITION)
        told = encounters(operator, ordered.to_dicts())
        schema = {**operator.output_schema(SCHEMA)["main"], EVENT_TIME: pl.Int64()}
        return {"main": pl.DataFrame([{n: row[n] for n in schema} for row in told], schema=schema)}

    return oracle


def case(title: str, **parameters: Any) -> Case:
    operator = Proximity(by="vehicle", lon="lon", lat="lat", within_m=150_000.0, **parameters)
    return Case(operator, (POSITIONS,), by_hand(operator), name=title, absolute=1e-6)


CASES = [
    case("groups", group="fleet", forget="6s"),
    case("all", forget="1h"),
    case("arrival", forget="6s", order="arrival"),
]
