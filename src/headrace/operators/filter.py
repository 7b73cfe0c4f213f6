"""Keep the rows for which a condition holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import polars as pl

from headrace.core.component import Expression
from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Operator, Out, Tables, Task
from headrace.operators.row_wise import check_row_wise, row_wise_schema


class Filter(Operator):
    """Keep rows whose `predicate` is true; false and null drop the row.

    Attributes:
        predicate: A row-wise Boolean expression.
    """

    kind: ClassVar[str] = "filter"
    predicate: Expression

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns."""
        (schema,) = inputs
        check_predicate(self.predicate, schema)
        return {MAIN: schema}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _FilterTask(self.predicate)


class _FilterTask(Task):
    def __init__(self, predicate: pl.Expr) -> None:
        self._predicate = predicate

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        kept = frame.filter(self._predicate)
        if kept.height:
            yield MAIN, kept


def check_predicate(predicate: pl.Expr, schema: pl.Schema) -> None:
    """Refuse a condition that is not a row-wise Boolean.

    Raises:
        PlanError: What it is instead.
    """
    dtypes = row_wise_schema([predicate.alias("__condition")], schema).dtypes()
    if dtypes != [pl.Boolean]:
        raise PlanError(
            f"a condition must be true or false, not {dtypes[0]}",
            hint='compare something, e.g. pl.col("depth_m") > 200',
        )
    check_row_wise([predicate], schema)
