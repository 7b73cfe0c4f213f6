"""Keys of tables as they stand in a path or a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final

import polars as pl

from headrace.core.errors import DataError
from headrace.core.instants import times_from_text
from headrace.core.time import TIME_DTYPE

_BOOLEANS: Final = {"true": True, "false": False}


def key_from_path(text: str, key: Sequence[str], columns: pl.Schema) -> tuple[Any, ...]:
    """Return a key written in a path: its values, in the order of the key, between slashes.

    Raises:
        DataError: There are too few or too many, or one does not fit its column.
    """
    parts = [text] if len(key) == 1 else text.split("/")
    return key_values(parts, key, columns)


def key_values(parts: Sequence[Any], key: Sequence[str], columns: pl.Schema) -> tuple[Any, ...]:
    """Return key values in the types of their columns; text is read where another is wanted.

    Raises:
        DataError: There are too few or too many, or one does not fit its column.
    """
    if len(parts) != len(key):
        raise DataError(
            f"the key has {len(key)} parts, not {len(parts)}", hint=f"give {'/'.join(key)}"
        )
    return tuple(_value(part, name, columns[name]) for part, name in zip(parts, key, strict=True))


def _value(part: Any, name: str, dtype: pl.DataType) -> Any:
    if not isinstance(part, str) or dtype == pl.String:
        return part
    try:
        return _reader(dtype)(part)
    except (KeyError, ValueError) as error:
        raise DataError(f"{part!r} is no {name} ({dtype})") from error


def _reader(dtype: pl.DataType) -> Callable[[str], Any]:
    if dtype.is_integer():
        return int
    if dtype.is_numeric():
        return float
    if dtype == pl.Boolean:
        return lambda text: _BOOLEANS[text.lower()]
    if dtype == TIME_DTYPE:
        return _time
    if dtype == pl.Date:
        return date.fromisoformat
    return str


def _time(text: str) -> Any:
    # A plus sign of an offset is a space in a query string.
    time = times_from_text(pl.Series([text.replace(" ", "+")]))[0]
    if time is None:
        raise ValueError(text)
    return time
