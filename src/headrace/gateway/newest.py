"""The newest rows of a topic, read backwards in pieces that grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import polars as pl

from headrace.core.log import Reader, TopicPartition
from headrace.gateway.reading import MAX_BYTES, decode_token, encode_token
from headrace.runners.embedded.sources import conform

Keep = Callable[[pl.DataFrame], pl.DataFrame]

_FIRST_SPAN: Final = 1024
_ORDER: Final = ["__arrival", "__partition", "__offset"]


def newest_first(
    reader: Reader,
    topic: str,
    columns: pl.Schema,
    keep: Keep,
    *,
    limit: int,
    before: str | None = None,
    stops: Mapping[int, int] | None = None,
) -> tuple[pl.DataFrame, str | None]:
    """Read the newest rows that `keep` lets through, newest first.

    Rows are ordered by arrival of their batch, then partition and offset. Reads backwards, in
    pieces that grow fourfold, until `limit` rows are found.

    Args:
        reader: The log.
        topic: Its name.
        columns: What rows look like now.
        keep: Filters rows; hidden columns must stay.
        limit: Most rows to return.
        before: Token of an earlier call, to read on.
        stops: Offsets by partition from which on rows are not read.

    Returns:
        The rows, and a token for older ones, None at the beginning.

    Raises:
        DataError: `before` is not a token of ours.
    """
    infos = {at.partition: info for at, info in reader.partitions([topic]).items()}
    ends = {number: info.end for number, info in infos.items()}
    if stops is not None:
        ends = {number: min(end, stops.get(number, 0)) for number, end in ends.items()}
    for number, incarnation, offset in decode_token(before) if before else []:
        if number in infos and infos[number].incarnation == incarnation:
            ends[number] = min(offset, ends[number])
    span = max(_FIRST_SPAN, 2 * limit)
    while True:
        starts = {n: min(end, max(infos[n].start, end - span)) for n, end in ends.items()}
        frames = [
            keep(frame)
            for n in infos
            for frame in _between(reader, TopicPartition(topic, n), starts[n], ends[n], columns)
        ]
        found = pl.concat(frames) if frames else _placed(columns.to_frame(), 0, 0, 0)
        whole = all(starts[n] <= infos[n].start for n in infos)
        if found.height >= limit or whole:
            break
        span *= 4
    found = found.sort(_ORDER, descending=True)
    rows = found[:limit].drop(_ORDER)
    if whole and found.height <= limit:
        return rows, None
    return rows, encode_token(infos, _older(found, limit, starts))


def _between(
    reader: Reader, at: TopicPartition, start: int, stop: int, columns: pl.Schema
) -> list[pl.DataFrame]:
    """Return rows [start, stop) of a partition with where they lie."""
    frames: list[pl.DataFrame] = []
    while start < stop:
        batches = reader.read(at, start, stop - start, MAX_BYTES)
        if not batches:
            break
        frames += [
            _placed(conform(batch.frame, columns), batch.start, batch.arrival_us, at.partition)
            for batch in batches
        ]
        start = batches[-1].end
    return frames


def _older(found: pl.DataFrame, limit: int, starts: Mapping[int, int]) -> dict[int, int]:
    """Return, per partition, the offset below which rows were not shown yet."""
    waiting = found[limit:]
    rest = {}
    for number, start in starts.items():
        unseen = waiting.filter(pl.col("__partition") == number)["__offset"].max()
        rest[number] = unseen + 1 if isinstance(unseen, int) else start
    return rest


def _placed(frame: pl.DataFrame, start: int, arrival: int, partition: int) -> pl.DataFrame:
    return frame.with_columns(
        pl.lit(arrival, pl.Int64).alias("__arrival"),
        pl.lit(partition, pl.Int64).alias("__partition"),
        pl.int_range(start, start + frame.height, dtype=pl.Int64).alias("__offset"),
    )
