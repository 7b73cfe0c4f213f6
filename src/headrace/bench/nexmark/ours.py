"""The Nexmark queries in headrace: `python -m headrace.bench.nexmark.ours FOLDER OUT QUERY...`.

The real engine on the log in memory. The events lie in memory as frames when the clock starts; they
are committed in the order of their times, up to 65 536 a step, as a gateway does, and the engine
steps over each. The clock stops when the last answer lies in the output topic. Prints a JSON line
per query like every contender in bench/peers, and writes its answers to OUT/<query>.csv.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from headrace.bench.nexmark.events import EVENTS_PER_S, FIRST_TIME_US, SCHEMAS
from headrace.bench.nexmark.queries import OUTPUT, QUERIES, Query
from headrace.core.log import PARTITIONS_PER_SLOT, Append, Commit, Reader, TopicPartition, TopicSpec
from headrace.log import MemoryLog
from headrace.runners.embedded.engine import ENGINE_SLOT, Engine

STEP_ROWS: Final = 65_536


def read(folder: Path, kind: str) -> pl.DataFrame:
    """Return the events of `kind` from its CSV file, whose times are microseconds."""
    schema = SCHEMAS[kind]
    times = [name for name, dtype in schema.items() if dtype == pl.Datetime]
    stored = pl.Schema({**schema, **dict.fromkeys(times, pl.Int64())})
    return pl.read_csv(folder / f"{kind}.csv", schema=stored).cast(schema).rechunk()


def batches(events: Mapping[str, pl.DataFrame]) -> Iterator[dict[str, pl.DataFrame]]:
    """Cut events into stretches of time that hold `STEP_ROWS` events of all kinds."""
    span = STEP_ROWS * 1_000_000 // EVENTS_PER_S
    times = {kind: frame["date_time"].dt.epoch("us").to_numpy() for kind, frame in events.items()}
    last = max(int(each[-1]) for each in times.values())
    for begin in range(FIRST_TIME_US, last + 1, span):
        yield {
            kind: frame[slice(*np.searchsorted(times[kind], [begin, begin + span]))]
            for kind, frame in events.items()
        }


def answers(reader: Reader) -> pl.DataFrame:
    """Return every row of the output topic."""
    at = TopicPartition(OUTPUT, ENGINE_SLOT * PARTITIONS_PER_SLOT)
    end = reader.partitions([OUTPUT])[at].end
    frames, offset = [], 0
    while offset < end:
        for batch in reader.read(at, offset, end - offset, 1 << 40):
            frames.append(batch.frame)
            offset = batch.end
    return pl.concat(frames)


def run(query: Query, events: Mapping[str, pl.DataFrame]) -> tuple[pl.DataFrame, dict[str, object]]:
    """Run one query; return its answers and figures."""
    began = time.perf_counter()
    log = MemoryLog()
    writer = log.writer("gateway-0")
    plan = query.app().plan()
    for topic in plan.topics:
        writer.create(TopicSpec(topic.name, topic.schema.columns))
    engine = Engine(plan, log)
    engine.start()
    cut = list(batches(events))
    steps_ns = []
    started, cpu = time.perf_counter(), time.process_time()
    for batch in cut:
        step_began = time.perf_counter_ns()
        now = time.time_ns() // 1_000
        appends = [Append(k, 0, rows, rows.height, arrival_us=now) for k, rows in batch.items()]
        writer.commit([Commit(appends=appends)])
        while engine.step_once():
            pass
        steps_ns.append(time.perf_counter_ns() - step_began)
    engine.finish()
    ended, cpu_ended = time.perf_counter(), time.process_time()
    found = answers(log.reader())
    engine.close()
    return found, {
        "query": query.name,
        "name": "headrace",
        "version": "",
        "rows": sum(frame.height for frame in events.values()),
        "seconds": ended - started,
        "whole_s": ended - began,
        "cpu_s": cpu_ended - cpu,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps_ns": steps_ns,
    }


def main(folder: str, out: str, names: Sequence[str]) -> None:
    """Run the queries `names`, each once, over the events in `folder`."""
    for name in names:
        query = QUERIES[name]
        found, report = run(query, {kind: read(Path(folder), kind) for kind in query.reads})
        if "is_final" in found.columns:
            found = found.filter("is_final")
        found.select(query.columns).with_columns(pl.selectors.datetime().dt.epoch("us")).write_csv(
            Path(out) / f"{name}.csv"
        )
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
