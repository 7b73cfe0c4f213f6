"""TestClock: time that moves only when a test says so."""

from __future__ import annotations

from datetime import UTC, datetime

from headrace.core.errors import ConfigError
from headrace.core.time import Duration, micros, to_micros

_DEFAULT_START = datetime(2026, 1, 1, tzinfo=UTC)


class TestClock:
    """A `Clock` for tests: `advance` moves both its clocks, `jump` only the wall clock.

    Args:
        start: Wall time at first, aware or read as UTC.

    Example:
        >>> clock = TestClock()
        >>> before = clock.now()
        >>> clock.advance("5s")
        >>> clock.now() - before
        5000000
    """

    __test__ = False  # the name is the API's; pytest would collect it

    def __init__(self, start: datetime = _DEFAULT_START) -> None:
        self._wall = to_micros(start)
        self._monotonic = 0

    def now(self) -> int:
        """Return wall time in microseconds since the epoch."""
        return self._wall

    def monotonic(self) -> int:
        """Return microseconds that only grow with `advance`."""
        return self._monotonic

    def advance(self, by: Duration) -> None:
        """Let time pass on both clocks.

        Raises:
            ConfigError: `by` is negative; `jump` sets a clock back.
        """
        passed = micros(by)
        if passed < 0:
            raise ConfigError(f"time cannot pass by {by!r}", hint="use jump() to set a clock back")
        self._wall += passed
        self._monotonic += passed

    def jump(self, by: Duration) -> None:
        """Set the wall clock forward or back, as an administrator or NTP does."""
        self._wall += micros(by)
