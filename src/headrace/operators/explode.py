"""One row per element of a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import polars as pl
from pydantic import Field

from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Operator, Out, Tables, Task
from headrace.operators.columns import ColumnNames
from headrace.operators.project import check_present


class Explode(Operator):
    """Repeat a row for each element of its lists; an empty or null list gives one row of null.

    The rows share event time and position, in the order of the elements.

    Attributes:
        columns: List or array columns of equal lengths per row.
    """

    kind: ClassVar[str] = "explode"
    columns: ColumnNames = Field(min_length=1)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns, lists replaced by their elements."""
        (schema,) = inputs
        check_present(self.columns, schema)
        result = dict(schema)
        for name in self.columns:
            dtype = schema[name]
            if not isinstance(dtype, pl.List | pl.Array):
                raise PlanError(f"{name!r} is {dtype}, not a list", hint="explode takes lists")
            result[name] = pl.LazyFrame(schema=schema).explode(name).collect_schema()[name]
        return {MAIN: pl.Schema(result)}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _ExplodeTask(self.columns)


class _ExplodeTask(Task):
    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        yield MAIN, frame.explode(self._columns, empty_as_null=True)
