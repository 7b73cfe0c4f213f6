"""Find the owners of a data directory, and read what each has committed."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw

from headrace.core.errors import StateError
from headrace.core.log import PartitionInfo, Position, TopicPartition, TopicSpec
from headrace.log.batches import check_offset
from headrace.log.retention import Published
from headrace.log.sqlite.catalogue import load_specs
from headrace.log.sqlite.files import OwnerFiles, is_owner
from headrace.log.sqlite.head import open_for_reading
from headrace.log.sqlite.segments import Mark, SegmentFile, Stored
from headrace.log.sqlite.statements import query, read_error

FETCH_BYTES: Final = 8 * 1024 * 1024
"""What one read transaction copies at most, so that it never holds back the writer's WAL."""
FETCH_BATCHES: Final = 4096
_OPEN_SEGMENTS: Final = 16
_SETTLED_NS: Final = 2_000_000_000


def find_owners(root: Path) -> list[str]:
    """Return the folders of `root` that may be owners, sorted."""
    try:
        with os.scandir(root) as entries:
            return sorted(e.name for e in entries if is_owner(e.name) and e.is_dir())
    except FileNotFoundError:
        return []


def read_statuses(root: Path) -> dict[str, bytes]:
    """Return the status text of each folder of `root` that has one, an owner's or not."""
    statuses = {}
    for name in find_owners(root):
        with suppress(FileNotFoundError, PermissionError):
            statuses[name] = OwnerFiles(root, name).status.read_bytes()
    return statuses


