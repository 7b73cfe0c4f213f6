"""Reading GeoJSON: what is accepted, how it is unwrapped, what is refused and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import shapely

from headrace.core.errors import DataError
from headrace.operators.geo.geometry import Circle, parse_shape

Ring = Sequence[Sequence[float]]


def polygon(*rings: Ring) -> str:
    return json.dumps({"type": "Polygon", "coordinates": list(rings)})


SQUARE: Ring = [[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]


def test_an_unclosed_ring_is_closed() -> None:
    assert parse_shape(polygon(SQUARE[:-1])).polygons[0].equals(shapely.box(0, 0, 2, 2))


def test_repeated_points_and_altitudes_are_no_fault() -> None:
    ring = [[0, 0, 5], [0, 0, 5], [2, 0, 5], [2, 2, 5], [2, 2, 6], [0, 2, 5], [0, 0, 5]]

    assert parse_shape(polygon(ring)).polygons[0].equals(shapely.box(0, 0, 2, 2))


def test_a_feature_stands_for_its_geometry() -> None:
    feature = {"type": "Feature", "properties": {}, "geometry": json.loads(polygon(SQUARE))}

    assert parse_shape(feature) == parse_shape(polygon(SQUARE))


def test_a_point_with_a_radius_is_a_circle() -> None:
    point = '{"type": "Point", "coordinates": [3, 4]}'

    assert parse_shape(point, 1500).circle == Circle(3.0, 4.0, 1500.0)


def test_a_geometry_collection_stands_for_its_polygons() -> None:
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    parts = {"type": "MultiPolygon", "coordinates": [[SQUARE], [[[5, 5], [6, 5], [6, 6]]]]}
    collection = {"type": "GeometryCollection", "geometries": [line, parts]}

    assert len(parse_shape(collection).polygons) == 2


def test_holes_are_kept() -> None:
    hole: Ring = [[0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [0.5, 1.5]]

    assert parse_shape(polygon(SQUARE, hole)).polygons[0].area == 3.0


def test_a_ring_that_touches_itself_at_a_corner_is_accepted() -> None:
    ring: Ring = [[0, 0], [4, 0], [2, 2], [4, 4], [0, 4], [2, 2]]

    assert parse_shape(polygon(ring)).polygons[0].area == 8.0


@pytest.mark.parametrize(
    "ring",
    [
        [[170, 0], [-170, 0], [-170, 10], [170, 10]],
        [[-170, 0], [-170, 10], [170, 10], [170, 0]],
        [[170, 0], [190, 0], [190, 10], [170, 10]],
        [[-190, 0], [-170, 0], [-170, 10], [-190, 10]],
        [[170, 0], [180, 0], [-180, 0], [-170, 0], [-170, 10], [-180, 10], [180, 10], [170, 10]],
    ],
)
def test_a_ring_across_the_antimeridian_is_unwrapped(ring: Ring) -> None:
    assert parse_shape(polygon(ring)).polygons[0].equals(shapely.box(170, 0, 190, 10))


def test_a_hole_follows_its_ring_across_the_antimeridian() -> None:
    shell: Ring = [[170, 0], [-170, 0], [-170, 10], [170, 10]]
    hole: Ring = [[-178, 2], [-174, 2], [-174, 6], [-178, 6]]

    assert parse_shape(polygon(shell, hole)).polygons[0].area == 200.0 - 16.0


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lat", [60.0, -60.0])
def test_a_ring_around_a_pole_encloses_the_nearer_one(lat: float, reverse: bool) -> None:
    ring: Ring = [[lon, lat] for lon in (-150, -60, 30, 120)]
    shape = parse_shape(polygon(ring[::-1] if reverse else ring))

    assert shape.poles == {90.0 if lat > 0 else -90.0}
    assert shape.polygons[0].area == pytest.approx(360 * 30)


def test_a_ring_on_the_equator_encloses_the_pole_on_its_left() -> None:
    ring: Ring = [[lon, 0] for lon in (-150, -60, 30, 120)]

    assert parse_shape(polygon(ring)).poles == {90.0}
    assert parse_shape(polygon(ring[::-1])).poles == {-90.0}


def test_a_cap_drawn_along_the_pole_equals_the_ring_around_it() -> None:
    coast: Ring = [[-180, -70], [-90, -75], [0, -65], [90, -72], [180, -70]]
    drawn = parse_shape(polygon([*coast, [180, -90], [0, -90], [-180, -90]]))
    around = parse_shape(polygon(coast))

    assert drawn.poles == around.poles == {-90.0}
    assert drawn.polygons[0].area == pytest.approx(around.polygons[0].area)


def test_a_ring_around_a_pole_may_have_a_hole_around_it() -> None:
    outer: Ring = [[lon, 60] for lon in (-150, -60, 30, 120)]
    inner: Ring = [[lon, 80] for lon in (170, 80, -10, -100)]
    shape = parse_shape(polygon(outer, inner))

    assert shape.poles == frozenset()
    assert shape.polygons[0].area == pytest.approx(360 * 20)


def test_a_ring_around_a_pole_may_bend_back() -> None:
    coast: Ring = [[-180, 60], [-60, 60], [-100, 70], [-20, 75], [60, 60], [30, 50], [120, 55]]

    assert parse_shape(polygon(coast)).poles == {90.0}


def test_a_box_from_side_to_side_is_the_whole_band() -> None:
    world: Ring = [[-180, -90], [180, -90], [180, 90], [-180, 90]]
    band: Ring = [[-180, -10], [180, -10], [180, 10], [-180, 10]]

    assert parse_shape(polygon(world)).polygons[0].area == 360 * 180
    assert parse_shape(polygon(world)).poles == {90.0, -90.0}
    assert parse_shape(polygon(band)).polygons[0].area == 360 * 20
    assert parse_shape(polygon(band)).poles == frozenset()


def test_a_triangle_that_touches_a_pole_holds_it() -> None:
    assert parse_shape(polygon([[0, 60], [90, 60], [45, 90]])).poles == {90.0}


REFUSED: list[tuple[Any, float | None, str]] = [
    ("{", None, "not JSON"),
    ("[1, 2]", None, "not an object"),
    ('{"type": "LineString", "coordinates": [[0, 0], [1, 1]]}', None, "type is 'LineString'"),
    ('{"type": "Polygon"}', None, "no list of coordinates"),
    ('{"type": "Polygon", "coordinates": []}', None, "empty"),
    ('{"type": "MultiPolygon", "coordinates": []}', None, "empty"),
    ('{"type": "GeometryCollection", "geometries": [{"type": "Point"}]}', None, "empty"),
    ('{"type": "Feature", "geometry": null}', None, "no geometry"),
    (polygon([[0, 0], [1, 1]]), None, "2 distinct points"),
    (polygon([[0, 0], [0, 0], [1, 1], [1, 1], [0, 0]]), None, "2 distinct points"),
    (polygon([[0, 0], [1, 1], [2, 2]]), None, "no area"),
    (polygon([[0, 0], [1, 0], [1, 91]]), None, "latitude 91: out of range"),
    (polygon([[0, 0], [1000, 0], [1, 1]]), None, "longitude 1000"),
    (polygon([[0, 0], [float("nan"), 0], [1, 1]]), None, "longitude nan"),
    (polygon([[0, 0], [float("inf"), 0], [1, 1]]), None, "longitude inf"),
    ('{"type": "Polygon", "coordinates": [[[0, 0], ["1", 0], [1, 1]]]}', None, "position 2"),
    ('{"type": "Polygon", "coordinates": [[[0, 0], [null, 0], [1, 1]]]}', None, "position 2"),
    ('{"type": "Polygon", "coordinates": [[[0, 0], [true, 0], [1, 1]]]}', None, "position 2"),
    ('{"type": "Polygon", "coordinates": [[0, 1, 2]]}', None, "position 1 is 0"),
    (polygon([[0, 0], [2, 2], [2, 0], [0, 2]]), None, "itself at longitude 1, latitude 1"),
    (
        polygon([[178, 0], [-178, 2], [-178, 0], [178, 2]]),
        None,
        "itself at longitude -180, latitude 1",
    ),
    (polygon(SQUARE, [[5, 5], [6, 5], [6, 6]]), None, "hole lies outside shell"),
    (polygon(SQUARE, [[1, 1], [3, 1], [1, 1.5]]), None, "crosses itself at longitude 2"),
    (polygon([[x, 1] for x in range(0, 720, 90)]), None, "out of range"),
    (
        polygon([[x % 360 - 180, 50 + x / 100] for x in range(0, 720, 90)]),
        None,
        "winds 2 times around the globe",
    ),
    ('{"type": "Point", "coordinates": [0, 0]}', None, "needs radius_m"),
    ('{"type": "Point", "coordinates": [0, 0]}', -5.0, "radius_m is -5"),
    ('{"type": "Point", "coordinates": [0, 0]}', float("nan"), "radius_m is nan"),
    ('{"type": "Point", "coordinates": [0, 0]}', 1e9, "radius_m is 1"),
    ('{"type": "Point", "coordinates": [0, 95]}', 5.0, "latitude 95"),
    (polygon(SQUARE), 5.0, "belongs to a Point"),
    ("[" * 100_000, None, "not JSON"),
    (None, None, "not JSON"),
]


@pytest.mark.parametrize(("geometry", "radius_m", "reason"), REFUSED)
def test_a_bad_geometry_is_refused_with_its_reason(
    geometry: Any, radius_m: float | None, reason: str
) -> None:
    with pytest.raises(DataError) as refusal:
        parse_shape(geometry, radius_m)

    assert reason in refusal.value.message
    assert refusal.value.hint
