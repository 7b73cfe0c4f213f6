"""Frames as bytes: one Arrow IPC stream per batch, compressed where that pays."""

from __future__ import annotations

import io
from typing import Final

import polars as pl

from headrace.core.errors import DecodeError

COMPRESS_FROM_BYTES: Final = 4096
"""Smaller frames are written as they are: their size is mostly the schema, which lz4 leaves."""


def encode_rows(frame: pl.DataFrame) -> bytes:
    """Return `frame` as an Arrow IPC stream, lz4 from 4 KiB of data on.

    Cost (5 columns, one core): 8 us for 1 row, 35 us for 1 000, 0.25 ms for 10 000.
    """
    stream = io.BytesIO()
    small = frame.estimated_size() < COMPRESS_FROM_BYTES
    frame.write_ipc_stream(stream, compression="uncompressed" if small else "lz4")
    return stream.getvalue()


def decode_rows(payload: bytes) -> pl.DataFrame:
    """Return the frame that `encode_rows`, or any other writer of Arrow streams, wrote.

    Cost (5 columns, one core): 7 us for 1 row, 27 us for 1 000, 0.2 ms for 10 000.

    Raises:
        DecodeError: The bytes are no Arrow IPC stream, or one with types Polars does not have.
    """
    try:
        return pl.read_ipc_stream(payload)
    except (pl.exceptions.PolarsError, OSError, ValueError, TypeError, KeyError) as error:
        raise DecodeError(f"not an Arrow IPC stream: {error}") from error
    except pl.exceptions.PanicException as error:
        raise DecodeError(f"a damaged Arrow IPC stream: {error}") from error
