"""The `window` work in Bytewax: `python window.py EVENTS OUT [documented]`.

Reads JSON lines, keeps `value >= 10`, folds 10 s tumbling event-time windows by key (count,
mean, max), writes them to OUT as CSV and prints one JSON line.

Chosen because they were the fastest of what was tried: batches of 65 536 lines decoded by msgspec
into structs (against json.loads per line: 2 x), filter and key in the same batch step,
`fold_window` with `ordered=False` (against ordered: 1.2 x; against `collect_window`: 2 x), one
process (a cluster of two: 0.3 x, every item crosses a socket as a pickle).

With `documented` the same work is written as Bytewax's guide does: its `FileSource` with its own
batches of 1 000 lines, one step each for parsing, filter, key and window.
"""

import csv
import json
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path

import bytewax.operators as op
import bytewax.operators.windowing as w
import msgspec
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

BATCH_ROWS = 65_536
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FROZEN = datetime(2030, 1, 1, tzinfo=UTC)
SIZE_US = 10_000_000
THRESHOLD = 10.0
WINDOWER = w.TumblingWindower(length=timedelta(seconds=10), align_to=EPOCH)


class Event(msgspec.Struct, gc=False):
    """One line."""

    key: str
    time: int
    value: float


class Run:
    """When the first byte was taken, and what came out."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.rows = raw.count(b"\n")
        self.chunk = len(raw) * BATCH_ROWS // self.rows
        self.started = 0.0
        self.cpu = 0.0
        self.results: list = []

    def batches(self) -> Iterator[bytes]:
        """Yield the bytes in pieces of about `BATCH_ROWS` lines."""
        self.started, self.cpu = time.perf_counter(), time.process_time()
        at = 0
        while at < len(self.raw):
            end = self.raw.find(b"\n", min(at + self.chunk, len(self.raw) - 1)) + 1
            yield self.raw[at:end]
            at = end

    def timed(self, line: str) -> dict:
        """Parse one line; the first starts the clock."""
        if not self.started:
            self.started, self.cpu = time.perf_counter(), time.process_time()
        return json.loads(line)


def fold(state: list, item: tuple[datetime, float]) -> list:
    """Add one item to [count, sum, max]."""
    value = item[1]
    state[0] += 1
    state[1] += value
    if value > state[2]:  # noqa: PLR1730 - max() costs a fifth of the fold
        state[2] = value
    return state


def fold_event(state: list, event: dict) -> list:
    """Add one event to [count, sum, max]."""
    value = event["value"]
    return [state[0] + 1, state[1] + value, max(state[2], value)]


def documented(run: Run, events: str) -> Dataflow:
    """Return the dataflow as the guide would write it."""
    clock = w.EventClock(
        ts_getter=lambda event: EPOCH + timedelta(microseconds=event["time"]),
        wait_for_system_duration=timedelta(seconds=2),
        now_getter=lambda: FROZEN,
        to_system_utc=lambda _: None,
    )
    dataflow = Dataflow("window")
    lines = op.input("in", dataflow, FileSource(events))
    parsed = op.map("parse", lines, run.timed)
    kept = op.filter("filter", parsed, lambda event: event["value"] >= THRESHOLD)
    windows = w.fold_window(
        "window",
        op.key_on("key", kept, lambda event: event["key"]),
        clock,
        WINDOWER,
        builder=lambda: [0, 0.0, float("-inf")],
        folder=fold_event,
        merger=lambda left, _: left,
    )
    op.output("out", windows.down, sink(run))
    return dataflow


def sink(run: Run) -> DynamicSink:
    """Return where results are collected."""

    class Results(StatelessSinkPartition):
        def write_batch(self, items: list) -> None:
            run.results.extend(items)

    class Sink(DynamicSink):
        def build(self, *_: object) -> Results:
            return Results()

    return Sink()


def flow(run: Run) -> Dataflow:
    """Return the fastest dataflow found, over the bytes of `run`."""

    class Lines(StatelessSourcePartition):
        def __init__(self) -> None:
            self.batches = run.batches()

        def next_batch(self) -> list[bytes]:
            return [next(self.batches)]

    class Source(DynamicSource):
        def build(self, *_: object) -> Lines:
            return Lines()

    decoder = msgspec.json.Decoder(Event)

    def decode(pieces: list[bytes]) -> list[tuple[str, tuple[datetime, float]]]:
        return [
            (event.key, (EPOCH + timedelta(0, 0, event.time), event.value))
            for piece in pieces
            for event in decoder.decode_lines(piece)
            if event.value >= THRESHOLD
        ]

    # The watermark follows event time alone: the bench is not a race against the wall clock.
    clock = w.EventClock(
        ts_getter=itemgetter(0),
        wait_for_system_duration=timedelta(seconds=2),
        now_getter=lambda: FROZEN,
        to_system_utc=lambda _: None,
    )
    dataflow = Dataflow("window")
    items = op.flat_map_batch("decode", op.input("in", dataflow, Source()), decode)
    windows = w.fold_window(
        "window",
        items,
        clock,
        WINDOWER,
        builder=lambda: [0, 0.0, float("-inf")],
        folder=fold,
        merger=lambda left, _: left,
        ordered=False,
    )
    op.output("out", windows.down, sink(run))
    return dataflow


def main(events: str, out: str, variant: str = "") -> None:
    """Run once over the file `events`, which is read before the clock starts."""
    began = time.perf_counter()
    run = Run(Path(events).read_bytes())
    run_main(documented(run, events) if variant else flow(run))
    ended, cpu = time.perf_counter(), time.process_time()
    with Path(out).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "window_start", "count", "mean", "max"])
        for key, (window, (count, total, highest)) in run.results:
            rows.writerow([key, window * SIZE_US, count, total / count, highest])
    report = {
        "name": f"bytewax {variant}".rstrip(),
        "version": version("bytewax"),
        "rows": run.rows,
        "seconds": ended - run.started,
        "whole_s": ended - began,
        "cpu_s": cpu - run.cpu,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
