"""A plain Polars expression as an aggregate: exact, over the collected rows."""

from __future__ import annotations

from typing import ClassVar

import polars as pl

from headrace.core.component import Expression
from headrace.operators.aggregates.aggregate import (
    TIME_AND_PLACE,
    Aggregate,
    Compiler,
    Gather,
    plan_error,
)
from headrace.operators.aggregates.ordered import in_event_order


class Evaluated(Aggregate):
    """Any Polars expression, evaluated over a group's rows in (event time, position) order.

    An expression that does not aggregate gives a list. State holds the columns it reads.
    """

    kind: ClassVar[str] = "expression"
    of: Expression

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return what Polars derives."""
        try:
            groups = pl.LazyFrame(schema=schema).group_by(pl.lit(0).alias("__group"))
            resolved = groups.agg(self.of.alias("__dtype")).collect_schema()
        except pl.exceptions.PolarsError as error:
            raise plan_error(error, schema) from error
        return resolved["__dtype"]

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep the columns that the expression reads."""
        roots = sorted(set(self.of.meta.root_names()) - set(TIME_AND_PLACE))
        table = f"rows_{'_'.join(roots)}"
        for root in roots:
            compiler.arguments[root] = pl.col(root)
        gather = Gather(
            columns={**{root: pl.col(root) for root in roots}, **TIME_AND_PLACE},
            keep=None,
            shrink=_event_order,
        )
        number = len(compiler.gathers[table].finals) if table in compiler.gathers else 0
        return compiler.gather(table, gather, f"{table}_{number}", self.of)

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the expression."""
        return self.of


def _event_order(rows: pl.DataFrame, group: list[str]) -> pl.DataFrame:  # noqa: ARG001 - a Shrink
    return in_event_order(rows)
