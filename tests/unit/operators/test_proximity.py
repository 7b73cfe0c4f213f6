from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from headrace.core.errors import PlanError
from headrace.core.time import EVENT_TIME
from headrace.operators.geo import encounters as meetings
from headrace.operators.geo.neighbours import cells_of, near_pairs
from headrace.operators.geo.sphere import METRES_PER_DEGREE, haversine_m
from headrace.operators.proximity import Proximity
from tests.oracles import proximity as oracle
from tests.unit.operators.drive import SECOND, Drive, cut, timed
from tests.unit.operators.zone_sets import fleet_file

SCHEMA = pl.Schema({"t": pl.Float64(), "v": pl.String(), "lon": pl.Float64(), "lat": pl.Float64()})


def proximity(**parameters: Any) -> Proximity:
    given = {"by": "v", "lon": "lon", "lat": "lat", "within_m": 1000.0, "order": "arrival"}
    return Proximity(**{**given, **parameters})


def fixes(*rows: tuple[float, str, float, float], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(rows, schema=SCHEMA, orient="row"), start=start)


def told(run: Drive) -> list[tuple[float, str, str, str]]:
    return [(row["t"], row["v"], row["v_other"], row["event"]) for row in run.take()]


def degrees(metres: float) -> float:
    return metres / METRES_PER_DEGREE


def test_a_pair_has_one_row_when_it_meets_and_one_when_it_parts() -> None:
    run = Drive(proximity(), SCHEMA)
    run.step(
        fixes(
            (0, "a", 0.0, 0.0),
            (1, "b", degrees(999), 0.0),
            (2, "a", 0.0, 0.0),
            (3, "b", 0.0, degrees(500)),
            (4, "a", 0.0, degrees(-501)),
            (5, "b", 0.0, degrees(700)),
        )
    )

    rows = run.rows().to_dicts()
    assert told(run) == [(1, "b", "a", "near"), (4, "a", "b", "far")]
    assert rows[0]["metres"] == pytest.approx(999)
    assert rows[1]["metres"] == pytest.approx(1001)
    assert (rows[1]["lat_other"], rows[1]["other_at"].second) == (degrees(500), 3)


def test_the_bound_is_near_and_the_pole_and_the_antimeridian_are_places_like_others() -> None:
    reach = float(haversine_m(*(np.array([x]) for x in (179.999, 0.0, -179.999, 0.0)))[0])
    run = Drive(proximity(within_m=reach), SCHEMA)
    run.step(
        fixes(
            (0, "a", 179.999, 0.0),
            (1, "b", -179.999, 0.0),
            (2, "c", 180.0, 0.0),
            (3, "n", 10.0, 89.9995),
            (4, "p", -170.0, 89.9995),
            (5, "q", 300.0, 90.0),
        )
    )

    assert told(run) == [
        (1, "b", "a", "near"),
        (2, "c", "a", "near"),
        (2, "c", "b", "near"),
        (4, "p", "n", "near"),
        (5, "q", "n", "near"),
        (5, "q", "p", "near"),
    ]


def test_those_that_part_come_before_those_that_meet() -> None:
    run = Drive(proximity(), SCHEMA)
    far = degrees(50_000)
    run.step(fixes((0, "z", 0, 0), (1, "b", 0, 0), (2, "c", far, 0), (3, "a", far, 0)))
    run.take()
    run.step(fixes((4, "m", 0, 0), (5, "m", far, 0), start=4))

    assert told(run) == [
        (4, "m", "b", "near"),
        (4, "m", "z", "near"),
        (5, "m", "b", "far"),
        (5, "m", "z", "far"),
        (5, "m", "a", "near"),
        (5, "m", "c", "near"),
    ]


@pytest.mark.parametrize("bounds", [[], [1], [2], [1, 2, 3]])
def test_silence_is_no_parting_but_is_forgotten(bounds: list[int]) -> None:
    frame = fixes((0, "a", 0, 0), (1, "b", 0, 0), (11.5, "b", 0, 0), (12, "a", 0, 0))
    run = Drive(proximity(forget="10s"), SCHEMA, reopen=True)
    for part in cut(frame, bounds):
        run.step(part, watermark=part["t"][-1])

    # At 11.5 nothing is known of a any more, and b begins anew too.
    assert told(run) == [(1, "b", "a", "near"), (12, "a", "b", "near")]
    assert run.step(fixes((40, "c", 5, 5), start=4), 40).tables.row_counts()["pairs"] == 1
    assert run.step(fixes((41, "c", 5, 5), start=5), 41).tables.row_counts() == {
        "vehicles": 1,
        "pairs": 0,
        "next": 1,
    }


