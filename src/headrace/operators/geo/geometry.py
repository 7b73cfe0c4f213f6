"""Read GeoJSON shapes: checked, unwrapped across the antimeridian and closed around poles.

Edges are straight lines in longitude and latitude, as RFC 7946 says. An edge that jumps more
than 180 degrees of longitude goes the short way, across the antimeridian. A ring that winds
once around the globe encloses the pole nearer to it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely

from headrace.core.errors import BugError, DataError
from headrace.operators.geo.sphere import HALF_TURN_M, Floats

_POLE: Final = 90.0
_TURN: Final = 360.0
_ONE_TURN: Final = np.array([_TURN, 0.0])
_HALF_TURN: Final = 180.0
_CORNERS: Final = 3
_LON_LAT: Final = (2, 3)
_WHERE: Final = re.compile(r"(.*?)\[(\S+) (\S+)\]")
_ORDER_HINT: Final = "GeoJSON positions are [longitude, latitude] in degrees"
_TYPES_HINT: Final = "a zone is a Polygon, a MultiPolygon, or a Point with radius_m"


@dataclass(frozen=True, slots=True)
class Circle:
    """All points within `radius_m` metres of a centre, along great circles."""

    lon: float
    lat: float
    radius_m: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What one zone covers: the union of its parts.

    Attributes:
        polygons: Planar polygons in degrees; longitudes may leave [-180, 180] where a polygon
            crosses the antimeridian or winds around a pole.
        circle: The circle, for a Point with a radius.
        poles: The latitudes (90.0, -90.0) of the poles that belong to the polygons.
    """

    polygons: tuple[shapely.Polygon, ...] = ()
    circle: Circle | None = None
    poles: frozenset[float] = frozenset()


def parse_shape(geometry: str | Mapping[str, Any], radius_m: float | None = None) -> Shape:
    """Read one GeoJSON geometry, or a Feature around one.

    Unclosed rings are closed. Rings may touch themselves at a point, but not cross. A
    GeometryCollection stands for its polygons; lines and points in it have no inside.

    Args:
        geometry: GeoJSON, as text or parsed; positions in degrees, longitudes within +-360.
        radius_m: Radius in metres, for a Point and nothing else.

    Returns:
        The shape.

    Raises:
        DataError: Not JSON, not such a geometry, out of range, not finite, too few points,
            no area, or self-crossing (the message says where).

    Example:
        >>> box = '{"type": "Polygon", "coordinates": [[[0,0],[2,0],[2,1],[0,1],[0,0]]]}'
        >>> parse_shape(box).polygons[0].area
        2.0
        >>> parse_shape('{"type": "Polygon", "coordinates": [[[0,0],[2,2],[2,0],[0,2]]]}')
        Traceback (most recent call last):
        headrace.core.errors.DataError: [HR200] the polygon crosses itself at longitude 1, \
latitude 1 (draw its border without crossings, or split it into a MultiPolygon)
    """
    body = _decoded(geometry)
    if body.get("type") == "Feature":
        inner = body.get("geometry")
        if not isinstance(inner, Mapping):
            raise DataError("the Feature has no geometry", hint=_TYPES_HINT)
        body = inner
    if body.get("type") == "Point":
        return Shape(circle=_circle(body, radius_m))
    if radius_m is not None and not math.isnan(radius_m):
        raise DataError(
            f"radius_m belongs to a Point, not to a {body.get('type')}",
            hint="leave radius_m empty for polygons",
        )
    members = _polygon_members(body)
    polygons = [_polygon(rings, where) for where, rings in members]
    if not polygons:
        raise DataError(f"the {body.get('type')} is empty", hint=_TYPES_HINT)
    return Shape(
        polygons=tuple(polygons),
        poles=frozenset(pole for polygon in polygons for pole in _poles(polygon)),
    )


def _decoded(geometry: str | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(geometry, Mapping):
        return geometry
    try:
        body = json.loads(geometry)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"the geometry is not JSON: {error}", hint=_TYPES_HINT) from error
    if not isinstance(body, Mapping):
        raise DataError(f"the geometry is {type(body).__name__}, not an object", hint=_TYPES_HINT)
    return body


