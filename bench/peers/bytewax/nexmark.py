"""Nexmark queries in Bytewax: `python nexmark.py FOLDER OUT QUERY...`.

Events lie in memory as tuples, their times as datetimes, when the clock starts; they come in
batches of 65 536 in the order of their times. Windows are folds with `ordered=False`, filters and
keys are made in the batch step, all as in `window.py`. The clock stops with the last result.

q4 and q6 are missing: the winning bid of an auction that closes at a time of its own has no window
in Bytewax. q5 takes the best of each window when the input ends, which costs it less than windows.
"""

import csv
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path

import bytewax.operators as op
import bytewax.operators.windowing as w
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

BATCH_ROWS = 65_536
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FROZEN = datetime(2030, 1, 1, tzinfo=UTC)
TEN_S = timedelta(seconds=10)
TUMBLING = w.TumblingWindower(length=TEN_S, align_to=EPOCH)
SLIDING = w.SlidingWindower(length=TEN_S, offset=timedelta(seconds=2), align_to=EPOCH)
SESSION = w.SessionWindower(gap=TEN_S)
NUMBERS = {"number", "initial_bid", "reserve", "seller", "category", "auction", "bidder", "price"}
TIMES = {"date_time", "expires"}


def micros(moment: datetime) -> int:
    """Return microseconds since the epoch."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def read(folder: Path, kind: str) -> list[tuple]:
    """Return (time, values by column ...) of every event of `kind`, in order."""
    with (folder / f"{kind}.csv").open(newline="") as file:
        lines = csv.reader(file)
        columns = next(lines)
        kinds = [int if c in NUMBERS else moment if c in TIMES else str for c in columns]
        place = columns.index("date_time")
        rows = []
        for line in lines:
            values = [kind(value) for kind, value in zip(kinds, line, strict=True)]
            rows.append((values[place], *values))
    return rows


def moment(text: str) -> datetime:
    """Return the time that `text` gives in microseconds."""
    return EPOCH + timedelta(0, 0, int(text))


class Run:
    """One query's input, what came out, and when the first batch was taken."""

    def __init__(self, events: list[tuple]) -> None:
        self.events = events
        self.started = 0.0
        self.cpu = 0.0
        self.results: list = []

    def batches(self) -> Iterator[list[tuple]]:
        """Yield the events."""
        self.started, self.cpu = time.perf_counter(), time.process_time()
        for at in range(0, len(self.events), BATCH_ROWS):
            yield self.events[at : at + BATCH_ROWS]

    def source(self) -> DynamicSource:
        """Return where they come from."""
        run = self

        class Events(StatelessSourcePartition):
            def __init__(self) -> None:
                self.batches = run.batches()

            def next_batch(self) -> list[tuple]:
                return next(self.batches)

        class Source(DynamicSource):
            def build(self, *_: object) -> Events:
                return Events()

        return Source()

    def sink(self) -> DynamicSink:
        """Return where results are collected."""
        run = self

        class Results(StatelessSinkPartition):
            def write_batch(self, items: list) -> None:
                run.results.extend(items)

        class Sink(DynamicSink):
            def build(self, *_: object) -> Results:
                return Results()

        return Sink()


def windows(
    keyed: Stream, windower: object, builder: Callable, folder: Callable, merger: Callable
) -> Stream:
    """Fold windows whose watermark follows event time alone, four seconds behind."""
    clock = w.EventClock(
        ts_getter=itemgetter(0),
        wait_for_system_duration=timedelta(seconds=4),
        now_getter=lambda: FROZEN,
        to_system_utc=lambda _: None,
    )
    out = w.fold_window("window", keyed, clock, windower, builder, folder, merger, ordered=False)
    return out.down


# A bid is (time, auction, bidder, price, channel, url, date_time, extra).


def q0(events: Stream) -> Stream:
    """Pass bids through."""
    return op.flat_map_batch("q0", events, lambda b: [(r[1], r[2], r[3], r[6], r[7]) for r in b])


def q1(events: Stream) -> Stream:
    """Convert prices."""
    return op.flat_map_batch(
        "q1", events, lambda b: [(r[1], r[2], r[6], r[7], r[3] * 0.908) for r in b]
    )


def q2(events: Stream) -> Stream:
    """Keep bids on some auctions."""
    return op.flat_map_batch(
        "q2", events, lambda b: [(r[1], r[6], r[3]) for r in b if r[1] % 123 == 0]
    )


def q3(events: Stream) -> Stream:
    """Join sellers of some states with their auctions of one category, for ever."""

    def chosen(batch: list[tuple]) -> list[tuple]:
        # Persons have nine values here, auctions eleven.
        return [
            (str(row[1]), (row[2], row[5], row[6]))
            if len(row) == 9  # noqa: PLR2004
            else (str(row[8]), row[1])
            for row in batch
            if (row[6] in ("OR", "ID", "CA") if len(row) == 9 else row[9] == 10)  # noqa: PLR2004
        ]

    def pair(state: list | None, item: tuple | int) -> tuple[list, list]:
        state = state or [None, []]
        if isinstance(item, tuple):
            state[0] = item
            out, state[1] = [(auction, *item) for auction in state[1]], []
        elif state[0] is None:
            state[1].append(item)
            out = []
        else:
            out = [(item, *state[0])]
        return state, out

    pairs = op.stateful_flat_map("q3", op.flat_map_batch("chosen", events, chosen), pair)
    return op.flat_map_batch("values", pairs, lambda batch: [value for _, value in batch])


