"""JSON schema of column types."""

from __future__ import annotations

from typing import Any

import polars as pl

from headrace.core.instants import TimeUnit

Json = dict[str, Any]


def json_type(dtype: Any, time_unit: TimeUnit | None = None, *, nullable: bool = False) -> Json:
    """Return the JSON schema of a value of `dtype`.

    Args:
        dtype: A Polars dtype.
        time_unit: Unit in which times may also be given as numbers.
        nullable: Whether null is a value too.
    """
    kind = _nested(dtype, time_unit) or _plain(dtype)
    if isinstance(dtype, pl.Datetime) and time_unit:
        kind = {"anyOf": [kind, {"type": "number", "description": f"epoch, {time_unit}"}]}
    if not nullable:
        return kind
    if "anyOf" in kind:
        return {"anyOf": [*kind["anyOf"], {"type": "null"}]}
    return {**kind, "type": [kind["type"], "null"]}


def _nested(dtype: Any, time_unit: TimeUnit | None) -> Json | None:
    if isinstance(dtype, pl.List | pl.Array):
        return {"type": "array", "items": json_type(dtype.inner, time_unit)}
    if isinstance(dtype, pl.Struct):
        inner = {entry.name: json_type(entry.dtype, time_unit) for entry in dtype.fields}
        return {"type": "object", "properties": inner}
    return None


def _plain(dtype: Any) -> Json:
    if isinstance(dtype, pl.Enum):
        return {"type": "string", "enum": dtype.categories.to_list()}
    if dtype == pl.Boolean:
        return {"type": "boolean"}
    if dtype.is_integer():
        return {"type": "integer"}
    if dtype.is_numeric():
        return {"type": "number"}
    formats = {pl.Datetime: "date-time", pl.Date: "date", pl.Time: "time"}
    for temporal, word in formats.items():
        if dtype == temporal:
            return {"type": "string", "format": word}
    return {"type": "string"}
