from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

from headrace.codecs.json import JsonCodec, JsonReader, encode_row, encode_rows
from headrace.core.errors import DecodeError, SchemaError
from headrace.core.schema import RowSchema

SCHEMA = RowSchema.of(
    {"id": pl.String, "n": pl.Int64, "x": pl.Float64, "ok": pl.Boolean, "time": pl.Datetime}
)
READER = JsonReader(SCHEMA)
GOOD = b'{"id": "a", "n": 1, "x": 2, "ok": true, "time": "2026-01-01T00:00:00Z"}'


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"n": 1.5}', "n: Expected int | null, got float"),
        (b'{"n": "1"}', "n: Expected int | null, got str"),
        (b'{"n": true}', "n: Expected int | null, got bool"),
        (b'{"n": 9223372036854775808}', "n: Expected int <= 9223372036854775807"),
        (b'{"n": 123456789012345678901234567890}', "n: Expected int <= 9223372036854775807"),
        (b'{"x": "1.5"}', "x: Expected float | null, got str"),
        (b'{"x": 1e400}', "x: Number out of range"),
        (b'{"x": NaN}', "not JSON: invalid character (byte 6)"),
        (b'{"x": -Infinity}', "not JSON: invalid character (byte 7)"),
        (b'{"id": 7}', "id: Expected str | null, got int"),
        (b'{"id": "\\ud800"}', "not JSON: Input data was truncated"),
        (b'{"id": "\xff"}', "not JSON: text is not UTF-8"),
        (b'{"ok": 1}', "ok: Expected bool | null, got int"),
        (b'{"time": 1700000000}', "time: Expected str | null, got int"),
        (b'{"time": "soon"}', "time is not a time: write RFC 3339, 2026-01-01T00:00:00Z"),
        (b"[]", "Expected object, got array"),
        (b'{"n": 1', "not JSON: Input data was truncated"),
        (b"", "not JSON: Input data was truncated"),
        (b'{"n": 1} {"n": 2}', "not JSON: trailing characters (byte 10)"),
        (b'{"n": ' + b"[" * 9000 + b"]" * 9000 + b"}", "n: Expected int | null, got array"),
        (b'{"z": ' + b"[" * 9000 + b"]" * 9000 + b"}", "not JSON: nested too deeply"),
    ],
)
def test_a_bad_message_is_rejected_alone_with_a_reason(payload: bytes, reason: str) -> None:
    decoded = JsonCodec().decode([GOOD, payload, GOOD], SCHEMA.columns)

    assert decoded.frame["id"].to_list() == ["a", "a"]
    assert decoded.rejected.select("index", "reason").rows() == [(1, reason)]


def test_unknown_names_are_ignored_and_the_last_of_a_repeated_name_counts() -> None:
    decoded = JsonCodec().decode([b'{"n": 1, "n": 2, "zz": {}}'], SCHEMA.columns)

    assert decoded.frame["n"].to_list() == [2]
    assert READER.unknown(b' [ {"n": 1, "zz": 2, "aa": 3}, {"yy": 1}]') == ["aa", "zz"]
    assert READER.unknown(b"nonsense") == []


def test_ndjson_skips_blank_lines_and_numbers_the_others() -> None:
    body = GOOD + b"\n\n" + b"x\r\n  \n" + GOOD + b"\n"
    decoded = READER.lines(body)

    assert decoded.frame.height == 2
    assert decoded.rejected["index"].to_list() == [1]


@pytest.mark.parametrize("body", [b'{"n": 1}{"n": 2}', b'{"n":\n1}', b'{"n": 1} {"n": 2}'])
def test_ndjson_wants_one_object_on_each_line(body: bytes) -> None:
    decoded = READER.lines(body)

    assert decoded.frame.height == 0
    assert decoded.rejected.height == body.count(b"\n") + 1


def test_an_array_keeps_its_good_elements() -> None:
    decoded = READER.array(b'[{"n": 1}, {"n": "x"}, 3, {"n": 4}]')

    assert decoded.frame["n"].to_list() == [1, 4]
    assert decoded.rejected["index"].to_list() == [1, 2]


@pytest.mark.parametrize("body", [b"", b"{", b"[{},", b"nope", b"[" * 100_000])
def test_a_body_that_is_no_array_is_an_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        READER.array(body)


def test_times_may_be_numbers_where_a_unit_is_declared() -> None:
    codec = JsonCodec(time_unit="ms")
    schema = pl.Schema({"t": pl.Datetime("us", "UTC")})
    expected = datetime(2026, 1, 1, 0, 0, 0, 250_000, UTC)
    number = b'{"t": 1767225600250}'
    text = b'{"t": "2026-01-01T01:00:00.25+01:00"}'

    for payloads in (
        [number],
        [text],
        [number, text],
        [b'{"t": 1767225600250.0}'],
        [number, b"{}"],
    ):
        assert codec.decode(payloads, schema).frame["t"][0] == expected
    mixed = codec.decode([text, b'{"t": 1e300}', number], schema)
    assert mixed.frame["t"].to_list() == [expected, expected]
    assert mixed.rejected["index"].to_list() == [1]


def test_aliases_are_read_and_the_columns_own_name_wins() -> None:
    reader = JsonReader(RowSchema.of({"depth_m": pl.Float64}, aliases={"depth": "depth_m"}))
    decoded = reader.objects([b'{"depth": 1}', b'{"depth_m": 2}', b'{"depth": 3, "depth_m": 4}'])

    assert decoded.frame["depth_m"].to_list() == [1.0, 2.0, 4.0]
    assert reader.unknown(b'{"depth": 1}') == []


