"""Run an application over frames in memory, step by step, and time it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

import headrace as hr
from headrace.core.log import PARTITIONS_PER_SLOT, Append, Commit, Reader, TopicPartition, TopicSpec
from headrace.log import MemoryLog
from headrace.runners.embedded.engine import ENGINE_SLOT, Engine

STEP_ROWS: Final = 65_536

Batch = Mapping[str, pl.DataFrame]
"""Rows of each topic that are committed together."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """What came out, and what it took.

    Attributes:
        output: Every row of the output topic.
        seconds: From the first commit to the last answer in the output topic.
        cpu_s: Processor time of this process in between.
        steps_ns: What each batch took.
    """

    output: pl.DataFrame
    seconds: float
    cpu_s: float
    steps_ns: list[int]


def stretches(events: Batch, column: str, rows: int = STEP_ROWS) -> Iterator[Batch]:
    """Cut rows that are sorted by the time `column` into stretches of about `rows` in all."""
    times = {name: frame[column].dt.epoch("us").to_numpy() for name, frame in events.items()}
    every = np.sort(np.concatenate(list(times.values())))
    bounds = [*every[::rows], every[-1] + 1]
    for begin, end in itertools.pairwise(bounds):
        yield {
            name: frame[slice(*np.searchsorted(times[name], [begin, end]))]
            for name, frame in events.items()
        }


def stepped(
    app: hr.App, batches: Iterable[Batch], output: str, changes: Batch | None = None
) -> Stepped:
    """Commit each batch to the log in memory, as a gateway does, and step the engine over it.

    One thread does both in turn. Starting the engine, taking `changes` of control tables, and
    reading the answers are not timed.
    """
    log = MemoryLog()
    writer = log.writer("gateway-0")
    plan = app.plan()
    for topic in plan.topics:
        writer.create(TopicSpec(topic.name, topic.schema.columns))
    for name, rows in (changes or {}).items():
        writer.create(TopicSpec(name, rows.schema))
        writer.commit([Commit(appends=[Append(name, 0, rows, rows.height)])])
    engine = Engine(plan, log)
    engine.start()
    while engine.step_once():
        pass
    ready = list(batches)
    steps_ns = []
    began, cpu_began = time.perf_counter(), time.process_time()
    for batch in ready:
        step_began = time.perf_counter_ns()
        now = time.time_ns() // 1_000
        writer.commit(
            [
                Commit(
                    appends=[
                        Append(name, 0, rows, rows.height, arrival_us=now)
                        for name, rows in batch.items()
                        if rows.height
                    ]
                )
            ]
        )
        while engine.step_once():
            pass
        steps_ns.append(time.perf_counter_ns() - step_began)
    engine.finish()
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    found = _rows(log.reader(), output)
    engine.close()
    return Stepped(found, seconds, cpu_s, steps_ns)


def _rows(reader: Reader, topic: str) -> pl.DataFrame:
    at = TopicPartition(topic, ENGINE_SLOT * PARTITIONS_PER_SLOT)
    end = reader.partitions([topic])[at].end
    frames, offset = [], 0
    while offset < end:
        for batch in reader.read(at, offset, end - offset, 1 << 40):
            frames.append(batch.frame)
            offset = batch.end
    return pl.concat(frames)
