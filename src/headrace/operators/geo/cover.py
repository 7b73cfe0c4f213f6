"""Cover shapes with square cells: inner cells lie wholly inside, border cells need a test.

Cells form a grid of longitude and latitude that divides by four per level in each direction.
Level 0 has 128 x 64 cells of 2.8125 degrees, level 8 cells of 4.3e-5 degrees (4.8 m). All cell
borders are exact in binary, so no point falls between two cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from headrace.operators.geo.geometry import Circle
from headrace.operators.geo.sphere import (
    METRES_PER_DEGREE,
    Bools,
    Floats,
    Ints,
    haversine_m,
)

TOP_COLUMNS: Final = 128
TOP_ROWS: Final = 64
TOP_DEGREES: Final = 360.0 / TOP_COLUMNS
DEEPEST: Final = 8
LEVEL_BITS: Final = 2
FINEST_PER_TOP: Final = 4**DEEPEST

# A part gets about this many border cells, and more with its number of corners: finer cells
# mean fewer exact tests and more memory.
_BORDER_CELLS: Final = 256
_BORDER_CELLS_PER_CORNER: Final = 2
_BORDER_CELLS_OF_CIRCLES: Final = 64
_BORDER_CELLS_AT_MOST: Final = 65_536
# Border cells are marked this much (in cells) too widely, well above any rounding error.
_MARGIN: Final = 1e-6
_CIRCLE_MARGIN_M: Final = 1.0
_POLE: Final = 90.0
_COORDINATE_BITS: Final = 20
_COORDINATE: Final = (1 << _COORDINATE_BITS) - 1

Polygons = NDArray[np.object_]


class Cells(NamedTuple):
    """Cells of many parts, one array element per (part, cell).

    Attributes:
        part: Which of the parts that were covered.
        level: 0 (coarsest) to `DEEPEST`.
        row: From latitude -90 northwards, in cells of the level.
        column: From longitude -180 eastwards, wrapped into one turn.
        turn: Whole turns to add to a longitude to get into the part's own frame.
        inside: Whether the whole cell lies inside the part.
    """

    part: Ints
    level: Ints
    row: Ints
    column: Ints
    turn: Ints
    inside: Bools


def cover_polygons(polygons: Polygons) -> Cells:
    """Cover prepared planar polygons; `part` counts them.

    Cost: O(corners + border cells), about 0.4 ms per polygon of 100 corners.
    """
    edges = _edges(polygons)
    finest = _finest_levels(edges, len(polygons))
    bounds = shapely.bounds(polygons)
    top_row = np.floor((bounds[:, 1] + _POLE) / TOP_DEGREES - _MARGIN)
    top_row = np.clip(top_row, 0, TOP_ROWS - 1)
    top_column = np.floor((bounds[:, 0] + 180.0) / TOP_DEGREES - _MARGIN)
    frame = _Frame(polygons, top_row.astype(np.int64), top_column.astype(np.int64))
    found: list[Cells] = []
    below = np.empty(0, dtype=np.int64)
    for level in range(DEEPEST, -1, -1):
        drawn = _drawn(edges, finest == level, level, frame)
        found.append(frame.cells(drawn, level, inside=False))
        border = np.unique(np.concatenate([drawn, below]))
        below = np.unique(_parents(border))
        around = _children(below) if level else _top_cells(bounds, frame)
        rest = np.setdiff1d(around, border, assume_unique=True)
        found.append(frame.cells(rest[frame.holds(rest, level)], level, inside=True))
    return _joined(found)


def cover_circles(circles: Sequence[Circle]) -> Cells:
    """Cover circles; `part` counts them. `turn` is 0, since great circles need no frame.

    Cost: as `cover_polygons`.
    """
    if not circles:
        return _joined([])
    centre = np.array([(c.lon, c.lat, c.radius_m) for c in circles])
    degrees = centre[:, 2] / METRES_PER_DEGREE
    width, whole = _widths(centre[:, 1], degrees)
    finest = _level_of(4 * (degrees + width) / _BORDER_CELLS_OF_CIRCLES)
    part, row, column = _top_cells_of_circles(centre, degrees, np.where(whole, 360.0, width))
    found: list[Cells] = []
    for level in range(DEEPEST + 1):
        size = TOP_DEGREES / 4**level
        lon, lat = (column + 0.5) * size - 180.0, (row + 0.5) * size - _POLE
        widest = np.cos(np.radians(np.maximum(np.abs(lat) - size / 2, 0.0)))
        reach = METRES_PER_DEGREE * size / 2 * (1 + widest) + _CIRCLE_MARGIN_M
        away = haversine_m(lon, lat, centre[part, 0], centre[part, 1])
        inside = away + reach < centre[part, 2]
        border = ~inside & (away - reach <= centre[part, 2])
        last = border & (finest[part] == level)
        for kept, wholly in ((inside, True), (last, False)):
            n = int(kept.sum())
            found.append(
                Cells(
                    part[kept],
                    np.full(n, level),
                    row[kept],
                    column[kept],
                    np.zeros(n, dtype=np.int64),
                    np.full(n, wholly),
                )
            )
        split = border & ~last
        part = np.repeat(part[split], 16)
        step = np.tile(np.arange(16), int(split.sum()))
        row = np.repeat(row[split] * 4, 16) + step // 4
        column = np.repeat(column[split] * 4, 16) + step % 4
    return _joined(found)


class _Edges(NamedTuple):
    part: Ints
    lon0: Floats
    lat0: Floats
    lon1: Floats
    lat1: Floats


def _edges(polygons: Polygons) -> _Edges:
    rings, part = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    follows = ring[1:] == ring[:-1]
    start, end = points[:-1][follows], points[1:][follows]
    # Points at a pole are answered without cells, so the line along it is no border.
    kept = (np.abs(start[:, 1]) != _POLE) | (start[:, 1] != end[:, 1])
    of = part[ring[:-1][follows]][kept].astype(np.int64)
    return _Edges(of, start[kept, 0], start[kept, 1], end[kept, 0], end[kept, 1])


def _finest_levels(edges: _Edges, parts: int) -> Ints:
    length = np.maximum(np.abs(edges.lon1 - edges.lon0), np.abs(edges.lat1 - edges.lat0))
    corners = np.bincount(edges.part, minlength=parts)
    cells = np.minimum(_BORDER_CELLS + _BORDER_CELLS_PER_CORNER * corners, _BORDER_CELLS_AT_MOST)
    return _level_of(np.bincount(edges.part, weights=length, minlength=parts) / cells)


def _level_of(degrees: Floats) -> Ints:
    """Return the finest level whose cells are at least `degrees` wide."""
    levels = np.floor(np.log2(TOP_DEGREES / np.maximum(degrees, 1e-9)) / LEVEL_BITS)
    return np.clip(levels, 0, DEEPEST).astype(np.int64)


class _Frame(NamedTuple):
    """Packs cells of parts into integers, relative to a level-0 corner of each part.

    Packed as part, row, column, so that a parent follows by shifting both coordinates.
    """

    polygons: Polygons
    top_row: Ints
    top_column: Ints

    def packed(self, part: Ints, row: Ints, column: Ints, level: int) -> Ints:
        return _packed(
            part,
            row - (self.top_row[part] << LEVEL_BITS * level),
            column - (self.top_column[part] << LEVEL_BITS * level),
        )

    def unpacked(self, cells: Ints, level: int) -> tuple[Ints, Ints, Ints]:
        part = cells >> 2 * _COORDINATE_BITS
        row = (cells >> _COORDINATE_BITS & _COORDINATE) + (self.top_row[part] << LEVEL_BITS * level)
        column = (cells & _COORDINATE) + (self.top_column[part] << LEVEL_BITS * level)
        return part, row, column

    def holds(self, cells: Ints, level: int) -> Bools:
        """Tell which cells have their centre in their part."""
        part, row, column = self.unpacked(cells, level)
        size = TOP_DEGREES / 4**level
        inside: Bools = shapely.intersects_xy(
            self.polygons[part], (column + 0.5) * size - 180.0, (row + 0.5) * size - _POLE
        )
        return inside

    def cells(self, cells: Ints, level: int, *, inside: bool) -> Cells:
        part, row, column = self.unpacked(cells, level)
        columns = TOP_COLUMNS << LEVEL_BITS * level
        n = len(cells)
        return Cells(
            part,
            np.full(n, level),
            row,
            column % columns,
            column // columns,
            np.full(n, inside),
        )


def _packed(part: Ints, row: Ints, column: Ints) -> Ints:
    return part << 2 * _COORDINATE_BITS | row << _COORDINATE_BITS | column


def _parents(cells: Ints) -> Ints:
    row = cells >> _COORDINATE_BITS + LEVEL_BITS & _COORDINATE >> LEVEL_BITS
    column = (cells & _COORDINATE) >> LEVEL_BITS
    return _packed(cells >> 2 * _COORDINATE_BITS, row, column)


def _children(cells: Ints) -> Ints:
    row = (cells >> _COORDINATE_BITS & _COORDINATE) << LEVEL_BITS
    column = (cells & _COORDINATE) << LEVEL_BITS
    corner = _packed(cells >> 2 * _COORDINATE_BITS, row, column)
    step = np.arange(16)
    inner: Ints = (step // 4 << _COORDINATE_BITS) + step % 4
    return (corner[:, None] + inner).ravel()


def _drawn(edges: _Edges, chosen: Bools, level: int, frame: _Frame) -> Ints:
    """Return the packed cells of `level` that the edges of the chosen parts touch, unique."""
    of = chosen[edges.part]
    part = edges.part[of]
    per_degree = 4**level / TOP_DEGREES
    x0, x1 = ((lon[of] + 180.0) * per_degree for lon in (edges.lon0, edges.lon1))
    y0, y1 = ((lat[of] + _POLE) * per_degree for lat in (edges.lat0, edges.lat1))
    last_row = TOP_ROWS * 4**level - 1
    low = np.clip(np.floor(np.minimum(y0, y1) - _MARGIN), 0, last_row).astype(np.int64)
    high = np.clip(np.floor(np.maximum(y0, y1) + _MARGIN), 0, last_row).astype(np.int64)
    edge, row = _spread(low, high)
    rise = (y1 - y0)[edge]
    level_edge = np.abs(rise) < _MARGIN
    rise = np.where(level_edge, 1.0, rise)
    # The share of the edge, from 0 to 1, that lies in this row of cells.
    share0 = np.clip((row - _MARGIN - y0[edge]) / rise, 0.0, 1.0)
    share1 = np.clip((row + 1 + _MARGIN - y0[edge]) / rise, 0.0, 1.0)
    share0, share1 = np.where(level_edge, 0.0, share0), np.where(level_edge, 1.0, share1)
    run = (x1 - x0)[edge]
    xa, xb = x0[edge] + share0 * run, x0[edge] + share1 * run
    west = np.floor(np.minimum(xa, xb) - _MARGIN).astype(np.int64)
    east = np.floor(np.maximum(xa, xb) + _MARGIN).astype(np.int64)
    strip, column = _spread(west, east)
    return np.unique(frame.packed(part[edge[strip]], row[strip], column, level))


def _spread(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Expand ranges [first, last] to (index of the range, value)."""
    count = last - first + 1
    index = np.repeat(np.arange(len(first)), count)
    offset = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
    return index, first[index] + offset


