"""Columns of a table beside the rows that name its key: as the table is now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from headrace.core.errors import PlanError
from headrace.core.log import DELETE, OP
from headrace.core.protocols import (
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
from headrace.core.time import BEGINNING
from headrace.operators.columns import ColumnNames
from headrace.operators.joined_columns import SUFFIX, JoinedColumns, KeyPairs
from headrace.operators.key_runs import Ints
from headrace.operators.project import check_present

How = Literal["left", "inner", "semi", "anti"]

TABLE_PORT: Final = 1

_ROWS: Final = "rows"
_COMING: Final = "coming"
_ROW: Final = "__row"
_FOUND: Final = "__found"
_AT_ONCE: Final = Wake(clock=BEGINNING)


class Lookup(Operator):
    """Put the columns of a table beside each row that names its key.

    Rows pass at once, in their order, and see the table as it is when they come: which change
    they see depends on the step. Output: the row's columns, then the table's without `on`;
    event time is the row's. Null finds nothing; NaN is one key and -0.0 equals 0.0.

    Attributes:
        on: Key, as pairs (column of the rows, column of the table).
        key: The table's key; `on` must name all of it, unless `many`.
        many: Give one row per row of the table that fits, in the order of its key.
        how: `left` keeps rows that find nothing, with nulls; `inner` drops them; `semi` keeps
            the rows that find something, without the table's columns; `anti` the others.
        suffix: Added to the name of a column of the table that the rows have too.
        lagging: A change counts from the next step on, as it must for a table that the same
            step makes; otherwise it counts for the rows of its own step.

    State: the table's rows. Cost: O(k log n) for k rows and a table of n; with `many`
    O(k + n + hits), and O(n log n) after a change.
    """

    kind: ClassVar[str] = "lookup"
    control_ports: ClassVar[frozenset[int]] = frozenset({TABLE_PORT})

    on: KeyPairs = Field(min_length=1)
    key: ColumnNames
    many: bool = False
    how: How = "left"
    suffix: str = SUFFIX
    lagging: bool = False

    @model_validator(mode="after")
    def _check(self) -> Lookup:
        if not self.many:
            check_names_key(self.on, self.key, "many=True gives one row per hit")
        return self

    def key_columns(self) -> tuple[str, ...]:
        """Return the rows' columns of `on`; every shard holds the whole table."""
        return tuple(left for left, _ in self.on)

    def meaning(self) -> Meaning:
        """Which change a row sees depends on the step that it comes in."""
        return "step"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the rows' columns, and the table's where they are wanted.

        Raises:
            PlanError: A column is missing, there twice, or cannot be compared.
        """
        columns = self._columns(inputs)
        return {MAIN: output_of(columns, self.how, inputs[0])}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the table's rows, and the changes of this step where they wait for its end."""
        columns = table_columns(inputs[TABLE_PORT])
        rows = TableSpec(_ROWS, "keyed", columns, key=self.key)
        coming = TableSpec(_COMING, "rows", pl.Schema({**columns, OP: pl.String()}))
        return (rows, coming) if self.lagging else (rows,)

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the table's rows."""
        return _LookupTask(self, tables, self._columns(inputs))

    def _columns(self, inputs: tuple[pl.Schema, ...]) -> JoinedColumns:
        right = table_columns(inputs[TABLE_PORT])
        check_present(self.key, right)
        return JoinedColumns(inputs[0], right, self.on, self.suffix)


