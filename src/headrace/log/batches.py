"""Cut what is stored to what was asked for."""

from __future__ import annotations

from headrace.core.errors import LostRangeError
from headrace.core.log import Batch, PartitionInfo, Position, TopicPartition


def clip(batch: Batch, start: int, end: int) -> Batch | None:
    """Return the rows of `batch` with offsets in [start, end), None where there are none."""
    if start <= batch.start and batch.end <= end:
        return batch
    low, high = max(start, batch.start), min(end, batch.end)
    if low >= high:
        return None
    frame = batch.frame.slice(low - batch.start, high - low)
    return Batch(batch.topic, batch.partition, low, frame, batch.watermark, batch.arrival_us)


def check_offset(at: TopicPartition, offset: int, start: int, end: int) -> None:
    """Refuse an offset outside [start, end].

    Raises:
        LostRangeError: Naming the rows that are gone, or that never were.
    """
    if offset < start:
        raise LostRangeError(
            f"rows {offset} to {start - 1} of {at.topic!r} partition {at.partition} are gone;"
            f" the oldest held is {start}",
            hint="start with --skip-lost to go on from the oldest row held",
        )
    if offset > end:
        raise LostRangeError(
            f"rows {end} to {offset - 1} of {at.topic!r} partition {at.partition} do not exist;"
            f" the next to come is {end}",
            hint="the data directory is older than this reader; restore the newer one, or start"
            " with --skip-lost to go on from the end",
        )


def check_position(info: PartitionInfo, position: Position) -> None:
    """Refuse a position that `info`'s partition cannot serve.

    Raises:
        LostRangeError: The position is of another incarnation of the topic, or outside what is
            held; the message names the lost range.

    Example:
        >>> info = PartitionInfo("t", 0, "gateway-0", "a1", start=5, end=9, bytes=100)
        >>> check_position(info, Position("a1", 7))
        >>> check_position(info, Position("a1", 2))
        Traceback (most recent call last):
        headrace.core.errors.LostRangeError: [HR403] rows 2 to 4 of 't' partition 0 are gone; \
the oldest held is 5 (start with --skip-lost to go on from the oldest row held)
    """
    if position.incarnation != info.incarnation:
        raise LostRangeError(
            f"{info.topic!r} partition {info.partition} was deleted and created again: rows from"
            f" {position.offset} on of incarnation {position.incarnation} are gone,"
            f" {info.incarnation} holds {info.start} to {info.end - 1}",
            hint="start with --skip-lost to go on from the oldest row held",
        )
    at = TopicPartition(info.topic, info.partition)
    check_offset(at, position.offset, info.start, info.end)
