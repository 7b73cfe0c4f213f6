"""Zones and points for the geofence tests, and slow answers to compare with."""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from tests.conftest import DATA, missing

Floats = NDArray[np.float64]
Ring = list[tuple[float, float]]


def fleet_file(name: str) -> Path:
    """Return a real data file; where it is not, skip by name, or fail in CI."""
    path = DATA / "fleet" / name
    return path if path.exists() else missing(f"the recording {name}")


def real_zones(name: str) -> pl.DataFrame:
    """Return a real zone set: zone_id, geometry."""
    path = fleet_file(name)
    text = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    features: list[dict[str, Any]] = json.loads(text)["features"]
    return pl.DataFrame(
        {
            "zone_id": [str(feature["properties"]["zone_id"]) for feature in features],
            "geometry": [json.dumps(feature["geometry"]) for feature in features],
        }
    )


def zone_frame(zones: dict[str, list[Ring]]) -> pl.DataFrame:
    """Return a zone set of polygons given as rings."""
    return pl.DataFrame(
        {
            "zone_id": list(zones),
            "geometry": [
                json.dumps({"type": "Polygon", "coordinates": [[*r, r[0]] for r in rings]})
                for rings in zones.values()
            ],
        },
        schema={"zone_id": pl.String, "geometry": pl.String},
    )


def seeded_polygons(count: int, seed: int, size: tuple[float, float] = (-1.5, 0.7)) -> list[Ring]:
    """Return star-shaped rings of 20 to 200 corners, sizes spread evenly in log10 degrees."""
    random = np.random.default_rng(seed)
    rings: list[Ring] = []
    while len(rings) < count:
        corners = int(random.integers(20, 201))
        angle = np.sort(random.uniform(0, 2 * np.pi, corners))
        radius = 10 ** random.uniform(*size) * random.uniform(0.6, 1.0, corners)
        x = random.uniform(-170, 170) + 1.3 * radius * np.cos(angle)
        y = random.uniform(-70, 70) + radius * np.sin(angle)
        if shapely.Polygon(np.c_[x, y]).is_valid:
            rings.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    return rings


def exactly_inside(rings: list[Ring], lon: float, lat: float) -> bool:
    """Tell whether a planar polygon holds a point, in exact arithmetic; borders belong to it."""
    x, y = Fraction(lon), Fraction(lat)
    inside = False
    for ring in rings:
        for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True):
            x0, y0, x1, y1 = Fraction(ax), Fraction(ay), Fraction(bx), Fraction(by)
            turn = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
            if turn == 0 and min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
                return True
            if (y0 <= y) != (y1 <= y) and (turn > 0) == (y1 > y0):
                inside = not inside
    return inside


def pairs(found: tuple[NDArray[np.int64], NDArray[np.int64]]) -> list[tuple[int, int]]:
    """Return (point, zone) pairs as a list."""
    return list(zip(found[0].tolist(), found[1].tolist(), strict=True))
