"""`push`: one update to 1 000 WebSocket subscribers, and 10 000 connections held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from headrace.bench.contenders import Say
from headrace.bench.processes import Server, cost, run_client
from headrace.bench.push_client import raise_file_limit
from headrace.bench.result import Result, scratch
from headrace.core.errors import BugError, OutsideError

APP = "headrace.bench.apps:push"
CLIENT = "headrace.bench.push_client"
TOPIC = "updates"
SUBSCRIBERS = 1_000
HELD = 10_000
UPDATES = 100
HELD_UPDATES = 10
QUICK_SUBSCRIBERS = 100
QUICK_UPDATES = 20
TARGET_P95_MS = 10.0
SPARE_FILES = 1_000


def run(say: Say, *, quick: bool = False) -> Result:
    """Measure latency from the POST of a row to its arrival at every subscriber.

    Raises:
        BugError: A subscriber missed an update or got one twice, or a connection was lost.
    """
    if quick:
        return _measure(QUICK_SUBSCRIBERS, QUICK_UPDATES, say)
    wanted = HELD + SPARE_FILES
    if (limit := raise_file_limit(wanted)) < wanted:
        raise OutsideError(
            f"{HELD:,} connections need {wanted:,} open files, this system allows {limit:,}",
            hint=f"raise the hard limit: ulimit -Hn {wanted}",
        )
    held = _measure(HELD, HELD_UPDATES, say)
    latency = _measure(SUBSCRIBERS, UPDATES, say)
    return replace(latency, parts=(held,))


def _measure(subscribers: int, updates: int, say: Say) -> Result:
    with scratch() as folder, Server(APP, Path(folder) / "log", "--role", "gateway") as server:
        before = cost(server.pid)
        settings: dict[str, object] = {
            "port": server.port,
            "topic": TOPIC,
            "subscribers": subscribers,
            "updates": updates,
            "pause_s": 0.05,
        }
        report = run_client(CLIENT, settings, 600)
        after = cost(server.pid)
    whole = report["complete_updates"] == updates and report["unexpected"] == 0
    if not whole or report["held"] != subscribers:
        raise BugError(f"not every subscriber got every update once: {report}")
    latency = report["latency_ms"]
    many = subscribers >= HELD
    name = f"push, {subscribers:,} connections held" if many else "push"
    say(f"{name}: p95 {latency['p95']:.1f} ms over {report['deliveries']:,} deliveries")
    return Result(
        bench=name,
        p50_ms=latency["p50"],
        p95_ms=latency["p95"],
        p99_ms=latency["p99"],
        peak_rss_mb=after.peak_rss_mb,
        cpu_s_per_million_rows=(after.cpu_s - before.cpu_s) / report["deliveries"] * 1e6,
        checked=True,
        target=f"{HELD:,} connections held" if many else f"p95 < {TARGET_P95_MS:.0f} ms",
        met=True if many else latency["p95"] < TARGET_P95_MS,
        detail=(
            f"{updates} single-row POSTs to a topic with {subscribers:,} subscribers, each got each"
            " once; ms from the POST to the arrival at a subscriber, client on the same cores; CPU "
            f"per delivery includes connecting, which took {report['gathered_s']:.1f} s"
        ),
    )
