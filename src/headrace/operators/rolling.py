"""Aggregates over the rows up to each row."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar, Final, Literal

import polars as pl
from pydantic import model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import (
    LATE,
    MAIN,
    NEVER,
    Meaning,
    Operator,
    Out,
    Tables,
    TableSpec,
    Task,
    Wake,
)
from headrace.core.time import END_OF_TIME, EVENT_TIME, HIDDEN_SCHEMA, micros
from headrace.operators.aggregates import AggregateField
from headrace.operators.columns import ColumnNames
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import ALL
from headrace.operators.partials import Aggregation, check_aggregates
from headrace.operators.rolling_cover import Cover, History

_WAITING: Final = "waiting"


class Rolling(Operator):
    """Add to each row aggregates over its key's rows around it, itself included.

    The rows covered are those within `over` before it, (t - over, t], or the last `rows`; rows
    with equal event time count in their order. With `following` they are those in
    (t - over, t + following], all with equal event time among them. Sketched aggregates are
    exact here.

    With `order="event"` rows wait until the watermark has passed all that they cover, so answers
    do not depend on the order of arrival; rows before the watermark go to `late`. With
    `order="arrival"` answers leave at once; a row before what its key has shown goes to `late`.

    Attributes:
        by: Key columns; none means one group.
        aggregates: Output column and aggregate; they follow the input's columns.
        over: Length of event time covered.
        rows: Number of rows covered, instead of `over`.
        following: Length of event time covered after the row, which waits that much longer;
            with `over` and `order="event"` only.
        order: `event` or `arrival`.
        forget: A key without rows for this long (event time) begins anew; at least `over`.

    State: the columns read, for the rows still covered, and the rows that wait. Cost per batch:
    O(n log n) in its rows and the rows covered of its keys, more where an aggregate needs each
    window whole.
    """

    kind: ClassVar[str] = "rolling"
    by: ColumnNames = ()
    aggregates: tuple[tuple[str, AggregateField], ...]
    over: DurationField | None = None
    rows: int | None = None
    following: DurationField | None = None
    order: Literal["event", "arrival"] = "event"
    forget: DurationField = timedelta(hours=24)

    @model_validator(mode="after")
    def _check(self) -> Rolling:
        if (self.over is None) == (self.rows is None):
            raise PlanError(
                "rolling takes a length of time or a number of rows",
                hint='rolling("5m") or rolling(rows=100)',
            )
        if (self.over is not None and self.over <= timedelta(0)) or (
            self.rows is not None and self.rows < 1
        ):
            raise PlanError("rolling must cover more than nothing")
        if self.following is not None:
            if self.following <= timedelta(0):
                raise PlanError("following must be longer than nothing")
            if self.over is None or self.order == "arrival":
                raise PlanError(
                    "following= needs a length of time before the row, and rows in event order",
                    hint='e.g. rolling("5m", following="1m")',
                )
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`."""
        return self.by

    def hold(self) -> timedelta:
        """Return `following`: rows wait that long behind the watermark."""
        return self.following or timedelta(0)

    def meaning(self) -> Meaning:
        """Declare that arrival order shows in the result where it was asked for."""
        return "rows" if self.order == "event" else "arrival"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns and the aggregates, and the input's for late rows."""
        (schema,) = inputs
        check_aggregates(self.by, self.aggregates, schema, [n for n in schema if n not in self.by])
        answers = {name: one.output_dtype(schema) for name, one in self.aggregates}
        Aggregation(self.aggregates, schema, self.by, {ALL: pl.Boolean()})
        return {MAIN: pl.Schema({**schema, **answers}), LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare each key's rows still covered, and rows that wait."""
        (schema,) = inputs
        history = History.table(schema, self.by, self._columns_read(schema))
        if self.order == "arrival":
            return (history,)
        waiting = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
        return (history, TableSpec(_WAITING, "rows", waiting))

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over each key's rows still covered."""
        (schema,) = inputs
        answers = [
            one.over_rows(schema).cast(one.output_dtype(schema)).alias(name)
            for name, one in self.aggregates
        ]
        over = None if self.over is None else micros(self.over)
        forget = max(micros(self.forget), over or 0)
        history = History(tables, self.by, self._columns_read(schema), forget)
        cover = Cover(history, answers, over, self.rows, micros(self.hold()))
        return _InEventOrder(tables, cover) if self.order == "event" else _AsTheyCome(cover)

    def _columns_read(self, schema: pl.Schema) -> tuple[str, ...]:
        read = {
            root for _, one in self.aggregates for root in one.over_rows(schema).meta.root_names()
        }
        return tuple(name for name in schema if name in read)


class _InEventOrder(Task):
    def __init__(self, tables: Tables, cover: Cover) -> None:
        self._tables = tables
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))
        self._cover = cover

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        following = self._cover.following
        passed = watermark if watermark == END_OF_TIME else watermark - following
        ready = self._waiting.release(passed)
        if ready is not None:
            last = ready[EVENT_TIME].item(-1)
            ahead = self._waiting.before(last + following + 1) if following else ready.clear()
            yield MAIN, self._cover.answer_ahead(ready, ahead)
            self._cover.forget()

    def finish(self) -> Iterable[Out]:
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        first = self._waiting.wake().event_time
        return NEVER if first is None else Wake(event_time=first + self._cover.following)


class _AsTheyCome(Task):
    def __init__(self, cover: Cover) -> None:
        self._cover = cover

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        if frame.is_empty():
            return
        answered, late = self._cover.answer(frame)
        self._cover.forget()
        if answered.height:
            yield MAIN, answered
        if late.height:
            yield LATE, late

    def wake(self) -> Wake:
        return NEVER
