"""The `window` work in headrace: `python -m headrace.bench.window_run EVENTS OUT`.

The real engine on the log in memory. JSON lines are decoded and committed to the topic in batches
of 65 536 rows, as a gateway does, and the engine steps over each. Prints one JSON line like every
contender in bench/peers.

One thread does both in turn. Decoding holds the interpreter lock, so a thread of its own starves
the engine, and on two cores processes of their own lose what they gain by carrying rows over.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from headrace.bench import apps
from headrace.bench.events import RESULT_SCHEMA
from headrace.codecs.json_reader import JsonReader
from headrace.core.log import PARTITIONS_PER_SLOT, Append, Commit, Reader, TopicPartition, TopicSpec
from headrace.core.schema import RowSchema
from headrace.log import MemoryLog
from headrace.runners.embedded.engine import ENGINE_SLOT, Engine

BATCH_ROWS = 65_536


class Feed:
    """Decodes pieces of JSON lines and commits them to the topic `events`."""

    def __init__(self, log: MemoryLog, schema: RowSchema) -> None:
        self._writer = log.writer("gateway-0")
        self._schema = schema
        self._reader = JsonReader(schema)
        self._writer.create(TopicSpec("events", schema.columns))
        self.rejected = 0

    def commit(self, piece: bytes) -> None:
        """Commit one piece; rows that are refused are counted."""
        decoded = self._reader.lines(piece)
        good, refused = self._schema.validate(decoded.frame)
        self.rejected += decoded.rejected.height + refused.height
        append = Append("events", 0, good, good.height, arrival_us=time.time_ns() // 1_000)
        self._writer.commit([Commit(appends=[append])])


def pieces(raw: bytes, rows: int) -> Iterator[bytes]:
    """Cut JSON lines into pieces of about `BATCH_ROWS` lines."""
    size, at = len(raw) * BATCH_ROWS // rows, 0
    while at < len(raw):
        end = raw.find(b"\n", min(at + size, len(raw) - 1)) + 1
        yield raw[at:end]
        at = end


def results(reader: Reader) -> pl.DataFrame:
    """Return every row of the output topic in `RESULT_SCHEMA`."""
    at = TopicPartition("windows", ENGINE_SLOT * PARTITIONS_PER_SLOT)
    end = reader.partitions(["windows"])[at].end
    batches = []
    offset = 0
    while offset < end:
        for batch in reader.read(at, offset, end - offset, 1 << 40):
            batches.append(batch.frame)
            offset = batch.end
    frame = pl.concat(batches)
    return frame.with_columns(pl.col("window_start").dt.epoch("us")).select(
        pl.col(name).cast(dtype) for name, dtype in RESULT_SCHEMA.items()
    )


def main(events: str, out: str) -> None:
    """Run once over the file `events`, which is read before the clock starts."""
    began = time.perf_counter()
    raw = Path(events).read_bytes()
    rows = raw.count(b"\n")
    log = MemoryLog()
    plan = apps.window.plan()
    feed = Feed(log, plan.topics[0].schema)
    engine = Engine(plan, log)
    engine.start()
    started, cpu = time.perf_counter(), time.process_time()
    for piece in pieces(raw, rows):
        feed.commit(piece)
        engine.step_once()
    engine.finish()
    frame = results(log.reader())
    ended, cpu_ended = time.perf_counter(), time.process_time()
    frame.write_csv(out)
    engine.close()
    if feed.rejected:
        raise SystemExit(f"{feed.rejected} of {rows} rows were rejected")
    report = {
        "name": "headrace",
        "version": "",
        "rows": rows,
        "seconds": ended - started,
        "whole_s": ended - began,
        "cpu_s": cpu_ended - cpu,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps": engine.step,
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