def _circle(body: Mapping[str, Any], radius_m: float | None) -> Circle:
    if radius_m is None:
        raise DataError("a Point needs radius_m", hint="give the radius of the circle in metres")
    if not 0 < radius_m <= HALF_TURN_M:
        raise DataError(
            f"radius_m is {radius_m}", hint=f"a radius lies within 0 and {HALF_TURN_M:.0f} metres"
        )
    position = _positions([body.get("coordinates")], "the point")[0]
    return Circle(float(position[0]), float(position[1]), float(radius_m))


def _polygon_members(body: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
    """List the polygons of a geometry as (what to call it, rings)."""
    kind = body.get("type")
    if kind == "GeometryCollection":
        members = _listed(body.get("geometries"), "the GeometryCollection")
        areas = [
            member
            for member in members
            if isinstance(member, Mapping)
            and member.get("type") in {"Polygon", "MultiPolygon", "GeometryCollection"}
        ]
        return [polygon for member in areas for polygon in _polygon_members(member)]
    if kind == "Polygon":
        return [("the polygon", _listed(body.get("coordinates"), "the polygon"))]
    if kind == "MultiPolygon":
        polygons = _listed(body.get("coordinates"), "the MultiPolygon")
        names = [f"polygon {number}" for number in range(1, len(polygons) + 1)]
        return [(name, _listed(rings, name)) for name, rings in zip(names, polygons, strict=True)]
    raise DataError(f"the geometry's type is {kind!r}", hint=_TYPES_HINT)


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f"{where} has no list of coordinates", hint=_TYPES_HINT)
    if not value:
        raise DataError(f"{where} is empty", hint=_TYPES_HINT)
    return list(value)


def _positions(values: list[Any], where: str) -> Floats:
    """Return longitudes and latitudes, checked, as an n x 2 array."""
    for number, value in enumerate(values, start=1):
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) not in _LON_LAT:
            raise DataError(f"{where}: position {number} is {value!r}", hint=_ORDER_HINT)
        if any(isinstance(part, bool) or not isinstance(part, int | float) for part in value):
            raise DataError(f"{where}: position {number} is {value!r}", hint=_ORDER_HINT)
    try:
        points = np.array([value[:2] for value in values], dtype=np.float64)
    except OverflowError as error:
        raise DataError(f"{where}: a coordinate is out of range", hint=_ORDER_HINT) from error
    good = (np.abs(points[:, 0]) <= _TURN) & (np.abs(points[:, 1]) <= _POLE)
    if not good.all():
        number = int(np.argmin(good)) + 1
        raise DataError(
            f"{where}: position {number} is longitude {points[number - 1, 0]:g}, "
            f"latitude {points[number - 1, 1]:g}: out of range",
            hint=_ORDER_HINT,
        )
    return points


def _open_ring(values: Any, where: str) -> Floats:
    """Return the ring's distinct successive points, without the closing one."""
    points = _positions(_listed(values, where), where)
    if len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    repeated = (points == np.roll(points, 1, axis=0)).all(axis=1)
    if len(points) > 1:
        points = points[~repeated]
    if len(points) < _CORNERS:
        raise DataError(
            f"{where} has {len(points)} distinct points", hint="a ring has at least three corners"
        )
    return points


def _polygon(rings: list[Any], where: str) -> shapely.Polygon:
    names = [where] + [f"hole {number} of {where}" for number in range(1, len(rings))]
    points = [_open_ring(ring, name) for ring, name in zip(rings, names, strict=True)]
    candidate = _unwrapped_polygon(points, where)
    reason = _fault(candidate)
    if reason and _whole_turns(points):
        # From -180 to 180 along a parallel is no distance, or all the way round: as drawn.
        as_drawn = shapely.Polygon(points[0], points[1:])
        if not _fault(as_drawn):
            return as_drawn
    if reason:
        raise _refusal(reason, where)
    return candidate


def _fault(polygon: shapely.Polygon) -> str:
    if polygon.convex_hull.area == 0:
        return "no area"
    reason = str(shapely.is_valid_reason(polygon))
    # A ring that touches itself at a corner still tells inside from outside.
    return "" if reason.startswith(("Valid", "Ring Self-intersection")) else reason


