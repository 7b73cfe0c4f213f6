"""Windows: rows of a stretch of event time, per key, as one row of aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar, Final, Literal

import polars as pl
from pydantic import model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError, UnsupportedError
from headrace.core.protocols import LATE, MAIN, Meaning, Operator, Tables, TableSpec, Task
from headrace.core.time import TIME_DTYPE, micros
from headrace.operators.aggregates import AggregateField
from headrace.operators.aggregates.aggregate import Aggregate
from headrace.operators.assigners import Assigner, AssignerField, Forever, Session, Sliced
from headrace.operators.columns import ColumnNames
from headrace.operators.forever_window import (
    ForeverTask,
    forever_aggregation,
    forever_tables,
)
from headrace.operators.partials import Aggregation, check_aggregates
from headrace.operators.session_window import BEGIN, LATEST, SESSION_TABLES, SessionTask
from headrace.operators.sliced_window import SLICE, Emission, SlicedWindowTask

WINDOW_COLUMNS: Final = {"window_start": TIME_DTYPE, "window_end": TIME_DTYPE}


class Window(Operator):
    """Aggregate rows per window and key.

    Output: the `by` columns, `window_start`, `window_end`, the aggregates; `revision` with
    `emit="close"` and lateness; `is_final` with `emit="update"`. Rows leave sorted by window end
    and `by`; their event time is `window_end` - 1 us, for sessions `window_end`. In
    `forever()` the window starts with the key's earliest row, `window_end` is null, and event
    time is the newest row's, of a final row `forget` after it.

    Attributes:
        assigner: Which windows take a row.
        by: Key columns; none means one group.
        aggregates: Output column and aggregate.
        lateness: How long after its end a window still takes rows.
        emit: `close` gives a window when the watermark reaches its end, and again for each
            step that changed it within `lateness`; `update` gives changed windows as they grow,
            and a last row with `is_final` once no row can change them any more.
        every: With `update`, at most one row per window in each such stretch of the step clock;
            None gives changed windows in each step.
    """

    kind: ClassVar[str] = "window"

    assigner: AssignerField
    by: ColumnNames = ()
    aggregates: tuple[tuple[str, AggregateField], ...]
    lateness: DurationField = timedelta(0)
    emit: Literal["close", "update"] = "close"
    every: DurationField | None = None

    @model_validator(mode="after")
    def _check(self) -> Window:
        if self.lateness < timedelta(0):
            raise PlanError("lateness must not be negative")
        if self.every is not None and (self.emit != "update" or self.every <= timedelta(0)):
            raise PlanError('every needs emit="update" and a length above zero')
        if isinstance(self.assigner, Forever) and (self.emit != "update" or self.lateness):
            raise PlanError(
                'forever() needs emit="update" and no lateness: its windows take any row',
            )
        if isinstance(self.assigner, Session) and self.emit == "update":
            raise PlanError(
                'sessions cannot be emitted with emit="update": they merge as they grow',
                hint='use emit="close", or tumbling() or cumulate() windows',
            )
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`."""
        return self.by

    def hold(self) -> timedelta:
        """Return the lateness: revisions lie that far back."""
        return self.lateness

    def meaning(self) -> Meaning:
        """Declare a changelog where a window may be given more than once."""
        return "changelog" if self._marks() else "rows"

    def changelog_key(self) -> tuple[str, ...]:
        """Return `by` and the window."""
        if isinstance(self.assigner, Forever):
            return (*self.by, "window_end")
        return (*self.by, *WINDOW_COLUMNS) if self._marks() else ()

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the window's columns, and the input's for late rows."""
        (schema,) = inputs
        check_aggregates(self.by, self.aggregates, schema, (*WINDOW_COLUMNS, *self._marks()))
        answers = {name: one.output_dtype(schema) for name, one in self.aggregates}
        keys = {name: schema[name] for name in self.by}
        main = pl.Schema({**keys, **WINDOW_COLUMNS, **answers, **self._marks()})
        self._windows(schema)
        return {MAIN: main, LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the partials per slice and what is known of windows given before."""
        return self._windows(inputs[0]).tables()

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over slices or sessions."""
        return self._windows(inputs[0]).open(tables)

    def _windows(self, schema: pl.Schema) -> Windows:
        return Windows(
            self.assigner,
            self.by,
            self.aggregates,
            schema,
            Emission(
                update=self.emit == "update",
                lateness=micros(self.lateness),
                every=None if self.every is None else micros(self.every),
            ),
        )

    def _marks(self) -> dict[str, pl.DataType]:
        if self.emit == "update":
            return {"is_final": pl.Boolean()}
        if self.lateness and not isinstance(self.assigner, Session):
            return {"revision": pl.Int64()}
        return {}


class Windows:
    """Windows of one input: what they keep and the task that makes them."""

    def __init__(
        self,
        assigner: Assigner,
        by: Sequence[str],
        aggregates: Sequence[tuple[str, Aggregate]],
        schema: pl.Schema,
        emission: Emission,
    ) -> None:
        self._assigner = assigner
        self._by = by
        self._keys = {name: schema[name] for name in by}
        self._emission = emission
        match assigner:
            case Session():
                slot = {BEGIN: pl.Int64()}
                self._aggregation = Aggregation(aggregates, schema, by, slot, latest=LATEST)
            case Forever():
                self._aggregation = forever_aggregation(aggregates, schema, by)
            case _:
                self._aggregation = Aggregation(aggregates, schema, by, {SLICE: pl.Int64()})

    def tables(self) -> tuple[TableSpec, ...]:
        """Declare the state."""
        if isinstance(self._assigner, Session):
            return self._aggregation.tables + SESSION_TABLES
        if isinstance(self._assigner, Forever):
            return forever_tables(self._aggregation, self._keys)
        return self._aggregation.tables + self._emission.tables(self._keys)

    def open(self, tables: Tables) -> Task:
        """Return a task over `tables`.

        Raises:
            UnsupportedError: An assigner of a plug-in is neither sliced nor a session.
        """
        if isinstance(self._assigner, Session):
            return SessionTask(
                micros(self._assigner.gap),
                self._by,
                self._aggregation,
                self._emission.lateness,
                tables,
            )
        if isinstance(self._assigner, Forever):
            return ForeverTask(
                micros(self._assigner.forget),
                self._by,
                self._aggregation,
                self._emission.every,
                tables,
            )
        if isinstance(self._assigner, Sliced):
            return SlicedWindowTask(
                self._assigner, self._by, self._aggregation, self._emission, tables
            )
        raise UnsupportedError(f"window() has no {self._assigner.kind} windows")
