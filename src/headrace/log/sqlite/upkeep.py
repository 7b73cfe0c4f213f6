"""Keep an owner's files small: seal, archive, drop, expire, truncate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw
import polars as pl
import structlog

from headrace.core.errors import HeadraceError
from headrace.core.log import TopicPartition, TopicSpec
from headrace.log.retention import FORGET_AFTER_US, Extent, expired, floor, living
from headrace.log.sqlite.catalogue import (
    Garbage,
    Partition,
    Segment,
    drop_segments,
    extents,
    head_sizes,
    load_garbage,
    segment_names,
    segments,
)
from headrace.log.sqlite.head import Head
from headrace.log.sqlite.jobs import Sealed, archive, seal
from headrace.log.sqlite.reader import SqliteReader
from headrace.log.sqlite.statements import query

SWEEP_BYTES: Final = 16 * 1024 * 1024
SWEEP_BATCHES: Final = 1024
EXPIRE_ROWS: Final = 4096
RETRY_US: Final = 10_000_000

_log = structlog.get_logger("headrace.log")


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and ages of an owner's files.

    Attributes:
        segment_bytes: A partition with more in the head file is sealed.
        segment_age_us: One with older rows is sealed too, if they fill a sixteenth of a segment.
        min_free_bytes: What ingest leaves free; None is the smaller of 1 GiB and 5 % of the disk.
    """

    segment_bytes: int
    segment_age_us: int
    min_free_bytes: int | None = None

    @property
    def worthwhile_bytes(self) -> int:
        """What a segment has at least, unless its rows must be archived."""
        return self.segment_bytes // 16


