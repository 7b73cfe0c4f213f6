"""The step clock: wall time that never goes back and never leaps."""

from __future__ import annotations

import structlog

from headrace.core.time import Clock

JUMP_US = 10_000_000

_log = structlog.get_logger(__name__)


class StepClock:
    """Reads wall time once per step (SEMANTICS 1).

    Args:
        wall: The machine's clocks.
    """

    def __init__(self, wall: Clock) -> None:
        self._wall = wall
        self._last_wall, self._last_monotonic = wall.now(), wall.monotonic()

    def next(self, clock: int) -> tuple[int, bool]:
        """Return the clock of a step that follows one at `clock`, and whether the wall jumped.

        While the wall is more than 10 s behind, the step clock goes on at the monotonic pace.
        """
        wall, monotonic = self._wall.now(), self._wall.monotonic()
        passed = monotonic - self._last_monotonic
        jump = (wall - self._last_wall) - passed
        self._last_wall, self._last_monotonic = wall, monotonic
        behind = wall < clock - JUMP_US
        following = clock + max(0, passed) if behind else max(clock, wall)
        if abs(jump) > JUMP_US:
            _log.warning("engine.clock_jump", seconds=jump / 1e6)
            return following, True
        return following, False
