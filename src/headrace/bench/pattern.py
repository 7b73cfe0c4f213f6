"""`pattern`: two steps within half an hour over 100 000 keys, where 1 % of rows match a step."""

from __future__ import annotations

import resource
from statistics import median
from typing import Final

import numpy as np
import polars as pl

import headrace as hr
from headrace.bench.contenders import Say
from headrace.bench.result import Result, quantiles
from headrace.bench.stepped import STEP_ROWS, stepped, stretches
from headrace.core.errors import BugError
from headrace.core.time import TIME_DTYPE

ROWS: Final = 4_000_000
QUICK_ROWS: Final = 500_000
ROUNDS: Final = 3
KEYS: Final = 100_000
MATCHING: Final = 0.01
TARGET_ROWS_PER_S: Final = 500_000
TIME_US: Final = 1_700_000_000_000_000
SPACING_US: Final = 1_000
SCHEMA: Final = pl.Schema({"user": pl.Int64(), "time": TIME_DTYPE, "kind": pl.String()})
COLUMNS: Final = ("user", "match_start", "match_end", "failed")


def logins(rows: int, seed: int = 5) -> pl.DataFrame:
    """Return events of which `MATCHING` are failed or succeeded logins, half each."""
    random = np.random.default_rng(seed)
    drawn = random.random(rows) / MATCHING
    kinds = pl.Series(["failed", "succeeded", "other"])
    return pl.DataFrame(
        {
            "user": random.integers(0, KEYS, rows),
            "time": pl.Series(TIME_US + np.arange(rows) * SPACING_US).cast(TIME_DTYPE),
            "kind": kinds.gather(np.where(drawn < 0.5, 0, np.where(drawn < 1, 1, 2))),  # noqa: PLR2004 - halves
        },
        schema=SCHEMA,
    )


def application() -> hr.App:
    """Return the app: each failed login with the user's next success, in half an hour."""
    app = hr.App("bench-pattern")
    stream = app.topic("logins", schema=SCHEMA, time="time", delay="2s")
    pattern = (
        hr.Pattern.begin("failed", pl.col("kind") == "failed")
        .followed_by("succeeded", pl.col("kind") == "succeeded")
        .within("30m")
    )
    measures = {"failed": hr.matched("failed").count()}
    app.output("hits", stream.match(pattern, by="user", skip="none", measures=measures))
    return app


def answer(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the matches by one batch query: the next success after each failure."""
    failed = rows.filter(pl.col("kind") == "failed").select("user", "time", match_start="time")
    succeeded = rows.filter(pl.col("kind") == "succeeded").select("user", "time", match_end="time")
    pairs = failed.join_asof(
        succeeded,
        on="time",
        by="user",
        strategy="forward",
        allow_exact_matches=False,
        tolerance="30m",
        check_sortedness=False,
    )
    return pairs.drop_nulls().with_columns(failed=pl.lit(1)).select(COLUMNS).sort(COLUMNS)


def run(say: Say, *, quick: bool = False) -> Result:
    """Step the engine over the events; compare every match with `answer`.

    Raises:
        BugError: A match is missing or too many.
    """
    rows, rounds = (QUICK_ROWS, 1) if quick else (ROWS, ROUNDS)
    frame = logins(rows)
    expected = answer(frame)
    runs = []
    for number in range(rounds):
        done = stepped(application(), stretches({"logins": frame}, "time"), "hits")
        got = done.output.select(COLUMNS).cast({"failed": expected.schema["failed"]}).sort(COLUMNS)
        if not got.equals(expected):
            raise BugError(f"match gave {got.height} matches, the batch query {expected.height}")
        runs.append(done)
        say(f"round {number + 1}: {rows / done.seconds:,.0f} rows/s")
    speed = rows / median(done.seconds for done in runs)
    spread = quantiles([ns for done in runs for ns in done.steps_ns])
    return Result(
        bench="pattern",
        rows_per_s=speed,
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        cpu_s_per_million_rows=median(done.cpu_s for done in runs) / rows * 1e6,
        checked=True,
        target=f"≥ {TARGET_ROWS_PER_S:,} rows/s",
        met=speed >= TARGET_ROWS_PER_S,
        detail=(
            f"{rows:,} rows of {KEYS:,} keys, {MATCHING:.0%} match a condition, "
            f"{expected.height:,} matches of two steps equal to a batch query's; ms are per step "
            f"of {STEP_ROWS:,} rows; median of {rounds}"
        ),
    )
