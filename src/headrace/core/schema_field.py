"""A Polars schema as a field of a component, written as text such as `List(Int64)`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Annotated, Any

import polars as pl
from pydantic import BeforeValidator, PlainSerializer

from headrace.core.errors import SchemaError


def dtype_from_text(text: str) -> pl.DataType:
    """Return the dtype whose `repr` is `text`.

    Raises:
        SchemaError: It is no dtype.

    Example:
        >>> dtype_from_text("List(Datetime(time_unit='us', time_zone='UTC'))")
        List(Datetime(time_unit='us', time_zone='UTC'))
    """
    try:
        dtype = _read(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise SchemaError(f"{text!r} is not a Polars dtype") from error
    found = dtype() if isinstance(dtype, type) else dtype
    if not isinstance(found, pl.DataType):
        raise SchemaError(f"{text!r} is not a Polars dtype")
    return found


def schema_field(value: Any) -> Any:
    """Return a mapping of names to dtypes, or to their texts, as a schema."""
    if not isinstance(value, Mapping):
        return value
    return pl.Schema(
        {
            name: dtype_from_text(dtype) if isinstance(dtype, str) else dtype
            for name, dtype in value.items()
        }
    )


def _dump(schema: pl.Schema) -> dict[str, str]:
    return {name: repr(dtype) for name, dtype in schema.items()}


SchemaField = Annotated[
    pl.Schema, BeforeValidator(schema_field), PlainSerializer(_dump, return_type=dict[str, str])
]
"""Column names and dtypes; any mapping of them is taken."""


def _read(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        found = getattr(pl, node.id)
        if not (isinstance(found, type) and issubclass(found, pl.DataType)):
            raise TypeError(node.id)
        return found
    if isinstance(node, ast.Call):
        given = {word.arg: _read(word.value) for word in node.keywords if word.arg is not None}
        return _read(node.func)(*(_read(one) for one in node.args), **given)
    if isinstance(node, ast.Dict):
        names = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(names, (_read(one) for one in node.values), strict=True))
    return ast.literal_eval(node)