class OwnerReader:
    """Reads one owner's files. Not thread-safe.

    Args:
        files: Where they lie.
        db: The head, open for reading.
    """

    def __init__(self, files: OwnerFiles, db: apsw.Connection) -> None:
        self.files = files
        self._db = db
        self._segments: OrderedDict[str, SegmentFile] = OrderedDict()
        self._infos: list[PartitionInfo] = []
        self._infos_version: int | None = None

    @classmethod
    def open(cls, files: OwnerFiles) -> OwnerReader | None:
        """Open an owner, None while its writer has not finished creating it."""
        db = open_for_reading(files.head)
        return None if db is None else cls(files, db)

    def version(self) -> int:
        """Return a number that changes when another process or thread commits."""
        try:
            return int(self._db.pragma("data_version"))
        except apsw.Error as error:
            raise read_error(error, self.files.head) from error

    def partitions(self) -> list[PartitionInfo]:
        """Return the owner's partitions as now committed."""
        version = self.version()
        if version != self._infos_version:
            self._infos = [
                PartitionInfo(topic, partition, self.files.owner, *rest)
                for topic, partition, *rest in self._query(
                    "SELECT topic, partition, incarnation, start, end, bytes FROM partitions"
                )
            ]
            self._infos_version = version
        return self._infos

    def spec(self, topic: str) -> TopicSpec | None:
        """Return one of the owner's topics, None where it has no such one."""
        with self._reading():
            return load_specs(self._db, topic).get(topic)

    def published(self) -> list[Published]:
        """Return what the owner has published of its readers."""
        with self._snapshot():
            readers = query(self._db, "SELECT name, renewed_us FROM readers ORDER BY name")
            rows = query(
                self._db, "SELECT reader, topic, partition, incarnation, next FROM positions"
            )
        positions: dict[str, dict[TopicPartition, Position]] = {name: {} for name, _ in readers}
        for reader, topic, partition, incarnation, offset in rows:
            positions[reader][TopicPartition(topic, partition)] = Position(incarnation, offset)
        return [
            Published(self.files.owner, name, renewed_us, positions[name])
            for name, renewed_us in readers
        ]

    def records(self, stream: str, start: int) -> list[tuple[int, bytes]]:
        """Return (number, record) of a record stream."""
        return self._query(
            "SELECT number, record FROM records WHERE stream = ? AND number >= ? ORDER BY number",
            stream,
            start,
        )

    def fetch(
        self, at: TopicPartition, offset: int, max_rows: int, max_bytes: int
    ) -> tuple[int, list[Stored]]:
        """Copy batches that hold rows from `offset` on, out of one file, in one transaction.

        At least one batch is copied whatever `max_bytes`, unless there is none yet.

        Returns:
            The partition's key in the owner's file, and the batches.

        Raises:
            LostRangeError: `offset` is before the oldest row held or beyond the end.
        """
        max_bytes = min(max_bytes, FETCH_BYTES)
        missing = ""
        while True:
            with self._snapshot():
                found = query(
                    self._db,
                    "SELECT id, start, sealed, end FROM partitions"
                    " WHERE topic = ? AND partition = ?",
                    *at,
                )
                number, start, sealed, end = found[0] if found else (0, 0, 0, 0)
                check_offset(at, offset, start, end)
                if offset == end:
                    return number, []
                if offset >= sealed:
                    return number, self._fetch_head(number, offset, offset + max_rows, max_bytes)
                [(name,)] = query(
                    self._db,
                    "SELECT name FROM segments WHERE partition_id = ? AND first <= ?"
                    " ORDER BY first DESC LIMIT 1",
                    number,
                    offset,
                )
            try:
                segment = self._segment(name)
            except FileNotFoundError as error:
                if name == missing:
                    raise StateError(
                        f"{self.files.owner}/segments/{name} is missing",
                        hint="restore the data directory from a copy",
                    ) from error
                # Retention was faster: the next look at the catalogue says what is left.
                missing = name
                continue
            with self._reading():
                sizes = segment.sizes(offset, offset + max_rows)
                return number, segment.fetch(sizes[0][0], _last(sizes, max_bytes))

    def close(self) -> None:
        """Close all files."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        self._db.close()

    def _fetch_head(self, number: int, offset: int, before: int, max_bytes: int) -> list[Stored]:
        sizes = query(
            self._db,
            "SELECT first, rows, bytes FROM batches WHERE partition_id = ?1 AND first >="
            " (SELECT max(first) FROM batches WHERE partition_id = ?1 AND first <= ?2)"
            " AND first < ?3 ORDER BY first LIMIT ?4",
            number,
            offset,
            before,
            FETCH_BATCHES,
        )
        return [
            Stored(first, rows, (Mark(rows, watermark, arrival_us),), payload)
            for first, rows, watermark, arrival_us, payload in query(
                self._db,
                "SELECT first, rows, watermark, arrival_us, payload FROM batches"
                " WHERE partition_id = ? AND first BETWEEN ? AND ? ORDER BY first",
                number,
                sizes[0][0],
                _last(sizes, max_bytes),
            )
        ]

    def _segment(self, name: str) -> SegmentFile:
        if name in self._segments:
            self._segments.move_to_end(name)
            return self._segments[name]
        segment = SegmentFile(self.files.segments / name)
        self._segments[name] = segment
        if len(self._segments) > _OPEN_SEGMENTS:
            self._segments.popitem(last=False)[1].close()
        return segment

    def _query(self, sql: str, *values: apsw.SQLiteValue) -> list[Any]:
        with self._reading():
            return query(self._db, sql, *values)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        with self._reading():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("END")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise read_error(error, self.files.head) from error


def _last(sizes: list[tuple[int, int, int]], max_bytes: int) -> int:
    last = sizes[0][0]
    for first, _, size in sizes:
        max_bytes -= size
        if max_bytes < 0:
            break
        last = first
    return last


class Owners:
    """The owners of a data directory, opened as they appear. Not thread-safe.

    Args:
        root: The data directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, OwnerReader] = {}
        self._pending: set[str] = set()
        self._scanned_ns = -1

    def all(self) -> list[OwnerReader]:
        """Return all owners, sorted by name, with those that appeared since the last call."""
        try:
            changed_ns = self._root.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        # The clock of file times is coarse: a folder made just after a look may bear its time.
        if changed_ns != self._scanned_ns or time.time_ns() - changed_ns < _SETTLED_NS:
            self._pending = {n for n in find_owners(self._root) if n not in self._open}
            self._scanned_ns = changed_ns
        for name in sorted(self._pending):
            files = OwnerFiles(self._root, name)
            # Some folders never become owners, and this is asked a thousand times a second.
            owner = OwnerReader.open(files) if files.head.exists() else None
            if owner is not None:
                self._open[name] = owner
                self._pending.discard(name)
                self._open = dict(sorted(self._open.items()))
        return list(self._open.values())

    def get(self, name: str) -> OwnerReader | None:
        """Return one owner, None where it has never written."""
        if name not in self._open:
            self.all()
        return self._open.get(name)

    def close(self) -> None:
        """Close all files."""
        for owner in self._open.values():
            owner.close()
        self._open.clear()
        self._scanned_ns = -1
