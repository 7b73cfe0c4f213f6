"""var and std, merged without cancellation.

Partials are (n, mean, M2); any number of them merge at once as in Chan, Golub and LeVeque,
"Updating formulae and a pairwise algorithm for computing sample variances" (1979):
M2 = sum(M2_i) + sum(n_i (mean_i - mean)^2).
"""

from __future__ import annotations

from typing import ClassVar

import polars as pl

from headrace.core.component import Expression
from headrace.operators.aggregates.aggregate import Compiler, Conditional, dtype_of, ordered_rows
from headrace.operators.aggregates.basic import count_partial, numeric


class Var(Conditional):
    """Variance, Float64.

    Attributes:
        ddof: The divisor is n - ddof; null while n <= ddof.
    """

    kind: ClassVar[str] = "var"
    of: Expression
    ddof: int = 1

    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return Float64."""
        numeric(dtype_of(self.of, schema), self.kind)
        return pl.Float64()

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep n, mean and M2."""
        name = compiler.argument(self.of, self.where)
        values = pl.col(name).cast(pl.Float64)
        number = pl.col(f"{name}_count")
        means = pl.col(f"{name}_mean")
        mean = pl.when(number.sum() > 0).then((number * means).sum() / number.sum())
        count_partial(compiler, name)
        compiler.partial(f"{name}_mean", values.mean(), mean)
        squares = compiler.partial(
            f"{name}_m2",
            values.var(ddof=0) * values.count(),
            pl.col(f"{name}_m2").sum() + (number * (means - mean) ** 2).sum(),
        )
        return pl.when(number > self.ddof).then(squares / (number - self.ddof))

    def over_rows(self, schema: pl.Schema) -> pl.Expr:  # noqa: ARG002 - the value says it all
        """Return the variance."""
        return ordered_rows(self.of, self.where).cast(pl.Float64).var(ddof=self.ddof)


class Std(Var):
    """Standard deviation, Float64: the square root of `Var`."""

    kind: ClassVar[str] = "std"

    def compile(self, compiler: Compiler) -> pl.Expr:
        """Keep what the variance keeps."""
        return super().compile(compiler).sqrt()

    def over_rows(self, schema: pl.Schema) -> pl.Expr:
        """Return the standard deviation."""
        return super().over_rows(schema).sqrt()
