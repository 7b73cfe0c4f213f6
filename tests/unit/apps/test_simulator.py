from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from headrace.apps.fleet.simulator import POSITION_SCHEMA, Simulator, Waters


def day(vehicles: int = 40, seed: int = 3) -> pl.DataFrame:
    """Positions every minute of six hours."""
    simulator = Simulator(vehicles, seed)
    frames = []
    for minute in range(360):
        simulator.advance(60)
        frames.append(simulator.report(minute * 60_000_000))
    return pl.concat(frames)


def test_the_same_seed_gives_the_same_tracks() -> None:
    assert day(5, seed=1).equals(day(5, seed=1))
    assert not day(5, seed=1).equals(day(5, seed=2))


def test_vehicles_stay_in_their_waters_and_between_surface_and_deepest_dive() -> None:
    tracks, waters = day(), Waters()

    assert tracks.schema == POSITION_SCHEMA
    shrink = np.cos(np.radians(waters.latitude))
    east = (tracks["longitude"] - waters.longitude).abs() * 111_195 * shrink
    north = (tracks["latitude"] - waters.latitude).abs() * 111_195
    assert (east < 1.3 * waters.half_width_m).all()
    assert (north < 1.3 * waters.half_height_m).all()
    assert tracks["depth_m"].is_between(0, waters.deepest_m).all()
    assert tracks["heading_deg"].is_between(0, 360, closed="left").all()


def test_vehicles_dive_and_come_up_to_the_surface() -> None:
    per_vehicle = (
        day()
        .group_by("auv_id")
        .agg(deepest=pl.col("depth_m").max(), surfaced=(pl.col("depth_m") == 0).sum())
    )

    assert (per_vehicle["deepest"] > 20).all()
    assert (per_vehicle["surfaced"] > 0).all()


def test_vehicles_move_at_the_speed_they_report() -> None:
    simulator = Simulator(50, seed=5)
    before = simulator.report(0)
    simulator.advance(10)
    after = simulator.report(10_000_000)
    shrink = float(np.cos(np.radians(Waters().latitude)))
    moved = after.select(
        speed=pl.col("speed_ms"),
        east=(pl.col("longitude") - before["longitude"]) * 111_195 * shrink,
        north=(pl.col("latitude") - before["latitude"]) * 111_195,
    ).with_columns(metres=(pl.col("east") ** 2 + pl.col("north") ** 2).sqrt())

    assert ((moved["metres"] - 10 * moved["speed"]).abs() < 0.3).all()
    assert (moved["speed"] < 3).all()


def test_a_group_of_the_fleet_reports_alone() -> None:
    simulator = Simulator(6, seed=1)

    some = simulator.report(7, np.array([1, 4]))

    assert some["auv_id"].to_list() == ["auv-0002", "auv-0005"]


def test_a_hundred_thousand_vehicles_swim() -> None:
    simulator = Simulator(100_000, seed=1)
    simulator.advance(1)

    assert simulator.report(0)["auv_id"].n_unique() == 100_000


@pytest.mark.parametrize("vehicles", [0, 100_001])
def test_other_sizes_are_refused(vehicles: int) -> None:
    with pytest.raises(ValueError, match="choose 1 to 100 000"):
        Simulator(vehicles)