def test_free_form_values_are_kept_as_their_text() -> None:
    schema = RowSchema(columns=pl.Schema({"g": pl.String}), json_columns=frozenset({"g"}))
    decoded = JsonReader(schema).objects([b'{"g": {"a": [1.50, null]}}', b'{"g": null}', b"{}"])

    assert decoded.frame["g"].to_list() == ['{"a": [1.50, null]}', None, None]
    assert encode_rows(decoded.frame, ["g"]) == b'[{"g":{"a": [1.50, null]}},{"g":null},{"g":null}]'


def test_times_leave_with_an_offset_and_what_is_not_finite_as_null() -> None:
    frame = pl.DataFrame(
        {"t": [datetime(2026, 1, 1, tzinfo=UTC)], "x": [float("nan")], "y": [float("-inf")]}
    )

    assert encode_row(frame) == b'{"t":"2026-01-01T00:00:00+00:00","x":null,"y":null}'


def test_an_empty_frame_is_an_empty_array() -> None:
    assert encode_rows(pl.DataFrame(schema={"a": pl.Int64})) == b"[]"
    assert JsonCodec().encode(pl.DataFrame(schema={"a": pl.Int64})) == []
    assert JsonCodec().decode([], pl.Schema({"a": pl.Int64})).frame.schema == {"a": pl.Int64}


def test_a_type_without_a_json_form_is_refused() -> None:
    with pytest.raises(SchemaError, match="Duration"):
        JsonReader(RowSchema.of({"d": pl.Duration("us")}))


TYPES: list[Any] = [
    pl.String,
    pl.Boolean,
    pl.Int8,
    pl.Int16,
    pl.Int32,
    pl.Int64,
    pl.UInt8,
    pl.UInt16,
    pl.UInt32,
    pl.UInt64,
    pl.Float64,
    pl.Float32,
    pl.Date,
    pl.Time,
    pl.Binary,
]


@given(
    dataframes(
        min_cols=1,
        max_cols=6,
        max_size=20,
        allowed_dtypes=TYPES,
        allow_infinity=False,
        allow_nan=False,
    )
)
def test_what_is_encoded_reads_back_as_it_was(frame: pl.DataFrame) -> None:
    for name, dtype in frame.schema.items():
        if dtype == pl.Time:
            # Nanoseconds are kept by JSON, but only as many digits as Polars writes.
            frame = frame.with_columns(pl.col(name).cast(pl.Int64) // 1000 * 1000).cast(
                {name: pl.Time}
            )
    decoded = JsonCodec().decode(JsonCodec().encode(frame), frame.schema)

    assert decoded.rejected.rows() == []
    assert_frame_equal(decoded.frame, frame)


NESTED = pl.Schema(
    {
        "l": pl.List(pl.Float64),
        "a": pl.Array(pl.Int64, 2),
        "s": pl.Struct({"b": pl.Int64, "t": pl.Datetime("us", "UTC"), "l": pl.List(pl.String)}),
        "time": pl.Datetime("us", "UTC"),
        "e": pl.Enum(["x", "y"]),
    }
)


def test_nested_values_read_back_as_they_were() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=1)
    frame = pl.DataFrame(
        {
            "l": [[1.5, None], [], None],
            "a": [[1, 2], None, [3, 4]],
            "s": [{"b": 1, "t": moment, "l": ["z"]}, None, {"b": None, "t": None, "l": None}],
            "time": [moment, None, moment],
            "e": ["x", None, "y"],
        },
        schema=NESTED,
    )
    decoded = JsonCodec().decode(JsonCodec().encode(frame), NESTED)

    assert decoded.rejected.rows() == []
    assert decoded.frame.equals(frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SCHEMA.columns, *NESTED, "other"]), inner, max_size=5)
    ),
    max_leaves=8,
)


@given(st.lists(st.binary(max_size=40) | JSON.map(msgspec.json.encode), max_size=6))
def test_no_bytes_make_decoding_raise(payloads: list[bytes]) -> None:
    for schema in (SCHEMA.columns, NESTED):
        decoded = JsonCodec().decode(payloads, schema)
        assert decoded.frame.height + decoded.rejected.height == len(payloads)
        lines = JsonReader(RowSchema.of(schema)).lines(b"\n".join(payloads))
        assert lines.frame.schema.names() == schema.names()


@given(st.integers(0, 7), st.integers(1, 5))
def test_the_good_rows_are_the_same_however_the_messages_are_cut(bad: int, size: int) -> None:
    payloads = [b'{"id": "%d"}' % index for index in range(8)]
    payloads[bad] = b"?"
    parts = [
        JsonCodec().decode(payloads[start : start + size], SCHEMA.columns).frame
        for start in range(0, 8, size)
    ]

    assert pl.concat(parts)["id"].to_list() == [str(i) for i in range(8) if i != bad]


def test_dates_and_clock_times_are_read() -> None:
    schema = pl.Schema({"d": pl.Date, "t": pl.Time})
    decoded = JsonCodec().decode(
        [b'{"d": "2026-02-03", "t": "01:02:03.5"}', b'{"d": "3/2"}'], schema
    )

    assert decoded.frame.rows() == [(date(2026, 2, 3), time(1, 2, 3, 500_000))]
    assert decoded.rejected["reason"].to_list() == ["d is not of type Date"]