def _top_cells(bounds: Floats, frame: _Frame) -> Ints:
    """Return the packed level-0 cells that the parts' bounding boxes touch."""
    high_row = np.clip(np.floor((bounds[:, 3] + _POLE) / TOP_DEGREES), 0, TOP_ROWS - 1)
    high_column = np.floor((bounds[:, 2] + 180.0) / TOP_DEGREES).astype(np.int64)
    part, row = _spread(frame.top_row, high_row.astype(np.int64))
    strip, column = _spread(frame.top_column[part], high_column[part])
    return np.unique(frame.packed(part[strip], row[strip], column, 0))


def _widths(lat: Floats, degrees: Floats) -> tuple[Floats, Bools]:
    """Return how far circles reach east and west in degrees, and which hold a pole."""
    whole = np.abs(lat) + degrees >= _POLE
    sine = np.sin(np.radians(degrees)) / np.where(whole, np.inf, np.cos(np.radians(lat)))
    width = np.degrees(np.arcsin(np.clip(sine, 0.0, 1.0)))
    return np.where(whole, 180.0, width), whole


def _top_cells_of_circles(
    centre: Floats, degrees: Floats, width: Floats
) -> tuple[Ints, Ints, Ints]:
    """Return (circle, row, column) of the level-0 cells around each circle."""
    lon, lat = centre[:, 0], centre[:, 1]
    low = np.clip(np.floor((lat - degrees + _POLE) / TOP_DEGREES), 0, TOP_ROWS - 1)
    high = np.clip(np.floor((lat + degrees + _POLE) / TOP_DEGREES), 0, TOP_ROWS - 1)
    west = np.floor((lon - width + 180.0) / TOP_DEGREES - _MARGIN).astype(np.int64)
    east = np.floor((lon + width + 180.0) / TOP_DEGREES + _MARGIN).astype(np.int64)
    whole = east - west >= TOP_COLUMNS
    west, east = np.where(whole, 0, west), np.where(whole, TOP_COLUMNS - 1, east)
    part, row = _spread(low.astype(np.int64), high.astype(np.int64))
    strip, column = _spread(west[part], east[part])
    return part[strip], row[strip], column % TOP_COLUMNS


def _joined(found: Sequence[Cells]) -> Cells:
    empty = np.empty(0, dtype=np.int64)
    nothing = Cells(empty, empty, empty, empty, empty, np.empty(0, dtype=np.bool_))
    return Cells(*(np.concatenate(arrays) for arrays in zip(nothing, *found, strict=True)))
