"""A Python function over frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from importlib import import_module
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import BeforeValidator, PlainSerializer

from headrace.core.component import function_text
from headrace.core.errors import BugError, ConfigError
from headrace.core.protocols import MAIN, Operator, Out, Tables, Task
from headrace.core.schema_field import SchemaField
from headrace.core.time import HIDDEN
from headrace.operators.row_wise import check_row_wise_function, check_visible

FrameFunction = Callable[[pl.DataFrame], pl.DataFrame]


def function_from_text(value: Any) -> Any:
    """Import what `function_text` wrote as `module:qualname#hash`; pass on a function as it is.

    Raises:
        ConfigError: There is no such function any more.
    """
    if not isinstance(value, str):
        return value
    module, _, qualname = value.partition("#")[0].partition(":")
    try:
        return reduce(getattr, qualname.split("."), import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the function {qualname!r} of {module!r} cannot be imported",
            hint="define it at the top of a module; no lambda, no function in a function",
        ) from error


FunctionField = Annotated[
    Callable[..., Any],
    BeforeValidator(function_from_text),
    PlainSerializer(function_text, return_type=str),
]
"""A function, written as its module, name and a hash of its source."""


class MapBatches(Operator):
    """Replace the columns by what `fn` makes of them.

    `fn(frame) -> frame` gets the visible columns of whatever rows have arrived and returns as
    many rows in the same order. It must be pure and row-wise, which is tried on generated rows:
    the same rows cut differently give the same answers.

    Attributes:
        fn: The function.
        returns: Columns it returns, in this order.
    """

    kind: ClassVar[str] = "map_batches"
    fn: FunctionField
    returns: SchemaField

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return `returns`."""
        (schema,) = inputs
        for name in self.returns:
            check_visible(name)
        if not self.recorded:
            check_row_wise_function(self.fn, schema)
        return {MAIN: self.returns}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _MapTask(self.fn, self.returns)


class MapBatchesRecorded(MapBatches):
    """A function that is not pure: its answers are journalled and replay does not call it."""

    kind: ClassVar[str] = "map_batches_recorded"
    recorded: ClassVar[bool] = True


class _MapTask(Task):
    def __init__(self, fn: FrameFunction, schema: pl.Schema) -> None:
        self._fn = fn
        self._schema = schema

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        answer = conform(self._fn(frame.drop(HIDDEN)), self._schema, self._fn)
        if answer.height != frame.height:
            raise BugError(
                f"{function_text(self._fn)} returned {answer.height} rows for {frame.height}",
                hint="map_batches keeps the number of rows: use filter() or explode() beside it",
            )
        yield MAIN, answer.with_columns(frame.select(HIDDEN))


def conform(answer: Any, schema: pl.Schema, fn: FrameFunction) -> pl.DataFrame:
    """Return a function's answer as `schema` says.

    Raises:
        BugError: It is no frame, or columns or dtypes are missing.
    """
    if not isinstance(answer, pl.DataFrame):
        raise BugError(f"{function_text(fn)} returned {type(answer).__name__}, not a frame")
    wrong = [name for name, dtype in schema.items() if answer.schema.get(name) != dtype]
    if wrong:
        raise BugError(
            f"{function_text(fn)} returned {dict(answer.schema)}, not {dict(schema)}",
            hint=f"declare or return {', '.join(wrong)} differently",
        )
    return answer.select(list(schema))
