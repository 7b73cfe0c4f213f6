"""Event time, watermarks, durations and clocks.

Inside the engine a point in time is an `int`: microseconds since 1970-01-01 UTC. Frames carry
their rows' event time in the hidden column `EVENT_TIME` (Int64 microseconds) and their place
of origin in `POSITION` (Int64), so that user columns may be selected, renamed or dropped freely.
"""

from __future__ import annotations

import re
import time as _time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import polars as pl

from headrace.core.errors import ConfigError

EVENT_TIME: Final = "__event_time"
POSITION: Final = "__position"
HIDDEN: Final = (EVENT_TIME, POSITION)
HIDDEN_SCHEMA: Final = {EVENT_TIME: pl.Int64, POSITION: pl.Int64}

TIME_DTYPE: Final = pl.Datetime("us", "UTC")

BEGINNING: Final = -(1 << 62)
"""A watermark before all times: nothing is known yet."""
END_OF_TIME: Final = (1 << 62) - 1
"""A watermark after all times: the input is finished."""

_OFFSET_BITS: Final = 43
_MAX_OFFSET: Final = (1 << _OFFSET_BITS) - 1
_UNITS: Final = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_DURATION = re.compile(r"\s*(-?)\s*((?:\d+(?:\.\d+)?\s*(?:us|ms|s|m|h|d|w)\s*)+)$")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)")

Duration = timedelta | str


def position(origin: int, offset: int) -> int:
    """Return the sortable position of row `offset` of origin `origin`.

    An origin is the rank of a (topic, partition) in the plan. Offsets wrap after 2**43 rows;
    positions only break ties of equal event time, so wrapping cannot lose a row.
    """
    return (origin << _OFFSET_BITS) | (offset & _MAX_OFFSET)


def event_time() -> pl.Expr:
    """Return the expression for a row's event time, as `Datetime("us", "UTC")`.

    Event time travels beside the columns, so this works after any `select` or `drop`.
    """
    return pl.col(EVENT_TIME).cast(TIME_DTYPE)


def duration(value: Duration) -> timedelta:
    """Return `value` as a timedelta; text is one or more numbers with a unit.

    Units: us, ms, s, m (minutes), h, d, w. Months are not durations.

    Raises:
        ConfigError: The text is not a duration.

    Example:
        >>> duration("1m 30s")
        datetime.timedelta(seconds=90)
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value)
    if match is None:
        raise ConfigError(
            f"{value!r} is not a duration",
            hint='write a number and a unit: "500ms", "10s", "5m", "1h 30m", "7d"',
        )
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(match[2]))
    return timedelta(microseconds=round(-total if match[1] else total))


def positive_duration(value: Duration, what: str) -> timedelta:
    """Return `value` as a timedelta greater than zero, naming `what` in the error."""
    result = duration(value)
    if result <= timedelta(0):
        raise ConfigError(f"{what} must be longer than zero, not {value!r}")
    return result


def micros(value: Duration) -> int:
    """Return a duration in microseconds.

    Example:
        >>> micros("1ms")
        1000
    """
    return duration(value) // timedelta(microseconds=1)


def duration_text(value: timedelta) -> str:
    """Return the shortest text that `duration` reads back as `value`.

    Example:
        >>> duration_text(timedelta(minutes=90))
        '1h 30m'
    """
    rest = abs(value) // timedelta(microseconds=1)
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if value < timedelta(0) else "") + (" ".join(parts) or "0s")


def to_datetime(time_us: int) -> datetime:
    """Return microseconds since the epoch as an aware datetime, clamped to what it can hold."""
    low, high = -62_135_596_800_000_000, 253_402_300_799_999_999
    clamped = min(max(time_us, low), high)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=clamped)


def to_micros(when: datetime) -> int:
    """Return an aware or naive (read as UTC) datetime as microseconds since the epoch."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class Clock(Protocol):
    """Where a runner reads time; operators never see one."""

    def now(self) -> int:
        """Return wall time in microseconds since the epoch."""
        ...

    def monotonic(self) -> int:
        """Return microseconds that only ever grow at the pace of real time."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        """Return wall time in microseconds since the epoch."""
        return _time.time_ns() // 1_000

    def monotonic(self) -> int:
        """Return microseconds of the machine's monotonic clock."""
        return _time.monotonic_ns() // 1_000
