"""The fields of a struct as columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import polars as pl
from pydantic import Field

from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Operator, Out, Tables, Task
from headrace.operators.columns import ColumnNames
from headrace.operators.project import check_present
from headrace.operators.row_wise import check_visible


class Unnest(Operator):
    """Put the fields of struct columns in their place.

    Attributes:
        columns: Struct columns.
    """

    kind: ClassVar[str] = "unnest"
    columns: ColumnNames = Field(min_length=1)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns, structs replaced by their fields."""
        (schema,) = inputs
        check_present(self.columns, schema)
        names: list[str] = []
        for name, dtype in schema.items():
            if name not in self.columns:
                names.append(name)
            elif isinstance(dtype, pl.Struct):
                names.extend(field.name for field in dtype.fields)
            else:
                raise PlanError(f"{name!r} is {dtype}, not a struct", hint="unnest takes structs")
        for name in names:
            check_visible(name)
            if names.count(name) > 1:
                raise PlanError(
                    f"unnesting gives two columns called {name!r}",
                    hint="rename() or drop() one of them first",
                )
        unnested = pl.LazyFrame(schema=schema).unnest(self.columns).collect_schema()
        return {MAIN: unnested}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _UnnestTask(self.columns)


class _UnnestTask(Task):
    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        yield MAIN, frame.unnest(self._columns)