def _refusal(reason: str, where: str) -> DataError:
    match = _WHERE.match(reason)
    what, place = reason, ""
    if match is not None:
        lon = (float(match[2]) + _HALF_TURN) % _TURN - _HALF_TURN
        what, place = match[1], f" at longitude {lon:.7g}, latitude {float(match[3]):.7g}"
    if what == "no area":
        return DataError(f"{where} has no area", hint="its points lie on one line")
    if what == "Self-intersection":
        return DataError(
            f"{where} crosses itself{place}",
            hint="draw its border without crossings, or split it into a MultiPolygon",
        )
    return DataError(f"{where} is invalid{place}: {what.lower()}", hint="holes lie inside, apart")


def _whole_turns(rings: list[Floats]) -> bool:
    """Whether every long jump of the rings is exactly from one side of the map to the other."""
    jumps = np.abs(np.concatenate([np.diff(ring[:, 0], append=ring[:1, 0]) for ring in rings]))
    long = jumps[jumps > _HALF_TURN]
    return len(long) > 0 and bool((long == _TURN).all())


def _unwrapped_polygon(rings: list[Floats], where: str) -> shapely.Polygon:
    shell, winding = _unwrapped(rings[0], where)
    holes = [
        _unwrapped(ring, f"hole {number} of {where}") for number, ring in enumerate(rings[1:], 1)
    ]
    if winding == 0:
        if any(turns for _, turns in holes):
            raise DataError(
                f"a hole of {where} winds around a pole, its outer ring does not",
                hint="write the outer ring around the same pole",
            )
        return shapely.Polygon(shell, [_beside(hole, shell) for hole, _ in holes])
    caps = [hole for hole, turns in holes if turns]
    if len(caps) > 1:
        raise DataError(f"{where} has {len(caps)} holes around a pole", hint="leave one of them")
    outline = _around_pole(shell, winding, caps)
    return shapely.Polygon(outline, [_beside(hole, outline) for hole, turns in holes if not turns])


def _unwrapped(ring: Floats, where: str) -> tuple[Floats, int]:
    """Return the ring with every edge at most 180 degrees long, and its turns around the globe.

    Longitudes keep their digits where the ring does not cross the antimeridian; otherwise they
    are moved by whole turns.
    """
    ring, along_pole = _pole_edge_last(ring)
    lon = ring[:, 0]
    turns = -np.round(np.diff(lon, append=lon[:1]) / _TURN).astype(np.int64)
    # Along a pole every step leads to the same place, so the rest of the ring decides.
    at_pole = (np.abs(ring[:, 1]) == _POLE) & (ring[:, 1] == np.roll(ring[:, 1], -1))
    turns[at_pole & (np.abs(np.diff(lon, append=lon[:1])) == _TURN)] = 0
    steps = np.concatenate([[0], np.cumsum(turns[:-1])])
    winding = 0 if along_pole else int(turns.sum())
    if abs(winding) > 1:
        raise DataError(f"{where} winds {abs(winding)} times around the globe", hint=_TYPES_HINT)
    home = math.floor((float((lon + _TURN * steps).min()) + _HALF_TURN) / _TURN)
    moved = ring.copy()
    moved[:, 0] = lon + _TURN * (steps - home)
    return moved, winding


def _pole_edge_last(ring: Floats) -> tuple[Floats, bool]:
    """Rotate the ring so that an edge along a pole closes it; drop corners between such edges."""
    lat = ring[:, 1]
    polar = np.abs(lat) == _POLE
    same_before = polar & (lat == np.roll(lat, 1))
    same_after = polar & (lat == np.roll(lat, -1))
    kept = ~(same_before & same_after)
    ring, same_before = ring[kept], same_before[kept]
    if not same_before.any():
        return ring, False
    return np.roll(ring, -int(np.argmax(same_before)), axis=0), True


def _beside(hole: Floats, shell: Floats) -> Floats:
    """Move a hole by whole turns to where its outer ring lies."""
    low = float(shell[:, 0].min())
    turns = math.ceil((low - float(hole[:, 0].min())) / _TURN)
    moved = hole.copy()
    moved[:, 0] = hole[:, 0] + _TURN * turns
    return moved