def test_only_vehicles_of_one_group_meet() -> None:
    schema = pl.Schema({**SCHEMA, "fleet": pl.Int64()})
    frame = fixes((0, "a", 0, 0), (1, "a", 0, 0), (2, "b", 0, 0), (3, "c", 0, 0))
    run = Drive(proximity(group="fleet"), schema)
    run.step(frame.with_columns(fleet=pl.Series([1, 2, 2, None])))

    assert told(run) == [(2, "b", "a", "near")]


def test_a_position_without_coordinates_changes_nothing_and_an_overtaken_one_is_late() -> None:
    run = Drive(proximity(), SCHEMA)
    nan = float("nan")
    run.step(
        fixes((5, "a", 0, 0), (6, "b", nan, 0), (6, "b", 0, 91), (7, "b", 0, 0), (6, "b", 9, 9))
    )
    run.step(watermark=10).step(fixes((9, "c", 0, 0), start=5))

    assert told(run) == [(7, "b", "a", "near")]
    assert [(row["t"], row["v"]) for row in run.take("late")] == [(6, "b"), (9, "c")]


@pytest.mark.parametrize("order", ["event", "arrival"])
def test_portions_and_halves_give_what_a_loop_over_all_gives(
    monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    random = np.random.default_rng(5)
    size = 1200
    frame = pl.DataFrame(
        {
            "id": np.arange(size),
            "vehicle": random.choice(list("abcdefghij"), size),
            "fleet": random.integers(0, 2, size).astype(float),
            "t": np.sort(random.integers(0, 900, size)).astype(float),
            "lon": random.choice([179.0, 180.0, -179.0], size) + random.normal(0, 0.3, size),
            "lat": random.normal(0, 0.7, size),
        }
    ).with_columns(time=(pl.col("t") * SECOND).cast(pl.Int64).cast(oracle.SCHEMA["time"]))
    placed = timed(frame).select(*oracle.SCHEMA, EVENT_TIME, "__position")
    operator = Proximity(
        by="vehicle",
        lon="lon",
        lat="lat",
        within_m=90_000,
        group="fleet",
        order=order,
        forget="20s",
    )
    expected = [
        (row["id"], row["vehicle_other"], row["event"])
        for row in oracle.encounters(operator, placed.to_dicts())
    ]
    for portion, most in ((8192, 4_000_000), (50, 4_000_000), (8192, 400)):
        monkeypatch.setattr(meetings, "_PORTION", portion)
        monkeypatch.setattr(meetings, "_MOST_MEETINGS", most)
        run = Drive(operator, oracle.SCHEMA, reopen=True)
        for part in cut(placed, [300, 301, 1000]):
            run.step(part, watermark=part[EVENT_TIME][-1] / SECOND)
        rows = run.finish().rows().select("id", "vehicle_other", "event").rows()
        assert sorted(rows) == sorted(expected)
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert len(expected) > 1000


def test_cells_of_near_points_touch_everywhere() -> None:
    random = np.random.default_rng(3)
    lat = np.degrees(np.arcsin(random.uniform(-1, 1, 20_000)))
    lon = random.uniform(-180, 180, lat.size)
    apart = random.uniform(0, 1, lat.size) * degrees(999)
    bearing = random.uniform(0, 2 * np.pi, lat.size)
    beside_lat = np.clip(lat + apart * np.cos(bearing), -90, 90)
    beside_lon = lon + apart * np.sin(bearing) / np.maximum(np.cos(np.radians(lat)), 1e-3)
    near = haversine_m(lon, lat, beside_lon, beside_lat) <= 1000
    thing = np.arange(lat.size)
    group = np.zeros(lat.size, dtype=np.int64)

    asked = (thing, group, cells_of(lon, lat, 1000.0))
    held = (thing + lat.size, group, cells_of(beside_lon, beside_lat, 1000.0))
    pairs = set(map(tuple, near_pairs(asked, held).tolist()))

    assert near.sum() > 15_000
    assert [row for row in np.flatnonzero(near) if (row, row + lat.size) not in pairs] == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"by": None}, "needs by="),
        ({"within_m": 0.0}, "metres from above 0"),
        ({"within_m": float("nan")}, "metres from above 0"),
        ({"forget": "0s"}, "longer than zero"),
        ({"lon": "x"}, "no column 'x'"),
        ({"lat": "v"}, "not a number"),
        ({"group": "v"}, "both in by= and in group="),
    ],
)
def test_a_proximity_that_cannot_be_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError) as refused:
        proximity(**parameters).output_schema(SCHEMA)

    assert message in str(refused.value)


