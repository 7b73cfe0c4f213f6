from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from headrace.core.errors import DecodeError
from headrace.core.rows import COMPRESS_FROM_BYTES, decode_rows, encode_rows

FRAME = pl.DataFrame(
    {
        "name": ["é", None, ""],
        "time": pl.Series(
            [datetime(2026, 1, 1, tzinfo=UTC), None, None], dtype=pl.Datetime("us", "UTC")
        ),
        "value": [1.5, float("nan"), None],
        "tags": [["a"], [], None],
        "place": [{"lat": 1.0, "lon": 2.0}, None, {"lat": None, "lon": 3.0}],
        "kind": pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y"])),
        "flag": [True, None, False],
    }
)


@pytest.mark.parametrize("rows", [0, 1, 3, 3000])
def test_rows_of_every_kind_come_back_as_they_were(rows: int) -> None:
    frame = pl.concat([FRAME] * 1000).head(rows)

    found = decode_rows(encode_rows(frame))

    assert_frame_equal(found, frame)
    assert found.schema == frame.schema


def test_slices_carry_only_their_rows() -> None:
    whole = pl.DataFrame({"text": ["x" * 100] * 10_000})

    assert decode_rows(encode_rows(whole.slice(5000, 2))).height == 2
    assert len(encode_rows(whole.slice(5000, 2))) < 2000


def test_only_frames_that_gain_by_it_are_compressed() -> None:
    numbers = pl.DataFrame({"n": range(COMPRESS_FROM_BYTES)})

    assert len(encode_rows(numbers)) < numbers.estimated_size()
    small = numbers.head(COMPRESS_FROM_BYTES // 8 - 1)
    assert len(encode_rows(small)) > small.estimated_size()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_stream_are_a_decode_error(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_rows(payload)


@given(st.data())
def test_damaged_streams_are_decoded_or_refused_but_never_break_the_process(
    data: st.DataObject,
) -> None:
    payload = bytearray(encode_rows(FRAME))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))

    try:
        found = decode_rows(bytes(payload))
    except DecodeError:
        return
    assert isinstance(found, pl.DataFrame)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9])
def test_a_stream_cut_short_is_refused(share: float) -> None:
    payload = encode_rows(FRAME)

    with pytest.raises(DecodeError):
        decode_rows(payload[: int(len(payload) * share)])
