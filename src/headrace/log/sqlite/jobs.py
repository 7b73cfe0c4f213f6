"""What runs beside the writer, in a thread of its own: copying rows to segments and archives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import polars as pl

from headrace.core.errors import StateError
from headrace.core.log import TopicPartition
from headrace.log.sqlite.catalogue import Segment
from headrace.log.sqlite.files import TEMPORARY, OwnerFiles, archive_file, make_folder, publish
from headrace.log.sqlite.head import open_for_reading
from headrace.log.sqlite.owners import FETCH_BYTES
from headrace.log.sqlite.segments import (
    Mark,
    SegmentFile,
    Stored,
    decode_stored,
    write_segment,
)
from headrace.log.sqlite.statements import query

ARCHIVE_BYTES: Final = 16 * 1024 * 1024
"""Stored bytes of an archive file, which bounds the memory that writing it takes."""


class Sealed(NamedTuple):
    """A finished segment that the catalogue does not name yet."""

    segment: Segment
    path: Path


def seal(
    files: OwnerFiles, partition_id: int, first: int, end: int, stopped: threading.Event
) -> Sealed:
    """Copy the rows [first, end) of a partition from the head into a segment file.

    Raises:
        StateError: The writer closes.
    """
    name = f"{partition_id}-{first:020d}.db"
    path = files.segments / name
    temporary = path.with_suffix(TEMPORARY)
    db = open_for_reading(files.head)
    if db is None:
        raise StateError(f"{files.head} is gone", hint="end this process")
    arrivals: list[int] = []

    def batches() -> Iterator[Stored]:
        for stored in _head_batches(db, partition_id, first, end, stopped):
            arrivals.append(stored.marks[-1].arrival_us)
            yield stored

    try:
        size = write_segment(temporary, batches())
    finally:
        db.close()
    publish(temporary, path)
    return Sealed(Segment(partition_id, first, end, size, max(arrivals), name), path)


def archive(
    files: OwnerFiles, at: TopicPartition, segment: Segment, stopped: threading.Event
) -> None:
    """Write a segment's rows to Parquet files of some 16 MiB, named by their offsets.

    The rows are in offset order, so that row i of a file has offset `first + i`. A column that the
    topic got or lost meanwhile is null where a row does not have it.

    Raises:
        StateError: The writer closes.
    """
    source = SegmentFile(files.segments / segment.name)
    try:
        sizes = source.sizes(segment.first, segment.end)
        while sizes:
            _check(stopped)
            count, size = 0, 0
            while count < len(sizes) and size < ARCHIVE_BYTES:
                size += sizes[count][2]
                count += 1
            stored = source.fetch(sizes[0][0], sizes[count - 1][0])
            frames = [decode_stored(at, each) for each in stored]
            path = archive_file(
                files.root, *at, stored[0].first, stored[-1].first + stored[-1].rows
            )
            make_folder(path.parent)
            temporary = path.with_suffix(TEMPORARY)
            rows = pl.concat(frames, how="diagonal_relaxed")
            rows.write_parquet(temporary, compression="zstd")
            publish(temporary, path)
            sizes = sizes[count:]
    finally:
        source.close()


def _head_batches(
    db: apsw.Connection, partition_id: int, first: int, end: int, stopped: threading.Event
) -> Iterator[Stored]:
    """Yield batches of the head, copying at most 8 MiB in one read transaction."""
    while first < end:
        _check(stopped)
        found = query(
            db,
            "SELECT first, rows, watermark, arrival_us, payload FROM batches"
            " WHERE partition_id = ?1 AND first >= ?2 AND first <= (SELECT first FROM"
            " (SELECT first, sum(bytes) OVER (ORDER BY first) - bytes AS before FROM"
            " (SELECT first, bytes FROM batches WHERE partition_id = ?1 AND first >= ?2"
            "  AND first < ?3 ORDER BY first LIMIT 4096))"
            " WHERE before < ?4 ORDER BY first DESC LIMIT 1) ORDER BY first",
            partition_id,
            first,
            end,
            FETCH_BYTES,
        )
        if not found:
            raise StateError("the topic was dropped while it was being sealed")
        for start, rows, watermark, arrival_us, payload in found:
            first = start + rows
            yield Stored(start, rows, (Mark(rows, watermark, arrival_us),), payload)


def _check(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise StateError("the writer closes")
