"""The shard of a key never changes: it addresses stored state."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest
from xxhash import xxh64_intdigest

from headrace.core.errors import ConfigError
from headrace.core.shard import SHARDS, shard_of


def by_hand(canonical: bytes) -> int:
    return xxh64_intdigest(canonical, seed=0x68656164) % 128


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON_US = 1_767_268_800_000_000
NAN = bytes.fromhex("02000000000000f87f")

CASES: list[tuple[Any, Any, bytes]] = [
    (pl.String, "a", b"\x04\x01\x00\x00\x00a"),
    (pl.String, "é", b"\x04\x02\x00\x00\x00\xc3\xa9"),
    (pl.String, None, b"\x00"),
    (pl.Null, None, b"\x00"),
    (pl.Int64, 1, b"\x01\x01" + bytes(15)),
    (pl.UInt8, 1, b"\x01\x01" + bytes(15)),
    (pl.Int32, -1, b"\x01" + b"\xff" * 16),
    (pl.UInt64, 2**64 - 1, b"\x01" + b"\xff" * 8 + bytes(8)),
    (pl.Float64, 0.5, bytes.fromhex("02000000000000e03f")),
    (pl.Float32, 0.5, bytes.fromhex("02000000000000e03f")),
    (pl.Float64, -0.0, b"\x02" + bytes(8)),
    (pl.Float64, math.nan, NAN),
    (pl.Float32, -math.nan, NAN),
    (pl.Boolean, True, b"\x03\x01"),
    (pl.Binary, b"a", b"\x05\x01\x00\x00\x00a"),
    (pl.Enum(["a"]), "a", b"\x04\x01\x00\x00\x00a"),
    (pl.Datetime("us", "UTC"), NOON, b"\x06" + NOON_US.to_bytes(8, "little")),
    (pl.Datetime("ms", "Asia/Tokyo"), NOON, b"\x06" + NOON_US.to_bytes(8, "little")),
    (pl.Date, date(1970, 1, 2), b"\x06" + (86_400_000_000).to_bytes(8, "little")),
    (pl.Duration("ns"), timedelta(seconds=1), b"\x06" + (1_000_000).to_bytes(8, "little")),
    (pl.Time, time(0, 0, 1), b"\x06" + (1_000_000).to_bytes(8, "little")),
]


@pytest.mark.parametrize(("dtype", "value", "canonical"), CASES)
def test_canonical_bytes_are_as_documented(dtype: Any, value: Any, canonical: bytes) -> None:
    frame = pl.DataFrame({"k": pl.Series([value], dtype=dtype)})

    assert shard_of(frame, ["k"]).to_list() == [by_hand(canonical)]


def test_golden_shards_never_change() -> None:
    frame = pl.DataFrame({"vehicle": ["auv-1", "auv-2", "auv-3", None], "depth": [1, 2, 3, 4]})

    assert shard_of(frame, ["vehicle"]).to_list() == [85, 27, 32, 44]
    assert shard_of(frame, ["vehicle", "depth"]).to_list() == [49, 12, 0, 37]


def test_repeated_keys_of_many_columns_share_a_shard() -> None:
    frame = pl.DataFrame({"a": ["x", None, "x", "y"] * 50, "b": [0.0, math.nan, -0.0, None] * 50})

    shards = shard_of(frame, ["a", "b"])

    assert shards.dtype == pl.UInt8
    assert shards.to_list() == shards[:4].to_list() * 50
    assert shards[0] == shards[2]
    assert shards[0] == by_hand(b"\x04\x01\x00\x00\x00x\x02" + bytes(8))


def test_shards_are_even() -> None:
    frame = pl.DataFrame({"k": [f"vehicle-{number}" for number in range(12_800)]})

    counts = shard_of(frame, ["k"]).value_counts()

    assert counts.height == SHARDS
    assert (counts["count"] < 150).all()


def test_rows_without_key_are_of_shard_zero() -> None:
    assert shard_of(pl.DataFrame({"k": [1, 2]}), []).to_list() == [0, 0]
    assert shard_of(pl.DataFrame({"k": []}, schema={"k": pl.Int64}), ["k"]).to_list() == []


def test_a_list_cannot_be_a_key() -> None:
    with pytest.raises(ConfigError, match="cannot be a key"):
        shard_of(pl.DataFrame({"k": [[1], [2]]}), ["k"])
