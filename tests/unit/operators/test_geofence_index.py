"""The zone index answers as brute force does, however the zones lie and change."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import DataError
from headrace.operators.geo.sphere import haversine_m
from headrace.operators.geo.zones import ZoneIndex
from tests.unit.operators.zone_sets import (
    Floats,
    Ring,
    exactly_inside,
    fleet_file,
    pairs,
    real_zones,
    seeded_polygons,
    zone_frame,
)

RNG = np.random.default_rng(20_210_823)


def brute_hits(polygons: list[Any], lon: Floats, lat: Floats) -> list[tuple[int, int]]:
    found = [
        (int(point), zone)
        for zone, polygon in enumerate(polygons)
        for point in np.flatnonzero(shapely.intersects_xy(polygon, lon, lat))
    ]
    return sorted(found)


def shapes(zones: pl.DataFrame) -> list[Any]:
    """Return the polygons of zones that cross no antimeridian, by zone_id."""
    ordered = zones.sort("zone_id")["geometry"].to_list()
    polygons: list[Any] = []
    for geometry in ordered:
        parts = shapely.get_parts(shapely.get_parts(shapely.from_geojson(geometry)))
        polygons.append(shapely.union_all(parts[shapely.area(parts) > 0]))
    return polygons


def around(polygons: list[Any], points: int) -> tuple[Floats, Floats]:
    """Return points spread over the surroundings of polygons."""
    bounds = shapely.bounds(polygons)[RNG.integers(0, len(polygons), points)]
    pad = 0.2 * (bounds[:, 2:] - bounds[:, :2])
    low, high = bounds[:, :2] - pad, bounds[:, 2:] + pad
    at = RNG.uniform(low, high)
    return at[:, 0], at[:, 1]


# Multiples of 1/8 degree are exact, so the borders of these polygons hold many grid points.
EIGHTH = st.integers(-16, 16).map(lambda eighths: eighths / 8)
POINTS = st.lists(st.tuples(EIGHTH, EIGHTH), min_size=1, max_size=40)


@st.composite
def stars(draw: st.DrawFn) -> list[Ring]:
    """Draw a valid polygon with corners on the grid, sometimes with a hole."""
    corners = draw(st.lists(st.tuples(EIGHTH, EIGHTH), min_size=3, max_size=9, unique=True))
    centre = np.mean(corners, axis=0)
    corners.sort(key=lambda at: (np.arctan2(at[1] - centre[1], at[0] - centre[0]), at))
    ring: Ring = [(float(x), float(y)) for x, y in corners]
    hole: Ring = [(x / 2, y / 2) for x, y in ring]
    if shapely.Polygon(ring, [hole]).is_valid and draw(st.booleans()):
        return [ring, hole]
    return [ring]


def is_usable(rings: list[Ring]) -> bool:
    polygon = shapely.Polygon(rings[0], rings[1:])
    return bool(polygon.is_valid and polygon.area > 0)


@given(
    zones=st.lists(stars().filter(is_usable), min_size=1, max_size=6),
    points=POINTS,
    scale=st.sampled_from([1 / 1024, 1.0, 32.0]),
)
def test_hits_are_exact_with_borders_inside(
    zones: list[list[Ring]], points: Ring, scale: float
) -> None:
    zones = [[[(x * scale, y * scale) for x, y in ring] for ring in rings] for rings in zones]
    corners = [corner for rings in zones for ring in rings for corner in ring]
    points = [(x * scale, y * scale) for x, y in points] + corners
    index = ZoneIndex.of(zone_frame({f"z{number}": rings for number, rings in enumerate(zones)}))
    lon, lat = np.array(points).T

    expected = [
        (point, zone)
        for point, (x, y) in enumerate(points)
        for zone, rings in enumerate(zones)
        if exactly_inside(rings, x, y)
    ]
    assert pairs(index.hits(lon, lat)) == expected


@given(rings=stars().filter(is_usable), points=POINTS)
def test_hits_across_the_antimeridian_are_exact(rings: list[Ring], points: Ring) -> None:
    # The same polygon around longitude 180, written within [-180, 180].
    moved = [[(x + 180 if x <= 0 else x - 180, y) for x, y in ring] for ring in rings]
    index = ZoneIndex.of(zone_frame({"z": moved}))
    x, y = np.array(points + [corner for ring in rings for corner in ring]).T
    lon = np.where(x <= 0, x + 180, x - 180)

    expected = [
        (point, 0) for point, at in enumerate(zip(x, y, strict=True)) if exactly_inside(rings, *at)
    ]
    assert pairs(index.hits(lon, y)) == expected
    assert pairs(index.hits(np.mod(lon, 360.0), y)) == expected


def test_a_thousand_zones_answer_as_brute_force_does() -> None:
    rings = seeded_polygons(1000, seed=7)
    zones = zone_frame({f"z{number:04}": [ring] for number, ring in enumerate(rings)})
    polygons = shapes(zones)
    lon, lat = around(polygons, 50_000)

    assert pairs(ZoneIndex.of(zones).hits(lon, lat)) == brute_hits(polygons, lon, lat)


@pytest.mark.parametrize(
    "name",
    [
        "zones_ccz_isa_2019.geojson",
        "zones_california_mpas_a.geojson",
        "zones_eez_subset_a.geojson.gz",
    ],
)
def test_real_zones_answer_as_brute_force_does(name: str) -> None:
    zones = real_zones(name)
    polygons = shapes(zones)
    lon, lat = around(polygons, 50_000)
    corners = shapely.get_coordinates(polygons)
    lon, lat = np.append(lon, corners[:, 0]), np.append(lat, corners[:, 1])

    assert pairs(ZoneIndex.of(zones).hits(lon, lat)) == brute_hits(polygons, lon, lat)


@pytest.mark.parametrize(
    "track", ["vms_tacsat.parquet", "ais_suez_2021.csv.gz", "glider_dfo_eva035.csv.gz"]
)
def test_real_tracks_answer_as_brute_force_does(track: str) -> None:
    path = fleet_file(track)
    positions = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    lon, lat = positions["lon_deg"].to_numpy(), positions["lat_deg"].to_numpy()
    zones = real_zones("zones_eez_subset_a.geojson.gz")
    index = ZoneIndex.of(zones)

    found = pairs(index.hits(lon, lat))
    assert found == brute_hits(shapes(zones), lon, lat)
    assert len(found) > 1000


def test_antarctica_holds_the_south_pole_and_a_hole_around_the_pole_excludes_it() -> None:
    countries = json.loads(fleet_file("countries_110m.geojson").read_text())["features"]
    antarctica = next(f for f in countries if f["properties"]["name"] == "Antarctica")
    index = ZoneIndex.of(
        pl.DataFrame({"zone_id": ["aq"], "geometry": [json.dumps(antarctica["geometry"])]})
    )
    lon = np.linspace(-180, 180, 73)

    assert len(index.hits(lon, np.full(73, -90.0))[0]) == 73
    assert len(index.hits(lon, np.full(73, -88.0))[0]) == 73
    assert len(index.hits(lon, np.full(73, -60.0))[0]) == 0


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_zones_around_a_pole_hold_it_whatever_the_longitude(side: float) -> None:
    cap: Ring = [(lon, side * 60) for lon in (-150.0, -60.0, 30.0, 120.0)]
    inner: Ring = [(lon, side * 80) for lon in (-150.0, -60.0, 30.0, 120.0)]
    beside: Ring = [(10.0, side * 85), (20.0, side * 85), (15.0, side * 90)]
    low: Ring = [(10.0, side * 85), (20.0, side * 85), (15.0, side * 89)]
    index = ZoneIndex.of(
        zone_frame({"band": [cap, inner], "beside": [beside], "cap": [cap], "low": [low]})
    )
    lon = RNG.uniform(-180, 180, 1000)
    everywhere = np.full(1000, side)

    at_pole = index.hits(lon, 90 * everywhere)
    near_pole = index.hits(lon[:1], 89.999 * everywhere[:1])
    assert pairs(at_pole) == [(point, zone) for point in range(1000) for zone in (1, 2)]
    assert pairs(near_pole) == [(0, 2)]
    assert pairs(index.hits(lon, 70 * everywhere)) == [
        (point, zone) for point in range(1000) for zone in (0, 2)
    ]
    assert pairs(index.hits(lon, 60 * everywhere)) == [
        (point, zone) for point in range(1000) for zone in (0, 2)
    ]
    assert pairs(index.hits(lon, 80 * everywhere)) == [
        (point, zone) for point in range(1000) for zone in (0, 2)
    ]
    assert len(index.hits(lon, 59.999 * everywhere)[0]) == 0


def test_circles_are_geodesic_across_poles_and_antimeridian() -> None:
    centres = [(0.0, 0.0, 500.0), (179.9, 10.0, 90_000.0), (30.0, 89.5, 200_000.0)]
    centres += [(-75.0, -60.0, 3_000_000.0), (12.0, 45.0, 19_000_000.0), (-180.0, -90.0, 1.0)]
    zones = pl.DataFrame(
        {
            "zone_id": [f"c{number}" for number in range(len(centres))],
            "geometry": [
                json.dumps({"type": "Point", "coordinates": [lon, lat]}) for lon, lat, _ in centres
            ],
            "radius_m": [radius for _, _, radius in centres],
        }
    )
    near = [RNG.normal(centre[:2], centre[2] / 111_000, (4000, 2)) for centre in centres]
    lon, lat = np.concatenate([*near, RNG.uniform((-180, -90), (180, 90), (4000, 2))]).T
    lon, lat = np.mod(lon + 180, 360) - 180, np.clip(lat, -90, 90)

    expected = [
        (int(point), zone)
        for zone, (x, y, radius) in enumerate(centres)
        for point in np.flatnonzero(
            haversine_m(lon, lat, np.full(len(lon), x), np.full(len(lon), y)) <= radius
        )
    ]
    assert pairs(ZoneIndex.of(zones).hits(lon, lat)) == sorted(expected)


def test_invalid_positions_hit_nothing() -> None:
    world: Ring = [(-180.0, -90.0), (180.0, -90.0), (180.0, 90.0), (-180.0, 90.0)]
    index = ZoneIndex.of(zone_frame({"world": [world]}))
    lon = np.array([np.nan, 0.0, 361.0, 0.0, -np.inf, 0.0, 180.0, -180.0, 360.0])
    lat = np.array([0.0, np.nan, 0.0, 90.5, 0.0, -np.inf, 0.0, 90.0, -90.0])

    assert index.hits(lon, lat)[0].tolist() == [6, 7, 8]


def test_an_index_without_zones_hits_nothing() -> None:
    index = ZoneIndex.of(zone_frame({}))
    here = np.zeros(3)

    assert pairs(index.hits(here, here)) == []
    assert pairs(index.crossings(here, here, here + 5, here)) == []


RINGS = seeded_polygons(60, seed=3, size=(0.0, 1.0))
ZONE = st.sampled_from([f"z{number}" for number in range(30)])
CHANGE = st.tuples(
    st.dictionaries(ZONE, st.sampled_from(RINGS), max_size=4), st.lists(ZONE, max_size=3)
)


@settings(max_examples=10)
@given(changes=st.lists(CHANGE, min_size=1, max_size=6))
def test_a_changed_index_equals_a_fresh_one(
    changes: list[tuple[dict[str, Ring], list[str]]],
) -> None:
    held: dict[str, list[Ring]] = {f"z{number}": [RINGS[number]] for number in range(20)}
    index = ZoneIndex.of(zone_frame(held))
    lon, lat = around([shapely.Polygon(ring) for ring in RINGS], 500)

    for upserts, deletes in changes:
        held = {zone: rings for zone, rings in held.items() if zone not in deletes}
        held |= {zone: [ring] for zone, ring in upserts.items()}
        index = index.with_changes(zone_frame({z: [r] for z, r in upserts.items()}), deletes)
        fresh = ZoneIndex.of(zone_frame(held))
        assert index.zone_ids == fresh.zone_ids
        assert pairs(index.hits(lon, lat)) == pairs(fresh.hits(lon, lat))
        legs = (lon[:-1], lat[:-1], lon[1:], lat[1:])
        assert pairs(index.crossings(*legs)) == pairs(fresh.crossings(*legs))


def test_many_changes_of_a_large_index_stay_right() -> None:
    rings = seeded_polygons(400, seed=11)
    held = {f"z{number:03}": [ring] for number, ring in enumerate(rings[:300])}
    index = ZoneIndex.of(zone_frame(held))
    lon, lat = around([shapely.Polygon(ring) for ring in rings], 5000)

    for number, ring in enumerate(rings[300:]):
        zone = f"z{number * 3:03}"
        index = index.with_changes(zone_frame({zone: [ring]}), [f"z{number * 3 + 1:03}"])
        held[zone] = [ring]
        held.pop(f"z{number * 3 + 1:03}", None)

    assert pairs(index.hits(lon, lat)) == pairs(ZoneIndex.of(zone_frame(held)).hits(lon, lat))


def test_a_refused_zone_is_named() -> None:
    bow_tie: Ring = [(0.0, 0.0), (2.0, 2.0), (2.0, 0.0), (0.0, 2.0)]

    with pytest.raises(DataError, match="zone 'harbour': the polygon crosses itself"):
        ZoneIndex.of(zone_frame({"harbour": [bow_tie]}))


def test_a_repeated_zone_id_is_refused() -> None:
    zones = zone_frame({"a": [RINGS[0]]})

    with pytest.raises(DataError, match="zone 'a' is given twice"):
        ZoneIndex.of(pl.concat([zones, zones]))


def test_crossings_are_the_legs_that_touch_a_zone_from_outside() -> None:
    rings = seeded_polygons(200, seed=5, size=(-1.0, 1.0))
    zones = zone_frame({f"z{number:03}": [ring] for number, ring in enumerate(rings)})
    polygons = shapes(zones)
    lon0, lat0 = around(polygons, 4000)
    step = 10 ** RNG.uniform(-2, 1.3, 4000)
    lon1 = lon0 + step * RNG.normal(size=4000)
    lat1 = np.clip(lat0 + step * RNG.normal(size=4000), -90, 90)
    # Legs within the map's edges, where a plain line is a straight leg.
    fits = (np.abs(lon0) < 180) & (np.abs(lon1) < 180) & (np.abs(lon1 - lon0) < 180)
    lon0, lat0, lon1, lat1 = (part[fits] for part in (lon0, lat0, lon1, lat1))

    legs = shapely.linestrings(np.stack([np.c_[lon0, lat0], np.c_[lon1, lat1]], axis=1))
    ends = {*brute_hits(polygons, lon0, lat0), *brute_hits(polygons, lon1, lat1)}
    touched = {
        (int(leg), zone)
        for zone, polygon in enumerate(polygons)
        for leg in np.flatnonzero(shapely.intersects(polygon, legs))
    }
    assert pairs(ZoneIndex.of(zones).crossings(lon0, lat0, lon1, lat1)) == sorted(touched - ends)
    assert len(touched - ends) > 100


def test_a_leg_across_the_antimeridian_crosses_what_lies_there() -> None:
    strip: Ring = [(179.5, -1.0), (-179.5, -1.0), (-179.5, 1.0), (179.5, 1.0)]
    island: Ring = [(179.6, -1.0), (179.7, -1.0), (179.7, 1.0), (179.6, 1.0)]
    far: Ring = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    index = ZoneIndex.of(zone_frame({"strip": [strip], "island": [island], "far": [far]}))
    east, west = np.array([179.0]), np.array([-179.0])
    equator = np.zeros(1)

    assert index.zone_ids == ("far", "island", "strip")
    assert pairs(index.crossings(east, equator, west, equator)) == [(0, 1), (0, 2)]
    assert pairs(index.crossings(west, equator, east, equator)) == [(0, 1), (0, 2)]
    assert pairs(index.crossings(west, equator + 3, east, equator + 3)) == []


def test_a_leg_crosses_a_circle_when_it_comes_near_enough() -> None:
    zones = pl.DataFrame(
        {
            "zone_id": ["buoy"],
            "geometry": ['{"type": "Point", "coordinates": [10, 0.5]}'],
            "radius_m": [55_600.0],
        }
    )
    near, far = ZoneIndex.of(zones), ZoneIndex.of(zones.with_columns(radius_m=pl.lit(55_500.0)))
    legs = (np.array([8.0]), np.zeros(1), np.array([12.0]), np.zeros(1))

    # Half a degree of latitude is 55 597.5 m.
    assert pairs(near.crossings(*legs)) == [(0, 0)]
    assert pairs(far.crossings(*legs)) == []


def test_distance_from_outside_equals_the_nearest_of_many_border_points() -> None:
    rings = seeded_polygons(20, seed=9, size=(-1.0, 0.0))
    polygons = [shapely.Polygon(ring) for ring in rings]
    index = ZoneIndex.of(zone_frame({f"z{n:02}": [ring] for n, ring in enumerate(rings)}))
    lon, lat = around(polygons, 2000)
    zone = RNG.integers(0, 20, 2000)
    bounds = shapely.bounds(polygons)[zone]
    lon = bounds[:, 0] + RNG.uniform(-0.5, 1.5, 2000) * (bounds[:, 2] - bounds[:, 0])
    lat = bounds[:, 1] + RNG.uniform(-0.5, 1.5, 2000) * (bounds[:, 3] - bounds[:, 1])
    outside = ~shapely.intersects_xy(np.array(polygons, dtype=object)[zone], lon, lat)
    zone, lon, lat = zone[outside], lon[outside], lat[outside]

    metres = index.outside_m(zone, lon, lat)
    for number, x, y, found in zip(zone[:200], lon[:200], lat[:200], metres[:200], strict=True):
        dense = np.concatenate(
            [np.linspace(a, b, 300) for a, b in pairwise([*rings[number], rings[number][0]])]
        )
        n = len(dense)
        best = haversine_m(np.full(n, x), np.full(n, y), dense[:, 0], dense[:, 1]).min()
        # The nearest point of the border lies at most half a gap beside the nearest of these.
        gap = haversine_m(dense[:-1, 0], dense[:-1, 1], dense[1:, 0], dense[1:, 1]).max()
        nearest = np.sqrt(max(best**2 - (gap / 2) ** 2, 0.0))
        assert 0.999 * nearest - 1.0 <= found <= 1.001 * best + 1.0


def test_distance_reaches_across_the_antimeridian() -> None:
    zones = pl.DataFrame(
        {
            "zone_id": ["circle", "square"],
            "geometry": [
                '{"type": "Point", "coordinates": [-179, 0]}',
                zone_frame({"s": [[(-179.0, -1.0), (-178.0, -1.0), (-178.0, 1.0), (-179.0, 1.0)]]})[
                    "geometry"
                ][0],
            ],
            "radius_m": [1000.0, None],
        }
    )
    metres = ZoneIndex.of(zones).outside_m(np.array([0, 1]), np.full(2, 179.0), np.zeros(2))

    assert metres.tolist() == pytest.approx([222_390.2 - 1000.0, 222_390.2], abs=1.0)


def test_memory_is_bounded_by_corners_not_by_area() -> None:
    wide: Ring = [(-179.0, -80.0), (0.0, -80.0), (179.0, -80.0), (179.0, 80.0), (0.0, 80.0)]
    small: Ring = [(0.0, 0.0), (0.001, 0.0), (0.001, 0.001)]
    many = {f"z{n:04}": [ring] for n, ring in enumerate(seeded_polygons(200, seed=2))}

    assert ZoneIndex.of(zone_frame({"wide": [[*wide, (-179.0, 80.0)]]})).nbytes < 1_000_000
    assert ZoneIndex.of(zone_frame({"small": [small]})).nbytes < 300_000
    assert ZoneIndex.of(zone_frame(many)).nbytes < 5_000_000
