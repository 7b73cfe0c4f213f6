"""`join`: orders and their payments within a minute, over 100 000 keys, in memory."""

from __future__ import annotations

import resource
from statistics import median
from typing import Final, Literal

import numpy as np
import polars as pl

import headrace as hr
from headrace.bench.contenders import Say
from headrace.bench.result import Result, quantiles
from headrace.bench.stepped import STEP_ROWS, stepped, stretches
from headrace.core.errors import BugError
from headrace.core.time import TIME_DTYPE

ROWS: Final = 2_000_000
QUICK_ROWS: Final = 300_000
ROUNDS: Final = 3
KEYS: Final = 100_000
TIME_US: Final = 1_700_000_000_000_000
SPACING_US: Final = 100
SCHEMA: Final = pl.Schema({"user": pl.Int64(), "time": TIME_DTYPE, "euro": pl.Float64()})
PAIR: Final = ("user", "time", "time_right", "euro", "euro_right")

How = Literal["inner", "left", "window"]
WORK: Final[dict[How, str]] = {
    "inner": 'on the key, within=("0s", "1m")',
    "left": 'on the key, within=("0s", "5s"), how="left"',
    "window": "on the key, in the same 10 s window",
}


def rows(count: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return as many orders as payments, `count` in all, of users drawn evenly."""
    random = np.random.default_rng(3)
    frames = []
    for offset in (0, 1):
        size = count // 2
        times = TIME_US + (2 * np.arange(size) + offset) * SPACING_US
        frames.append(
            pl.DataFrame(
                {
                    "user": random.integers(0, KEYS, size),
                    "time": pl.Series(times).cast(TIME_DTYPE),
                    "euro": random.random(size),
                },
                schema=SCHEMA,
            )
        )
    return frames[0], frames[1]


def application(how: How) -> hr.App:
    """Return the app that pairs orders with payments."""
    app = hr.App("bench-join")
    orders, paid = (
        app.topic(name, SCHEMA, time="time", delay="2s") for name in ("orders", "payments")
    )
    match how:
        case "inner":
            pairs = orders.join(paid, on="user", within=("0s", "1m"))
        case "left":
            pairs = orders.join(paid, on="user", within=("0s", "5s"), how="left")
        case _:
            pairs = orders.join(paid, on="user", window=hr.tumbling("10s"))
    app.output("pairs", pairs)
    return app


def answer(orders: pl.DataFrame, payments: pl.DataFrame, how: How) -> pl.DataFrame:
    """Return the pairs by one batch query."""
    numbered = orders.with_row_index("row")
    every = numbered.join(payments.rename({"time": "paid"}), on="user")
    apart = pl.col("paid") - pl.col("time")
    within = {
        "inner": apart.is_between(pl.duration(), pl.duration(minutes=1)),
        "left": apart.is_between(pl.duration(), pl.duration(seconds=5)),
        "window": pl.col("paid").dt.truncate("10s") == pl.col("time").dt.truncate("10s"),
    }[how]
    pairs = every.filter(within)
    if how == "left":
        alone = numbered.join(pairs, on="row", how="anti")
        pairs = pl.concat([pairs, alone], how="diagonal")
    return pairs.rename({"paid": "time_right"}).select(PAIR).sort(PAIR)


def run(say: Say, *, quick: bool = False) -> Result:
    """Step the engine over both streams, for each kind of join; compare every row.

    Raises:
        BugError: A row is missing or too many.
    """
    count, rounds = (QUICK_ROWS, 1) if quick else (ROWS, ROUNDS)
    orders, payments = rows(count)
    parts = tuple(_part(how, orders, payments, rounds, say) for how in WORK)
    first = parts[0]
    return Result(
        bench="join",
        rows_per_s=first.rows_per_s,
        p50_ms=first.p50_ms,
        p95_ms=first.p95_ms,
        p99_ms=first.p99_ms,
        peak_rss_mb=first.peak_rss_mb,
        cpu_s_per_million_rows=first.cpu_s_per_million_rows,
        checked=True,
        detail=first.detail,
        parts=parts[1:],
    )


def _part(how: How, orders: pl.DataFrame, payments: pl.DataFrame, rounds: int, say: Say) -> Result:
    count = orders.height + payments.height
    expected = answer(orders, payments, how)
    runs = []
    for number in range(rounds):
        events = {"orders": orders, "payments": payments}
        done = stepped(application(how), stretches(events, "time"), "pairs")
        got = done.output.select(PAIR).sort(PAIR)
        if not got.equals(expected):
            raise BugError(f"join ({how}) gave {got.height} rows, expected {expected.height}")
        runs.append(done)
        say(f"{how}, round {number + 1}: {count / done.seconds:,.0f} rows/s")
    spread = quantiles([ns for done in runs for ns in done.steps_ns])
    return Result(
        bench=f"join, {how}",
        rows_per_s=count / median(done.seconds for done in runs),
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        cpu_s_per_million_rows=median(done.cpu_s for done in runs) / count * 1e6,
        checked=True,
        detail=(
            f"{count:,} rows of both sides and {KEYS:,} keys, {WORK[how]}: {expected.height:,} "
            f"rows equal to a batch query's; ms are per step of {STEP_ROWS:,} rows; "
            f"median of {rounds}"
        ),
    )
