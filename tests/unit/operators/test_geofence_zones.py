"""Geofence: depths, hours and rules of zones; zones that change; what is refused."""

from __future__ import annotations

from datetime import time
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import ConfigError, DataError, PlanError
from headrace.core.time import TIME_DTYPE
from headrace.operators.geofence import Geofence
from tests.unit.operators.fence import (
    SCHEMA,
    SECOND,
    UNIT,
    ZONES,
    Fence,
    box,
    deleted,
    summary,
    zone,
)
from tests.unit.operators.zone_sets import Ring


def test_a_zone_is_there_only_within_its_depths() -> None:
    deep = zone("deep", min_depth_m=100.0, max_depth_m=200.0)
    fence = Fence(deep, order="arrival", depth="depth_m")
    dive = [(0, None), (1, 50.0), (2, 100.0), (3, None), (4, 200.0), (5, 200.5), (6, 150.0)]

    assert fence.move(*(("v", second, 0.5, 0.5, depth) for second, depth in dive)) == [
        ("v", 2, "deep", "enter"),
        ("v", 5, "deep", "exit"),
        ("v", 6, "deep", "enter"),
    ]
    assert fence.port("main")["reason"].to_list() == [None, "depth", None]


def test_without_a_depth_column_depth_bands_do_not_count() -> None:
    fence = Fence(zone("deep", min_depth_m=100.0), order="arrival")

    assert fence.move(("v", 0, 0.5, 0.5, 5.0)) == [("v", 0, "deep", "enter")]


def test_active_hours_may_pass_midnight() -> None:
    night = zone("night", active_from=time(22), active_to=time(6))
    fence = Fence(night, order="arrival", forget="7d")
    hours = [21.99, 22, 23.5, 24.5, 29.99, 30, 36, 46]

    assert [
        (second / 3600, event)
        for _, second, _, event in fence.move(
            *(("v", hour * 3600, 0.5, 0.5, None) for hour in hours)
        )
    ] == [(22, "enter"), (30, "exit"), (46, "enter")]
    assert fence.port("main")["reason"].to_list() == [None, "hours", None]


def test_breaking_the_limits_of_a_zone_is_a_breach_until_restored() -> None:
    park = zone("park", max_depth_m=100.0, active_to=time(1), rule="limits")
    fence = Fence(park, order="arrival", depth="depth_m", forget="7d")
    track = [(0, None), (1, 150.0), (2, 160.0), (3, 50.0), (3600, 50.0), (3601, 150.0)]
    events = fence.move(
        *(("v", second, 0.5, 0.5, depth) for second, depth in track), ("v", 3602, 5, 5, 150.0)
    )

    assert [(second, event) for _, second, _, event in events] == [
        (0, "enter"),
        (1, "breach"),
        (3, "restore"),
        (3600, "breach"),
        (3601, "breach"),
        (3602, "exit"),
    ]
    assert fence.port("main")["reason"].to_list() == [
        None,
        "depth",
        "depth",
        "hours",
        "depth",
        None,
    ]


def test_a_new_zone_counts_from_the_next_position_on() -> None:
    fence = Fence(zone("far", box(50, 50, 51, 51)), order="arrival")

    assert fence.move(("v", 0, 0.5, 0.5, None)) == []
    fence.change(zone("a"))
    assert fence.move(("v", 1, 0.5, 0.5, None)) == [("v", 1, "a", "enter")]


def test_deleting_a_zone_ends_its_visits_at_the_next_position() -> None:
    fence = Fence(zone("a"), zone("b"), zone("c"), order="arrival")
    fence.move(("v", 0, 0.5, 0.5, None))
    fence.change(deleted("b"), deleted("unknown"))

    assert fence.move(("v", 9, 0.5, 0.5, None)) == [("v", 9, "b", "exit")]
    assert fence.port("main").tail(1).select("dwell_s", "reason").rows() == [(9.0, "zone removed")]
    assert fence.move(("v", 10, 5, 5, None)) == [("v", 10, "a", "exit"), ("v", 10, "c", "exit")]


