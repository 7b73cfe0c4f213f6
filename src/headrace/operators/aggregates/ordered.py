"""first and last, nth, collect and top_k: answers that depend on the order of rows.

Order is (event time, position) unless another one is asked for.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import polars as pl
from pydantic import Field

from headrace.core.component import Expression
from headrace.core.time import EVENT_TIME, POSITION
from headrace.operators.aggregates.aggregate import (
    TIME_AND_PLACE,
    Compiler,
    Conditional,
    Gather,
    dtype_of,
    ordered_rows,
)


class First(Conditional):
    """The value with the earliest event time; among equals the one with the lowest position."""

    kind: ClassVar[str] = "first"
    of: Expression

    _end: ClassVar[Literal["first", "last"]] = "first"

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return the input's dtype."""
        return dtype_of(self.of, schema)

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep the value with its event time and position."""
        name = compiler.argument(self.of, self.where)
        prefix = f"{name}_{self._end}"
        compiler.in_event_order()
        parts = {f"{prefix}_value": name, f"{prefix}_at": EVENT_TIME, f"{prefix}_place": POSITION}
        place = [pl.col(f"{prefix}_at"), pl.col(f"{prefix}_place")]
        for part, source in parts.items():
            present = pl.col(source).filter(pl.col(name).is_not_null())
            in_order = pl.col(part).sort_by(
                place, nulls_last=self._end == "first", maintain_order=True
            )
            compiler.partial(part, self._pick(present), self._pick(in_order))
        return pl.col(f"{prefix}_value")

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the first or last value."""
        return self._pick(ordered_rows(self.of, self.where))

    def _pick(self, values: pl.Expr) -> pl.Expr:
        return values.first() if self._end == "first" else values.last()


class Last(First):
    """The value with the latest event time; among equals the one with the highest position."""

    kind: ClassVar[str] = "last"
    _end: ClassVar[Literal["first", "last"]] = "last"


class Nth(Conditional):
    """The value at place `n`, counted from 0; negative counts from the end.

    State grows with |n| per group and slice.
    """

    kind: ClassVar[str] = "nth"
    of: Expression
    n: int

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return the input's dtype."""
        return dtype_of(self.of, schema)

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep the rows up to place `n`."""
        name = compiler.argument(self.of, self.where)
        table = f"{name}_nth_{'m' if self.n < 0 else ''}{abs(self.n)}"
        return compiler.gather(
            table,
            Gather(
                columns={"__value": pl.col(name), **TIME_AND_PLACE},
                keep=pl.col(name).is_not_null(),
                shrink=self._shrink,
            ),
            answer=table,
            final=pl.col("__value").get(self.n, null_on_oob=True),
        )

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the value at place `n`."""
        return ordered_rows(self.of, self.where).get(self.n, null_on_oob=True)

    def _shrink(self, rows: pl.DataFrame, group: list[str]) -> pl.DataFrame:
        groups = in_event_order(rows).group_by(group, maintain_order=True)
        return groups.head(self.n + 1) if self.n >= 0 else groups.tail(-self.n)


class Collect(Conditional):
    """All values as a list; null when there are none. State grows with the rows.

    Attributes:
        order_by: Sort by this instead of event time; ties keep (event time, position).
    """

    kind: ClassVar[str] = "collect"
    of: Expression
    order_by: Expression | None = None

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return a list of the input's dtype."""
        if self.order_by is not None:
            dtype_of(self.order_by, schema)
        return pl.List(dtype_of(self.of, schema))

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep all values."""
        name = compiler.argument(self.of, self.where)
        columns = {"__value": pl.col(name), **TIME_AND_PLACE}
        table = f"{name}_collect"
        final = pl.col("__value")
        if self.order_by is not None:
            rank = compiler.argument(self.order_by)
            columns["__rank"] = pl.col(rank)
            table = f"{table}_{rank}"
            final = final.sort_by("__rank", maintain_order=True)
        gather = Gather(columns=columns, keep=pl.col(name).is_not_null(), shrink=_all_rows)
        return compiler.gather(table, gather, answer=table, final=final)

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the list of what is there."""
        present = self.of.is_not_null()
        if self.where is not None:
            present = present & self.where
        values = self.of.filter(present)
        if self.order_by is not None:
            values = values.sort_by(self.order_by.filter(present), maintain_order=True)
        return pl.when(present.any()).then(values.implode())


class TopK(Conditional):
    """Of the `k` rows with the largest `by`: a list, largest first; null when there are none.

    Ties go to the earlier (event time, position). Nulls of `by` do not count; NaN is the
    largest number.

    Attributes:
        k: How many rows at most.
        by: What rows are compared by.
        columns: What the list holds: None the values of `by`, one name that column, several
            names structs of them.
        descending: False for the smallest instead.
    """

    kind: ClassVar[str] = "top_k"
    k: Annotated[int, Field(ge=1)]
    by: Expression
    columns: str | tuple[str, ...] | None = None
    descending: bool = True

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return a list of what `columns` says."""
        dtype_of(self.by, schema)
        return pl.List(dtype_of(self._value(), schema))

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep `k` rows."""
        by = compiler.argument(self.by, self.where)
        value = compiler.argument(self._value())
        table = f"{by}_{value}_{'top' if self.descending else 'bottom'}_{self.k}"
        return compiler.gather(
            table,
            Gather(
                columns={"__by": pl.col(by), "__value": pl.col(value), **TIME_AND_PLACE},
                keep=pl.col(by).is_not_null(),
                shrink=self._shrink,
            ),
            answer=table,
            final=pl.col("__value"),
        )

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the list of the rows that lead."""
        present = self.by.is_not_null()
        if self.where is not None:
            present = present & self.where
        ranked = (
            self._value()
            .filter(present)
            .sort_by(self.by.filter(present), descending=self.descending, maintain_order=True)
        )
        return pl.when(present.any()).then(ranked.head(self.k).implode())

    def _value(self) -> pl.Expr:
        if self.columns is None:
            return self.by
        return pl.col(self.columns) if isinstance(self.columns, str) else pl.struct(self.columns)

    def _shrink(self, rows: pl.DataFrame, group: list[str]) -> pl.DataFrame:
        ranked = in_event_order(rows).sort("__by", descending=self.descending, maintain_order=True)
        return ranked.group_by(group, maintain_order=True).head(self.k)


def in_event_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` sorted by (event time, position); ties keep their order."""
    return rows.sort(EVENT_TIME, POSITION, maintain_order=True)


def _all_rows(rows: pl.DataFrame, group: list[str]) -> pl.DataFrame:  # noqa: ARG001 - a Shrink
    return in_event_order(rows)
