"""Which stored rows may go: by age and size, never past what some reader still needs."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from headrace.core.log import PartitionInfo, Position, TopicPartition, TopicSpec
from headrace.core.time import micros, to_datetime

FORGET_AFTER_US: Final = micros("7d")
"""A reader that has not renewed its positions for this long holds nothing back."""

_log = structlog.get_logger("headrace.log")


@dataclass(frozen=True, slots=True)
class Published:
    """What one reader still needs, as its owner last published it."""

    owner: str
    reader: str
    renewed_us: int
    positions: Mapping[TopicPartition, Position]


class Extent(NamedTuple):
    """A run of stored rows that goes as a whole; `arrival_us` is that of its last row."""

    at: TopicPartition
    start: int
    end: int
    bytes: int
    arrival_us: int


def living(
    published: Iterable[Published], now_us: int, warned: set[tuple[str, str]]
) -> list[Published]:
    """Return the readers renewed within seven days; warn once of each other one.

    Args:
        published: Readers of all owners.
        now_us: Wall time.
        warned: Readers warned of before; updated.
    """
    alive = []
    for reader in published:
        name = (reader.owner, reader.reader)
        if reader.renewed_us >= now_us - FORGET_AFTER_US:
            alive.append(reader)
            warned.discard(name)
        elif name not in warned:
            warned.add(name)
            _log.warning(
                "reader_forgotten",
                owner=reader.owner,
                reader=reader.reader,
                renewed=to_datetime(reader.renewed_us).isoformat(),
                hint="not renewed for 7 days: rows it has not read may be deleted",
            )
    return alive


def floor(info: PartitionInfo, alive: Sequence[Published]) -> int | None:
    """Return the oldest offset of a partition that some reader needs, None where none does.

    A reader of the topic's other partitions that has no position in this one has yet to discover
    it, and needs it from its start.
    """
    needed = [offset for reader in alive if (offset := _needed(info, reader.positions)) is not None]
    return min(needed, default=None)


def _needed(info: PartitionInfo, positions: Mapping[TopicPartition, Position]) -> int | None:
    position = positions.get(TopicPartition(info.topic, info.partition))
    if position is not None:
        # A position in an earlier incarnation can never be served; its reader finds out itself.
        return position.offset if position.incarnation == info.incarnation else None
    return info.start if any(at.topic == info.topic for at in positions) else None


def expired(
    spec: TopicSpec,
    total_bytes: int,
    extents: Mapping[TopicPartition, Iterator[Extent]],
    floors: Mapping[TopicPartition, int | None],
    now_us: int,
) -> tuple[list[Extent], bool]:
    """Return the extents that may go, oldest first, and whether a reader keeps the topic too big.

    Args:
        spec: Its retention by age and size.
        total_bytes: Stored bytes of all its partitions.
        extents: Per partition, ascending in offset; read only as far as needed.
        floors: Per partition, the oldest offset needed.
        now_us: Wall time.
    """
    gone: list[Extent] = []
    oldest: list[tuple[int, TopicPartition, Extent]] = []

    def offer(at: TopicPartition) -> None:
        extent = next(extents[at], None)
        if extent is not None:
            heapq.heappush(oldest, (extent.arrival_us, at, extent))

    def too_big() -> bool:
        return spec.retention_bytes is not None and total_bytes > spec.retention_bytes

    for at in extents:
        offer(at)
    while oldest:
        arrival_us, at, extent = heapq.heappop(oldest)
        aged = spec.retention_us is not None and arrival_us < now_us - spec.retention_us
        if not aged and not too_big():
            break
        held = floors.get(at)
        if held is not None and extent.end > held:
            continue
        gone.append(extent)
        total_bytes -= extent.bytes
        offer(at)
    return gone, too_big()
