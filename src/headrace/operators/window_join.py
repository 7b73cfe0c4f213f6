"""Pair the rows of two streams that lie in the same window."""

from __future__ import annotations

from typing import ClassVar

import polars as pl
from pydantic import model_validator

from headrace.core.component import Expression
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, MAIN, Operator, Tables, TableSpec, Task
from headrace.operators.assigners import AssignerField, Session, Sliced
from headrace.operators.filter import check_predicate
from headrace.operators.join import How
from headrace.operators.joined_columns import LATE_RIGHT, SUFFIX, JoinedColumns, KeyPairs
from headrace.operators.window import WINDOW_COLUMNS
from headrace.operators.window_join_task import WindowJoinTask, window_join_tables


class WindowJoin(Operator):
    """Pair rows of equal key that lie in the same window.

    The columns are the left ones, the right ones without the key, `window_start` and
    `window_end`. Null never matches, NaN equals NaN, and -0.0 equals 0.0.

    Everything leaves when the watermark reaches the window's end, with `window_end` - 1 us as
    event time: pairs sorted by window end, left row and right row; for `left`, `right` and
    `outer` also the rows of that side, or of both, that have no match in the window. `semi` gives
    the left rows that have a match, `anti` those that have none, both once per window.

    A row that lies in several windows counts in each, so a pair may leave more than once, told
    apart by its window. A row goes to `late` or `late_right`, as it came, once all its windows
    have ended.

    Attributes:
        assigner: Which windows take a row; sliced ones, since a session of two streams may mean
            that of each side or that of both together.
        on: Key, as pairs (left column, right column); none pairs all rows of a window.
        how: What leaves.
        where: Further condition on a pair, over the columns that it has with `inner`. Null
            counts as no.
        suffix: Added to the name of a right column that the left side has too.

    State: rows of each side until their last window has ended. Cost per row: O(windows it lies
    in) when they end, and O(1) per pair of equal key; pairs are made a million at a time.
    """

    kind: ClassVar[str] = "window_join"
    assigner: AssignerField
    on: KeyPairs = ()
    how: How = "inner"
    where: Expression | None = None
    suffix: str = SUFFIX

    @model_validator(mode="after")
    def _check(self) -> WindowJoin:
        if not isinstance(self.assigner, Sliced):
            says = (
                "within= pairs rows that lie close; union() makes one stream for window(session())"
                if isinstance(self.assigner, Session)
                else "take tumbling(), sliding() or cumulate()"
            )
            raise PlanError(f"rows cannot be joined in {self.assigner.kind}() windows", hint=says)
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and the late rows of each side."""
        return (MAIN, LATE, LATE_RIGHT)

    def key_columns(self) -> tuple[str, ...]:
        """Return the left key columns."""
        return tuple(left for left, _ in self.on)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of the result and of each side's late rows.

        Raises:
            PlanError: The key or the condition does not fit, or names clash.
        """
        columns = self.columns(*inputs)
        taken = sorted(WINDOW_COLUMNS.keys() & columns.schema.keys())
        if taken:
            raise PlanError(
                f"the join adds {taken[0]!r}, which a side has already",
                hint='drop() or rename() it before; rows of windows pair by on=["window_end", ...] '
                'within=("0s", "0s")',
            )
        pairs = pl.Schema({**columns.schema, **WINDOW_COLUMNS})
        if self.where is not None:
            check_predicate(self.where, pairs)
        alone = self.how in ("semi", "anti")
        return {
            MAIN: pl.Schema({**inputs[0], **WINDOW_COLUMNS}) if alone else pairs,
            LATE: inputs[0],
            LATE_RIGHT: inputs[1],
        }

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the rows of windows that have not ended, and how far windows have."""
        return window_join_tables(*inputs)

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over each side's rows."""
        assert isinstance(self.assigner, Sliced)  # noqa: S101 - refused when it was made
        return WindowJoinTask(tables, self.assigner, self.columns(*inputs), self.how, self.where)

    def columns(self, left: pl.Schema, right: pl.Schema) -> JoinedColumns:
        """Return how rows of these columns are put side by side.

        Raises:
            PlanError: The key does not fit, or names clash.
        """
        return JoinedColumns(left, right, self.on, self.suffix)
