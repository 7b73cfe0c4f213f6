"""Choose what a step reads: fairly over partitions, within a budget (SEMANTICS 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from headrace.core.errors import LostRangeError
from headrace.core.log import Batch, PartitionInfo, Position, Reader, TopicPartition
from headrace.core.time import BEGINNING
from headrace.runners.embedded.step import Input

MAX_ROWS = 65_536
MAX_BYTES = 64 * 1024 * 1024
ALIGN_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one step may read.

    Attributes:
        max_rows: Rows over all partitions.
        max_bytes: Stored bytes over all partitions; a larger batch still passes alone.
        align_us: How far, in event time, a partition may run ahead of the slowest in a backlog.
    """

    max_rows: int = MAX_ROWS
    max_bytes: int = MAX_BYTES
    align_us: int = ALIGN_US


def shares(unread: Mapping[TopicPartition, int], max_rows: int) -> dict[TopicPartition, int]:
    """Split `max_rows` equally over partitions with unread rows; unused shares go round.

    Example:
        >>> a, b = TopicPartition("t", 0), TopicPartition("t", 1)
        >>> shares({a: 10, b: 500}, 100)[b]
        90
    """
    granted: dict[TopicPartition, int] = {}
    left = max_rows
    waiting = sorted(unread, key=lambda at: (unread[at], at))
    for rank, at in enumerate(waiting):
        share = min(unread[at], max(1, left // (len(waiting) - rank)))
        granted[at] = share
        left = max(0, left - share)
    return granted


def aligned(
    unread: Mapping[TopicPartition, int],
    fronts: Mapping[TopicPartition, int],
    budget: Budget,
) -> dict[TopicPartition, int]:
    """Leave out partitions too far ahead of the slowest, while there is a backlog."""
    if sum(unread.values()) <= budget.max_rows:
        return dict(unread)
    known = [fronts[at] for at in unread if fronts.get(at, BEGINNING) != BEGINNING]
    if len(known) < len(unread) or not known:
        return {at: rows for at, rows in unread.items() if fronts.get(at, BEGINNING) == BEGINNING}
    slowest = min(known)
    return {at: rows for at, rows in unread.items() if fronts[at] <= slowest + budget.align_us}


def read_inputs(
    reader: Reader,
    infos: Mapping[TopicPartition, PartitionInfo],
    positions: Mapping[TopicPartition, Position],
    fronts: Mapping[TopicPartition, int],
    controls: frozenset[str],
    budget: Budget,
) -> list[Input]:
    """Read one step's rows; partitions without rows are returned too, for their end offsets.

    Control topics are read first and whole, outside the budget.

    Raises:
        LostRangeError: A position lies outside what the log holds.
    """
    unread = {
        at: info.end - positions[at].offset
        for at, info in infos.items()
        if at.topic not in controls and info.end > positions[at].offset
    }
    granted = shares(aligned(unread, fronts, budget), budget.max_rows)
    for at in infos:
        if at.topic in controls and infos[at].end > positions[at].offset:
            granted[at] = infos[at].end - positions[at].offset
    bytes_each = max(1, budget.max_bytes // max(1, len(granted)))
    inputs = []
    for at in sorted(infos):
        info, place = infos[at], positions[at]
        check_place(info, place)
        rows = granted.get(at, 0)
        batches = reader.read(at, place.offset, rows, bytes_each) if rows else []
        inputs.append(join_batches(info, place.offset, batches))
    return inputs


def reread(
    reader: Reader, at: TopicPartition, incarnation: str, start: int, stop: int, end: int
) -> Input:
    """Read exactly the rows [start, stop) again, for replay.

    Raises:
        LostRangeError: They are no longer there.
    """
    batches: list[Batch] = []
    offset = start
    while offset < stop:
        more = reader.read(at, offset, stop - offset, MAX_BYTES)
        if not more:
            raise LostRangeError(
                f"rows {offset} to {stop} of {at.topic}/{at.partition} are gone",
                hint="the journal still needs them; restore the data directory from a backup",
            )
        batches.extend(more)
        offset = more[-1].end
    info = PartitionInfo(at.topic, at.partition, "", incarnation, start, end, 0)
    return join_batches(info, start, batches)


def join_batches(info: PartitionInfo, start: int, batches: list[Batch]) -> Input:
    """Return consecutive batches of a partition as one input."""
    frame: pl.DataFrame | None = None
    if len(batches) == 1:
        frame = batches[0].frame
    elif batches:
        schemas = {tuple(batch.frame.schema.items()) for batch in batches}
        how = "vertical" if len(schemas) == 1 else "diagonal_relaxed"
        frame = pl.concat([batch.frame for batch in batches], how=how)  # type: ignore[arg-type]  # a literal of either
    watermarks = [batch.watermark for batch in batches if batch.watermark is not None]
    return Input(
        topic=info.topic,
        partition=info.partition,
        incarnation=info.incarnation,
        start=start,
        stop=batches[-1].end if batches else start,
        end=info.end,
        frame=frame,
        watermark=max(watermarks) if watermarks else None,
        arrival_us=batches[0].arrival_us if batches else None,
    )


def check_place(info: PartitionInfo, place: Position) -> None:
    """Check that `place` can be read on from.

    Raises:
        LostRangeError: It is before the start, beyond the end, or of another incarnation.
    """
    where = f"{info.topic}/{info.partition}"
    hint = "--skip-lost goes on at the oldest row held, and counts what was skipped"
    if place.incarnation and place.incarnation != info.incarnation:
        raise LostRangeError(f"{where} was deleted and made anew since it was read", hint=hint)
    if place.offset < info.start:
        raise LostRangeError(
            f"rows {place.offset} to {info.start} of {where} were removed before they were read",
            hint=hint,
        )
    if place.offset > info.end:
        raise LostRangeError(
            f"{where} ends at {info.end}, but was read up to {place.offset} before", hint=hint
        )
