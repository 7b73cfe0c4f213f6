"""Columns of times at the edge: RFC 3339 text or epoch numbers in, microseconds UTC out."""

from __future__ import annotations

from typing import Final, Literal

import polars as pl

from headrace.core.errors import SchemaError
from headrace.core.time import TIME_DTYPE

TimeUnit = Literal["s", "ms", "us", "ns"]

FIRST_US: Final = -62_135_596_800_000_000
"""0001-01-01, the first time RFC 3339 can write."""
LAST_US: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""

_PER_SECOND: Final[dict[TimeUnit, int]] = {
    "s": 1,
    "ms": 1_000,
    "us": 1_000_000,
    "ns": 1_000_000_000,
}
_MICROS: Final = 1_000_000
_REST: Final = r"^(?:[.,](\d{1,9})\d*)?(?:([Zz])|([+-])(\d{2}):?(\d{2}))?$"
_USUAL: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|\+00:00)?$"
)
_FEW: Final = 512
_SECONDS_LENGTH: Final = len("2026-01-01T00:00:00")


def times_from_text(text: pl.Series) -> pl.Series:
    """Read RFC 3339 text; without an offset it is UTC, digits beyond microseconds are cut.

    Returns:
        `Datetime("us", "UTC")`, null where the text is null or not a time.

    Cost: 0.1 ms plus 0.1 µs a value where all are UTC, else 0.5 µs.
    """
    if text.null_count() == text.len():
        return text.cast(pl.Null).cast(TIME_DTYPE)
    frame = text.to_frame("text")
    column = pl.col("text")
    body = column.str.strip_suffix("Z").str.strip_suffix("+00:00")
    if text.len() <= _FEW:
        micros = body.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        micros = micros.cast(pl.Int64)
    else:
        # Polars reads whole seconds of a fixed layout ten times faster than any other time.
        digits = body.str.slice(_SECONDS_LENGTH + 1, 6).str.pad_end(6, "0")
        seconds = _seconds(column.str.slice(0, _SECONDS_LENGTH))
        micros = seconds + digits.cast(pl.Int64, strict=False)
    quick = frame.select(micros=micros, usual=column.str.contains(_USUAL).all())
    if quick["usual"][0] is not False:
        return _writable(quick["micros"]).rename(text.name)
    return _writable(frame.select(_any_layout())["micros"]).rename(text.name)


def _any_layout() -> pl.Expr:
    """Return microseconds of `text` in any layout RFC 3339 allows, or without an offset."""
    head = pl.col("text").str.slice(0, _SECONDS_LENGTH)
    spaced = head.str.replace(r"^(\d{4}-\d\d-\d\d)[ t](\d\d:\d\d:\d\d)$", "${1}T${2}")
    seconds = pl.when(spaced.str.contains(r"^\d{4}-")).then(_seconds(spaced))
    rest = pl.col("text").str.slice(_SECONDS_LENGTH)
    hours = rest.str.extract(_REST, 4).cast(pl.Int64).fill_null(0)
    minutes = rest.str.extract(_REST, 5).cast(pl.Int64).fill_null(0)
    offset = (hours * 60 + minutes) * (60 * _MICROS)
    ahead = pl.when(rest.str.extract(_REST, 3) == "-").then(-offset).otherwise(offset)
    digits = rest.str.extract(_REST, 1).fill_null("").str.slice(0, 6).str.pad_end(6, "0")
    valid = rest.str.contains(_REST) & hours.le(23) & minutes.le(59)
    micros = seconds + digits.cast(pl.Int64, strict=False) - ahead
    return pl.when(valid).then(micros).alias("micros")


def _seconds(head: pl.Expr) -> pl.Expr:
    """Read exactly `2026-01-01T00:00:00`; Polars has a fast path for this length."""
    return head.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False).cast(pl.Int64)


def _writable(micros: pl.Series) -> pl.Series:
    """Return microseconds as times, null where RFC 3339 could not write them."""
    low, high = micros.min(), micros.max()
    if isinstance(low, int) and isinstance(high, int) and (low < FIRST_US or high > LAST_US):
        micros = micros.set((micros < FIRST_US) | (micros > LAST_US), None)
    return micros.cast(TIME_DTYPE)


def times_from_numbers(numbers: pl.Series, unit: TimeUnit) -> pl.Series:
    """Read epoch numbers counted in `unit`; what RFC 3339 could not write becomes null.

    Returns:
        `Datetime("us", "UTC")`, null where the number is null, not finite or out of range.

    Raises:
        SchemaError: `unit` is none of s, ms, us, ns.
    """
    if unit not in _PER_SECOND:
        raise SchemaError(f"{unit!r} is no unit of time", hint="one of s, ms, us, ns")
    per_second = _PER_SECOND[unit]
    if numbers.dtype.is_float():
        micros = numbers.cast(pl.Float64) * (_MICROS / per_second)
        inside = micros.is_finite() & micros.is_between(FIRST_US, LAST_US)
        return micros.set(~inside, None).round().cast(pl.Int64).cast(TIME_DTYPE)
    # Bounds are compared before multiplying: Int64 wraps silently.
    whole = numbers.cast(pl.Int64, strict=False)
    low, high = FIRST_US * per_second // _MICROS, LAST_US * per_second // _MICROS
    inside = whole.is_between(max(low, -(1 << 63)), min(high, (1 << 63) - 1))
    safe = whole.set(~inside, None)
    if per_second > _MICROS:
        return (safe // (per_second // _MICROS)).cast(TIME_DTYPE)
    return (safe * (_MICROS // per_second)).cast(TIME_DTYPE)


def times_from_datetimes(times: pl.Series) -> pl.Series:
    """Bring a Datetime column to `Datetime("us", "UTC")`; naive is UTC, overflow becomes null."""
    dtype = times.dtype
    if dtype == TIME_DTYPE:
        return _writable(times.cast(pl.Int64))
    unit: TimeUnit = getattr(dtype, "time_unit", None) or "us"
    return times_from_numbers(times.cast(pl.Int64), unit)
