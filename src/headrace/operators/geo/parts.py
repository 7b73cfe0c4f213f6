"""The parts of many shapes side by side: flat arrays for exact tests, legs and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from headrace.operators.geo.geometry import Shape
from headrace.operators.geo.sphere import METRES_PER_DEGREE, Bools, Floats, Ints, haversine_m

_TURN: Final = 360.0
_HALF_TURN: Final = 180.0
_SAMPLES: Final = 33
_HALVINGS: Final = 60
# Point-edge pairs looked at together: about 100 MB of work space at most.
_PAIRS_AT_ONCE: Final = 1_000_000


class Parts:
    """Polygons and circles of zones, numbered polygons first.

    Args:
        shapes: Shapes by zone id.

    Attributes:
        owner: The zone id of each part.
        polygons: Prepared polygons, one per part; None for circles.
        circles: Longitude, latitude, radius in metres per part; NaN for polygons.
        polygon_count: How many of the parts are polygons.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        polygons = [(zone, polygon) for zone, shape in shapes.items() for polygon in shape.polygons]
        circles = [(zone, shape.circle) for zone, shape in shapes.items() if shape.circle]
        self.owner: Sequence[str] = [zone for zone, _ in polygons] + [zone for zone, _ in circles]
        self.polygon_count = len(polygons)
        self.polygons: NDArray[np.object_] = np.full(len(self.owner), None, dtype=object)
        self.polygons[: len(polygons)] = [polygon for _, polygon in polygons]
        shapely.prepare(self.polygons[: len(polygons)])
        self.circles = np.full((len(self.owner), 3), np.nan)
        for number, (_, circle) in enumerate(circles, start=len(polygons)):
            self.circles[number] = (circle.lon, circle.lat, circle.radius_m)

    def hold(self, part: Ints, turn: Ints, lon: Floats, lat: Floats) -> Bools:
        """Tell, pair by pair, whether a part holds a point; its border belongs to it.

        Args:
            part: m part numbers.
            turn: m numbers of whole turns that bring the longitude into the part's frame.
            lon: m longitudes within [-180, 180).
            lat: m latitudes.
        """
        held = np.empty(len(part), dtype=np.bool_)
        round_ones = part >= self.polygon_count
        flat = np.flatnonzero(~round_ones)
        held[flat] = shapely.intersects_xy(
            self.polygons[part[flat]], lon[flat] + _TURN * turn[flat], lat[flat]
        )
        around = np.flatnonzero(round_ones)
        if len(around):
            centre = self.circles[part[around]]
            away = haversine_m(lon[around], lat[around], centre[:, 0], centre[:, 1])
            held[around] = away <= centre[:, 2]
        return held

    def touched(self, lon0: Floats, lat0: Floats, lon1: Floats, lat1: Floats) -> tuple[Ints, Ints]:
        """Find the parts that straight legs touch, as pairs (leg, part) that may repeat.

        Args:
            lon0: Start longitudes within [-180, 180).
            lat0: Start latitudes.
            lon1: End longitudes, at most 180 degrees from the start.
            lat1: End latitudes.

        Cost: O(log parts + boxes met) per leg, about 2 us.
        """
        legs = np.stack([lon0, lat0, lon1, lat1], axis=1)
        number = np.arange(len(legs))
        # A leg across the antimeridian is looked at from both sides.
        astray = np.flatnonzero(np.abs(lon1) > _HALF_TURN)
        home = legs[astray] - np.sign(lon1[astray])[:, None] * [_TURN, 0.0, _TURN, 0.0]
        legs, number = np.concatenate([legs, home]), np.concatenate([number, number[astray]])
        tree, boxed_part, boxed_turn = self._boxes
        leg, box = tree.query(_lines(legs))
        part, turn = boxed_part[box], boxed_turn[box]
        moved = legs[leg] + turn[:, None] * [_TURN, 0.0, _TURN, 0.0]
        met = np.empty(len(leg), dtype=np.bool_)
        flat = np.flatnonzero(part < self.polygon_count)
        met[flat] = shapely.intersects(self.polygons[part[flat]], _lines(moved[flat]))
        around = np.flatnonzero(part >= self.polygon_count)
        if len(around):
            circle = self.circles[part[around]]
            met[around] = _nearest_m(moved[around], circle) <= circle[:, 2]
        return number[leg[met]], part[met]

    def outside_m(self, part: Ints, lon: Floats, lat: Floats) -> Floats:
        """Return metres from points that lie outside a part to its border, pair by pair.

        The nearest point of a polygon's border is found on a plane scaled at the point's
        latitude, its distance along a great circle: good to 0.1 % within 100 km and below 80
        degrees of latitude.
        """
        metres = np.empty(len(part))
        around = np.flatnonzero(part >= self.polygon_count)
        circle = self.circles[part[around]]
        metres[around] = (
            haversine_m(lon[around], lat[around], circle[:, 0], circle[:, 1]) - circle[:, 2]
        )
        flat = np.flatnonzero(part < self.polygon_count)
        first, edges = self._edges
        count = first[part[flat] + 1] - first[part[flat]]
        begin = 0
        while begin < len(flat):
            work = np.cumsum(count[begin:])
            end = begin + max(1, int(np.searchsorted(work, _PAIRS_AT_ONCE, side="right")))
            pairs = flat[begin:end]
            metres[pairs] = _border_m(
                edges, first[part[pairs]], count[begin:end], lon[pairs], lat[pairs]
            )
            begin = end
        return np.maximum(metres, 0.0)

    @cached_property
    def _boxes(self) -> tuple[shapely.STRtree, Ints, Ints]:
        """A tree of bounding boxes within one turn; the part and the turns to it of each."""
        bounds = shapely.bounds(self.polygons)
        for number in range(self.polygon_count, len(self.polygons)):
            bounds[number] = _circle_bounds(*self.circles[number])
        boxes, parts, turns = [], [], []
        for turn in range(-1, 3):
            moved = bounds - turn * np.array([_TURN, 0.0, _TURN, 0.0])
            near = np.flatnonzero((moved[:, 0] <= _HALF_TURN) & (moved[:, 2] >= -_HALF_TURN))
            boxes.append(shapely.box(*moved[near].T))
            parts.append(near)
            turns.append(np.full(len(near), turn))
        return shapely.STRtree(np.concatenate(boxes)), np.concatenate(parts), np.concatenate(turns)

    @cached_property
    def _edges(self) -> tuple[Ints, Floats]:
        """Where each polygon's edges begin, and the edges: lon0, lat0, lon1, lat1."""
        rings, part = shapely.get_rings(self.polygons[: self.polygon_count], return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        follows = ring[1:] == ring[:-1]
        edges = np.concatenate([points[:-1][follows], points[1:][follows]], axis=1)
        of = part[ring[:-1][follows]]
        first = np.searchsorted(of, np.arange(self.polygon_count + 1))
        return first.astype(np.int64), edges


def _lines(legs: Floats) -> NDArray[np.object_]:
    return np.asarray(shapely.linestrings(legs.reshape(-1, 2, 2)), dtype=np.object_)


def _circle_bounds(lon: float, lat: float, radius_m: float) -> tuple[float, float, float, float]:
    """Return a box around a circle: a little wide, and whole parallels near the poles."""
    degrees = radius_m / METRES_PER_DEGREE + 1e-6
    south, north = max(lat - degrees, -90.0), min(lat + degrees, 90.0)
    if south == -90.0 or north == 90.0:  # noqa: PLR2004 - the poles
        return -180.0, south, 180.0, north
    sine = np.sin(np.radians(degrees)) / np.cos(np.radians(lat))
    width = float(np.degrees(np.arcsin(min(sine, 1.0)))) + 1e-6
    return lon - width, south, lon + width, north


def _nearest_m(legs: Floats, circles: Floats) -> Floats:
    """Return how near straight legs in longitude and latitude come to circles' centres."""

    def away(share: Floats) -> Floats:
        lon = legs[:, :1] + (legs[:, 2:3] - legs[:, :1]) * share
        lat = legs[:, 1:2] + (legs[:, 3:4] - legs[:, 1:2]) * share
        return haversine_m(lon, lat, circles[:, :1], circles[:, 1:2])

    shares = np.broadcast_to(np.linspace(0.0, 1.0, _SAMPLES), (len(legs), _SAMPLES))
    best = np.argmin(away(shares), axis=1)[:, None] / (_SAMPLES - 1)
    low = np.maximum(best - 1 / (_SAMPLES - 1), 0.0)
    high = np.minimum(best + 1 / (_SAMPLES - 1), 1.0)
    for _ in range(_HALVINGS):
        third = (high - low) / 3
        nearer_low = away(low + third) <= away(high - third)
        low, high = np.where(nearer_low, low, low + third), np.where(nearer_low, high - third, high)
    nearest: Floats = np.minimum(away((low + high) / 2), np.minimum(away(low), away(high)))[:, 0]
    return nearest


def _border_m(edges: Floats, first: Ints, count: Ints, lon: Floats, lat: Floats) -> Floats:
    """Return metres from each point to the nearest of its `count` edges from `first` on."""
    pair = np.repeat(np.arange(len(first)), count)
    offset = np.cumsum(count) - count
    edge = edges[np.arange(len(pair)) - np.repeat(offset - first, count)]
    scale = np.cos(np.radians(lat))[pair]
    # Each edge is brought to the point's side of the globe.
    turn = np.round(((edge[:, 0] + edge[:, 2]) / 2 - lon[pair]) / _TURN) * _TURN
    x0, x1 = ((edge[:, column] - turn - lon[pair]) * scale for column in (0, 2))
    y0, y1 = edge[:, 1] - lat[pair], edge[:, 3] - lat[pair]
    run, rise = x1 - x0, y1 - y0
    length = run**2 + rise**2
    share = np.clip(-(x0 * run + y0 * rise) / np.where(length > 0, length, 1.0), 0.0, 1.0)
    near_lon = edge[:, 0] + (edge[:, 2] - edge[:, 0]) * share
    near_lat = edge[:, 1] + rise * share
    away = haversine_m(lon[pair], lat[pair], near_lon, near_lat)
    nearest: Floats = np.minimum.reduceat(away, offset)
    return nearest
