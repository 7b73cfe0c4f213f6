"""Time moves only when a test says so."""

from __future__ import annotations

import pytest

from headrace.core.errors import ConfigError
from headrace.core.time import Clock
from headrace.testing.clock import TestClock


def test_both_clocks_advance_together() -> None:
    clock: Clock = (test_clock := TestClock())
    before = clock.now(), clock.monotonic()

    test_clock.advance("1m")

    assert (clock.now() - before[0], clock.monotonic() - before[1]) == (60_000_000, 60_000_000)


def test_a_jump_moves_the_wall_clock_alone() -> None:
    clock = TestClock()
    before = clock.now(), clock.monotonic()

    clock.jump("-1h")

    assert (clock.now() - before[0], clock.monotonic() - before[1]) == (-3_600_000_000, 0)


def test_time_does_not_pass_backwards() -> None:
    with pytest.raises(ConfigError, match="jump"):
        TestClock().advance("-1s")
