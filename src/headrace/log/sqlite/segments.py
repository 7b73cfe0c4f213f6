"""Sealed segments: one SQLite file per run of rows, written once and never changed."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import polars as pl

from headrace.core.errors import DecodeError, StateError
from headrace.core.log import Batch, TopicPartition
from headrace.core.rows import decode_rows, encode_rows
from headrace.log.sqlite.statements import query

MERGE_ROWS: Final = 65_536
MERGE_BYTES: Final = 1024 * 1024
_PAGE_BYTES: Final = 32_768

_MARK = struct.Struct("<qqq")
_NO_WATERMARK = -(1 << 63)

_TABLE: Final = """CREATE TABLE batches (
    first INTEGER PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
    marks BLOB NOT NULL, payload BLOB NOT NULL
)"""


class Mark(NamedTuple):
    """What a run of rows inside a stored batch was committed with."""

    rows: int
    watermark: int | None
    arrival_us: int


class Stored(NamedTuple):
    """A batch as it lies in a file: rows `first` up to `first + rows`, in one or more runs."""

    first: int
    rows: int
    marks: tuple[Mark, ...]
    payload: bytes


def batches_of(at: TopicPartition, stored: Stored, frame: pl.DataFrame) -> Iterator[Batch]:
    """Yield one batch per run of `stored`, whose decoded rows are `frame`."""
    if len(stored.marks) == 1:
        mark = stored.marks[0]
        yield Batch(*at, stored.first, frame, mark.watermark, mark.arrival_us)
        return
    skip = 0
    for mark in stored.marks:
        rows = frame.slice(skip, mark.rows)
        yield Batch(*at, stored.first + skip, rows, mark.watermark, mark.arrival_us)
        skip += mark.rows


def decode_stored(at: TopicPartition, stored: Stored) -> pl.DataFrame:
    """Decode a stored batch.

    Raises:
        StateError: The bytes are damaged.
    """
    try:
        frame = decode_rows(stored.payload)
    except DecodeError as error:
        raise _damaged(at, stored, str(error)) from error
    if frame.height != stored.rows:
        raise _damaged(at, stored, f"{frame.height} rows instead of {stored.rows}")
    return frame


def _damaged(at: TopicPartition, stored: Stored, why: str) -> StateError:
    place = f"{at.topic!r} partition {at.partition}"
    return StateError(
        f"rows {stored.first} to {stored.first + stored.rows - 1} of {place} are damaged: {why}",
        hint="the disk lost data; restore the data directory from a copy",
    )


def write_segment(path: Path, batches: Iterable[Stored]) -> int:
    """Write `batches` to a new file at `path`, small ones merged; return their stored bytes.

    The file is complete when this returns, but neither synced nor under its final name.
    """
    path.unlink(missing_ok=True)
    db = apsw.Connection(str(path))
    try:
        db.pragma("page_size", _PAGE_BYTES)
        db.pragma("journal_mode", "off")
        db.pragma("synchronous", "off")
        db.execute("BEGIN")
        db.execute(_TABLE)
        total = 0
        for stored in merge(batches):
            size = len(stored.payload)
            total += size
            db.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?)",
                (stored.first, stored.rows, size, pack_marks(stored.marks), stored.payload),
            )
        db.execute("COMMIT")
    finally:
        db.close()
    return total


def merge(batches: Iterable[Stored]) -> Iterator[Stored]:
    """Join consecutive small batches of one schema; offsets and watermarks stay as they were."""
    group: list[Stored] = []
    rows = size = 0
    for stored in batches:
        if group and (rows + stored.rows > MERGE_ROWS or size + len(stored.payload) > MERGE_BYTES):
            yield from _joined(group)
            group, rows, size = [], 0, 0
        group.append(stored)
        rows += stored.rows
        size += len(stored.payload)
    yield from _joined(group)


def _joined(group: Sequence[Stored]) -> Iterator[Stored]:
    if len(group) <= 1:
        yield from group
        return
    frames = [decode_rows(stored.payload) for stored in group]
    for stored, frame in zip(group, frames, strict=True):
        if frame.height != stored.rows:
            raise StateError(
                f"a batch of {stored.rows} rows at offset {stored.first} holds {frame.height}",
                hint="the disk lost data; restore the data directory from a copy",
            )
    pairs = zip(group, frames, strict=True)
    for _, run in itertools.groupby(pairs, key=lambda pair: list(pair[1].schema.items())):
        members = list(run)
        if len(members) == 1:
            yield members[0][0]
            continue
        frame = pl.concat([frame for _, frame in members])
        marks = _joined_marks([mark for stored, _ in members for mark in stored.marks])
        yield Stored(members[0][0].first, frame.height, marks, encode_rows(frame))


def _joined_marks(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    joined: list[Mark] = []
    for mark in marks:
        if joined and joined[-1].watermark == mark.watermark:
            joined[-1] = Mark(joined[-1].rows + mark.rows, mark.watermark, mark.arrival_us)
        else:
            joined.append(mark)
    return tuple(joined)


def pack_marks(marks: Sequence[Mark]) -> bytes:
    """Return marks as bytes: three little-endian 64-bit integers each."""
    return b"".join(
        _MARK.pack(
            mark.rows,
            _NO_WATERMARK if mark.watermark is None else mark.watermark,
            mark.arrival_us,
        )
        for mark in marks
    )


def unpack_marks(packed: bytes) -> tuple[Mark, ...]:
    """Return what `pack_marks` packed.

    Example:
        >>> unpack_marks(pack_marks([Mark(3, None, 7)]))
        (Mark(rows=3, watermark=None, arrival_us=7),)
    """
    return tuple(
        Mark(rows, None if watermark == _NO_WATERMARK else watermark, arrival_us)
        for rows, watermark, arrival_us in _MARK.iter_unpack(packed)
    )


class SegmentFile:
    """A sealed segment, open for reading. Its file never changes, so reading takes no lock.

    Raises:
        FileNotFoundError: Retention has dropped the segment.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(path)
        try:
            self._db = apsw.Connection(
                f"{path.absolute().as_uri()}?immutable=1",
                flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            )
        except apsw.CantOpenError as error:
            raise FileNotFoundError(path) from error

    def sizes(self, offset: int, before: int) -> list[tuple[int, int, int]]:
        """Return (first, rows, bytes) of batches that hold rows of [offset, before)."""
        return query(
            self._db,
            "SELECT first, rows, bytes FROM batches WHERE first >="
            " (SELECT max(first) FROM batches WHERE first <= ?) AND first < ? ORDER BY first",
            offset,
            before,
        )

    def fetch(self, first: int, last: int) -> list[Stored]:
        """Return the batches whose first offsets lie in [first, last]."""
        return [
            Stored(start, rows, unpack_marks(marks), payload)
            for start, rows, marks, payload in query(
                self._db,
                "SELECT first, rows, marks, payload FROM batches"
                " WHERE first BETWEEN ? AND ? ORDER BY first",
                first,
                last,
            )
        ]

    def close(self) -> None:
        """Close the file."""
        self._db.close()
