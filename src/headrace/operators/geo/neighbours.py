"""Neighbours: which things may be near one another, by cells in space."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from headrace.operators.geo.sphere import EARTH_RADIUS_M, Floats, Ints

_BITS: Final = 21
_LEAST_EDGE_M: Final = 10.0
_MARGIN: Final = 1.0 + 1e-9
_AROUND: Final = (-1, 0, 1)


def cells_of(lon: Floats, lat: Floats, within_m: float) -> Ints:
    """Return the cell of each point in degrees.

    Cells are cubes in the space that holds the globe, so the antimeridian and the poles are
    places like any other. Two points at most `within_m` apart along a great circle, and so in a
    straight line, lie in one cell or in cells that touch.
    """
    edge = max(within_m, _LEAST_EDGE_M) * _MARGIN
    phi, lam = np.radians(lat), np.radians(lon)
    axes = (np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi))
    cell = np.zeros(lon.size, dtype=np.int64)
    for axis in axes:
        # One is added so that no neighbour is below zero.
        cell <<= _BITS
        cell += ((axis + 1.0) * EARTH_RADIUS_M / edge).astype(np.int64) + 1
    return cell


def near_pairs(asked: tuple[Ints, Ints, Ints], held: tuple[Ints, Ints, Ints]) -> Ints:
    """Return the pairs of things that have cells that touch, within a group.

    Args:
        asked: Thing, group and cell of places looked around.
        held: The same of the places looked for; things keep their numbers.

    Returns:
        Pairs as rows (lower number, higher number), each once, ascending.

    Cost: O(27 places asked about + places held + pairs of places).
    """
    things, groups, cells = (column.to_numpy() for column in _distinct(asked))
    steps = [
        (across << (2 * _BITS)) + (along << _BITS) + up
        for across in _AROUND
        for along in _AROUND
        for up in _AROUND
    ]
    around = pl.DataFrame(
        {
            "thing": np.tile(things, len(steps)),
            "group": np.tile(groups, len(steps)),
            "cell": np.concatenate([cells + step for step in steps]),
        }
    )
    found = around.join(
        pl.DataFrame(_distinct(held)), on=["group", "cell"], how="inner", suffix="_held"
    )
    one, other = found["thing"].to_numpy(), found["thing_held"].to_numpy()
    apart = one != other
    return distinct_pairs(one[apart], other[apart])


def distinct_pairs(one: Ints, other: Ints) -> Ints:
    """Return the pairs as rows (lower, higher), each once, ascending."""
    if not one.size:
        return np.empty((0, 2), dtype=np.int64)
    size = np.int64(max(int(one.max()), int(other.max())) + 1)
    numbers = np.unique(np.minimum(one, other) * size + np.maximum(one, other))
    return np.column_stack(np.divmod(numbers, size))


def _distinct(places: tuple[Ints, Ints, Ints]) -> list[pl.Series]:
    columns = zip(("thing", "group", "cell"), places, strict=True)
    frame = pl.DataFrame(dict(columns)).unique(maintain_order=True)
    return frame.get_columns()
