"""The stable shard of a key, the same on every machine, version and platform."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from xxhash import xxh64_intdigest

from headrace.core.errors import ConfigError

SHARDS: Final = 128
_SEED: Final = 0x68656164
_NULL: Final = b"\x00"
_NUMBER, _FLOAT, _BOOLEAN, _TEXT, _BINARY, _TIME = (bytes([tag]) for tag in range(1, 7))


def shard_of(frame: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Return the shard of each row: xxh64 of the canonical bytes of its key, modulo 128.

    Canonical bytes are, per key column in the given order, a tag and a payload: 0 null ·
    1 integers (16 bytes, little-endian, signed) · 2 floats (8 bytes; one NaN, no negative
    zero) · 3 Boolean (1 byte) · 4 text and 5 binary (length in 4 bytes, then the bytes) ·
    6 times and durations (8 bytes, microseconds). So equal values of different integer widths
    share a shard, and different columns cannot run into each other.

    Args:
        frame: n rows.
        key: Its key columns; without any, every row is of shard 0.

    Returns:
        UInt8, n values in 0..127, in row order.

    Raises:
        ConfigError: A key column is a list, struct or other type without canonical bytes.

    Cost: one hash per distinct key.

    Example:
        >>> shard_of(pl.DataFrame({"k": ["a", "b", None]}), ["k"]).to_list()
        [123, 58, 44]
    """
    if not key or frame.is_empty():
        return pl.Series("shard", np.zeros(frame.height, dtype=np.uint8))
    keys = frame.select(key)
    if keys.width == 1 and keys.n_unique() == keys.height:
        distinct = keys
        rows = None
    else:
        distinct = keys.unique(maintain_order=True)
        numbered = distinct.with_row_index("__distinct")
        rows = keys.join(
            numbered, on=list(key), how="left", nulls_equal=True, maintain_order="left"
        )["__distinct"]
    columns = [_canonical(column) for column in distinct.iter_columns()]
    hashes = [
        xxh64_intdigest(b"".join(pieces), seed=_SEED) % SHARDS
        for pieces in zip(*columns, strict=True)
    ]
    shards = pl.Series("shard", np.array(hashes, dtype=np.uint8))
    return shards if rows is None else shards.gather(rows)


def _canonical(column: pl.Series) -> list[bytes]:
    dtype = column.dtype
    if dtype.is_integer():
        return _tagged(_NUMBER, column, lambda value: value.to_bytes(16, "little", signed=True))
    if dtype.is_float():
        return _tagged(_FLOAT, column, _float_bytes)
    if isinstance(dtype, pl.Boolean | pl.Null):
        return _tagged(_BOOLEAN, column, lambda value: bytes([value]))
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Decimal):
        return _tagged(_TEXT, column.cast(pl.String).cast(pl.Binary), _with_length)
    if isinstance(dtype, pl.Binary):
        return _tagged(_BINARY, column, _with_length)
    return _tagged(_TIME, _times(column), lambda value: value.to_bytes(8, "little", signed=True))


def _tagged(tag: bytes, column: pl.Series, payload: Callable[[Any], bytes]) -> list[bytes]:
    return [_NULL if value is None else tag + payload(value) for value in column.to_list()]


def _float_bytes(value: float) -> bytes:
    # Adding zero turns -0.0 into 0.0, and there are many NaNs.
    return struct.pack("<d", math.nan if math.isnan(value) else value + 0.0)


def _with_length(value: bytes) -> bytes:
    return len(value).to_bytes(4, "little") + value


def _times(column: pl.Series) -> pl.Series:
    """Return a time, date or duration column as microseconds."""
    match column.dtype:
        case pl.Datetime() | pl.Date():
            return column.dt.epoch("us")
        case pl.Duration():
            return column.dt.total_microseconds()
        case pl.Time():
            return column.cast(pl.Int64) // 1_000
        case other:
            raise ConfigError(
                f"column {column.name!r} of type {other} cannot be a key",
                hint="take keys from plain columns: text, numbers, Booleans or times",
            )
