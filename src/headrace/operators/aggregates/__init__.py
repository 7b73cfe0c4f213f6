"""The aggregates of `window(...).agg(...)` and `rolling(...).agg(...)`.

Each takes a column name or an expression and `where=`. Names follow SQL and Polars, some of
them those of Python's built-ins: use them as `hr.sum("x")`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import polars as pl
from pydantic import BeforeValidator, PlainSerializer

from headrace.core.errors import PlanError
from headrace.operators.aggregates.aggregate import Aggregate
from headrace.operators.aggregates.basic import Count, Max, Mean, Min, Sum
from headrace.operators.aggregates.distinct import NUnique
from headrace.operators.aggregates.expression import Evaluated
from headrace.operators.aggregates.ordered import Collect, First, Last, Nth, TopK
from headrace.operators.aggregates.sketch import Median, Quantile
from headrace.operators.aggregates.variance import Std, Var

Of = str | pl.Expr

AGGREGATES: Final[dict[str, type[Aggregate]]] = {
    one.kind: one
    for one in (
        *(Count, Sum, Mean, Min, Max, Var, Std, First, Last, Nth),
        *(Collect, TopK, NUnique, Quantile, Median, Evaluated),
    )
}


def as_aggregate(value: Any) -> Any:
    """Return `value` as an aggregate: itself, a plain expression, or what was serialised.

    Raises:
        PlanError: It is none of these.
    """
    if isinstance(value, pl.Expr):
        return Evaluated(of=value)
    if isinstance(value, dict) and value.get("kind") in AGGREGATES:
        kind = AGGREGATES[value["kind"]]
        return kind(**{name: given for name, given in value.items() if name != "kind"})
    if isinstance(value, Aggregate):
        return value
    raise PlanError(
        f"{value!r} is not an aggregate",
        hint=f"use one of {', '.join(sorted(AGGREGATES))}, or a Polars expression",
    )


def _dump(aggregate: Aggregate) -> dict[str, Any]:
    return {"kind": aggregate.kind, **aggregate.model_dump(mode="json")}


AggregateField = Annotated[
    Aggregate, BeforeValidator(as_aggregate), PlainSerializer(_dump, return_type=dict[str, Any])
]
"""An aggregate; a plain Polars expression is taken as one."""


def count(of: Of | None = None, *, where: pl.Expr | None = None) -> Count:
    """Count rows, or the values of `of` that are not null. Int64, 0 of none."""
    return Count(of=of, where=where)


def sum(of: Of, *, where: pl.Expr | None = None) -> Sum:  # noqa: A001 - SQL's name
    """Sum values: Int64, UInt64, Float64, or the input's Decimal or Duration."""
    return Sum(of=of, where=where)


def mean(of: Of, *, where: pl.Expr | None = None) -> Mean:
    """Average values, Float64."""
    return Mean(of=of, where=where)


def min(of: Of, *, where: pl.Expr | None = None) -> Min:  # noqa: A001 - SQL's name
    """Find the smallest value; NaN only when there is nothing else."""
    return Min(of=of, where=where)


def max(of: Of, *, where: pl.Expr | None = None) -> Max:  # noqa: A001 - SQL's name
    """Find the largest value; NaN only when there is nothing else."""
    return Max(of=of, where=where)


def var(of: Of, *, ddof: int = 1, where: pl.Expr | None = None) -> Var:
    """Compute the variance with divisor n - ddof, stable against cancellation."""
    return Var(of=of, ddof=ddof, where=where)


def std(of: Of, *, ddof: int = 1, where: pl.Expr | None = None) -> Std:
    """Compute the standard deviation: the square root of `var`."""
    return Std(of=of, ddof=ddof, where=where)


def first(of: Of, *, where: pl.Expr | None = None) -> First:
    """Take the value with the earliest (event time, position)."""
    return First(of=of, where=where)


def last(of: Of, *, where: pl.Expr | None = None) -> Last:
    """Take the value with the latest (event time, position)."""
    return Last(of=of, where=where)


def nth(of: Of, n: int, *, where: pl.Expr | None = None) -> Nth:
    """Take the value at place `n` by (event time, position), from 0; negative from the end."""
    return Nth(of=of, n=n, where=where)


def collect(of: Of, *, order_by: Of | None = None, where: pl.Expr | None = None) -> Collect:
    """Collect all values as a list, by (event time, position) or `order_by`."""
    return Collect(of=of, order_by=order_by, where=where)


def top_k(
    k: int,
    *,
    by: Of,
    columns: str | tuple[str, ...] | list[str] | None = None,
    descending: bool = True,
    where: pl.Expr | None = None,
) -> TopK:
    """List `columns` of the `k` rows with the largest (or smallest) `by`."""
    chosen = tuple(columns) if isinstance(columns, list) else columns
    return TopK(k=k, by=by, columns=chosen, descending=descending, where=where)


def n_unique(of: Of, *, where: pl.Expr | None = None) -> NUnique:
    """Count distinct values, exactly. Int64, 0 of none."""
    return NUnique(of=of, where=where)


def quantile(of: Of, q: float, *, error: float = 0.01, where: pl.Expr | None = None) -> Quantile:
    """Find the value at place floor(q (n - 1)), within the relative `error` in windows.

    For an exact answer give a Polars expression: `pl.col("x").quantile(0.95)`.
    """
    return Quantile(of=of, q=q, error=error, where=where)


def median(of: Of, *, error: float = 0.01, where: pl.Expr | None = None) -> Median:
    """Find the middle value, or the mean of the two middle ones, within the relative `error`."""
    return Median(of=of, error=error, where=where)
