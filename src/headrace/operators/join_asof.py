"""Put beside each row the one of another stream that was valid at its time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from pydantic import model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import (
    LATE,
    MAIN,
    Operator,
    Out,
    Tables,
    TableSpec,
    Task,
    Wake,
    on_time,
)
from headrace.core.time import END_OF_TIME, EVENT_TIME, HIDDEN_SCHEMA, micros, positive_duration
from headrace.operators.asof_sides import AsofSide, RowsAround, RowsBefore
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.joined_columns import LATE_RIGHT, SUFFIX, JoinedColumns, KeyPairs
from headrace.operators.timed_rows import null_keys

Strategy = Literal["backward", "forward", "nearest"]

_LEFT: Final = "left"


class JoinAsof(Operator):
    """Put beside each left row one right row of equal key, chosen by event time.

    - `backward`: the last one at or before the left row, by (event time, position).
    - `forward`: the first one at or after it.
    - `nearest`: the one at the least distance; of equally near ones the last.

    Null keys match nothing, NaN equals NaN, and -0.0 equals 0.0. Left rows leave in the order of
    (event time, position), with their own event time, once the watermark proves the answer:
    when it has passed them, or for `forward` and `nearest` `tolerance` later. Rows before the
    watermark go to `late` and `late_right`, as they came.

    Attributes:
        by: Key, as pairs (left column, right column); none takes all rows for one key.
        tolerance: How far away the right row may lie, its end included; needed for `forward`
            and `nearest`.
        strategy: Which right row to take.
        exact: Whether a right row of the same event time counts.
        how: `left` keeps left rows that find nothing, `inner` drops them.
        suffix: Added to the name of a right column that the left side has too.
        forget: How far `backward` without a tolerance looks back.

    State: left rows until they leave; for `backward` the right rows that the watermark has not
    passed and one row per key, otherwise the right rows of the last `tolerance` (`nearest`:
    twice that). Cost per batch of k rows: O(k log k) for `backward` and O(log keys) per key;
    O(k log² n) for the others with n rows of state.
    """

    kind: ClassVar[str] = "join_asof"
    by: KeyPairs = ()
    tolerance: DurationField | None = None
    strategy: Strategy = "backward"
    exact: bool = True
    how: Literal["left", "inner"] = "left"
    suffix: str = SUFFIX
    forget: DurationField = timedelta(hours=24)

    @model_validator(mode="after")
    def _check(self) -> JoinAsof:
        positive_duration(self.forget, "forget")
        if self.tolerance is None and self.strategy != "backward":
            raise PlanError(
                f'strategy="{self.strategy}" waits for later rows, so it needs a tolerance',
                hint='say how long to wait, e.g. tolerance="10s"',
            )
        if not timedelta(0) <= self._reach <= timedelta(days=36_500):
            raise PlanError("a tolerance is between nothing and 100 years")
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and the late rows of each side."""
        return (MAIN, LATE, LATE_RIGHT)

    def key_columns(self) -> tuple[str, ...]:
        """Return the left key columns."""
        return tuple(left for left, _ in self.by)

    def hold(self) -> timedelta:
        """Return how long a left row waits for later ones after the watermark has passed it."""
        return timedelta(0) if self.strategy == "backward" else self._reach

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of the result and of each side's late rows.

        Raises:
            PlanError: The key does not fit, or names clash.
        """
        return {MAIN: self._columns(inputs).schema, LATE: inputs[0], LATE_RIGHT: inputs[1]}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the left rows that wait, and the right ones that may be taken."""
        left, right = inputs
        waiting = TableSpec(_LEFT, "rows", pl.Schema({**left, **pl.Schema(HIDDEN_SCHEMA)}))
        if self.strategy == "backward":
            return (waiting, *RowsBefore.tables(right, [name for _, name in self.by]))
        return (waiting, *RowsAround.tables(right))

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the rows that wait."""
        columns = self._columns(inputs)
        by, reach = (columns.on_left, columns.on_right), micros(self._reach)
        side: AsofSide
        if self.strategy == "backward":
            side = RowsBefore(tables, by, reach, exact=self.exact)
        else:
            nearest = self.strategy == "nearest"
            side = RowsAround(tables, by, reach, exact=self.exact, nearest=nearest)
        keep = self.how == "left"
        return _JoinAsofTask(tables, columns, side, micros(self.hold()), keep_alone=keep)

    @property
    def _reach(self) -> timedelta:
        return self.forget if self.tolerance is None else self.tolerance

    def _columns(self, inputs: tuple[pl.Schema, ...]) -> JoinedColumns:
        left, right = inputs
        return JoinedColumns(left, right, self.by, self.suffix)


class _JoinAsofTask(Task):
    def __init__(
        self,
        tables: Tables,
        columns: JoinedColumns,
        side: AsofSide,
        wait: int,
        *,
        keep_alone: bool,
    ) -> None:
        self._tables = tables
        self._columns = columns
        self._left = EventOrderBuffer(tables.rows(_LEFT))
        self._right = side
        self._wait = wait
        self._keep_alone = keep_alone

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        if port == 0:
            late = self._left.add(frame, self._tables.watermark)
            if late.height:
                yield LATE, late
            return
        taken, late = on_time(frame, self._tables.watermark, EVENT_TIME)
        if late.height:
            yield LATE_RIGHT, late
        nulls = null_keys(taken, self._columns.on_right)
        self._right.add(taken if nulls is None else taken.filter(~nulls))

    def advance(self, watermark: int) -> Iterable[Out]:
        self._right.settle(watermark)
        due = self._left.release(watermark - self._wait)
        if due is not None:
            answer = self._answer(due)
            if answer.height:
                yield MAIN, answer
        self._right.forget(watermark)

    def finish(self) -> Iterable[Out]:
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        left = self._left.wake().event_time
        first = min(
            END_OF_TIME if left is None else left + self._wait,
            self._right.wake(),
        )
        return Wake(event_time=first if first < END_OF_TIME else None)

    def _answer(self, due: pl.DataFrame) -> pl.DataFrame:
        nulls = null_keys(due, self._columns.on_left)
        asking = np.arange(due.height) if nulls is None else np.flatnonzero(~nulls.to_numpy())
        number, rows = self._right.take(due if nulls is None else due[asking])
        number = asking[number]
        if not self._keep_alone:
            return self._columns.beside(due[number], rows)
        place = np.full(due.height, rows.height, dtype=np.int64)
        place[number] = np.arange(rows.height)
        # The row after the last stands for none.
        return self._columns.beside(due, pl.concat([rows, rows.clear(1)])[place])
