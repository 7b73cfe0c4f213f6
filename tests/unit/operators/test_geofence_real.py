"""Geofence on recorded ships and real zones."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
import shapely

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE
from tests.unit.operators.fence import Fence
from tests.unit.operators.zone_sets import fleet_file, real_zones


def brute_events(tracks: pl.DataFrame, zones: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return enters and exits of each vehicle and zone, by shapely, one zone at a time."""
    lon, lat = tracks["lon"].to_numpy(), tracks["lat"].to_numpy()
    events = []
    for zone_id, polygon in zones.items():
        inside = pl.Series("inside", shapely.intersects_xy(polygon, lon, lat))
        before = pl.col("inside").shift(1, fill_value=False).over("vehicle")
        changed = tracks.with_columns(inside).with_columns(before=before)
        for row in changed.filter(pl.col("inside") != pl.col("before")).iter_rows(named=True):
            event = "enter" if row["inside"] else "exit"
            events.append((row["vehicle"], row["row"], zone_id, event))
    return sorted(events)


@pytest.mark.parametrize(
    ("file", "vehicle", "least"),
    [("vms_tacsat.parquet", "vessel_id", 2000), ("ais_suez_2021.csv.gz", "vessel_id", 100)],
)
@pytest.mark.parametrize("batch_rows", [1000, 100_000])
def test_real_ships_enter_and_leave_real_zones_as_brute_force_says(
    file: str, vehicle: str, least: int, batch_rows: int
) -> None:
    path = fleet_file(file)
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    times = pl.col("time").str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    frame = frame.with_columns(times if frame["time"].dtype == pl.String else pl.col("time"))
    tracks = (
        frame.select(
            vehicle=pl.col(vehicle).cast(pl.String),
            time=pl.col("time").dt.replace_time_zone(None).dt.cast_time_unit("us").cast(TIME_DTYPE),
            lon="lon_deg",
            lat="lat_deg",
            depth_m=pl.lit(0.0),
        )
        .sort("time", maintain_order=True)
        .with_row_index("row")
    )
    zones = real_zones("zones_eez_subset_a.geojson.gz")
    fence = Fence(order="arrival", forget="3650d")
    fence.change(*({**row, "__op": "upsert"} for row in zones.to_dicts()))
    placed = tracks.with_columns(
        pl.col("time").dt.epoch("us").alias(EVENT_TIME),
        pl.col("row").cast(pl.Int64).alias(POSITION),
    )
    for batch in placed.drop("row").iter_slices(batch_rows):
        fence.judge(batch)

    found = pl.concat(fence.out["main"]).select("vehicle", POSITION, "zone_id", "event").rows()
    polygons = {
        zone_id: shapely.union_all([part for part in every_part(geometry) if part.area > 0])
        for zone_id, geometry in zones.rows()
    }
    assert sorted(found) == brute_events(tracks, polygons)
    assert len(found) > least
    assert fence.port("positions").height == tracks.height


def every_part(geometry: str) -> Any:
    return shapely.get_parts(shapely.get_parts(shapely.from_geojson(geometry)))
