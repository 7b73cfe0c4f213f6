"""A process that writes numbered rows until it is killed: `python -m ... FOLDER [POINT]`.

Every commit adds the same number of rows to the topics `kept` and `archived`, a journal record and
a value, all naming the commit; when it is durable, its number goes to standard output. POINT is
`module:function:before|after:N`: the process kills itself before or after the N-th such call.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import polars as pl

from headrace.core.log import Append, Commit, Put, TopicSpec
from headrace.log import SqliteLog

SCHEMA = pl.Schema({"number": pl.Int64, "filler": pl.String})
ROWS = 40
SEGMENT_BYTES = 40_000
MOST_COMMITS = 3000


def die_at(point: str) -> None:
    module_name, path, side, count = point.split(":")
    owner: Any = importlib.import_module(module_name)
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    setattr(owner, name, dying(getattr(owner, name), side, int(count)))


def dying(function: Callable[..., Any], side: str, count: int) -> Callable[..., Any]:
    calls = 0

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if side == "before" and calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **options)
        if side == "after" and calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def main(folder: str) -> None:
    log = SqliteLog(folder, segment_bytes=SEGMENT_BYTES)
    writer = log.writer("gateway-0")
    [kept] = writer.create(TopicSpec("kept", SCHEMA))
    writer.create(TopicSpec("archived", SCHEMA, retention_us=1, archive=True))
    commit = kept.end // ROWS
    while commit < MOST_COMMITS:
        first = commit * ROWS
        numbers = range(first, first + ROWS)
        frame = pl.DataFrame(
            {"number": numbers, "filler": [f"row {number:032d}" for number in numbers]},
            schema=SCHEMA,
        )
        text = str(commit).encode()
        appends = [Append(topic, 0, frame, ROWS) for topic in ("kept", "archived")]
        writer.commit([Commit(appends, [("steps", text)], [Put("last", text)])])
        sys.stdout.write(f"{commit}\n")
        sys.stdout.flush()
        commit += 1
        # Two hours on, so that rows are old enough to be archived at once; twice, to be idle once.
        for _ in range(1 + (commit % 10 == 0)):
            writer.maintain(2 * 3_600_000_000 + time.time_ns() // 1000)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        die_at(sys.argv[2])
    main(sys.argv[1])
