"""n_unique: the exact number of distinct values."""

from __future__ import annotations

from typing import ClassVar

import polars as pl

from headrace.core.component import Expression
from headrace.operators.aggregates.aggregate import (
    Compiler,
    Conditional,
    Gather,
    dtype_of,
    ordered_rows,
)


class NUnique(Conditional):
    """Number of distinct values, exact, Int64; 0 of none. NaN is one value, -0.0 equals 0.0.

    State holds each distinct value once per group and slice.
    """

    kind: ClassVar[str] = "n_unique"
    of: Expression

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return Int64."""
        dtype_of(self.of, schema)
        return pl.Int64()

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep the distinct values."""
        name = compiler.argument(self.of, self.where)
        table = f"{name}_values"
        gather = Gather(
            columns={"__value": pl.col(name)}, keep=pl.col(name).is_not_null(), shrink=_distinct
        )
        answer = compiler.gather(
            table, gather, answer=table, final=pl.col("__value").n_unique().cast(pl.Int64)
        )
        return answer.fill_null(0)

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the number of distinct values."""
        return ordered_rows(self.of, self.where).n_unique().cast(pl.Int64)


def _distinct(rows: pl.DataFrame, group: list[str]) -> pl.DataFrame:
    return rows.unique([*group, "__value"], keep="first", maintain_order=True)
