"""Several streams as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Operator, Out, Tables, Task


class Union(Operator):
    """Pass on the rows of every input, as the first one's columns.

    Inputs have the same columns and dtypes, in any order.
    """

    kind: ClassVar[str] = "union"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the first input's columns."""
        first = inputs[0]
        for place, schema in enumerate(inputs[1:], start=2):
            differing = sorted(
                name
                for name in {*first, *schema}
                if name not in first or name not in schema or first[name] != schema[name]
            )
            if differing:
                raise PlanError(
                    f"input {place} of union differs in {', '.join(differing)}",
                    hint="bring the inputs to the same columns with select()",
                )
        return {MAIN: first}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _UnionTask(list(inputs[0]))


class _UnionTask(Task):
    def __init__(self, columns: list[str]) -> None:
        self._columns = columns

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        if port == 0:
            yield MAIN, frame
        else:
            hidden = [name for name in frame.columns if name not in self._columns]
            yield MAIN, frame.select(*self._columns, *hidden)