class _LookupTask(Task):
    def __init__(self, lookup: Lookup, tables: Tables, columns: JoinedColumns) -> None:
        self._lookup = lookup
        self._columns = columns
        self._key = list(lookup.key)
        self._rows = tables.keyed(_ROWS)
        self._coming = tables.rows(_COMING) if lookup.lagging else None
        self._sorted: pl.DataFrame | None = None

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        if frame.is_empty():
            return
        if port == TABLE_PORT:
            if self._coming is None:
                self._change(frame)
            else:
                self._coming.append(frame)
            return
        row, found = self._many_hits(frame) if self._lookup.many else self._hits(frame)
        answer = beside(self._columns, self._lookup.how, frame, row, found)
        if answer.height:
            yield MAIN, answer

    def tick(self, clock: int) -> Iterable[Out]:  # noqa: ARG002 - at the end of each step
        if self._coming is not None:
            self._change(self._coming.frame())
            self._coming.replace([])
        return ()

    def wake(self) -> Wake:
        return _AT_ONCE if self._coming is not None and self._coming.rows else NEVER

    def _change(self, changes: pl.DataFrame) -> None:
        last = changes.unique(self._key, keep="last", maintain_order=True)
        is_gone = last[OP] == DELETE
        self._rows.upsert(last.filter(~is_gone))
        self._rows.delete(last.filter(is_gone))
        self._sorted = None

    def _hits(self, frame: pl.DataFrame) -> tuple[Ints, pl.DataFrame]:
        """Return the numbers of the rows that find something, and what they find."""
        wanted = self._wanted(frame)
        held = self._rows.lookup(wanted)
        hit = held[_FOUND] & ~has_null(wanted)
        found = wanted.hstack(held.drop(_FOUND).get_columns()).filter(hit)
        return np.flatnonzero(hit.to_numpy()), found

    def _many_hits(self, frame: pl.DataFrame) -> tuple[Ints, pl.DataFrame]:
        if self._sorted is None:
            self._sorted = self._rows.frame().sort(self._key, maintain_order=True)
        numbered = self._wanted(frame).with_row_index(_ROW)
        found = numbered.join(
            self._sorted, on=self._columns.on_right, how="inner", maintain_order="left_right"
        )
        return found[_ROW].to_numpy().astype(np.int64), found.drop(_ROW)

    def _wanted(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(pl.col(left).alias(right) for left, right in self._lookup.on)


def check_names_key(on: tuple[tuple[str, str], ...], key: tuple[str, ...], hint: str) -> None:
    """Refuse a lookup by less or other than the table's key.

    Raises:
        PlanError: With `hint`, what would do.
    """
    named = {right for _, right in on}
    if named != set(key):
        raise PlanError(
            f"a lookup by {', '.join(sorted(named))} may find several rows of a table "
            f"with the key {', '.join(key)}",
            hint=hint,
        )


def table_columns(schema: pl.Schema) -> pl.Schema:
    """Return the columns of a table's rows, given those of its changes."""
    return pl.Schema({name: dtype for name, dtype in schema.items() if name != OP})


def output_of(columns: JoinedColumns, how: How, left: pl.Schema) -> pl.Schema:
    """Return the visible columns of the answer."""
    return columns.schema if how in ("left", "inner") else left


def has_null(keys: pl.DataFrame) -> pl.Series:
    """Return whether a part of each key is null, which finds nothing."""
    return keys.select(pl.any_horizontal(pl.all().is_null())).to_series()


def beside(
    columns: JoinedColumns, how: How, frame: pl.DataFrame, row: Ints, found: pl.DataFrame
) -> pl.DataFrame:
    """Return the answer to rows, in their order.

    Args:
        columns: How both sides become one row.
        how: Which rows stay.
        frame: The rows.
        row: Numbers of the rows that find something, ascending, once per hit.
        found: What they find.
    """
    if how == "inner":
        return columns.beside(frame[row], found)
    without = np.ones(frame.height, dtype=np.bool_)
    without[row] = False
    if how == "semi":
        return frame.filter(pl.Series(~without))
    if how == "anti":
        return frame.filter(pl.Series(without))
    alone = np.flatnonzero(without)
    if not alone.size:
        return columns.beside(frame[row], found)
    both = pl.concat([columns.beside(frame[row], found), columns.only_left(frame[alone])])
    return both[np.argsort(np.concatenate([row, alone]), kind="stable")]