def test_a_zone_deleted_and_made_again_meanwhile_is_the_same_visit() -> None:
    fence = Fence(zone("a"), order="arrival")
    fence.move(("v", 0, 0.5, 0.5, None))
    fence.change(deleted("a"), zone("a", box(0, 0, 2, 2)))

    assert fence.move(("v", 1, 0.5, 0.5, None)) == []


def test_moving_a_zone_is_judged_at_the_next_position() -> None:
    fence = Fence(zone("a"), order="arrival")
    fence.move(("v", 0, 0.5, 0.5, None))
    fence.change(zone("a", box(3, 3, 4, 4)))

    assert fence.move(("v", 1, 0.5, 0.5, None), ("v", 2, 3.5, 3.5, None)) == [
        ("v", 1, "a", "exit"),
        ("v", 2, "a", "enter"),
    ]


def test_positions_that_wait_are_judged_by_the_zones_they_came_under() -> None:
    fence = Fence(zone("a"))
    inside = [("v", second, 0.5, 0.5, None) for second in (1, 2, 3)]
    assert fence.move(*inside, watermark_s=1) == []

    fence.change(deleted("a"), zone("b"))
    assert fence.move(("v", 4, 0.5, 0.5, None), ("w", 2, 0.5, 0.5, None), watermark_s=2) == [
        ("v", 1, "a", "enter")
    ]
    fence.task = fence.operator.open(fence.tables, SCHEMA, ZONES)
    fence.change(zone("c"))
    assert fence.move(("v", 5, 0.5, 0.5, None), ("u", 3, 0.5, 0.5, None)) == [
        ("w", 2, "b", "enter"),
        ("u", 3, "b", "enter"),
        ("u", 3, "c", "enter"),
        ("v", 4, "a", "exit"),
        ("v", 4, "b", "enter"),
        ("v", 5, "c", "enter"),
    ]
    assert fence.tables.rows("changes").rows == 0
    assert fence.tables.keyed("zones").frame()["zone_id"].sort().to_list() == ["b", "c"]


def test_a_position_overtaken_by_one_from_before_a_change_is_judged_as_that_one() -> None:
    fence = Fence(zone("far", box(50, 50, 51, 51)))
    fence.move(("v", 8, 0.5, 0.5, None), watermark_s=1)

    fence.change(zone("a"))
    assert fence.move(
        ("v", 5, 0.5, 0.5, None), ("v", 9, 0.5, 0.5, None), ("w", 5, 0.5, 0.5, None)
    ) == [("w", 5, "a", "enter"), ("v", 9, "a", "enter")]


@pytest.mark.parametrize("order", ["event", "arrival"])
@pytest.mark.parametrize("delay", ["0s", "5s"])
@pytest.mark.parametrize("batch_rows", [None, 1, 4])
def test_in_an_application_a_zone_is_there_from_its_change_on(
    order: Any, delay: str, batch_rows: int | None
) -> None:
    app = hr.App("live")
    columns = {name: dtype for name, dtype in SCHEMA.items() if name != "depth_m"}
    positions = app.topic("positions", columns, time="time", key="vehicle", delay=delay)
    zones = app.control_table("zones", {"zone_id": pl.String, "geometry": pl.String}, key="zone_id")
    fenced = positions.geofence(zones, by="vehicle", lon="lon", lat="lat", order=order)
    app.output("events", fenced)
    seconds = pl.int_range(0, 12, eager=True) * SECOND
    track = pl.DataFrame({"time": seconds.cast(TIME_DTYPE)}).select(
        pl.lit("v").alias("vehicle"), "time", lon=pl.lit(0.5), lat=pl.lit(0.5)
    )
    changes = pl.DataFrame(
        [
            {**zone("a"), "_op": "upsert", "_at": 3 * SECOND},
            {**deleted("a"), "_op": "delete", "_at": 7 * SECOND},
            {**zone("b"), "_op": "upsert", "_at": 7 * SECOND},
        ],
        schema={"zone_id": pl.String, "geometry": pl.String, "_op": pl.String, "_at": pl.Int64},
    ).with_columns(pl.col("_at").cast(TIME_DTYPE))

    out = hr.testing.run(app, {"zones": changes, "positions": track}, batch_rows=batch_rows)
    assert summary(out["events"]) == [
        ("v", 3, "a", "enter"),
        ("v", 7, "a", "exit"),
        ("v", 7, "b", "enter"),
    ]


