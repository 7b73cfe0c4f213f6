"""Rows in event-time order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

import polars as pl

from headrace.core.protocols import LATE, MAIN, Operator, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import HIDDEN_SCHEMA
from headrace.operators.event_order import EventOrderBuffer

_WAITING: Final = "waiting"


class InOrder(Operator):
    """Pass rows on in (event time, position) order once the watermark has passed them.

    Rows before the watermark go to `late`. State: the rows that wait.
    """

    kind: ClassVar[str] = "in_order"
    parallel: ClassVar[bool] = False

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns for both."""
        (schema,) = inputs
        return {MAIN: schema, LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the rows that wait."""
        (schema,) = inputs
        waiting = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
        return (TableSpec(_WAITING, "rows", waiting),)

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - state says it
        """Return a task over the rows that wait."""
        return _InOrderTask(tables)


class _InOrderTask(Task):
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        ready = self._waiting.release(watermark)
        if ready is not None:
            yield MAIN, ready

    def finish(self) -> Iterable[Out]:
        ready = self._waiting.release_all()
        if ready is not None:
            yield MAIN, ready

    def wake(self) -> Wake:
        return self._waiting.wake()
