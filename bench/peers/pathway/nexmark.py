"""Nexmark queries in Pathway: `python nexmark.py FOLDER OUT QUERY...`.

Events come from CSV files through Pathway's own reader in static mode, which parses in Rust, with
two workers; that reading is in the figure, as rows handed over from Python would cost more. The
columns that a query does not need are not read. Each query runs first into a CSV of its answers and
then into nothing, timed.

q4 and q6 are missing: both need the rows of an auction up to a time of its own, in order. q11 is
missing for its time: session windows gave the right answer after 47 s of processor time for 184 000
bids.
"""

import csv
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("PATHWAY_THREADS", "2")

import pathway as pw
from pathway.internals.parse_graph import G

TEN_S = 10_000_000
NUMBERS = {"number", "seller", "category", "auction", "bidder", "price", "date_time", "expires"}


def read(folder: Path, kind: str, columns: str) -> pw.Table:
    """Return the events of `kind` with some columns."""
    types = {name: int if name in NUMBERS else str for name in columns.split()}
    schema = pw.schema_from_types(**types)
    return pw.io.csv.read(folder / f"{kind}.csv", schema=schema, mode="static")


def q0(folder: Path) -> pw.Table:
    """Pass bids through."""
    return read(folder, "bid", "auction bidder price date_time extra")


def q1(folder: Path) -> pw.Table:
    """Convert prices."""
    bid = read(folder, "bid", "auction bidder price date_time extra")
    return bid.select(
        pw.this.auction,
        pw.this.bidder,
        pw.this.date_time,
        pw.this.extra,
        price=pw.this.price * 0.908,
    )


def q2(folder: Path) -> pw.Table:
    """Keep bids on some auctions."""
    return read(folder, "bid", "auction date_time price").filter(pw.this.auction % 123 == 0)


def q3(folder: Path) -> pw.Table:
    """Join sellers of some states with their auctions of one category."""
    person = read(folder, "person", "number name city state").filter(
        (pw.this.state == "OR") | (pw.this.state == "ID") | (pw.this.state == "CA")
    )
    auction = read(folder, "auction", "number seller category").filter(pw.this.category == 10)  # noqa: PLR2004
    return auction.join(person, auction.seller == person.number).select(
        auction=auction.number, name=person.name, city=person.city, state=person.state
    )


def q5(folder: Path) -> pw.Table:
    """Find the auctions with most bids in each window."""
    bid = read(folder, "bid", "auction date_time")
    counts = bid.windowby(
        bid.date_time,
        window=pw.temporal.sliding(hop=2_000_000, duration=TEN_S),
        instance=bid.auction,
    ).reduce(
        auction=pw.this["_pw_instance"], until=pw.this["_pw_window_end"], bids=pw.reducers.count()
    )
    most = counts.groupby(counts.until).reduce(counts.until, most=pw.reducers.max(counts.bids))
    return counts.join(most, counts.until == most.until, counts.bids == most.most).select(
        counts.until, counts.auction, counts.bids
    )


def q7(folder: Path) -> pw.Table:
    """Find the highest bids of each window."""
    bid = read(folder, "bid", "auction bidder price date_time")
    bid = bid.with_columns(window=pw.this.date_time // TEN_S)
    highest = bid.groupby(bid.window).reduce(bid.window, highest=pw.reducers.max(bid.price))
    return bid.join(highest, bid.window == highest.window, bid.price == highest.highest).select(
        bid.auction, bid.bidder, bid.price, bid.date_time
    )


def q8(folder: Path) -> pw.Table:
    """Find persons who begin to sell in the window in which they come."""
    person = read(folder, "person", "number name date_time")
    person = person.with_columns(window=pw.this.date_time // TEN_S)
    auction = read(folder, "auction", "seller date_time")
    auction = auction.with_columns(window=pw.this.date_time // TEN_S)
    sellers = auction.groupby(auction.seller, auction.window).reduce(auction.seller, auction.window)
    return person.join(
        sellers, person.number == sellers.seller, person.window == sellers.window
    ).select(person.number, person.name, window_start=person.window * TEN_S)


QUERIES: dict[str, tuple[Callable[[Path], pw.Table], tuple[str, ...]]] = {
    "q0": (q0, ("bid",)),
    "q1": (q1, ("bid",)),
    "q2": (q2, ("bid",)),
    "q3": (q3, ("person", "auction")),
    "q5": (q5, ("bid",)),
    "q7": (q7, ("bid",)),
    "q8": (q8, ("person", "auction")),
}


def answer(query: Callable[[Path], pw.Table], folder: Path, file: Path) -> None:
    """Run a query and write its answer, without the columns that Pathway adds."""
    G.clear()
    raw = file.with_suffix(".raw")
    pw.io.csv.write(query(folder), raw)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    with raw.open(newline="") as given, file.open("w", newline="") as kept:
        rows = csv.DictReader(given)
        names = [name for name in rows.fieldnames or () if name not in ("time", "diff")]
        writer = csv.DictWriter(kept, names, extrasaction="ignore")
        kept.write(",".join("id" if name == "number" else name for name in names) + "\n")
        for row in rows:
            if row["diff"] != "1":
                raise SystemExit(f"{file.stem} took a row back in static mode")
            writer.writerow(row)


def main(folder: str, out: str, names: list[str]) -> None:
    """Run those of the queries `names` that are here, each once timed."""
    lines = {}
    for name in names:
        if name not in QUERIES:
            continue
        query, kinds = QUERIES[name]
        answer(query, Path(folder), Path(out) / f"{name}.csv")
        for kind in kinds:
            if kind not in lines:
                lines[kind] = (Path(folder) / f"{kind}.csv").read_bytes().count(b"\n") - 1
        G.clear()
        pw.io.null.write(query(Path(folder)))
        started, cpu = time.perf_counter(), time.process_time()
        pw.run(monitoring_level=pw.MonitoringLevel.NONE)
        ended, cpu_ended = time.perf_counter(), time.process_time()
        report = {
            "query": name,
            "name": "pathway",
            "version": version("pathway"),
            "rows": sum(lines[kind] for kind in kinds),
            "seconds": ended - started,
            "whole_s": ended - started,
            "cpu_s": cpu_ended - cpu,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
