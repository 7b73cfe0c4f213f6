"""count, sum, mean, min and max."""

from __future__ import annotations

from typing import ClassVar

import polars as pl

from headrace.core.component import Expression
from headrace.core.errors import PlanError
from headrace.operators.aggregates.aggregate import Compiler, Conditional, dtype_of, ordered_rows


class Count(Conditional):
    """Number of rows, or of values that are not null.

    Attributes:
        of: What to count; None counts rows.
    """

    kind: ClassVar[str] = "count"
    of: Expression | None = None

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return Int64."""
        if self.of is not None:
            dtype_of(self.of, schema)
        return pl.Int64()

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep one number."""
        if self.of is None and self.where is None:
            return rows_partial(compiler)
        name = compiler.argument(pl.lit(value=True) if self.of is None else self.of, self.where)
        return count_partial(compiler, name)

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the length."""
        if self.of is not None:
            return ordered_rows(self.of, self.where).len().cast(pl.Int64)
        if self.where is not None:
            return self.where.fill_null(value=False).sum().cast(pl.Int64)
        return pl.len().cast(pl.Int64)


class _OfOne(Conditional):
    of: Expression


class Sum(_OfOne):
    """Sum of values. Integers and Booleans sum as 64-bit integers and wrap at their ends."""

    kind: ClassVar[str] = "sum"

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return Int64, UInt64, Float64, or the input's Decimal or Duration."""
        return _sum_dtype(dtype_of(self.of, schema), "sum")

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep sum and number of values."""
        name = compiler.argument(self.of, self.where)
        dtype = _sum_dtype(compiler.dtype_of(self.of), "sum")
        total = compiler.partial(
            f"{name}_sum", pl.col(name).cast(dtype).sum(), pl.col(f"{name}_sum").sum()
        )
        return pl.when(count_partial(compiler, name) > 0).then(total)

    def over_rows(self, schema: pl.Schema) -> pl.Expr:
        """Return the sum of what is there, null when nothing is."""
        values = ordered_rows(self.of, self.where).cast(self.output_dtype(schema))
        return pl.when(values.len() > 0).then(values.sum())


class Mean(_OfOne):
    """Arithmetic mean, Float64."""

    kind: ClassVar[str] = "mean"

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return Float64."""
        numeric(dtype_of(self.of, schema), "mean")
        return pl.Float64()

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep sum and number of values."""
        name = compiler.argument(self.of, self.where)
        total = compiler.partial(
            f"{name}_total", pl.col(name).cast(pl.Float64).sum(), pl.col(f"{name}_total").sum()
        )
        number = count_partial(compiler, name)
        return pl.when(number > 0).then(total / number)

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the mean."""
        return ordered_rows(self.of, self.where).cast(pl.Float64).mean()


class Min(_OfOne):
    """Smallest value; NaN only when there is nothing else."""

    kind: ClassVar[str] = "min"

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return the input's dtype."""
        return dtype_of(self.of, schema)

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep one value."""
        name = compiler.argument(self.of, self.where)
        return compiler.partial(f"{name}_min", pl.col(name).min(), pl.col(f"{name}_min").min())

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the minimum."""
        return ordered_rows(self.of, self.where).min()


class Max(_OfOne):
    """Largest value; NaN only when there is nothing else."""

    kind: ClassVar[str] = "max"

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return the input's dtype."""
        return dtype_of(self.of, schema)

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep one value."""
        name = compiler.argument(self.of, self.where)
        return compiler.partial(f"{name}_max", pl.col(name).max(), pl.col(f"{name}_max").max())

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the maximum."""
        return ordered_rows(self.of, self.where).max()


def rows_partial(compiler: Compiler) -> pl.Expr:
    """Keep the number of rows."""
    return compiler.partial("__rows", pl.len().cast(pl.Int64), pl.col("__rows").sum())


def count_partial(compiler: Compiler, argument: str) -> pl.Expr:
    """Keep the number of values of an argument that are not null."""
    name = f"{argument}_count"
    return compiler.partial(name, pl.col(argument).count().cast(pl.Int64), pl.col(name).sum())


def numeric(dtype: pl.DataType, what: str) -> None:
    """Refuse what is neither number nor Boolean.

    Raises:
        PlanError: `dtype` is something else.
    """
    if not (dtype.is_numeric() or dtype == pl.Boolean):
        raise PlanError(
            f"{what} needs a number, not {dtype}", hint="cast the column, or use count()"
        )


def _sum_dtype(dtype: pl.DataType, what: str) -> pl.DataType:
    if isinstance(dtype, pl.Duration | pl.Decimal):
        return dtype
    numeric(dtype, what)
    if dtype.is_unsigned_integer():
        return pl.UInt64()
    if dtype.is_integer() or dtype == pl.Boolean:
        return pl.Int64()
    return pl.Float64()
