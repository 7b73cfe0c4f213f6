"""JSON bytes to columns: one typed pass, and a slower one that finds the bad rows when it fails.

Strict where Polars' own reader is silent: numbers are not text, 1.5 is no integer, a lone
surrogate is an error. Of a repeated name in one object the last value counts, as in Python and
JavaScript. `NaN` and `Infinity` are not JSON and make a row bad.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any, Final, TypedDict

import msgspec
import polars as pl

from headrace.core.errors import DecodeError, SchemaError
from headrace.core.instants import times_from_numbers
from headrace.core.protocols import REJECTED_SCHEMA, Decoded
from headrace.core.schema import RowSchema
from headrace.core.time import TIME_DTYPE

MAX_PAYLOAD: Final = 4096
"""Characters kept of a payload that became a dead letter."""

NOT_JSON: Final = "not JSON:"
"""How the reason begins where a payload is no JSON at all."""

_FIRST_OBJECT_BYTES: Final = 65_536
_NULL: Final = msgspec.Raw(b"null")
_BAD = (msgspec.MsgspecError, ValueError, RecursionError)


class JsonReader:
    """Reads JSON as rows of one schema; make it once and keep it.

    Frames that come out have the schema's columns, but times are still text: give them to
    `RowSchema.validate`, which converts and checks them.

    Cost: about 0.4 µs a row of three columns, half as much again for a batch with a bad row in it.

    Raises:
        SchemaError: A column's type has no JSON form, e.g. `pl.Duration`.
    """

    def __init__(self, schema: RowSchema) -> None:
        self.schema = schema
        self._names = list(schema.columns)
        # Attributes need Python identifiers, columns do not.
        outside = {f"c{i}": name for i, name in enumerate(self._names)}
        fields = [(f"c{i}", *_field(schema, name)) for i, name in enumerate(self._names)]
        self._getters = {name: attrgetter(f"c{i}") for i, name in enumerate(self._names)}
        self._aliases: list[tuple[attrgetter[Any], str]] = []
        for index, (alias, name) in enumerate(schema.aliases.items()):
            if alias in self._names:
                continue
            outside[f"a{index}"] = alias
            fields.append((f"a{index}", *_field(schema, name)))
            self._aliases.append((attrgetter(f"a{index}"), name))
        row = msgspec.defstruct(
            "Row", fields, rename=outside, gc=False, forbid_unknown_fields=schema.forbids_unknown
        )
        self._known = frozenset(outside.values())
        self._row: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._rows: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[row])  # type: ignore[valid-type] # made at run time

    def objects(self, payloads: Sequence[bytes]) -> Decoded:
        """Read payloads that each hold one JSON object."""
        decode = self._row.decode
        try:
            return self._decoded([decode(payload) for payload in payloads])
        except _BAD:
            return self._salvaged(payloads)

    def lines(self, body: bytes) -> Decoded:
        """Read newline-delimited objects; blank lines are skipped and not counted."""
        text = body.strip()
        try:
            rows = self._row.decode_lines(text)
            # The decoder also takes two objects on a line, or one on two lines.
            if len(rows) == text.count(b"\n") + 1:
                return self._decoded(rows)
        except _BAD:
            pass
        return self._salvaged(split_lines(body))

    def array(self, body: bytes) -> Decoded:
        """Read one array of objects.

        Raises:
            DecodeError: The body as a whole is not a JSON array.
        """
        try:
            return self._decoded(self._rows.decode(body))
        except _BAD:
            pass
        try:
            return self._salvaged(split_array(body))
        except _BAD as error:
            raise DecodeError(
                f"the body is not JSON: {error}", hint="send an object, an array or NDJSON"
            ) from error

    def unknown(self, body: bytes) -> list[str]:
        """Return the names in the body's first object that are no column, sorted.

        Looks at the first object only, of at most 64 kB: what is ignored is told, not searched.
        """
        text = body[:_FIRST_OBJECT_BYTES].decode(errors="replace").lstrip().removeprefix("[")
        try:
            first, _ = json.JSONDecoder().raw_decode(text.lstrip())
        except (ValueError, RecursionError):
            return []
        return sorted(first.keys() - self._known) if isinstance(first, dict) else []

    def _decoded(self, rows: list[Any]) -> Decoded:
        return Decoded(self._frame(rows), REJECTED_SCHEMA.to_frame())

    def _salvaged(self, payloads: Sequence[bytes]) -> Decoded:
        """Read payloads one by one and set the bad ones aside."""
        rows: list[tuple[int, Any]] = []
        bad: list[tuple[int, str, str]] = []
        for index, payload in enumerate(payloads):
            try:
                rows.append((index, self._row.decode(payload)))
            except _BAD as error:
                bad.append((index, payload_text(payload), _reason(error)))
        try:
            frame = self._frame([row for _, row in rows])
        except _BAD:
            frame = self._fitting(payloads, rows, bad)
        rejected = pl.DataFrame(sorted(bad), schema=REJECTED_SCHEMA, orient="row")
        return Decoded(frame, rejected)

    def _fitting(
        self,
        payloads: Sequence[bytes],
        rows: list[tuple[int, Any]],
        bad: list[tuple[int, str, str]],
    ) -> pl.DataFrame:
        """Return the rows that Polars takes; typed JSON may still be too large or not UTF-8."""
        good = []
        for index, row in rows:
            try:
                self._frame([row])
                good.append(row)
            except _BAD as error:
                bad.append((index, payload_text(payloads[index]), _reason(error)))
        return self._frame(good)

    def _frame(self, rows: list[Any]) -> pl.DataFrame:
        columns = {name: list(map(get, rows)) for name, get in self._getters.items()}
        for get, name in self._aliases:
            columns[name] = [
                other if _is_null(own) else own
                for own, other in zip(columns[name], map(get, rows), strict=True)
            ]
        return pl.DataFrame([self._series(name, values) for name, values in columns.items()])

    def _series(self, name: str, values: list[Any]) -> pl.Series:
        dtype = self.schema.columns[name]
        if name in self.schema.json_columns:
            texts = [None if _is_null(raw) else bytes(raw).decode() for raw in values]
            return pl.Series(name, texts, dtype=pl.String)
        if dtype == TIME_DTYPE:
            return self._times(name, values)
        if dtype in {pl.Date, pl.Time} or isinstance(dtype, pl.Enum):
            return pl.Series(name, values, dtype=pl.String)
        try:
            return pl.Series(name, values, dtype=dtype)
        except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
            raise DecodeError(f"{name} does not fit {dtype}") from error

    def _times(self, name: str, values: list[Any]) -> pl.Series:
        unit = self.schema.time_unit
        if unit is None:
            return pl.Series(name, values, dtype=pl.String)
        try:
            whole = pl.Series(name, values, dtype=pl.Int64)
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            kinds = {type(value) for value in values if value is not None}
        else:
            return whole
        if kinds <= {str}:
            return pl.Series(name, values, dtype=pl.String)
        if kinds <= {float}:
            return pl.Series(name, values, dtype=pl.Float64)
        numbers = [None if isinstance(value, str) else value for value in values]
        times = times_from_numbers(pl.Series(numbers, dtype=pl.Float64), unit).dt.to_string("iso")
        # What is no time stays as text, so that it is rejected as such and not as missing.
        texts = [
            value if value is None or isinstance(value, str) else (time or str(value))
            for value, time in zip(values, times, strict=True)
        ]
        return pl.Series(name, texts, dtype=pl.String)


def split_lines(body: bytes) -> list[bytes]:
    """Return the lines of a body that are not blank."""
    return [line for line in body.split(b"\n") if line.strip()]


def split_array(body: bytes) -> list[bytes]:
    """Return the elements of a JSON array as they stand in it."""
    return [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]


def payload_text(payload: bytes) -> str:
    """Return a payload as readable text, cut to 4 kB."""
    return payload[:MAX_PAYLOAD].decode(errors="replace")


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, msgspec.Raw) and bytes(value) == b"null")


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return f"{NOT_JSON} nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"{NOT_JSON} text is not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        what, _, where = str(error).partition(" - at `$.")
        plain = what.replace("`", "")
        return f"{where.removesuffix('`')}: {plain}" if where else plain
    if isinstance(error, DecodeError):
        return error.message
    return f"{NOT_JSON} {error}".replace("JSON is malformed: ", "")


def _field(schema: RowSchema, name: str) -> tuple[Any, Any]:
    """Return the msgspec type and default of a column."""
    dtype = schema.columns[name]
    if name in schema.json_columns:
        return msgspec.Raw, _NULL
    if dtype == TIME_DTYPE:
        return (str | None if schema.time_unit is None else str | int | float | None), None
    return _type(dtype, name) | None, None


_INTEGERS: Final[dict[Any, tuple[int, int]]] = {
    pl.Int8: (-(1 << 7), (1 << 7) - 1),
    pl.Int16: (-(1 << 15), (1 << 15) - 1),
    pl.Int32: (-(1 << 31), (1 << 31) - 1),
    pl.Int64: (-(1 << 63), (1 << 63) - 1),
    pl.UInt8: (0, (1 << 8) - 1),
    pl.UInt16: (0, (1 << 16) - 1),
    pl.UInt32: (0, (1 << 32) - 1),
}


def _type(dtype: Any, name: str) -> Any:
    """Return the msgspec type whose values Polars takes as `dtype`."""
    if isinstance(dtype, pl.List):
        return list[_type(dtype.inner, name) | None]  # type: ignore[misc] # made at run time
    if isinstance(dtype, pl.Array):
        inner: Any = list[_type(dtype.inner, name) | None]  # type: ignore[misc] # made at run time
        return Annotated[inner, msgspec.Meta(min_length=dtype.size, max_length=dtype.size)]
    if isinstance(dtype, pl.Struct):
        fields = {entry.name: _type(entry.dtype, name) | None for entry in dtype.fields}
        return TypedDict(f"{name}_value", fields, total=False)  # type: ignore[operator] # at run time
    low, high = _INTEGERS.get(dtype, (None, None))
    if low is not None:
        return Annotated[int, msgspec.Meta(ge=low, le=high)]
    for kinds, python in _PLAIN:
        if any(dtype == kind for kind in kinds):
            return python
    raise SchemaError(
        f"column {name!r}: {dtype} cannot be read from JSON",
        hint="use a number with its unit in the name, e.g. dwell_s",
    )


_PLAIN: Final[list[tuple[list[Any], Any]]] = [
    ([pl.Float32, pl.Float64], float),
    ([pl.UInt64, pl.Int128], int),
    ([pl.Decimal], Decimal),
    ([pl.String, pl.Categorical, pl.Enum, pl.Date, pl.Time], str),
    ([pl.Boolean], bool),
    ([pl.Binary], bytes),
    ([TIME_DTYPE], datetime),
    ([pl.Null], type(None)),
]