def brute(
    frame: pl.DataFrame, within_m: float, forget_s: float
) -> list[tuple[int, str, str, float]]:
    """Compare each position with the latest of all other ships, a row at a time."""
    names = frame["v"].unique().sort()
    number = {name: place for place, name in enumerate(names)}
    lon, lat = np.zeros(len(names)), np.zeros(len(names))
    seen = np.full(len(names), -np.inf)
    near = np.zeros((len(names), len(names)), dtype=bool)
    found = []
    for row, (time, name, x, y) in enumerate(frame.select("t", "v", "lon", "lat").rows()):
        me = number[name]
        if time - seen[me] > forget_s:
            near[me] = near[:, me] = False
        metres = haversine_m(np.full(lon.size, x), np.full(lon.size, y), lon, lat)
        there = time - seen <= forget_s
        there[me] = False
        now = there & (metres <= within_m)
        for other in np.flatnonzero(there & (now != near[me])):
            event = "near" if now[other] else "far"
            found.append((row, str(names[int(other)]), event, float(metres[other])))
        near[me] = near[:, me] = now
        lon[me], lat[me], seen[me] = x, y, time
    return found


@pytest.mark.parametrize("within_m", [500.0, 5000.0])
def test_recorded_ships_in_the_canal_meet_as_brute_force_says(within_m: float) -> None:
    ships = (
        pl.read_csv(fleet_file("ais_suez_2021.csv.gz"))
        .select(
            pl.col("time")
            .str.to_datetime(time_unit="us", time_zone="UTC")
            .dt.epoch("s")
            .alias("t"),
            pl.col("vessel_id").cast(pl.String).alias("v"),
            pl.col("lon_deg").alias("lon"),
            pl.col("lat_deg").alias("lat"),
        )
        .cast(SCHEMA)
        .sort("t", maintain_order=True)
    )
    placed = timed(ships)
    run = Drive(proximity(within_m=within_m, forget="2h"), SCHEMA)
    for part in cut(placed, [1000, 1010, 9000]):
        run.step(part, watermark=part["t"][-1])

    frame = run.frame()
    found = frame.select("__position", "v_other", "event", "metres").rows()
    expected = brute(ships, within_m, 7200.0)
    assert sorted(row[:3] for row in found) == sorted(row[:3] for row in expected)
    assert np.allclose(sorted(row[3] for row in found), sorted(row[3] for row in expected))
    assert len(found) > 500


def test_recorded_gliders_meet_a_ship_that_follows_one_of_them() -> None:
    tracks = []
    for name, glider in (("glider_sea063_m22_nav", "sea063"), ("glider_dfo_eva035", "eva035")):
        frame = pl.read_csv(fleet_file(f"{name}.csv.gz")).head(400)
        tracks.append(
            frame.select(
                (pl.int_range(pl.len()) * 60).cast(pl.Float64).alias("t"),
                pl.lit(glider).alias("v"),
                pl.col("lon_deg").alias("lon"),
                pl.col("lat_deg").alias("lat"),
            )
        )
    # A minute behind the first glider.
    ship = tracks[0].with_columns(pl.col("t") + 60, v=pl.lit("ship"))
    both = pl.concat([*tracks, ship]).drop_nulls().cast(SCHEMA).sort("t", maintain_order=True)
    run = Drive(proximity(within_m=300.0, order="event"), SCHEMA)
    for part in timed(both).iter_slices(100):
        run.step(part, watermark=part["t"][-1])
    run.finish()

    found = run.rows().select("t", "v", "v_other", "event").rows()
    expected = brute(both, 300.0, 86_400.0)
    assert len(found) == len(expected) >= 1
    assert {frozenset(row[1:3]) for row in found} == {frozenset(("sea063", "ship"))}
