"""A Python function over each closed window."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar, Final

import polars as pl

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import (
    LATE,
    MAIN,
    Meaning,
    Operator,
    Out,
    Tables,
    TableSpec,
    Task,
    Wake,
)
from headrace.core.schema_field import SchemaField
from headrace.core.time import HIDDEN, micros
from headrace.operators.aggregates.ordered import Collect
from headrace.operators.assigners import AssignerField, Session
from headrace.operators.columns import ColumnNames
from headrace.operators.map_batches import FrameFunction, FunctionField, conform
from headrace.operators.partials import check_aggregates
from headrace.operators.row_wise import check_visible
from headrace.operators.sliced_window import Emission
from headrace.operators.window import WINDOW_COLUMNS, Windows

_ROWS: Final = "__rows"


class WindowApply(Operator):
    """Call `fn(frame) -> frame` once per closed window and key.

    The frame holds the key's rows of the window in (event time, position) order, with all
    columns. Output: the `by` columns, `window_start`, `window_end`, then what `fn` returns, any
    number of rows; `revision` with lateness, as in `Window`. `fn` must be pure. State holds all
    rows of open windows.

    Attributes:
        assigner: Which windows take a row.
        by: Key columns; none means one group.
        fn: The function, importable by name.
        returns: Columns it returns, in this order.
        lateness: How long after its end a window still takes rows.
    """

    kind: ClassVar[str] = "window_apply"

    assigner: AssignerField
    by: ColumnNames = ()
    fn: FunctionField
    returns: SchemaField
    lateness: DurationField = timedelta(0)

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
        return (*self.by, *WINDOW_COLUMNS) if self._marks() else ()

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the key, the window, what `fn` returns, and the input's for late rows."""
        (schema,) = inputs
        check_aggregates(self.by, (), schema, ())
        taken = {*self.by, *WINDOW_COLUMNS, *self._marks()}
        for name in self.returns:
            check_visible(name)
            if name in taken:
                raise PlanError(
                    f"the function may not return {name!r}: the window has it already",
                    hint="key and window columns are added by themselves",
                )
        if self.lateness < timedelta(0):
            raise PlanError("lateness must not be negative")
        keys = {name: schema[name] for name in self.by}
        main = {**keys, **WINDOW_COLUMNS, **self.returns, **self._marks()}
        return {MAIN: pl.Schema(main), LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the rows of open windows."""
        return self._windows(inputs[0]).tables()

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task that calls `fn`."""
        return _ApplyTask(self._windows(inputs[0]).open(tables), self.fn, self.returns)

    def _windows(self, schema: pl.Schema) -> Windows:
        rows = Collect(of=pl.struct(list(schema)))
        emission = Emission(lateness=micros(self.lateness))
        return Windows(self.assigner, self.by, [(_ROWS, rows)], schema, emission)

    def _marks(self) -> dict[str, pl.DataType]:
        if self.lateness and not isinstance(self.assigner, Session):
            return {"revision": pl.Int64()}
        return {}


class _ApplyTask(Task):
    def __init__(self, windows: Task, fn: FrameFunction, returns: pl.Schema) -> None:
        self._windows = windows
        self._fn = fn
        self._returns = returns

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        return self._applied(self._windows.process(frame, port))

    def advance(self, watermark: int) -> Iterable[Out]:
        return self._applied(self._windows.advance(watermark))

    def finish(self) -> Iterable[Out]:
        return self._applied(self._windows.finish())

    def wake(self) -> Wake:
        return self._windows.wake()

    def _applied(self, outs: Iterable[Out]) -> Iterable[Out]:
        for port, frame in outs:
            if port != MAIN:
                yield port, frame
                continue
            answers = [self._answer(frame[row : row + 1]) for row in range(frame.height)]
            full = [answer for answer in answers if answer.height]
            if full:
                yield MAIN, pl.concat(full, rechunk=True)

    def _answer(self, window: pl.DataFrame) -> pl.DataFrame:
        rows = window[_ROWS].explode().struct.unnest()
        answer = conform(self._fn(rows), self._returns, self._fn)
        columns = [name for name in window.columns if name not in (_ROWS, *HIDDEN)]
        marks = [name for name in columns if name == "revision"]
        keys = [name for name in columns if name not in marks]
        spread = window[[0] * answer.height]
        return (
            spread.select(keys)
            .hstack(answer.get_columns())
            .hstack(spread.select(*marks, *HIDDEN).get_columns())
        )
