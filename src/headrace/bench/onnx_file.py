"""Just enough of onnx.proto to write a model's file without the package that does."""

from __future__ import annotations

from typing import Any, Final

FLOAT, INT64, STRING = 1, 7, 8
"""Element types of a tensor."""

_OPSET: Final = 18
_ML_OPSET: Final = 3
_IR_VERSION: Final = 8
_INT, _FLOATS, _INTS, _STRINGS = 2, 6, 7, 8
_MORE: Final = 0x80
"""Set in a byte that another one follows."""


def model_file(graph: bytes) -> bytes:
    """Return a ModelProto around a GraphProto."""
    ours = whole(2, _OPSET)
    trees = field(1, "ai.onnx.ml") + whole(2, _ML_OPSET)
    head = whole(1, _IR_VERSION) + field(2, "headrace")
    return head + field(7, graph) + field(8, ours) + field(8, trees)


def node(kind: str, inputs: list[str], outputs: list[str], domain: str = "", **given: Any) -> bytes:
    """Return a NodeProto with attributes."""
    ends = b"".join(field(1, name) for name in inputs) + b"".join(field(2, n) for n in outputs)
    named = b"".join(field(5, attribute(name, value)) for name, value in given.items())
    return ends + field(4, kind) + named + field(7, domain)


def attribute(name: str, value: Any) -> bytes:
    """Return an AttributeProto: a whole number, a list of bytes, or an array of numbers."""
    head = field(1, name)
    if isinstance(value, int):
        return head + whole(3, value) + whole(20, _INT)
    if isinstance(value, list):
        return head + b"".join(field(9, each) for each in value) + whole(20, _STRINGS)
    if value.dtype.kind == "f":
        return head + field(7, value.astype("<f4").tobytes()) + whole(20, _FLOATS)
    return head + field(8, b"".join(map(_varint, value.tolist()))) + whole(20, _INTS)


def tensor(name: str, width: int, element: int = FLOAT) -> bytes:
    """Return a ValueInfoProto: a matrix of (any, width)."""
    shape = field(1, field(2, "n")) + field(1, whole(1, width))
    return field(1, name) + field(2, field(1, whole(1, element) + field(2, shape)))


def field(number: int, value: bytes | str) -> bytes:
    """Return a field of protobuf that has a length."""
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def whole(number: int, value: int) -> bytes:
    """Return a field of protobuf that is a whole number."""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while value >= _MORE:
        found.append(value % _MORE | _MORE)
        value //= _MORE
    found.append(value)
    return bytes(found)