class Upkeep:
    """Everything a writer does besides writing. Used by the writer's thread only.

    Args:
        head: The owner's head file.
        partitions: The writer's partitions, shared with it.
        specs: The writer's topics, shared with it.
        reader: Reads the positions that other owners publish.
        limits: Sizes and ages.
    """

    def __init__(
        self,
        head: Head,
        partitions: dict[TopicPartition, Partition],
        specs: dict[str, TopicSpec],
        reader: SqliteReader,
        limits: Limits,
    ) -> None:
        self.blocked: frozenset[str] = frozenset()
        self._head = head
        self._partitions = partitions
        self._specs = specs
        self._reader = reader
        self._limits = limits
        self._garbage = {each.partition_id: each for each in load_garbage(head.db)}
        self._warned: set[tuple[str, str]] = set()
        self._doomed: set[Path] = set()
        self._pool = ThreadPoolExecutor(1, "headrace-upkeep")
        self._stopped = threading.Event()
        self._job: Future[Callable[[], None]] | None = None
        self._has_failed = False
        self._retry_us: int | None = None
        self._is_idle = False
        self._remove_orphans()

    def run(self, now_us: int) -> None:
        """Do what is due; start at most one background job."""
        self._harvest()
        self._forgive(now_us)
        self._retain(now_us)
        self._seal_due(now_us)
        self._tidy(now_us)
        self._unlink()
        if self._is_idle and self._head.wal_bytes() > 0:
            self._head.truncate_wal()
        self._is_idle = True

    def committed(self, grown: Iterable[TopicPartition], swept: Garbage | None) -> None:
        """Take note of a commit: what it swept, and partitions that need sealing by now."""
        self._is_idle = False
        self._note_swept(swept)
        full = any(self._partitions[at].head_bytes >= self._limits.segment_bytes for at in grown)
        if full and not self._has_failed:
            # The rows are committed: whatever fails here must not say otherwise.
            try:
                self._harvest()
                self._seal_due(None)
            except (HeadraceError, apsw.Error) as error:
                _log.warning("sealing_failed", owner=self._head.files.owner, error=str(error))

    def discard(self, garbage: Garbage) -> None:
        """Have batches deleted bit by bit, with later commits and calls of `run`."""
        known = self._garbage.get(garbage.partition_id, garbage)
        self._garbage[garbage.partition_id] = max(known, garbage)

    def doom(self, names: Iterable[str]) -> None:
        """Have segment files deleted by the next `run`, or when their last reader closes them."""
        self._doomed |= {self._head.files.segments / name for name in names}

    def sweep(self, db: apsw.Connection, budget_bytes: int) -> Garbage | None:
        """Delete some garbage inside a transaction.

        Returns:
            What is finished with it, to be told to `committed`.
        """
        garbage = next(iter(self._garbage.values()), None)
        if garbage is None:
            return None
        sizes = query(
            db,
            "SELECT first, bytes FROM batches WHERE partition_id = ? AND first < ?"
            " ORDER BY first LIMIT ?",
            *garbage,
            SWEEP_BATCHES,
        )
        count = 0
        while count < len(sizes) and (count == 0 or budget_bytes > 0):
            budget_bytes -= sizes[count][1]
            count += 1
        if count:
            db.execute(
                "DELETE FROM batches WHERE partition_id = ? AND first <= ?",
                (garbage.partition_id, sizes[count - 1][0]),
            )
        return garbage if count == len(sizes) < SWEEP_BATCHES else None

    def expire(self, db: apsw.Connection, now_us: int, limit: int) -> None:
        """Delete some expired values inside a transaction."""
        db.execute(
            "DELETE FROM entries WHERE key IN"
            " (SELECT key FROM entries WHERE expires_us <= ? LIMIT ?)",
            (now_us, limit),
        )

    def settle(self) -> None:
        """Wait for the background job and take over what it finished."""
        if self._job is not None:
            wait_for([self._job])
            self._harvest()

    def close(self) -> None:
        """Give up the background job."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _note_swept(self, swept: Garbage | None) -> None:
        if swept is not None and self._garbage.get(swept.partition_id) == swept:
            del self._garbage[swept.partition_id]

    def _start(self, job: Callable[[], Callable[[], None]]) -> None:
        self._job = self._pool.submit(job)

    def _harvest(self) -> None:
        """Take over what the background job finished."""
        if self._job is None or not self._job.done():
            return
        job, self._job = self._job, None
        try:
            finish = job.result()
        except (HeadraceError, OSError, apsw.Error, pl.exceptions.PolarsError) as error:
            self._has_failed = True
            _log.warning(
                "upkeep_failed",
                owner=self._head.files.owner,
                error=str(error),
                hint="no rows are lost; it is tried again in 10 s",
            )
            return
        finish()

    def _forgive(self, now_us: int) -> None:
        """Allow background jobs again some time after one failed."""
        if self._has_failed and self._retry_us is None:
            self._retry_us = now_us + RETRY_US
        elif self._retry_us is not None and now_us >= self._retry_us:
            self._has_failed, self._retry_us = False, None

    def _retain(self, now_us: int) -> None:
        alive = living(self._reader.published(), now_us, self._warned)
        blocked = set()
        gone: list[Extent] = []
        for spec in self._specs.values():
            if spec.retention_us is None and spec.retention_bytes is None:
                continue
            own = {at: part for at, part in self._partitions.items() if at.topic == spec.name}
            old, is_blocked = expired(
                spec,
                sum(part.bytes for part in own.values()),
                {at: extents(self._head.db, part) for at, part in own.items()},
                {at: floor(part.info(self._head.files.owner), alive) for at, part in own.items()},
                now_us,
            )
            if is_blocked:
                blocked.add(spec.name)
            if spec.archive:
                self._archive_first(spec, old, now_us)
            else:
                gone += old
        self.blocked = frozenset(blocked)
        self._drop(gone)

    def _archive_first(self, spec: TopicSpec, old: Sequence[Extent], now_us: int) -> None:
        """Archive the oldest segment, or seal what must become one; it is dropped afterwards."""
        if not old or self._job is not None or self._has_failed:
            return
        first = old[0]
        partition = self._partitions[first.at]
        if first.start < partition.sealed:
            [segment] = segments(self._head.db, partition.id, first.start, limit=1)
            self._start_archive(partition, segment)
            return
        mine = [extent for extent in old if extent.at == first.at]
        is_late = (
            spec.retention_us is None
            or first.arrival_us < now_us - spec.retention_us - self._limits.segment_age_us
        )
        if is_late or sum(extent.bytes for extent in mine) >= self._limits.worthwhile_bytes:
            self._start_seal(partition, mine[-1].end)

    def _drop(self, gone: Sequence[Extent]) -> None:
        if not gone:
            return
        starts: dict[TopicPartition, int] = {}
        freed: dict[TopicPartition, int] = {}
        for extent in gone:
            starts[extent.at] = max(extent.end, starts.get(extent.at, 0))
            freed[extent.at] = freed.get(extent.at, 0) + extent.bytes
        names: list[str] = []
        with self._head.transaction("drop old rows") as db:
            for at, start in starts.items():
                number = self._partitions[at].id
                names += drop_segments(db, number, start)
                db.execute(
                    "UPDATE partitions SET start = ?, bytes = bytes - ? WHERE id = ?",
                    (start, freed[at], number),
                )
        for at, start in starts.items():
            partition = self._partitions[at]
            partition.start = start
            partition.bytes -= freed[at]
            self._note_head(partition)
        self.doom(names)

    def _note_head(self, partition: Partition) -> None:
        """Find again what lies in the head after its start moved, and sweep the rest."""
        [(partition.head_bytes, partition.head_since_us)] = self._head.query(
            "SELECT coalesce(sum(bytes), 0), min(arrival_us) FROM batches"
            " WHERE partition_id = ? AND first >= ?",
            partition.id,
            partition.head_start,
        )
        self.discard(Garbage(partition.id, partition.head_start))

    def _seal_due(self, now_us: int | None) -> None:
        """Seal the fullest partition that is full, or old (where the time is given)."""
        if self._job is not None or self._has_failed:
            return
        for partition in sorted(self._partitions.values(), key=lambda each: -each.head_bytes):
            if partition.head_bytes >= self._limits.segment_bytes or (
                now_us is not None
                and partition.head_bytes >= self._limits.worthwhile_bytes
                and partition.head_since_us is not None
                and partition.head_since_us <= now_us - self._limits.segment_age_us
            ):
                self._start_seal(partition, partition.end)
                return

    def _start_seal(self, partition: Partition, end: int) -> None:
        first = partition.head_start
        size, sealed = 0, first
        while sealed < end and size < self._limits.segment_bytes:
            for start, rows, stored_bytes, _ in head_sizes(
                self._head.db, partition.id, sealed, 512
            ):
                sealed = start + rows
                size += stored_bytes
                if sealed >= end or size >= self._limits.segment_bytes:
                    break
        files, number, stopped = self._head.files, partition.id, self._stopped

        def job() -> Callable[[], None]:
            done = seal(files, number, first, sealed, stopped)
            return lambda: self._sealed(done)

        self._start(job)

    def _sealed(self, done: Sealed) -> None:
        segment, path = done
        found = [each for each in self._partitions.values() if each.id == segment.partition_id]
        if not found or found[0].start >= segment.end:
            self._doomed.add(path)
            return
        partition = found[0]
        with self._head.transaction("register a segment") as db:
            [(head_bytes,)] = query(
                db,
                "SELECT coalesce(sum(bytes), 0) FROM batches"
                " WHERE partition_id = ? AND first >= ? AND first < ?",
                partition.id,
                partition.head_start,
                segment.end,
            )
            grown = segment.bytes - head_bytes
            db.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?)", segment)
            db.execute(
                "UPDATE partitions SET sealed = ?, bytes = bytes + ? WHERE id = ?",
                (segment.end, grown, partition.id),
            )
        partition.sealed = segment.end
        partition.bytes += grown
        self._note_head(partition)

    def _start_archive(self, partition: Partition, segment: Segment) -> None:
        files, stopped = self._head.files, self._stopped
        at = partition.at
        extent = Extent(at, segment.first, segment.end, segment.bytes, segment.arrival_us)

        def finish() -> None:
            known = self._partitions.get(at)
            if known is not None and known.id == segment.partition_id:
                self._drop([extent])

        def job() -> Callable[[], None]:
            archive(files, at, segment, stopped)
            return finish

        self._start(job)

    def _tidy(self, now_us: int) -> None:
        """Expire values, sweep garbage and forget readers, in one transaction, if any is due."""
        forgotten = now_us - FORGET_AFTER_US
        due = self._head.query(
            "SELECT EXISTS (SELECT 1 FROM entries WHERE expires_us <= ?)"
            " OR EXISTS (SELECT 1 FROM readers WHERE renewed_us < ?)",
            now_us,
            forgotten,
        )
        if due == [(0,)] and not self._garbage:
            return
        with self._head.transaction("tidy up") as db:
            self.expire(db, now_us, EXPIRE_ROWS)
            db.execute(
                "DELETE FROM positions WHERE reader IN"
                " (SELECT name FROM readers WHERE renewed_us < ?)",
                (forgotten,),
            )
            db.execute("DELETE FROM readers WHERE renewed_us < ?", (forgotten,))
            swept = self.sweep(db, SWEEP_BYTES)
        self._note_swept(swept)

    def _remove_orphans(self) -> None:
        """Delete segment files that no catalogue entry names: their writer died too early."""
        known = segment_names(self._head.db)
        folder = self._head.files.segments
        self._doomed = {path for path in folder.iterdir() if path.name not in known}
        self._unlink()

    def _unlink(self) -> None:
        for path in sorted(self._doomed):
            try:
                path.unlink(missing_ok=True)
            except OSError:
                # Windows keeps a file that a reader has open; it goes with a later call.
                continue
            self._doomed.discard(path)
