"""`ingest`: HTTP POSTs until their rows are durable in a topic, by 1 000 rows and one by one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl

from headrace.bench.contenders import Say
from headrace.bench.ingest_client import Acknowledged, checked
from headrace.bench.processes import Server, cost, run_client
from headrace.bench.result import Result, scratch
from headrace.core.errors import BugError, OutsideError
from headrace.core.log import Reader, TopicPartition
from headrace.log import open_log

APP = "headrace.bench.apps:ingest"
CLIENT = "headrace.bench.ingest_client"
TOPIC = "events"
BATCH_ROWS = 1_000
BATCH_TARGET = 500_000
SINGLE_TARGET = 5_000
BATCH_CONNECTIONS = 8
SINGLE_CONNECTIONS = 64
SECONDS = 8.0
QUICK_SECONDS = 1.0
WARM_UP_S = 1.0
CEILING_S = 2.0
READ_ROWS = 1_000_000
READ_BYTES = 1 << 28


def run(say: Say, *, quick: bool = False) -> Result:
    """Measure both shapes of request; the topic is then read and compared with what was answered.

    Raises:
        BugError: The topic holds other rows than were acknowledged, or an answer was no 202.
    """
    seconds = QUICK_SECONDS if quick else SECONDS
    single = _measure(1, SINGLE_CONNECTIONS, seconds, SINGLE_TARGET, say)
    batches = _measure(BATCH_ROWS, BATCH_CONNECTIONS, seconds, BATCH_TARGET, say)
    return replace(batches, parts=(single,))


def _measure(rows: int, connections: int, seconds: float, target: int, say: Say) -> Result:
    settings = {"topic": TOPIC, "rows": rows, "connections": connections}
    ceiling = _ceiling(settings)
    with scratch() as folder:
        data = Path(folder) / "log"
        with Server(APP, data, "--role", "gateway") as server:
            warm = run_client(
                CLIENT, {**settings, "port": server.port, "seconds": WARM_UP_S}, seconds + 60
            )
            before = cost(server.pid)
            report = run_client(
                CLIENT, {**settings, "port": server.port, "seconds": seconds}, seconds + 60
            )
            after = cost(server.pid)
        frame = _topic(open_log(str(data)).reader())
    for each in (warm, report):
        if set(each["statuses"]) != {"202"}:
            raise BugError(f"answers were {each['statuses']}: {each['first_error']}")
    acknowledged = Acknowledged(**report["acknowledged"])
    warmed = Acknowledged(**warm["acknowledged"])
    both = Acknowledged(
        requests=acknowledged.requests + warmed.requests,
        rows=acknowledged.rows + warmed.rows,
        time_sum=acknowledged.time_sum + warmed.time_sum,
        value_sum=acknowledged.value_sum + warmed.value_sum,
    )
    if not checked(frame, both):
        raise BugError(f"the topic holds {frame.height} rows, {both.rows} were acknowledged")
    speed = acknowledged.rows / report["seconds"]
    shape = f"{rows:,} rows as NDJSON" if rows > 1 else "one JSON object"
    name = "ingest" if rows > 1 else "ingest, single rows"
    say(f"{name}: {speed:,.0f} rows/s durable")
    latency = report["latency_ms"]
    return Result(
        bench=name,
        rows_per_s=speed,
        p50_ms=latency["p50"],
        p95_ms=latency["p95"],
        p99_ms=latency["p99"],
        peak_rss_mb=after.peak_rss_mb,
        cpu_s_per_million_rows=(after.cpu_s - before.cpu_s) / acknowledged.rows * 1e6,
        checked=True,
        target=f"≥ {target:,} rows/s",
        met=speed >= target,
        detail=(
            f"POSTs of {shape} on {connections} keep-alive connections, no "
            f"pipelining, an Idempotency-Key each, answered after the durable commit; the client "
            f"alone does {ceiling:,.0f} requests/s against a server that only reads"
        ),
    )


def _ceiling(settings: dict[str, object]) -> float:
    """Return the requests/s that the client reaches against a server that does nothing."""
    command = [sys.executable, "-m", "headrace.bench.null_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - ours
        try:
            if server.stdout is None:
                raise OutsideError("the null server has no output")
            port = int(server.stdout.readline())
            report = run_client(CLIENT, {**settings, "port": port, "seconds": CEILING_S}, 60)
        finally:
            server.terminate()
    return float(report["acknowledged"]["requests"] / report["seconds"])


def _topic(reader: Reader) -> pl.DataFrame:
    """Return times and values of all rows of the topic."""
    parts = []
    for at, info in reader.partitions([TOPIC]).items():
        offset = info.start
        while offset < info.end:
            for batch in reader.read(TopicPartition(*at), offset, READ_ROWS, READ_BYTES):
                parts.append(batch.frame.select("time", "value"))
                offset = batch.end
    reader.close()
    return pl.concat(parts)
