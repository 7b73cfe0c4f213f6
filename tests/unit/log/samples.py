"""Rows to write, and short ways to write and read them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headrace.core.log import Append, Batch, Commit, Reader, TopicPartition, TopicSpec, Writer

SCHEMA = pl.Schema({"number": pl.Int64, "name": pl.String})
EVENTS = TopicSpec("events", SCHEMA)
AT = TopicPartition("events", 0)
PLENTY = 1 << 40


def numbered(start: int, count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"number": range(start, start + count), "name": [f"row {start + i}" for i in range(count)]},
        schema=SCHEMA,
    )


def append(
    frame: pl.DataFrame, at: TopicPartition = AT, watermark: int | None = None, arrival_us: int = 0
) -> Append:
    return Append(*at, frame, frame.height, watermark, arrival_us)


def write(writer: Writer, start: int, count: int, at: TopicPartition = AT) -> None:
    writer.commit([Commit([append(numbered(start, count), at)])])


def numbers(batches: Sequence[Batch]) -> list[int]:
    return [number for batch in batches for number in batch.frame["number"].to_list()]


def read_all(reader: Reader, at: TopicPartition = AT) -> list[int]:
    info = reader.partitions()[at]
    return numbers(reader.read(at, info.start, PLENTY, PLENTY))
