"""Run one operator by hand: rows, watermark and clock in, frames by port out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from headrace.core.protocols import Operator, Out, Task
from headrace.core.time import END_OF_TIME, EVENT_TIME, HIDDEN, POSITION, TIME_DTYPE
from headrace.state.tables import StateTables

SECOND = 1_000_000


class Drive:
    """One operator with its state, stepped like the engine does it.

    With `reopen` the task is rebuilt from its tables before each call, as after a restore.
    """

    def __init__(self, operator: Operator, *schemas: pl.Schema, reopen: bool = False) -> None:
        self.operator = operator
        self.schemas = schemas
        self.declared = operator.output_schema(*schemas)
        self.tables = StateTables(operator.tables(*schemas))
        self.tables.clock = 0
        self.task: Task = operator.open(self.tables, *schemas)
        self._reopen = reopen
        self._outs: dict[str, list[pl.DataFrame]] = {port: [] for port in operator.outputs()}

    def step(
        self,
        frame: pl.DataFrame | None = None,
        watermark: float | None = None,
        clock: float | None = None,
        port: int = 0,
    ) -> Drive:
        """Run one step; times in seconds."""
        if clock is not None:
            self.tables.clock = round(clock * SECOND)
        if frame is not None and frame.height:
            self._take(self._task().process(frame.rechunk(), port))
        wake = self._task().wake()
        if wake.clock is not None and wake.clock <= self.tables.clock:
            self._take(self._task().tick(self.tables.clock))
        if watermark is not None:
            self.tables.watermark = max(self.tables.watermark, round(watermark * SECOND))
        wake = self._task().wake()
        if wake.event_time is not None and wake.event_time <= self.tables.watermark:
            self._take(self._task().advance(self.tables.watermark))
            after = self._task().wake().event_time
            assert after is None or after > self.tables.watermark
        return self

    def finish(self) -> Drive:
        self.tables.watermark = END_OF_TIME
        self._take(self._task().finish())
        return self

    def rows(self, port: str = "main") -> pl.DataFrame:
        """Return all rows that left by `port`, without hidden columns."""
        return self.frame(port).drop(HIDDEN)

    def frame(self, port: str = "main") -> pl.DataFrame:
        """Return all rows that left by `port`."""
        schema = pl.Schema({**self.declared[port], EVENT_TIME: pl.Int64(), POSITION: pl.Int64()})
        return pl.concat([schema.to_frame(), *self._outs[port]])

    def take(self, port: str = "main") -> list[dict[str, Any]]:
        """Return and forget the rows that left by `port` so far."""
        rows = self.rows(port).to_dicts()
        self._outs[port] = []
        return rows

    def _task(self) -> Task:
        if self._reopen:
            self.task = self.operator.open(self.tables, *self.schemas)
        return self.task

    def _take(self, outs: Iterable[Out]) -> None:
        for port, frame in outs:
            assert frame.height
            visible = frame.drop(HIDDEN)
            assert visible.schema == self.declared[port], (port, visible.schema)
            assert frame.schema[EVENT_TIME] == frame.schema[POSITION] == pl.Int64
            self._outs[port].append(frame.select(*self.declared[port], *HIDDEN))


def timed(frame: pl.DataFrame, seconds: str = "t", start: int = 0) -> pl.DataFrame:
    """Give rows their hidden columns: event time from a column of seconds, positions in order."""
    return frame.with_columns(
        (pl.col(seconds) * SECOND).cast(pl.Int64).alias(EVENT_TIME),
        pl.int_range(start, start + frame.height, dtype=pl.Int64).alias(POSITION),
    )


def cut(frame: pl.DataFrame, bounds: Sequence[int]) -> list[pl.DataFrame]:
    """Split `frame` before each row number in `bounds`."""
    edges = [0, *sorted(bounds), frame.height]
    return [frame[a:b] for a, b in itertools.pairwise(edges) if b > a]


def at(seconds: float) -> Any:
    """Return seconds since the epoch as an aware datetime."""
    return pl.Series([round(seconds * SECOND)], dtype=pl.Int64).cast(TIME_DTYPE).item()
