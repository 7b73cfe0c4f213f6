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
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from headrace.bench.nexmark.events import SCHEMAS
from headrace.bench.nexmark.queries import OUTPUT, QUERIES, Query
from headrace.bench.stepped import stepped, stretches


def read(folder: Path, kind: str) -> pl.DataFrame:
    """Return the events of `kind` from its CSV file, see `write_csv` of the contest."""
    schema = SCHEMAS[kind]
    stored = {
        "number" if name == "id" else name: pl.Int64() if dtype.is_temporal() else dtype
        for name, dtype in schema.items()
    }
    rows = pl.read_csv(folder / f"{kind}.csv", schema=pl.Schema(stored))
    return rows.rename({"number": "id"}, strict=False).cast(schema).rechunk()


def run(query: Query, events: Mapping[str, pl.DataFrame]) -> tuple[pl.DataFrame, dict[str, object]]:
    """Run one query twice; return the answers and figures of the second time."""
    batches = list(stretches(events, "date_time"))
    # What is imported when first used is not measured; Pathway runs twice too, Flink more often.
    stepped(query.app(), batches, OUTPUT)
    done = stepped(query.app(), batches, OUTPUT)
    return done.output, {
        "query": query.name,
        "name": "headrace",
        "version": "",
        "rows": sum(frame.height for frame in events.values()),
        "seconds": done.seconds,
        "cpu_s": done.cpu_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps_ns": done.steps_ns,
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
