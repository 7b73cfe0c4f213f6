"""`e2e`: HTTP ingest → log → windows → log → WebSocket, at fixed rates and as fast as it goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.bench.contenders import Say
from headrace.bench.processes import Cost, Server, cost, run_client
from headrace.bench.result import Result, scratch
from headrace.core.errors import BugError

APP = "headrace.bench.apps:e2e"
CLIENT = "headrace.bench.e2e_client"
CONNECTIONS = 8
KEYS = 25
REQUESTS_PER_S = 100
SECONDS = 15.0
QUICK_SECONDS = 3.0
MAX_ROWS = 1_000
MAX_TARGET = 400_000
RATES = ((10_000, 20.0), (100_000, 30.0))
"""Rows per second, and the p95 they must stay below, in milliseconds."""


def run(say: Say, *, quick: bool = False) -> Result:
    """Measure each rate on a server of its own; windows must add up to all rows sent.

    Raises:
        BugError: A row is missing from the windows or in them twice.
    """
    seconds = QUICK_SECONDS if quick else SECONDS
    fixed = [_fixed(rate, p95, seconds, say) for rate, p95 in RATES]
    fastest = _fastest(seconds, say)
    return replace(fastest, parts=tuple(fixed))


def _measure(rows: int, per_s: float | None, seconds: float) -> tuple[dict[str, Any], Cost]:
    with scratch() as folder, Server(APP, Path(folder) / "log") as server:
        before = cost(server.pid)
        settings: dict[str, object] = {
            "port": server.port,
            "topic": "events",
            "output": "windows",
            "rows": rows,
            "connections": CONNECTIONS,
            "keys": KEYS,
            "requests_per_s": per_s,
            "seconds": seconds,
        }
        report = run_client(CLIENT, settings, seconds + 120)
        after = cost(server.pid)
    if not report["equal"]:
        raise BugError(f"the windows do not add up to the rows sent: {report}")
    return report, Cost(after.cpu_s - before.cpu_s, after.peak_rss_mb)


def _fixed(rate: int, target_ms: float, seconds: float, say: Say) -> Result:
    report, used = _measure(rate // REQUESTS_PER_S, REQUESTS_PER_S, seconds)
    latency = report["latency_ms"]
    name = f"e2e, {rate:,} rows/s"
    say(f"{name}: p50 {latency['p50']:.1f}, p95 {latency['p95']:.1f}, p99 {latency['p99']:.1f} ms")
    return Result(
        bench=name,
        rows_per_s=report["rows"] / report["seconds"],
        p50_ms=latency["p50"],
        p95_ms=latency["p95"],
        p99_ms=latency["p99"],
        peak_rss_mb=used.peak_rss_mb,
        cpu_s_per_million_rows=used.cpu_s / report["rows"] * 1e6,
        checked=True,
        target=f"p95 < {target_ms:.0f} ms",
        met=latency["p95"] < target_ms,
        detail=(
            f"open loop, {REQUESTS_PER_S} POSTs/s of {rate // REQUESTS_PER_S:,} rows on "
            f"{CONNECTIONS} connections; ms from when a request was due to the arrival, by "
            f"WebSocket, of 10 s windows of all its {KEYS} keys that contain it; client on the "
            "same cores"
        ),
    )


def _fastest(seconds: float, say: Say) -> Result:
    report, used = _measure(MAX_ROWS, None, seconds)
    latency = report["latency_ms"]
    speed = report["rows"] / report["seconds"]
    say(f"e2e: {speed:,.0f} rows/s sustained, p95 {latency['p95']:.1f} ms")
    return Result(
        bench="e2e",
        rows_per_s=speed,
        p50_ms=latency["p50"],
        p95_ms=latency["p95"],
        p99_ms=latency["p99"],
        peak_rss_mb=used.peak_rss_mb,
        cpu_s_per_million_rows=used.cpu_s / report["rows"] * 1e6,
        checked=True,
        target=f"≥ {MAX_TARGET:,} rows/s sustained",
        met=speed >= MAX_TARGET,
        detail=(
            f"POSTs of {MAX_ROWS:,} rows on {CONNECTIONS} connections, the next when the last is "
            "answered and at most 32 of a connection await their windows; until the last window "
            "has arrived; client on the same cores"
        ),
    )
