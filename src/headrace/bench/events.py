"""The events every window bench reads, made from a seed, and the batch answer to compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

EVENT_SCHEMA = pl.Schema({"key": pl.String, "time": pl.Int64, "value": pl.Float64})
"""An event: `time` is microseconds since the epoch, `value` is 0 to 100."""

FIRST_TIME_US = 1_700_000_000_000_000
SPACING_US = 100
DISORDER_US = 2_000_000
KEYS = 1_000
THRESHOLD = 10.0
"""The filter keeps `value >= THRESHOLD`, about 90 % of the rows."""
WINDOW_US = 10_000_000

RESULT_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "window_start": pl.Int64,
        "count": pl.Int64,
        "mean": pl.Float64,
        "max": pl.Float64,
    }
)
"""What every contender writes: one row per key and window, `window_start` in microseconds."""


def events(rows: int, seed: int = 7) -> pl.DataFrame:
    """Return `rows` events of `EVENT_SCHEMA`, 10 000 per second of event time.

    A row is at most `DISORDER_US` (exclusive) older than any row before it, so a watermark with
    that delay makes none late.

    Example:
        >>> frame = events(1_000)
        >>> behind = frame["time"].cum_max() - frame["time"]
        >>> int(behind.max()) < DISORDER_US
        True
    """
    random = np.random.default_rng(seed)
    due: NDArray[np.int64] = FIRST_TIME_US + np.arange(rows, dtype=np.int64) * SPACING_US
    time = due - random.integers(0, DISORDER_US, rows)
    numbers = random.integers(0, KEYS, rows)
    names = pl.Series([f"k{number}" for number in range(KEYS)], dtype=pl.String)
    value = np.round(random.random(rows) * 100.0, 3)
    return pl.DataFrame(
        {"key": names.gather(pl.Series(numbers)), "time": time, "value": value},
        schema=EVENT_SCHEMA,
    )


def write_events(path: Path, rows: int, seed: int = 7) -> pl.DataFrame:
    """Write `rows` events to `path` as JSON lines and return them.

    About 54 bytes a row; 5 million rows take about 3 s and 270 MB.
    """
    frame = events(rows, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_ndjson(path)
    return frame


def reference(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the right answer for `frame` in `RESULT_SCHEMA`, sorted by window and key."""
    return (
        frame.filter(pl.col("value") >= THRESHOLD)
        .group_by("key", window_start=pl.col("time") // WINDOW_US * WINDOW_US)
        .agg(
            count=pl.len().cast(pl.Int64),
            mean=pl.col("value").mean(),
            max=pl.col("value").max(),
        )
        .sort("window_start", "key")
        .select(RESULT_SCHEMA.names())
    )


def difference(answer: pl.DataFrame, expected: pl.DataFrame) -> str | None:
    """Return in words how `answer` differs from `expected`, None when they are equal.

    Rows may come in any order; floats may differ by 1e-9 relative.
    """
    if answer.height != expected.height:
        return f"{answer.height} result rows, expected {expected.height}"
    ordered = answer.select(pl.col(name).cast(dtype) for name, dtype in RESULT_SCHEMA.items()).sort(
        "window_start", "key"
    )
    for name, dtype in RESULT_SCHEMA.items():
        got, right = ordered[name], expected[name]
        if got.null_count() > 0:
            return f"{name} is null in {got.null_count()} rows"
        bad = (got - right).abs() > right.abs() * 1e-9 if dtype.is_float() else got != right
        if bad.any():
            row = bad.arg_true()[0]
            return f"{name} differs in {bad.sum()} rows, first {got[row]!r} for {right[row]!r}"
    return None
