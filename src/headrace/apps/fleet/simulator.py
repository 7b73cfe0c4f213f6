"""A seeded fleet: vehicles that swim between waypoints, drift with the current, dive and surface.

Everything is one NumPy array per quantity, so a step costs the same few operations for 1 or
100 000 vehicles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.core.time import TIME_DTYPE

Floats = npt.NDArray[np.float64]

METRES_PER_DEGREE: Final = 111_194.93
SURFACE_S: Final = 90.0
"""How long a vehicle stays up to send its positions."""

POSITION_SCHEMA: Final = pl.Schema(
    {
        "auv_id": pl.String(),
        "time": TIME_DTYPE,
        "latitude": pl.Float64(),
        "longitude": pl.Float64(),
        "depth_m": pl.Float64(),
        "heading_deg": pl.Float64(),
        "speed_ms": pl.Float64(),
    }
)


@dataclass(frozen=True, slots=True)
class Waters:
    """Where the fleet swims.

    Attributes:
        longitude: Degrees east of the middle.
        latitude: Degrees north of the middle.
        half_width_m: Metres from the middle to the east and west edge.
        half_height_m: Metres from the middle to the north and south edge.
        current_ms: Speed of the eddies' current at its strongest.
        deepest_m: Deepest dive.
    """

    longitude: float = -122.03
    latitude: float = 36.765
    half_width_m: float = 14_500.0
    half_height_m: float = 13_000.0
    current_ms: float = 0.25
    deepest_m: float = 320.0


class Simulator:
    """Vehicles in motion.

    Gliders and propeller vehicles differ in speed and dive depth. A vehicle steers towards its
    waypoint with a bounded turn rate, is carried by two slow eddies and a tide, dives in
    saw-teeth and comes up for a while after every few.

    Args:
        vehicles: How many, 1 to 100 000.
        seed: The same seed gives the same tracks, bit for bit.
        waters: Where.

    Raises:
        ValueError: Fewer than 1 or more than 100 000 vehicles.

    Example:
        >>> fleet = Simulator(3, seed=1)
        >>> fleet.advance(10.0)
        >>> fleet.report(0)["auv_id"].to_list()
        ['auv-0001', 'auv-0002', 'auv-0003']
    """

    def __init__(self, vehicles: int, seed: int = 0, waters: Waters | None = None) -> None:
        if not 1 <= vehicles <= 100_000:  # noqa: PLR2004 - the stated range
            raise ValueError(f"{vehicles} vehicles: choose 1 to 100 000")
        self.vehicles = vehicles
        self.waters = waters or Waters()
        self._random = np.random.default_rng(seed)
        draw = self._random
        width, height = self.waters.half_width_m, self.waters.half_height_m
        digits = max(4, len(str(vehicles)))
        self.ids = pl.Series("auv_id", [f"auv-{n:0{digits}d}" for n in range(1, vehicles + 1)])
        self._x = draw.uniform(-width, width, vehicles)
        self._y = draw.uniform(-height, height, vehicles)
        self._heading = draw.uniform(0, 2 * np.pi, vehicles)
        glider = draw.random(vehicles) < 0.4  # noqa: PLR2004 - the mix of this fleet
        self._cruise = np.where(
            glider, draw.uniform(0.3, 0.5, vehicles), draw.uniform(1.2, 2.2, vehicles)
        )
        self._turn = np.where(glider, 0.02, 0.08)
        self._dive_to = self._new_depths(vehicles)
        self._depth = draw.uniform(0, 1, vehicles) * self._dive_to
        self._sink = np.where(glider, 0.18, 0.6)
        self._phase = draw.integers(0, 2, vehicles)  # 0 down, 1 up, 2 at the surface
        self._dives_left = draw.integers(1, 5, vehicles)
        self._surface_left = np.zeros(vehicles)
        self._speed = self._cruise.copy()
        self._goal_x, self._goal_y = self._new_goals(vehicles)
        self._elapsed = 0.0

    def advance(self, seconds: float) -> None:
        """Move every vehicle on by `seconds` of its own time, in steps of at most 10 s."""
        while seconds > 0:
            step = min(seconds, 10.0)
            self._swim(step)
            self._dive(step)
            self._elapsed += step
            seconds -= step

    def report(self, time_us: int, select: npt.NDArray[np.intp] | None = None) -> pl.DataFrame:
        """Return one position per vehicle (of `select`), all at `time_us`.

        Returns:
            Columns of `POSITION_SCHEMA`.
        """
        chosen = np.arange(self.vehicles) if select is None else select
        latitude = self.waters.latitude + self._y[chosen] / METRES_PER_DEGREE
        shrink = np.cos(np.radians(self.waters.latitude))
        longitude = self.waters.longitude + self._x[chosen] / (METRES_PER_DEGREE * shrink)
        return pl.DataFrame(
            {
                "auv_id": self.ids[chosen],
                "time": pl.Series([time_us], dtype=pl.Int64).new_from_index(0, chosen.size),
                "latitude": latitude.round(6),
                "longitude": longitude.round(6),
                "depth_m": self._depth[chosen].round(1),
                "heading_deg": np.degrees(self._heading[chosen]).round(1) % 360,
                "speed_ms": self._speed[chosen].round(2),
            }
        ).cast({"time": TIME_DTYPE})

    def _swim(self, seconds: float) -> None:
        east, north = self._goal_x - self._x, self._goal_y - self._y
        wanted = np.arctan2(east, north)
        turn = (wanted - self._heading + np.pi) % (2 * np.pi) - np.pi
        limit = self._turn * seconds
        wobble = self._random.normal(0, 0.01, self.vehicles)
        self._heading = (self._heading + np.clip(turn, -limit, limit) + wobble) % (2 * np.pi)
        through_water = np.where(self._phase == 2, 0.1 * self._cruise, self._cruise)  # noqa: PLR2004 - phase 2 is up top
        current_x, current_y = self._current()
        self._x += (through_water * np.sin(self._heading) + current_x) * seconds
        self._y += (through_water * np.cos(self._heading) + current_y) * seconds
        self._speed = np.hypot(
            through_water * np.sin(self._heading) + current_x,
            through_water * np.cos(self._heading) + current_y,
        )
        width, height = self.waters.half_width_m, self.waters.half_height_m
        reached = np.hypot(east, north) < 150 + self._cruise * seconds
        astray = (np.abs(self._x) > 1.1 * width) | (np.abs(self._y) > 1.1 * height)
        renew = np.flatnonzero(reached | astray)
        if renew.size:
            self._goal_x[renew], self._goal_y[renew] = self._new_goals(renew.size)

    def _current(self) -> tuple[Floats, Floats]:
        """Two counter-rotating eddies and a tide of 12.42 h."""
        width, height = self.waters.half_width_m, self.waters.half_height_m
        u, v = self._x / width, self._y / height
        strength = self.waters.current_ms
        tide = 0.4 * strength * np.sin(2 * np.pi * self._elapsed / 44_712.0)
        return (
            strength * np.sin(np.pi * u) * np.cos(np.pi * v / 2) + tide,
            -strength * np.cos(np.pi * u) * np.sin(np.pi * v / 2) + 0.3 * tide,
        )

    def _dive(self, seconds: float) -> None:
        down, up, top = self._phase == 0, self._phase == 1, self._phase == 2  # noqa: PLR2004 - the phases
        self._depth += np.where(down, 1.0, np.where(up, -1.0, 0.0)) * self._sink * seconds
        self._surface_left -= np.where(top, seconds, 0.0)
        turned = down & (self._depth >= self._dive_to)
        self._depth = np.where(turned, self._dive_to, self._depth)
        shallow = up & (self._depth <= 3.0)  # noqa: PLR2004 - where a saw-tooth turns
        self._dives_left -= shallow
        surfacing = shallow & (self._dives_left <= 0)
        again = (shallow & ~surfacing) | (top & (self._surface_left <= 0))
        self._depth = np.where(surfacing, 0.0, np.maximum(self._depth, 0.0))
        self._surface_left = np.where(surfacing, SURFACE_S, self._surface_left)
        self._phase = np.where(turned, 1, self._phase)
        self._phase = np.where(surfacing, 2, np.where(again, 0, self._phase))
        renew = np.flatnonzero(again)
        if renew.size:
            self._dive_to[renew] = self._new_depths(renew.size)
            out_of_dives = renew[self._dives_left[renew] <= 0]
            self._dives_left[out_of_dives] = self._random.integers(1, 5, out_of_dives.size)

    def _new_goals(self, count: int) -> tuple[Floats, Floats]:
        width, height = self.waters.half_width_m, self.waters.half_height_m
        return (
            self._random.uniform(-width, width, count),
            self._random.uniform(-height, height, count),
        )

    def _new_depths(self, count: int) -> Floats:
        return 20 + (self.waters.deepest_m - 20) * self._random.beta(1.6, 2.2, count)
