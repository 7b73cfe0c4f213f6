"""`geofence`: positions against 1 000 polygons, in memory, compared with shapely's answer."""

from __future__ import annotations

import json
import resource
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import shapely

import headrace as hr
from headrace.bench.contenders import Say
from headrace.bench.result import Result, quantiles
from headrace.bench.stepped import STEP_ROWS, stepped
from headrace.core.errors import BugError
from headrace.core.time import TIME_DTYPE

ZONES = 1_000
VEHICLES = 10_000
POSITIONS = 2_000_000
QUICK_POSITIONS = 300_000
ROUNDS = 3
TARGET_ROWS_PER_S = 1_000_000
STEP_DEG = 0.02
EXTENT_DEG = 20.0
TIME_US = 1_700_000_000_000_000
EVENT_COLUMNS = ("vehicle", "time", "zone_id", "event")


def zones(seed: int = 1) -> dict[str, Any]:
    """Return `ZONES` star-shaped polygons of 8 to 40 corners as GeoJSON; many overlap."""
    random = np.random.default_rng(seed)
    features = []
    for number in range(ZONES):
        corners = int(random.integers(8, 41))
        angles = (np.arange(corners) + random.random(corners) * 0.9) * 2 * np.pi / corners
        radii = random.uniform(0.1, 0.4) * random.uniform(0.5, 1.0, corners)
        longitude, latitude = random.uniform(-EXTENT_DEG, EXTENT_DEG, 2)
        ring = np.column_stack(
            (longitude + radii * np.cos(angles), latitude + radii * np.sin(angles))
        ).tolist()
        features.append(
            {
                "type": "Feature",
                "properties": {"zone_id": f"z{number}"},
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            }
        )
    return {"type": "FeatureCollection", "features": features}


def positions(rows: int, seed: int = 2) -> pl.DataFrame:
    """Return random walks of `VEHICLES` vehicles that report in turn, reflected at the edges."""
    random = np.random.default_rng(seed)
    turns = -(-rows // VEHICLES)
    walk = random.normal(0.0, STEP_DEG, (2, turns, VEHICLES)).cumsum(axis=1)
    walk += random.uniform(-EXTENT_DEG, EXTENT_DEG, (2, 1, VEHICLES))
    place = EXTENT_DEG - np.abs((walk + EXTENT_DEG) % (4 * EXTENT_DEG) - 2 * EXTENT_DEG)
    names = pl.Series([f"v{number}" for number in range(VEHICLES)])
    vehicle = np.tile(np.arange(VEHICLES), turns)[:rows]
    return pl.DataFrame(
        {
            "vehicle": names.gather(pl.Series(vehicle)),
            "time": pl.Series(TIME_US + np.arange(rows) * 100).cast(TIME_DTYPE),
            "longitude": place[0].reshape(-1)[:rows],
            "latitude": place[1].reshape(-1)[:rows],
        }
    )


def application(collection: dict[str, Any]) -> hr.App:
    """Return the app: every enter and exit, as soon as the position is there."""
    app = hr.App("bench-geofence")
    stream = app.topic(
        "positions",
        schema={
            "vehicle": pl.String,
            "time": TIME_DTYPE,
            "longitude": pl.Float64,
            "latitude": pl.Float64,
        },
        time="time",
    )
    app.output("events", stream.geofence(collection, by="vehicle", order="arrival"))
    return app


def answer(frame: pl.DataFrame, collection: dict[str, Any]) -> pl.DataFrame:
    """Return the enters and exits by shapely's point-in-polygon test and a batch query."""
    shapes = [shapely.from_geojson(json.dumps(each["geometry"])) for each in collection["features"]]
    points = shapely.points(frame["longitude"].to_numpy(), frame["latitude"].to_numpy())
    hits = shapely.STRtree(shapes).query(points, predicate="intersects")
    order = pl.DataFrame({"row": np.arange(frame.height), "vehicle": frame["vehicle"]})
    turns = order.with_columns(turn=pl.int_range(pl.len()).over("vehicle"))
    inside = turns.join(
        pl.DataFrame({"row": hits[0], "zone": hits[1]}).cast({"row": pl.Int64}), on="row"
    ).select("vehicle", "zone", "turn")
    before = inside.with_columns(turn=pl.col("turn") + 1)
    keys = ["vehicle", "zone", "turn"]
    changes = pl.concat(
        [
            inside.join(before, on=keys, how="anti").with_columns(event=pl.lit("enter")),
            before.join(inside, on=keys, how="anti").with_columns(event=pl.lit("exit")),
        ]
    )
    when = turns.select("vehicle", "turn", "row")
    return (
        changes.join(when, on=["vehicle", "turn"])
        .with_columns(
            zone_id=pl.format("z{}", "zone"),
            time=(TIME_US + pl.col("row") * 100).cast(TIME_DTYPE),
        )
        .select(EVENT_COLUMNS)
        .sort(EVENT_COLUMNS)
    )


def run(say: Say, *, quick: bool = False) -> Result:
    """Step the engine over positions; compare every event with `answer`.

    Raises:
        BugError: An event is missing or too many.
    """
    rows, rounds = (QUICK_POSITIONS, 1) if quick else (POSITIONS, ROUNDS)
    collection = zones()
    frame = positions(rows)
    app = application(collection)
    batches = [{"positions": batch} for batch in frame.iter_slices(STEP_ROWS)]
    made = []
    for number in range(rounds):
        made.append(stepped(app, batches, "events"))
        say(f"round {number + 1}: {rows / made[-1].seconds:,.0f} positions/s")
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    expected = answer(frame, collection)
    for one in made:
        got = one.output.select(EVENT_COLUMNS).sort(EVENT_COLUMNS)
        if not got.equals(expected):
            raise BugError(f"geofence gave {got.height} events, shapely {expected.height}")
    speed = rows / median(one.seconds for one in made)
    spread = quantiles([step for one in made for step in one.steps_ns])
    return Result(
        bench="geofence",
        rows_per_s=speed,
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        peak_rss_mb=peak_rss_mb,
        cpu_s_per_million_rows=median(one.cpu_s for one in made) / rows * 1e6,
        checked=True,
        target=f"≥ {TARGET_ROWS_PER_S:,} positions/s",
        met=speed >= TARGET_ROWS_PER_S,
        detail=(
            f"{rows:,} positions of {VEHICLES:,} vehicles against {ZONES:,} polygons, "
            f"{expected.height:,} enters and exits equal to shapely's; ms are per step of "
            f"{STEP_ROWS:,} rows; median of {rounds}"
        ),
    )