def _around_pole(shell: Floats, winding: int, caps: list[Floats]) -> Floats:
    """Return the planar outline of a ring that winds around a pole, up to the pole or a cap.

    The outline is cut open along a meridian, at the ring's corner nearest the pole, from where
    the way to the pole is free. Both lips of the cut lie inside the zone.
    """
    ring = _eastward(shell)
    path = np.concatenate([ring, ring[:1] + _ONE_TURN])
    mean_lat = float(((path[1:, 1] + path[:-1, 1]) / 2 * np.diff(path[:, 0])).sum() / _TURN)
    # Exactly on the equator the right-hand rule decides: the inside lies left of the way.
    pole = _POLE if mean_lat > 0 or (mean_lat == 0 and winding > 0) else -_POLE
    nearest = int(np.argmax(ring[:, 1] * np.sign(pole)))
    path = _one_turn(ring, nearest)
    seam = float(path[0, 0])
    if caps:
        inner = _one_turn(*_cut_at(_eastward(caps[0]), seam, pole))
    else:
        inner = np.array([[seam, pole], [seam + _TURN, pole]])
    return np.concatenate([path, inner[::-1]])


def _eastward(ring: Floats) -> Floats:
    """Return a ring that winds once around the globe, going east and unwrapped."""
    turns = -np.round(np.diff(ring[:, 0], append=ring[:1, 0]) / _TURN)
    if turns.sum() < 0:
        ring = ring[::-1]
        turns = -np.round(np.diff(ring[:, 0], append=ring[:1, 0]) / _TURN)
    moved = ring.copy()
    moved[:, 0] += _TURN * np.concatenate([[0.0], np.cumsum(turns[:-1])])
    return moved


def _one_turn(ring: Floats, first: int) -> Floats:
    """Return one turn of an eastward ring from corner `first` to that corner 360 degrees on."""
    path = np.concatenate([ring[first:], ring[: first + 1] + _ONE_TURN])
    home = math.floor((path[0, 0] + _HALF_TURN) / _TURN)
    moved: Floats = path - home * _ONE_TURN
    return moved


def _cut_at(ring: Floats, lon: float, pole: float) -> tuple[Floats, int]:
    """Put a corner where meridian `lon` first meets an eastward ring on its way to the pole."""
    x0, y0 = ring.T
    x1, y1 = np.concatenate([ring[1:], ring[:1] + _ONE_TURN]).T
    best: tuple[float, int, float] | None = None
    for turn in range(-2, 3):
        at = lon + _TURN * turn
        for edge in np.flatnonzero(
            (np.minimum(x0, x1) <= at) & (at <= np.maximum(x0, x1))
        ).tolist():
            share = (at - x0[edge]) / (x1[edge] - x0[edge]) if x1[edge] != x0[edge] else 0.0
            lat = float(y0[edge] + (y1[edge] - y0[edge]) * share)
            if best is None or lat * pole < best[0] * pole:
                best = (lat, edge, at)
    if best is None:
        raise BugError(f"a ring around a pole does not meet longitude {lon}")
    lat, edge, at = best
    return np.insert(ring, edge + 1, [at, lat], axis=0), edge + 1


def _poles(polygon: shapely.Polygon) -> list[float]:
    """List the poles that belong to a polygon: touched by its outer ring, not cut out whole."""
    held = []
    for pole in (_POLE, -_POLE):
        if not (shapely.get_coordinates(polygon.exterior)[:, 1] == pole).any():
            continue
        cut = 0.0
        for hole in polygon.interiors:
            ring = shapely.get_coordinates(hole)
            edge = (ring[1:, 1] == pole) & (ring[:-1, 1] == pole)
            cut += float(np.abs(np.diff(ring[:, 0]))[edge].sum())
        if cut < _TURN:
            held.append(pole)
    return held


def check_geometry(geometry: str | Mapping[str, Any], radius_m: float | None = None) -> None:
    """Check that a zone's outline makes sense; for the models of applications.

    Raises:
        DataError: As `parse_shape`.
    """
    parse_shape(geometry, radius_m)
