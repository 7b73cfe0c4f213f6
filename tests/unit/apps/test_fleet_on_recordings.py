"""The fleet application over recorded tracks, compared with brute-force geometry."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import shapely
from shapely.geometry import shape

import headrace as hr
from headrace.apps.fleet.app import app
from headrace.apps.fleet.model import FORBIDDEN_KINDS, Zone
from headrace.core.schema import RowSchema


def zones_of(path: Path, kind: str | None = None) -> pl.DataFrame:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    zones = []
    for feature in json.loads(raw)["features"]:
        properties = feature["properties"]
        zones.append(
            Zone(
                zone_id=str(properties["zone_id"]),
                name=properties.get("name") or "",
                kind=kind or properties.get("kind") or "restricted",
                geometry=feature["geometry"],
            )
        )
    return RowSchema.of(Zone).frame_of(zones)


def tracks(rows: pl.DataFrame, vehicle: str | None, depth: str | None = None) -> pl.DataFrame:
    times = pl.col("time")
    if rows["time"].dtype == pl.String:
        times = times.str.to_datetime("%+", time_unit="us", time_zone="UTC")
    return rows.select(
        pl.col(vehicle).cast(pl.String).alias("auv_id")
        if vehicle
        else pl.lit("glider").alias("auv_id"),
        times.cast(pl.Datetime("us", "UTC")).alias("time"),
        pl.col("lat_deg").alias("latitude"),
        pl.col("lon_deg").alias("longitude"),
        (pl.col(depth) if depth else pl.lit(None, pl.Float64)).alias("depth_m"),
        pl.lit(None, pl.Float64).alias("heading_deg"),
        pl.lit(None, pl.Float64).alias("speed_ms"),
    ).drop_nulls(["time", "latitude", "longitude"])


def by_hand(positions: pl.DataFrame, zones: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Walk every track row by row, testing every zone: (vehicle, time, zone, event)."""
    outlines = {
        row["zone_id"]: shape(json.loads(row["geometry"])) for row in zones.iter_rows(named=True)
    }
    for outline in outlines.values():
        shapely.prepare(outline)
    inside: dict[str, set[str]] = {}
    newest: dict[str, Any] = {}
    for row in positions.iter_rows(named=True):
        vehicle = row["auv_id"]
        if vehicle in newest and row["time"] < newest[vehicle]:
            continue
        # A vehicle silent for more than a day begins anew: no exit, and an enter.
        if vehicle in newest and row["time"] - newest[vehicle] > timedelta(hours=24):
            inside[vehicle] = set()
        newest[vehicle] = row["time"]
        point = shapely.Point(row["longitude"], row["latitude"])
        now = {zone for zone, outline in outlines.items() if outline.intersects(point)}
        before = inside.get(vehicle, set())
        for zone in sorted(before - now):
            yield vehicle, row["time"], zone, "exit"
        for zone in sorted(now - before):
            yield vehicle, row["time"], zone, "enter"
        inside[vehicle] = now


def events_of(result: dict[str, pl.DataFrame]) -> list[tuple[Any, ...]]:
    events = result["zone_events"].filter(pl.col("event").is_in(["enter", "exit"]))
    return events.select("auv_id", "time", "zone_id", "event").rows()


@pytest.mark.parametrize("batch_rows", [None, 997])
def test_ships_in_suez_enter_and_leave_as_geometry_says(
    recorded: Path, batch_rows: int | None
) -> None:
    rows = pl.read_csv(recorded / "fleet" / "ais_suez_2021.csv.gz")
    positions = tracks(rows, "vessel_id")
    zones = zones_of(recorded / "fleet" / "zones_eez_subset_a.geojson.gz")

    result = hr.testing.run(app, {"positions": positions, "zones": zones}, batch_rows=batch_rows)

    assert sorted(by_hand(positions, zones)) == sorted(events_of(result))
    assert result["violations"].height + result["analytics"].height == positions.height


def test_a_forbidden_kind_makes_each_entry_a_violation(recorded: Path) -> None:
    rows = pl.read_csv(recorded / "fleet" / "ais_suez_2021.csv.gz").head(6000)
    positions = tracks(rows, "vessel_id")
    zones = zones_of(recorded / "fleet" / "zones_eez_subset_a.geojson.gz", FORBIDDEN_KINDS[0])

    result = hr.testing.run(app, {"positions": positions, "zones": zones})

    expected = [e for e in by_hand(positions, zones) if e[3] == "enter"]
    violations = result["violations"]
    entered = violations.filter(pl.col("reason") == "enter")
    assert len({(vehicle, when) for vehicle, when, _, _ in expected}) == entered.height
    assert violations.height + result["analytics"].height == positions.height


def test_a_glider_dives_inside_its_waters(recorded: Path) -> None:
    rows = pl.read_csv(recorded / "fleet" / "glider_dfo_eva035.csv.gz")
    positions = tracks(rows, None, "depth_m")
    zones = zones_of(recorded / "fleet" / "zones_eez_subset_a.geojson.gz")

    result = hr.testing.run(app, {"positions": positions, "zones": zones})

    assert sorted(by_hand(positions, zones)) == sorted(events_of(result))
    assert result["visits"]["max_depth_m"].max() == positions["depth_m"].max()


def test_fishing_vessels_cross_borders_as_geometry_says(recorded: Path) -> None:
    rows = pl.read_parquet(recorded / "fleet" / "vms_tacsat.parquet").sort("time")
    positions = tracks(rows, "vessel_id").head(20_000)
    zones = zones_of(recorded / "fleet" / "zones_eez_subset_a.geojson.gz")

    result = hr.testing.run(app, {"positions": positions, "zones": zones}, seed=3)

    assert sorted(by_hand(positions, zones)) == sorted(events_of(result))


def test_a_rule_changed_during_the_dive_judges_each_position_once(recorded: Path) -> None:
    rows = pl.read_csv(recorded / "fleet" / "glider_dfo_eva035.csv.gz")
    positions = tracks(rows, None, "depth_m").sort("time", maintain_order=True)
    changed = positions["time"][positions.height // 2]
    deep = {"rule_id": "deep", "condition": "depth_m > 500"}
    rules = pl.concat(
        [
            hr.Rule.frame([deep]).with_columns(_at=pl.lit(positions["time"][0])),
            hr.Rule.frame([{**deep, "condition": "depth_m > 300"}]).with_columns(
                _at=pl.lit(changed)
            ),
        ]
    )

    result = hr.testing.run(app, {"positions": positions, "rules": rules})

    broken = result["broken_rules"]
    limit = pl.when(pl.col("time") < changed).then(500.0).otherwise(300.0)
    expected = positions.filter(pl.col("depth_m") > limit)
    assert broken["time"].to_list() == expected["time"].to_list()
    assert broken["rule_version"].n_unique() == 2
    assert broken["threshold"].to_list() == expected.select(limit).to_series().to_list()
    alerts = result["alert_transitions"]
    assert alerts["transition"].to_list() == list(range(1, alerts.height + 1))
    assert set(alerts["state"]) == {"firing", "resolved"}
