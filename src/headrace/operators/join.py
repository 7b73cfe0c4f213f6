"""Pair the rows of two streams that lie close in event time."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Final, Literal

import polars as pl
from pydantic import model_validator

from headrace.core.component import DurationField, Expression
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, MAIN, Operator, Tables, TableSpec, Task
from headrace.core.time import duration_text, micros
from headrace.operators.filter import check_predicate
from headrace.operators.join_sides import AntiSide, OuterSide, SemiSide, Side
from headrace.operators.join_task import JoinTask
from headrace.operators.joined_columns import LATE_RIGHT, SUFFIX, JoinedColumns, KeyPairs

How = Literal["inner", "left", "right", "outer", "semi", "anti"]

_LONGEST: Final = timedelta(days=36_500)

_NAMES: Final = ("left", "right")
_SIDES: Final[dict[str, tuple[type[Side], type[Side]]]] = {
    "inner": (Side, Side),
    "left": (OuterSide, Side),
    "right": (Side, OuterSide),
    "outer": (OuterSide, OuterSide),
    "semi": (SemiSide, Side),
    "anti": (AntiSide, Side),
}


class Join(Operator):
    """Pair rows of equal key with low <= right time - left time <= high.

    The columns are the left ones, then the right ones without the key. Null never matches, NaN
    equals NaN, and -0.0 equals 0.0.

    - `inner`: the pairs, at once. `left`, `right`, `outer`: also the rows of that side, or of
      both, that have no match, once the watermark proves that none can come.
    - `semi`: left rows that have a match, once. `anti`: left rows that have none.

    Event time is the later one of a pair (for `semi`: of the row and its first match), else the
    row's own. Rows before the watermark go to `late` and `late_right`, as they came.

    Attributes:
        on: Key, as pairs (left column, right column); none joins by time alone.
        within: Bounds of right time - left time, both included.
        how: What leaves.
        where: Further condition on a pair, over the columns of the result, or for `semi` and
            `anti` those it would have if it were `inner`. Null counts as no.
        suffix: Added to the name of a right column that the left side has too.

    State: rows of each side until the watermark has passed all that could match them: left rows
    for `high`, right rows for -`low`, besides how far their input is ahead of the watermark. Cost
    per batch of k rows: O(k log² n) for n rows of state, and O(1) per pair of equal key within
    the bounds.
    """

    kind: ClassVar[str] = "join"
    on: KeyPairs = ()
    within: tuple[DurationField, DurationField]
    how: How = "inner"
    where: Expression | None = None
    suffix: str = SUFFIX

    @model_validator(mode="after")
    def _check(self) -> Join:
        low, high = self.within
        if low > high:
            raise PlanError(
                f"within goes from {duration_text(low)} to {duration_text(high)}",
                hint='the lower bound comes first, e.g. within=("-5m", "0s")',
            )
        if max(abs(low), abs(high)) > _LONGEST:
            raise PlanError("within must not reach further than 100 years")
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and the late rows of each side."""
        return (MAIN, LATE, LATE_RIGHT)

    def key_columns(self) -> tuple[str, ...]:
        """Return the left key columns."""
        return tuple(left for left, _ in self.on)

    def hold(self) -> timedelta:
        """Return how far a row without a match may lie behind the watermark that proves it."""
        low, high = self.within
        return max(high, -low, timedelta(0)) if self.how not in ("inner", "semi") else timedelta(0)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of the result and of each side's late rows.

        Raises:
            PlanError: The key or the condition does not fit, or names clash.
        """
        columns = self.columns(*inputs)
        if self.where is not None:
            check_predicate(self.where, columns.schema)
        alone = self.how in ("semi", "anti")
        return {
            MAIN: inputs[0] if alone else columns.schema,
            LATE: inputs[0],
            LATE_RIGHT: inputs[1],
        }

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare each side's rows, and what is known of their matches."""
        kinds = _SIDES[self.how]
        return tuple(
            spec
            for side, name, schema in zip(kinds, _NAMES, inputs, strict=True)
            for spec in side.tables(name, schema)
        )

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over each side's rows."""
        low, high = (micros(bound) for bound in self.within)
        columns = self.columns(*inputs)
        left, right = _SIDES[self.how]
        sides = (
            left(tables, _NAMES[0], columns.on_left, high),
            right(tables, _NAMES[1], columns.on_right, -low),
        )
        return JoinTask(
            tables,
            sides,
            columns,
            (low, high),
            self.where,
            left_only=self.how in ("semi", "anti"),
        )

    def columns(self, left: pl.Schema, right: pl.Schema) -> JoinedColumns:
        """Return how rows of these columns are put side by side.

        Raises:
            PlanError: The key does not fit, or names clash.
        """
        return JoinedColumns(left, right, self.on, self.suffix)

    def time_side(self) -> Literal["left", "right"] | None:
        """Return the side whose rows always have the event time of the result, if there is one."""
        low, high = self.within
        none = timedelta(0)
        if self.how == "anti" or (high <= none and self.how in ("inner", "left", "semi")):
            return "left"
        return "right" if low >= none and self.how in ("inner", "right") else None