def test_an_invalid_change_is_refused_and_the_zones_stay() -> None:
    fence = Fence(zone("a"), order="arrival")
    bow_tie: Ring = [(0, 0), (2, 2), (2, 0), (0, 2)]

    with pytest.raises(DataError, match="zone 'b': the polygon crosses itself"):
        fence.change(zone("a", box(7, 7, 8, 8)), zone("b", bow_tie))
    with pytest.raises(DataError, match="zone 'b': min_depth_m 5 is more than max_depth_m 1"):
        fence.change(zone("b", min_depth_m=5.0, max_depth_m=1.0))
    with pytest.raises(DataError, match="zone 'b': rule is 'soft'"):
        fence.change(zone("b", rule="soft"))
    assert fence.move(("v", 0, 0.5, 0.5, None)) == [("v", 0, "a", "enter")]


def test_zones_survive_in_the_table() -> None:
    fence = Fence(zone("a"), zone("b"), order="arrival")
    fence.change(deleted("b"))
    fence.task = fence.operator.open(fence.tables, SCHEMA, ZONES)

    assert fence.move(("v", 0, 0.5, 0.5, None)) == [("v", 0, "a", "enter")]


def feature(**properties: Any) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": [UNIT]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def collection(*features: dict[str, Any]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def test_zones_may_be_given_as_geojson() -> None:
    zones = collection(
        feature(zone_id="a", kind="reserve", active_from="06:00", active_to="24:00"),
        {**feature(kind=None), "id": 7},
    )
    fence = Fence(zones=zones, order="arrival", attributes=("kind",))

    assert fence.move(("v", 0, 0.5, 0.5, None), ("v", 6 * 3600, 0.5, 0.5, None)) == [
        ("v", 0, "7", "enter"),
        ("v", 6 * 3600, "a", "enter"),
    ]
    assert fence.port("main")["kind"].to_list() == [None, "reserve"]


@pytest.mark.parametrize(
    ("zones", "reason"),
    [
        ("{", "not JSON"),
        ({"type": "Polygon"}, "no GeoJSON FeatureCollection"),
        (collection(feature(kind="x")), "feature 1 has no zone_id"),
        (collection(feature(zone_id="a"), feature(zone_id="a")), "zone 'a' is given twice"),
        (collection(feature(zone_id="a", active_from="25:00")), "active_from is '25:00'"),
        (collection(feature(zone_id="a", active_from="noon")), "active_from is 'noon'"),
        (collection({**feature(zone_id="a"), "geometry": None}), "not an object"),
    ],
)
def test_wrong_geojson_is_refused_before_anything_runs(zones: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Fence(zones=zones)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"by": ()}, "needs by="),
        ({"by": "ship"}, "no column 'ship'"),
        ({"lon": "longitude"}, "no column 'longitude'"),
        ({"lat": "vehicle"}, "not a number"),
        ({"depth": "deep"}, "no column 'deep'"),
        ({"border_m": -1.0}, "border_m is -1"),
        ({"border_m": float("nan")}, "border_m is nan"),
        ({"min_dwell": "-1s"}, "min_dwell must not be negative"),
        ({"forget": "0s"}, "forget must be longer than zero"),
        ({"attributes": ("colour",)}, "no column 'colour' to carry along"),
        ({"attributes": ("zone_id",)}, "zone_id would be there twice"),
    ],
)
def test_a_geofence_that_does_not_fit_is_refused(parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        Fence(**parameters)


def test_a_geofence_needs_zones_with_a_geometry() -> None:
    operator = Geofence(by="vehicle", lon="lon", lat="lat")

    with pytest.raises(PlanError, match="no zones"):
        operator.output_schema(SCHEMA)
    with pytest.raises(PlanError, match="need a text column 'geometry'"):
        operator.output_schema(SCHEMA, pl.Schema({"zone_id": pl.String()}))
    with pytest.raises(PlanError, match="active_from is Int64"):
        operator.output_schema(SCHEMA, pl.Schema({**ZONES, "active_from": pl.Int64()}))
