"""Choose, add, drop and rename columns. Event time stays, whatever columns leave."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import polars as pl
from pydantic import Field

from headrace.core.component import Expression
from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Operator, Out, Tables, Task
from headrace.core.time import HIDDEN
from headrace.operators.columns import ColumnNames
from headrace.operators.row_wise import (
    check_row_wise,
    check_visible,
    evaluate,
    row_wise_schema,
)


class _FrameTask(Task):
    def __init__(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self._change = change

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        yield MAIN, self._change(frame)


class _Projection(Operator, ABC):
    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _FrameTask(self._change)

    def _change(self, frame: pl.DataFrame) -> pl.DataFrame:
        raise NotImplementedError


class Select(_Projection):
    """Replace the columns by the given expressions.

    Attributes:
        columns: Row-wise expressions or names.
    """

    kind: ClassVar[str] = "select"
    columns: tuple[Expression, ...] = Field(min_length=1)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the expressions' names and dtypes."""
        (schema,) = inputs
        selected = row_wise_schema(self.columns, schema)
        check_row_wise(self.columns, schema)
        return {MAIN: selected}

    def _change(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(*evaluate(self.columns, frame), *HIDDEN)


class WithColumns(_Projection):
    """Add columns, or replace those of the same name.

    Attributes:
        columns: Row-wise expressions.
    """

    kind: ClassVar[str] = "with_columns"
    columns: tuple[Expression, ...] = Field(min_length=1)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns with the expressions' names and dtypes."""
        (schema,) = inputs
        added = row_wise_schema(self.columns, schema)
        check_row_wise(self.columns, schema)
        return {MAIN: pl.Schema({**schema, **added})}

    def _change(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(*evaluate(self.columns, frame))


class Drop(_Projection):
    """Remove columns.

    Attributes:
        columns: Their names.
    """

    kind: ClassVar[str] = "drop"
    columns: ColumnNames

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns that are left."""
        (schema,) = inputs
        check_present(self.columns, schema)
        return {MAIN: pl.Schema({n: t for n, t in schema.items() if n not in self.columns})}

    def _change(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.drop(self.columns)


class Rename(_Projection):
    """Give columns other names.

    Attributes:
        mapping: Old name to new name.
    """

    kind: ClassVar[str] = "rename"
    mapping: dict[str, str]

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns under their new names."""
        (schema,) = inputs
        check_present(list(self.mapping), schema)
        for name in self.mapping.values():
            check_visible(name)
        names = [self.mapping.get(name, name) for name in schema]
        if len(set(names)) != len(names):
            raise PlanError(
                f"renaming gives two columns one name: {', '.join(names)}",
                hint="drop() the one that is not needed first",
            )
        return {MAIN: pl.Schema(dict(zip(names, schema.dtypes(), strict=True)))}

    def _change(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.rename(self.mapping)


def check_present(names: Sequence[str], schema: pl.Schema) -> None:
    """Refuse names that are no columns.

    Raises:
        PlanError: Which one, and which columns there are.
    """
    for name in names:
        if name not in schema:
            raise PlanError(
                f"there is no column {name!r}", hint=f"the columns are {', '.join(schema)}"
            )
