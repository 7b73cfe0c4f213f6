"""`log`: durable commits of 1 000 rows, how soon others have them, and what waiting costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import polars as pl

from headrace.bench.log_writer import Settings, arguments
from headrace.bench.processes import run_client
from headrace.bench.result import Result, quantiles, scratch
from headrace.core.errors import BugError
from headrace.core.log import Append, Commit, TopicPartition, TopicSpec
from headrace.core.rows import encode_rows
from headrace.log import SqliteLog

ROWS = 1_000
COMMITS, QUICK_COMMITS = 5_000, 500
TARGET_COMMITS_PER_S = 1_000
TAIL_PACES = (20, 200)
TAIL_S, QUICK_TAIL_S = 10, 2
TARGET_TAIL_MS = 3.0
IDLE_S, QUICK_IDLE_S = 5.0, 1.0
TARGET_IDLE_SHARE = 0.02

_PLENTY = 1 << 40
_TICKS = TopicSpec("ticks", pl.Schema({"sent_ns": pl.Int64}))

Say = Callable[[str], None]


def run(say: Say, *, quick: bool = False) -> Result:
    """Measure commits first, then tailing at two paces, then a reader that waits in vain.

    Raises:
        BugError: A row that was committed was not read, or not in its place.
    """
    commits = measure_commits(QUICK_COMMITS if quick else COMMITS)
    say(f"{commits.detail}: {commits.rows_per_s:,.0f} rows/s")
    parts = []
    for pace in TAIL_PACES:
        tail = measure_tail(pace, QUICK_TAIL_S if quick else TAIL_S)
        say(f"{tail.detail}: p95 {tail.p95_ms:.2f} ms")
        parts.append(tail)
    idle = measure_idle(QUICK_IDLE_S, 1.0) if quick else measure_idle(IDLE_S, 10.0)
    say(idle.detail)
    return Result(
        bench=commits.bench,
        rows_per_s=commits.rows_per_s,
        p50_ms=commits.p50_ms,
        p95_ms=commits.p95_ms,
        p99_ms=commits.p99_ms,
        cpu_s_per_million_rows=commits.cpu_s_per_million_rows,
        checked=True,
        target=commits.target,
        met=commits.met,
        detail=commits.detail,
        parts=(*parts, idle),
    )


def measure_commits(commits: int) -> Result:
    """Commit one 1 000-row payload after the other, each synced to the disk."""
    payload = encode_rows(_vehicles(ROWS))
    with scratch() as folder:
        log = SqliteLog(folder)
        writer = log.writer("gateway-0")
        writer.create(TopicSpec("positions", _vehicles(1).schema))
        took = []
        cpu, begin = time.process_time(), time.monotonic()
        for _ in range(commits):
            start = time.monotonic_ns()
            writer.commit([Commit([Append("positions", 0, payload, ROWS)])])
            took.append(time.monotonic_ns() - start)
        seconds, cpu_s = time.monotonic() - begin, time.process_time() - cpu
        rows = _count(log, "positions")
        writer.close()
        log.close()
    if rows != commits * ROWS:
        raise BugError(f"{commits * ROWS} rows were committed and {rows} are there")
    spread, per_s = quantiles(took), commits / seconds
    return Result(
        bench="log",
        rows_per_s=rows / seconds,
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        cpu_s_per_million_rows=cpu_s / rows * 1e6,
        target=f"≥ {TARGET_COMMITS_PER_S:,} durable commits/s of {ROWS:,} rows",
        met=per_s >= TARGET_COMMITS_PER_S,
        detail=f"{per_s:,.0f} durable commits/s of {ROWS:,} rows ({len(payload):,} bytes)",
    )


def measure_tail(pace: int, seconds: int) -> Result:
    """Let another process commit `pace` times a second; time each row's way into a frame here."""
    with scratch() as folder:
        _create(Path(folder), _TICKS)
        settings = Settings(folder, _TICKS.name, pace * seconds, ROWS, pace)
        with ThreadPoolExecutor(1) as pool:
            client = "headrace.bench.log_writer"
            writing = pool.submit(run_client, client, arguments(settings), 60 + 2 * seconds)
            arrived = _follow(SqliteLog(folder), settings.commits, writing)
            took = writing.result()["took_ns"]
    spread = quantiles([whole - commit for whole, commit in zip(arrived, took, strict=True)])
    return Result(
        bench=f"log, tail at {pace}/s",
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        checked=True,
        target=f"p95 ≤ {TARGET_TAIL_MS:.0f} ms",
        met=spread.p95 <= TARGET_TAIL_MS,
        detail=f"from durable in one process to a frame in another, {pace} commits/s; with the"
        f" commit itself p95 {quantiles(arrived).p95:.1f} ms",
    )


def measure_idle(seconds: float, settle_s: float) -> Result:
    """Wait for commits that do not come, with four owners to watch; report the share of a core."""
    with scratch() as folder:
        log = SqliteLog(folder)
        for slot, owner in enumerate(("gateway-0", "gateway-1", "engine-a", "connect")):
            log.writer(owner, slot).close()
        reader = log.reader()
        reader.partitions()
        # The pace slackens until ten seconds have passed without a commit.
        reader.wait(settle_s)
        cpu = time.process_time()
        reader.wait(seconds)
        share = (time.process_time() - cpu) / seconds
        reader.close()
        log.close()
    return Result(
        bench="log, idle",
        checked=True,
        target=f"< {TARGET_IDLE_SHARE:.0%} of a core",
        met=share < TARGET_IDLE_SHARE,
        detail=f"waiting without commits takes {share:.2%} of a core",
    )


def _follow(log: SqliteLog, commits: int, writing: Future[dict[str, object]]) -> list[int]:
    reader, at, offset = log.reader(), TopicPartition(_TICKS.name, 0), 0
    latencies: list[int] = []
    while len(latencies) < commits:
        if not reader.wait(5.0) and writing.done():
            raise BugError(f"{commits} commits were made and {len(latencies)} arrived")
        for batch in reader.read(at, offset, _PLENTY, _PLENTY):
            latencies.append(time.monotonic_ns() - int(batch.frame["sent_ns"][0]))
            offset = batch.end
    if offset != commits * ROWS:
        raise BugError(f"{commits * ROWS} rows were committed and {offset} arrived")
    reader.close()
    log.close()
    return latencies


def _create(folder: Path, spec: TopicSpec) -> None:
    log = SqliteLog(folder)
    writer = log.writer("gateway-0")
    writer.create(spec)
    writer.close()
    log.close()


def _count(log: SqliteLog, topic: str) -> int:
    reader, rows, at = log.reader(), 0, TopicPartition(topic, 0)
    while batches := reader.read(at, rows, _PLENTY, 1 << 26):
        rows = batches[-1].end
    reader.close()
    return rows


def _vehicles(rows: int) -> pl.DataFrame:
    """Positions as the demonstration's vehicles send them."""
    index = pl.int_range(rows, eager=True)
    return pl.DataFrame(
        {
            "vehicle_id": [f"auv-{number % 97:05d}" for number in range(rows)],
            "time": (index * 1_000 + 1_700_000_000_000_000).cast(pl.Datetime("us", "UTC")),
            "latitude": (index * 0.618).sin() * 90,
            "longitude": (index * 0.414).cos() * 180,
            "depth_m": ((index * 0.732).sin() * 100).round(1),
        }
    )


def main() -> None:
    """Run the bench and print its lines."""
    from headrace.bench.result import Conditions, placed

    result = placed(run(lambda _: None), Conditions.now(), quick=False)
    print("\n".join(result.lines()))  # noqa: T201 - the report


if __name__ == "__main__":
    main()
