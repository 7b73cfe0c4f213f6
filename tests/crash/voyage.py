"""50 000 numbered positions of vehicles that keep crossing zones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from headrace.core.time import TIME_DTYPE, to_micros

ROWS = 50_000
VEHICLES = 40
INTERVAL = timedelta(milliseconds=2)


def square(west: float, south: float, size: float) -> dict[str, Any]:
    east, north = west + size, south + size
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


ZONES: list[dict[str, Any]] = [
    {"zone_id": "reef", "name": "Reef", "kind": "protected", "geometry": square(0.2, 0.2, 0.3)},
    {"zone_id": "port", "name": "Port", "kind": "harbour", "geometry": square(0.6, 0.1, 0.2)},
    {
        "zone_id": "deep",
        "name": "Trench",
        "kind": "survey",
        "geometry": square(0.4, 0.4, 0.5),
        "min_depth_m": 0.0,
        "max_depth_m": 300.0,
        "rule": "limits",
    },
]


@dataclass(frozen=True)
class Voyage:
    """Rows in the order in which they are sent; a row's time tells its number.

    Attributes:
        start: Time of row 0.
        frame: Columns auv_id, time, latitude, longitude, depth_m.
    """

    start: datetime
    frame: pl.DataFrame

    @classmethod
    def sail(cls, seed: int, rows: int = ROWS) -> Voyage:
        """Make a voyage that ended before now, the same for the same seed but for its date."""
        generator = np.random.default_rng(seed)
        # Older than `max_ahead` allows for, so that no clock can make a row a dead letter.
        start = datetime.now(UTC).replace(microsecond=0) - rows * INTERVAL - timedelta(seconds=60)
        numbers = np.arange(rows)
        vehicle = numbers % VEHICLES
        steps = generator.normal(scale=0.01, size=(rows, 2))
        places = np.empty((rows, 2))
        for one in range(VEHICLES):
            mine = vehicle == one
            track = generator.random(2) + np.cumsum(steps[mine], axis=0)
            places[mine] = 1 - np.abs(track % 2 - 1)
        times = to_micros(start) + numbers * (INTERVAL // timedelta(microseconds=1))
        frame = pl.DataFrame(
            {
                "auv_id": [f"auv-{one}" for one in vehicle],
                "time": pl.Series(times).cast(TIME_DTYPE),
                "latitude": places[:, 1],
                "longitude": places[:, 0],
                "depth_m": np.round(generator.random(rows) * 400, 1),
            }
        )
        return cls(start, frame)

    def number(self, time: str) -> int:
        """Return the number of the row with this time, as a topic gives it."""
        number, rest = divmod(datetime.fromisoformat(time) - self.start, INTERVAL)
        assert not rest
        return number

    def bodies(self, rows: int) -> list[list[dict[str, Any]]]:
        """Return requests of `rows` rows as `POST /telemetry` takes them."""
        plain = self.frame.rename({"depth_m": "depth", "time": "timestamp"}).with_columns(
            pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        )
        return [part.to_dicts() for part in plain.iter_slices(rows)]