def q5(events: Stream) -> Stream:
    """Find the auctions with most bids in each window."""
    keyed = op.flat_map_batch("key", events, lambda b: [(str(r[1]), (r[0],)) for r in b])
    counts = windows(keyed, SLIDING, int, lambda n, _: n + 1, lambda a, b: a + b)
    by_window = op.flat_map_batch(
        "by", counts, lambda b: [(str(number), (n, key)) for key, (number, n) in b]
    )

    def best(state: tuple[int, list], item: tuple[int, str]) -> tuple[int, list]:
        if item[0] > state[0]:
            return item[0], [item[1]]
        if item[0] == state[0]:
            state[1].append(item[1])
        return state

    tops = op.fold_final("best", by_window, lambda: (0, []), best)
    return op.flat_map_batch(
        "values",
        tops,
        lambda batch: [
            (micros(EPOCH + int(number) * timedelta(seconds=2) + TEN_S), int(auction), bids)
            for number, (bids, auctions) in batch
            for auction in auctions
        ],
    )


def q7(events: Stream) -> Stream:
    """Find the highest bids of each window."""

    def highest(state: list, row: tuple) -> list:
        if not state or row[3] > state[0][3]:
            return [row]
        if row[3] == state[0][3]:
            state.append(row)
        return state

    keyed = op.flat_map_batch("key", events, lambda b: [("", r) for r in b])
    tops = windows(keyed, TUMBLING, list, highest, lambda a, b: a + b)
    return op.flat_map_batch(
        "values", tops, lambda b: [(r[1], r[2], r[3], r[6]) for _, (_, rows) in b for r in rows]
    )


def q8(events: Stream) -> Stream:
    """Find persons who begin to sell in the window in which they come."""

    def both(state: list, item: tuple) -> list:
        if item[1] is None:
            state[1] = True
        else:
            state[0] = item[1]
        return state

    keyed = op.flat_map_batch(
        "key",
        events,
        lambda batch: [
            (str(r[1]), (r[0], r[2])) if len(r) == 9 else (str(r[8]), (r[0], None))  # noqa: PLR2004
            for r in batch
        ],
    )
    found = windows(keyed, TUMBLING, lambda: [None, False], both, lambda a, _: a)
    return op.flat_map_batch(
        "values",
        found,
        lambda batch: [
            (int(key), name, number * 10_000_000)
            for key, (number, (name, sells)) in batch
            if sells and name is not None
        ],
    )


def q11(events: Stream) -> Stream:
    """Count the bids of each bidder's session."""

    def grow(state: list, item: tuple) -> list:
        if state[2]:
            return [min(state[0], item[0]), max(state[1], item[0]), state[2] + 1]
        return [item[0], item[0], 1]

    def merge(a: list, b: list) -> list:
        return [min(a[0], b[0]), max(a[1], b[1]), a[2] + b[2]]

    keyed = op.flat_map_batch("key", events, lambda b: [(str(r[2]), (r[0],)) for r in b])
    found = windows(keyed, SESSION, lambda: [FROZEN, EPOCH, 0], grow, merge)
    return op.flat_map_batch(
        "values",
        found,
        lambda batch: [
            (int(key), micros(first), micros(last + TEN_S), n)
            for key, (_, (first, last, n)) in batch
        ],
    )


QUERIES = {
    "q0": (q0, ("bid",), ("auction", "bidder", "price", "date_time", "extra")),
    "q1": (q1, ("bid",), ("auction", "bidder", "date_time", "extra", "price")),
    "q2": (q2, ("bid",), ("auction", "date_time", "price")),
    "q3": (q3, ("person", "auction"), ("auction", "name", "city", "state")),
    "q5": (q5, ("bid",), ("until", "auction", "bids")),
    "q7": (q7, ("bid",), ("auction", "bidder", "price", "date_time")),
    "q8": (q8, ("person", "auction"), ("id", "name", "window_start")),
    "q11": (q11, ("bid",), ("bidder", "window_start", "window_end", "bids")),
}


def main(folder: str, out: str, names: list[str]) -> None:
    """Run those of the queries `names` that are here, each once."""
    events: dict[str, list[tuple]] = {}
    for name in names:
        if name not in QUERIES:
            continue
        query, kinds, columns = QUERIES[name]
        for kind in kinds:
            if kind not in events:
                events[kind] = read(Path(folder), kind)
        mixed = [row for kind in kinds for row in events[kind]]
        if len(kinds) > 1:
            mixed.sort(key=itemgetter(0))
        run = Run(mixed)
        dataflow = Dataflow(name)
        op.output("out", query(op.input("in", dataflow, run.source())), run.sink())
        began = time.perf_counter()
        run_main(dataflow)
        ended, cpu = time.perf_counter(), time.process_time()
        with (Path(out) / f"{name}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(columns)
            rows.writerows(
                [micros(v) if isinstance(v, datetime) else v for v in result]
                for result in run.results
            )
        report = {
            "query": name,
            "name": "bytewax",
            "version": version("bytewax"),
            "rows": len(mixed),
            "seconds": ended - run.started,
            "whole_s": ended - began,
            "cpu_s": cpu - run.cpu,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
