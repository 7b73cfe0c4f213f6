"""Write an owner's partitions, records and values: many commits, one transaction, one sync."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import apsw

from headrace.core.errors import BugError, ConfigError
from headrace.core.log import (
    PARTITIONS_PER_SLOT,
    Append,
    Appended,
    Commit,
    PartitionInfo,
    Position,
    Put,
    Space,
    TopicPartition,
    TopicSpec,
)
from headrace.core.rows import encode_rows
from headrace.core.time import Clock
from headrace.log.sqlite.catalogue import (
    ALL_OFFSETS,
    Garbage,
    Partition,
    add_partition,
    drop_segments,
    load_partitions,
    load_specs,
    store_spec,
)
from headrace.log.sqlite.files import (
    TEMPORARY,
    FileLock,
    OwnerFiles,
    archive_folder,
    not_writable,
)
from headrace.log.sqlite.head import Head
from headrace.log.sqlite.reader import SqliteReader
from headrace.log.sqlite.upkeep import Limits, Upkeep

GIB: Final = 1024**3
MAX_KEY = "\U0010ffff"


@dataclass(slots=True)
class _Growth:
    """What a commit adds to one partition."""

    end: int
    bytes: int = 0
    since_us: int | None = None


@dataclass(slots=True)
class _Batch:
    """What one transaction inserts, gathered before it begins."""

    rows: list[tuple[int, int, int, int, int | None, int, bytes]] = field(default_factory=list)
    growth: dict[TopicPartition, _Growth] = field(default_factory=dict)
    appended: list[list[Appended]] = field(default_factory=list)
    bytes: int = 0


class SqliteWriter:
    """Writes one owner's partitions. Not thread-safe.

    Args:
        files: Where the owner's files lie.
        slot: Decides the numbers of its partitions.
        clock: Where arrival times, expiry and renewals come from.
        reader: A reader of the same log, for what other owners publish; closed with the writer.
        limits: Sizes and ages.

    Raises:
        StateError: Another process holds the owner.
        StorageFullError: Its files cannot be written.
    """

    def __init__(
        self, files: OwnerFiles, slot: int, clock: Clock, reader: SqliteReader, limits: Limits
    ) -> None:
        self.owner = files.owner
        self._files = files
        self._slot = slot
        self._clock = clock
        self._reader = reader
        self._limits = limits
        self._head = Head(files)
        self.epoch = self._head.epoch
        self._specs: dict[str, TopicSpec] = load_specs(self._head.db)
        self._partitions: dict[TopicPartition, Partition] = load_partitions(self._head.db)
        self._is_stale = False
        self._upkeep = Upkeep(self._head, self._partitions, self._specs, reader, limits)

    def create(self, spec: TopicSpec) -> list[PartitionInfo]:
        """Make the topic's partitions of this owner, or update its spec; idempotent.

        Raises:
            ConfigError: Another owner writes one of these partitions (same slot).
        """
        first = self._slot * PARTITIONS_PER_SLOT
        wanted = [TopicPartition(spec.name, first + i) for i in range(spec.partitions)]
        self._refresh()
        missing = [at for at in wanted if at not in self._partitions]
        if missing or self._specs.get(spec.name) != spec:
            self._is_stale = True
            with FileLock(self._files.root / ".create.lock", wait=True):
                self._check_free(missing)
                with self._head.transaction(f"create topic {spec.name!r}") as db:
                    store_spec(db, spec)
                    added = [add_partition(db, at) for at in missing]
            self._specs[spec.name] = spec
            self._partitions.update({partition.at: partition for partition in added})
            self._is_stale = False
        return [self._partitions[at].info(self.owner) for at in wanted]

    def drop(self, topic: str) -> None:
        """Delete the topic's partitions of this owner with all their rows.

        What was archived stays, in a folder that bears the partition's incarnation, so that a
        topic created under the same name does not add to it.
        """
        self._refresh()
        own = [partition for at, partition in self._partitions.items() if at.topic == topic]
        ids = [(partition.id,) for partition in own]
        self._is_stale = True
        for partition in own:
            folder = archive_folder(self._files.root, *partition.at)
            with suppress(FileNotFoundError):
                folder.rename(folder.with_name(f"{folder.name}-{partition.incarnation}"))
        with self._head.transaction(f"drop topic {topic!r}") as db:
            db.execute("DELETE FROM topics WHERE name = ?", (topic,))
            names = [
                name for partition in own for name in drop_segments(db, partition.id, ALL_OFFSETS)
            ]
            db.executemany("DELETE FROM partitions WHERE id = ?", ids)
        self._specs.pop(topic, None)
        self._upkeep.doom(names)
        for partition in own:
            del self._partitions[partition.at]
            self._upkeep.discard(Garbage(partition.id, ALL_OFFSETS))
        self._is_stale = False

    def commit(self, commits: Sequence[Commit]) -> list[list[Appended]]:
        """Write all `commits` in one transaction; return when it is durable.

        Raises:
            FencedError: Another process owns the file now; end this process.
            StorageFullError: Nothing was written; the same commits may be tried again.
            StateError: The outcome is unknown; end this process.
        """
        self._refresh()
        batch = self._gather(commits)
        # Until what is known here agrees with the file again, whatever interrupts.
        self._is_stale = True
        with self._head.transaction("commit") as db:
            _insert(db, batch, self._partitions)
            _insert_records(db, [record for commit in commits for record in commit.records])
            self._put(db, [put for commit in commits for put in commit.puts])
            garbage = self._upkeep.sweep(db, 2 * batch.bytes) if batch.bytes else None
        for at, growth in batch.growth.items():
            partition = self._partitions[at]
            partition.end = growth.end
            partition.bytes += growth.bytes
            partition.head_bytes += growth.bytes
            if partition.head_since_us is None:
                partition.head_since_us = growth.since_us
        self._is_stale = False
        self._upkeep.committed(batch.growth, garbage)
        return batch.appended

    def get(self, key: str) -> bytes | None:
        """Return the value put under `key`, None where absent or expired."""
        found = self._head.query(
            "SELECT value FROM entries WHERE key = ? AND (expires_us IS NULL OR expires_us > ?)",
            key,
            self._clock.now(),
        )
        return found[0][0] if found else None

    def scan(self, prefix: str) -> dict[str, bytes]:
        """Return all keyed values whose key starts with `prefix`, sorted by key."""
        return dict(
            self._head.query(
                "SELECT key, value FROM entries WHERE key >= ?1 AND key < ?1 || ?2"
                " AND (expires_us IS NULL OR expires_us > ?3) ORDER BY key",
                prefix,
                MAX_KEY,
                self._clock.now(),
            )
        )

    def records(self, stream: str, start: int = 0) -> list[tuple[int, bytes]]:
        """Return (number, record) of a record stream from number `start` on."""
        return self._head.query(
            "SELECT number, record FROM records WHERE stream = ? AND number >= ? ORDER BY number",
            stream,
            start,
        )

    def trim_records(self, stream: str, before: int) -> None:
        """Drop records with a number less than `before`."""
        if not self._head.query(
            "SELECT 1 FROM records WHERE stream = ? AND number < ? LIMIT 1", stream, before
        ):
            return
        with self._head.transaction("trim records") as db:
            # The numbers go on rising when all records are gone.
            db.execute(
                "INSERT OR REPLACE INTO streams SELECT stream, max(number) + 1 FROM records"
                " WHERE stream = ?",
                (stream,),
            )
            db.execute("DELETE FROM records WHERE stream = ? AND number < ?", (stream, before))

    def publish_positions(self, reader: str, positions: Mapping[TopicPartition, Position]) -> None:
        """Publish how far `reader` still needs each partition; retention stops there."""
        with self._head.transaction("publish positions") as db:
            db.execute("DELETE FROM positions WHERE reader = ?", (reader,))
            db.execute("DELETE FROM readers WHERE name = ?", (reader,))
            if positions:
                db.execute("INSERT INTO readers VALUES (?, ?)", (reader, self._clock.now()))
                db.executemany(
                    "INSERT INTO positions VALUES (?, ?, ?, ?, ?)",
                    [(reader, *at, *position) for at, position in positions.items()],
                )

    def publish_status(self, status: bytes) -> None:
        """Replace the owner's status text, which `Reader.statuses` shows; not durable."""
        temporary = self._files.status.with_suffix(TEMPORARY)
        try:
            temporary.write_bytes(status)
            # Windows refuses while a reader has the file open; the next status will do.
            with suppress(PermissionError):
                temporary.replace(self._files.status)
        except OSError as error:
            raise not_writable(temporary, error) from error

    def space(self) -> Space:
        """Return the room left where the log lies."""
        disk = shutil.disk_usage(self._files.folder)
        least = self._limits.min_free_bytes
        return Space(
            free_bytes=disk.free,
            min_free_bytes=min(GIB, disk.total // 20) if least is None else least,
            wal_bytes=self._head.wal_bytes(),
        )

    def blocked(self) -> frozenset[str]:
        """Return topics above `retention_bytes` whose oldest rows some reader still needs, as of
        the last `maintain`.
        """
        return self._upkeep.blocked

    def maintain(self, now_us: int) -> None:
        """Seal and merge segments, drop or archive what retention allows, expire keyed values,
        truncate the write-ahead log when nothing was committed since the last call.

        Copying rows (sealing, archiving) runs in a thread of its own; what it finished is taken
        over by a later call.

        Raises:
            StorageFullError: There was no room; call again later.
        """
        self._refresh()
        self._is_stale = True
        self._upkeep.run(now_us)
        self._is_stale = False

    def settle(self) -> None:
        """Wait until what `maintain` started in the background is finished and taken over."""
        self._is_stale = True
        self._upkeep.settle()
        self._is_stale = False

    def close(self) -> None:
        """Release the lock. Committed rows stay."""
        self._upkeep.close()
        self._reader.close()
        self._head.close()

    def _gather(self, commits: Iterable[Commit]) -> _Batch:
        batch = _Batch()
        now = self._clock.now()
        for commit in commits:
            batch.appended.append(
                [self._gather_append(batch, each, now) for each in commit.appends]
            )
        return batch

    def _gather_append(self, batch: _Batch, append: Append, now: int) -> Appended:
        at = TopicPartition(append.topic, append.partition)
        partition = self._partitions.get(at)
        if partition is None:
            raise BugError(f"{self.owner!r} did not create {at}")
        payload = _payload(append)
        arrival_us = append.arrival_us or now
        growth = batch.growth.setdefault(at, _Growth(partition.end, since_us=arrival_us))
        start = growth.end
        growth.end += append.rows
        growth.bytes += len(payload)
        batch.bytes += len(payload)
        batch.rows.append(
            (
                partition.id,
                start,
                append.rows,
                len(payload),
                append.watermark,
                arrival_us,
                payload,
            )
        )
        return Appended(*at, start, growth.end)

    def _put(self, db: apsw.Connection, puts: Sequence[Put]) -> None:
        if not puts:
            return
        for put in puts:
            if put.value is None:
                db.execute("DELETE FROM entries WHERE key = ?", (put.key,))
            else:
                db.execute(
                    "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
                    (put.key, put.value, put.expires_us),
                )
        # Expiry keeps pace with what comes in, so that no long deletion ever piles up.
        self._upkeep.expire(db, self._clock.now(), 2 * len(puts))

    def _check_free(self, wanted: Sequence[TopicPartition]) -> None:
        taken = self._reader.partitions(sorted({at.topic for at in wanted}))
        for at in wanted:
            if at in taken and taken[at].owner != self.owner:
                raise ConfigError(
                    f"{taken[at].owner!r} writes partition {at.partition} of {at.topic!r} already",
                    hint=f"open {self.owner!r} with a slot of its own",
                )

    def _refresh(self) -> None:
        if self._is_stale:
            fresh = load_partitions(self._head.db)
            self._partitions.clear()
            self._partitions.update(fresh)
            self._specs.clear()
            self._specs.update(load_specs(self._head.db))
            self._is_stale = False


def _payload(append: Append) -> bytes:
    if isinstance(append.payload, bytes):
        if append.rows < 1:
            raise BugError(f"an append of {append.rows} rows")
        return append.payload
    if append.payload.height != append.rows or append.rows < 1:
        raise BugError(f"an append of {append.rows} rows holds {append.payload.height}")
    return encode_rows(append.payload)


def _insert(
    db: apsw.Connection, batch: _Batch, partitions: Mapping[TopicPartition, Partition]
) -> None:
    db.executemany(
        "INSERT INTO batches (partition_id, first, rows, bytes, watermark, arrival_us, payload)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        batch.rows,
    )
    db.executemany(
        "UPDATE partitions SET end = ?, bytes = bytes + ? WHERE id = ?",
        [(growth.end, growth.bytes, partitions[at].id) for at, growth in batch.growth.items()],
    )


def _insert_records(db: apsw.Connection, records: Sequence[tuple[str, bytes]]) -> None:
    db.executemany(
        "INSERT INTO records (stream, number, record) VALUES (?1, max("
        " coalesce((SELECT max(number) + 1 FROM records WHERE stream = ?1), 0),"
        " coalesce((SELECT base FROM streams WHERE name = ?1), 0)), ?2)",
        records,
    )
