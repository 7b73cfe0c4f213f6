"""Hours of the week, in a time zone of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from headrace.core.errors import ConstraintError
from headrace.core.time import to_datetime, to_micros

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS: Final = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY: Final = timedelta(days=1)


def check_hours(hours: str | None, weekdays: Sequence[str] | None, zone: str) -> None:
    """Check hours, days and the name of a time zone.

    Raises:
        ConstraintError: One of them cannot be read; the hint shows one that can.
    """
    if hours is not None:
        found = _HOURS.fullmatch(hours)
        if found is None or any(
            int(n) > most for n, most in zip(found.groups(), _MOST, strict=True)
        ):
            raise ConstraintError(f"{hours!r} names no hours", hint='write "22:00-06:00"')
    for day in weekdays or ():
        if day not in WEEKDAYS:
            raise ConstraintError(f"{day!r} is no weekday", hint=f"use {', '.join(WEEKDAYS)}")
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ConstraintError(f"{zone!r} is no time zone", hint='e.g. "Europe/Berlin"') from error


_MOST: Final = (23, 59, 24, 59)


def ends_at(
    time_us: int, hours: str | None, weekdays: Sequence[str] | None, zone: str
) -> int | None:
    """Return when the hours that `time_us` lies in are over, None where it lies in none.

    Hours that end before they begin go on past midnight; the day is that on which they begin.
    Without hours a day is whole.

    Example:
        >>> noon = to_micros(datetime(2026, 1, 2, 23, 30))
        >>> to_datetime(ends_at(noon, "22:00-06:00", ["fri"], "UTC") or 0).isoformat()
        '2026-01-03T06:00:00+00:00'
    """
    area = _area(zone)
    begin, end, past_midnight = _bounds(hours)
    today = to_datetime(time_us).astimezone(area).date()
    for day in (today, today - _DAY):
        if weekdays and WEEKDAYS[day.weekday()] not in weekdays:
            continue
        opens = to_micros(datetime.combine(day, begin, area))
        closes = to_micros(datetime.combine(day + _DAY if past_midnight else day, end, area))
        if opens <= time_us < closes:
            return closes
    return None


@lru_cache(maxsize=64)
def _area(zone: str) -> ZoneInfo:
    return ZoneInfo(zone)


@lru_cache(maxsize=256)
def _bounds(hours: str | None) -> tuple[time, time, bool]:
    if hours is None:
        return time(0), time(0), True
    found = _HOURS.fullmatch(hours)
    if found is None:
        raise ConstraintError(f"{hours!r} names no hours", hint='write "22:00-06:00"')
    h1, m1, h2, m2 = (int(number) for number in found.groups())
    begin, end = time(h1, m1), time(h2 % 24, m2)
    return begin, end, end <= begin
