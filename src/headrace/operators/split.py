"""Rows that satisfy a condition on one port, the rest on another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

import polars as pl

from headrace.core.component import Expression
from headrace.core.protocols import Operator, Out, Tables, Task
from headrace.operators.filter import check_predicate

YES: Final = "yes"
NO: Final = "no"


class Split(Operator):
    """Send each row to `yes` or `no`; a condition that is null is not met.

    Attributes:
        predicate: A row-wise Boolean expression.
    """

    kind: ClassVar[str] = "split"
    predicate: Expression

    def outputs(self) -> tuple[str, ...]:
        """Name yes and no."""
        return (YES, NO)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns for both."""
        (schema,) = inputs
        check_predicate(self.predicate, schema)
        return {YES: schema, NO: schema}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _SplitTask(self.predicate)


class _SplitTask(Task):
    def __init__(self, predicate: pl.Expr) -> None:
        self._predicate = predicate

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        met = pl.col("__met")
        told = frame.with_columns(self._predicate.fill_null(value=False).alias("__met"))
        yes, no = told.filter(met).drop("__met"), told.filter(~met).drop("__met")
        if yes.height:
            yield YES, yes
        if no.height:
            yield NO, no
