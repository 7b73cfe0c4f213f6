"""The writing side of the `log` bench, a process of its own: commits at a steady pace."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass

import polars as pl

from headrace.core.log import Append, Commit
from headrace.log import SqliteLog


@dataclass(frozen=True, slots=True)
class Settings:
    """What to commit.

    Attributes:
        folder: The data directory.
        topic: Its column `sent_ns` takes the writer's monotonic clock before each commit.
        commits: How many.
        rows: Rows of each.
        per_s: Commits per second.
    """

    folder: str
    topic: str
    commits: int
    rows: int
    per_s: float


def write(settings: Settings) -> list[int]:
    """Commit as told; return how many nanoseconds each commit took."""
    writer = SqliteLog(settings.folder).writer("gateway-0")
    took = []
    begin = time.monotonic()
    for number in range(settings.commits):
        # Open loop: a commit that is late does not delay those after it.
        pause = begin + number / settings.per_s - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        sent = time.monotonic_ns()
        frame = pl.select(sent_ns=pl.repeat(sent, settings.rows, dtype=pl.Int64))
        writer.commit([Commit([Append(settings.topic, 0, frame, settings.rows)])])
        took.append(time.monotonic_ns() - sent)
    writer.close()
    return took


def arguments(settings: Settings) -> dict[str, object]:
    """Return `settings` as `run_client` passes them on."""
    return asdict(settings)


if __name__ == "__main__":
    print(json.dumps({"took_ns": write(Settings(**json.loads(sys.argv[1])))}))  # noqa: T201 - the report
