"""Messages between the engine and a model's process: a JSON head, then Arrow rows.

A message is two lengths (4 bytes each, little-endian), the head and the body. Nothing that crosses
is a pickle, so what comes back from a model's process is data and can run nothing here.
"""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO, Final

import msgspec
import polars as pl

_LENGTHS: Final = struct.Struct("<II")


class Head(msgspec.Struct, omit_defaults=True):
    """What a message is about.

    Attributes:
        verb: `load` or `predict` one way; `done` or `failed` the other.
        number: Which request it is, or answers.
        spec: What to load.
        version: What was loaded.
        memory_bytes: Memory of the process after it was.
        error: What was raised.
    """

    verb: str
    number: int = 0
    spec: msgspec.Raw = msgspec.Raw()
    version: str = ""
    memory_bytes: int = 0
    error: str = ""


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Head)


def send(file: BinaryIO, head: Head, body: bytes = b"") -> None:
    """Write one message.

    Raises:
        OSError: The other side is gone.
    """
    text = _ENCODER.encode(head)
    file.write(_LENGTHS.pack(len(text), len(body)) + text)
    file.write(body)
    file.flush()


def receive(file: BinaryIO) -> tuple[Head, bytes] | None:
    """Read one message; None where the other side is gone.

    Raises:
        msgspec.MsgspecError: The head is no head.
    """
    lengths = file.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head_bytes, body_bytes = _LENGTHS.unpack(lengths)
    text = file.read(head_bytes)
    body = file.read(body_bytes) if body_bytes else b""
    if len(text) < head_bytes or len(body) < body_bytes:
        return None
    return _DECODER.decode(text), body


def raw(value: Any) -> msgspec.Raw:
    """Return a value as JSON to be put into a head."""
    return msgspec.Raw(_ENCODER.encode(value))


def body_of(frame: pl.DataFrame) -> bytes:
    """Return rows as an Arrow IPC stream, uncompressed: a pipe is faster than any packing."""
    stream = io.BytesIO()
    frame.write_ipc_stream(stream, compression="uncompressed")
    return stream.getvalue()
