"""`alerts`: HTTP ingest → log → rules → alerts → notify → log → webhook, at a fixed rate."""

from __future__ import annotations

from pathlib import Path

from headrace.bench.alerts_app import BATCH_S
from headrace.bench.contenders import Say
from headrace.bench.processes import Server, cost, free_port, run_client
from headrace.bench.result import Result, scratch
from headrace.core.errors import BugError

APP = "headrace.bench.alerts_app:app"
CLIENT = "headrace.bench.alerts_client"
CONNECTIONS = 4
REQUESTS_PER_S = 20
ROWS = 100
SECONDS = 15.0
QUICK_SECONDS = 3.0
CRITICAL_P95_MS = 1_000.0
ALL_P95_MS = 5_000.0


def run(say: Say, *, quick: bool = False) -> Result:
    """Measure from the row that breaks a rule to the first attempt to tell of it.

    Raises:
        BugError: A breach was not told, told twice, or something else was told.
    """
    seconds = QUICK_SECONDS if quick else SECONDS
    receiver = free_port()
    secrets = {"BENCH_HOOK": f"http://127.0.0.1:{receiver}/"}
    with scratch() as folder, Server(APP, Path(folder) / "log", environment=secrets) as server:
        settings: dict[str, object] = {
            "port": server.port,
            "receiver_port": receiver,
            "topic": "readings",
            "rows": ROWS,
            "connections": CONNECTIONS,
            "requests_per_s": REQUESTS_PER_S,
            "seconds": seconds,
        }
        report = run_client(CLIENT, settings, seconds + 120)
        used = cost(server.pid)
    told_once = report["told"] == report["breaches"] and not report["repeats"]
    if not told_once or report["unexpected"]:
        raise BugError(f"not every breach was told exactly once: {report}")
    critical, every = report["ms"]["critical"], report["ms"]["all"]
    p95 = ", ".join(f"{level} {figures['p95']:.0f}" for level, figures in report["ms"].items())
    say(f"alerts: p95 in ms: {p95}")
    return Result(
        bench="alerts",
        rows_per_s=report["rows"] / report["seconds"],
        p50_ms=critical["p50"],
        p95_ms=critical["p95"],
        p99_ms=critical["p99"],
        peak_rss_mb=used.peak_rss_mb,
        checked=True,
        target=(
            f"detection to first attempt p95 < {CRITICAL_P95_MS / 1000:.0f} s for critical, "
            f"< {ALL_P95_MS / 1000:.0f} s for all"
        ),
        met=critical["p95"] < CRITICAL_P95_MS and every["p95"] < ALL_P95_MS,
        detail=(
            f"open loop, {REQUESTS_PER_S} POSTs/s of {ROWS} rows, one of which breaks a critical, "
            "high or warning rule in turn; ms from when a request was due to the arrival of its "
            "alert at the webhook's receiver, each told once; the line's figures are of critical "
            f"ones; p95 in ms: {p95}, warnings waiting for a batch that ends every {BATCH_S} s; "
            "client and receiver on the same cores"
        ),
    )
