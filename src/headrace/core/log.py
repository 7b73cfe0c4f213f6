"""The log's protocol: durable, ordered, replayable topics that every process meets at.

A *topic* has partitions; a partition belongs to exactly one writer (an *owner*: a gateway slot,
the engine of an app, connect) and holds rows by offset, stored as batches. An owner commits
batches, journal records and small keyed values in one atomic, durable transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import polars as pl

PARTITIONS_PER_SLOT = 64
"""Partition numbers are `slot * PARTITIONS_PER_SLOT + index`; slot 0 is the first writer."""


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """A reader's place: the next offset to read, in one incarnation of a topic.

    An incarnation is a random id made when the partition was created, so that a position in a
    deleted and recreated topic is noticed instead of read as something else.
    """

    incarnation: str
    offset: int


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What the log must know of a topic.

    Attributes:
        name: Unique in the data directory.
        schema: Columns of its rows.
        partitions: Partitions added by each writing slot.
        retention_us: Rows older than this many microseconds of arrival time may go; None keeps.
        retention_bytes: Oldest rows may go above this size; None keeps.
        archive: Write expired segments to Parquet before they go.
    """

    name: str
    schema: pl.Schema
    partitions: int = 1
    retention_us: int | None = None
    retention_bytes: int | None = None
    archive: bool = False


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """What is known of a partition: `start` is the oldest offset held, `end` the next to come."""

    topic: str
    partition: int
    owner: str
    incarnation: str
    start: int
    end: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Append:
    """Rows to add to one partition as one batch.

    Attributes:
        payload: The rows, as an Arrow IPC stream (see `headrace.codecs.arrow`) or as a frame, which
            a log on disk encodes and a log in memory keeps.
        rows: Their number, at least 1.
        watermark: Event-time watermark stored with the batch (output topics), else None.
        arrival_us: When the log took them, microseconds of the writer's clock.
    """

    topic: str
    partition: int
    payload: bytes | pl.DataFrame
    rows: int
    watermark: int | None = None
    arrival_us: int = 0


@dataclass(frozen=True, slots=True)
class Put:
    """A small keyed value in the owner's file; `value` None deletes, `expires_us` ends it."""

    key: str
    value: bytes | None
    expires_us: int | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything one request, step or epoch makes durable together.

    Attributes:
        appends: Batches, in order.
        records: Journal records to append to named record streams of the owner.
        puts: Keyed values.
    """

    appends: Sequence[Append] = ()
    records: Sequence[tuple[str, bytes]] = ()
    puts: Sequence[Put] = ()


class Appended(NamedTuple):
    """Where an append went: rows `start` up to, not including, `end`."""

    topic: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows read from one partition: `start` is the offset of the first row of `frame`."""

    topic: str
    partition: int
    start: int
    frame: pl.DataFrame
    watermark: int | None
    arrival_us: int

    @property
    def end(self) -> int:
        """The offset after the last row."""
        return self.start + self.frame.height


class Space(NamedTuple):
    """Room on the log's disk: free bytes, the least that ingest leaves free, bytes in the WAL."""

    free_bytes: int
    min_free_bytes: int
    wal_bytes: int

    @property
    def low(self) -> bool:
        """Whether ingest must stop so that engines and cursors can go on."""
        return self.free_bytes < self.min_free_bytes


class Writer(Protocol):
    """The one process that may write an owner's partitions. Not thread-safe.

    Opening takes the owner's lock for the writer's life and raises its epoch; every commit
    compares the epoch.
    """

    owner: str
    epoch: int

    def create(self, spec: TopicSpec) -> list[PartitionInfo]:
        """Make the topic's partitions of this owner, or update its spec; idempotent.

        Raises:
            ConfigError: Another owner writes one of these partitions (same slot).
        """
        ...

    def drop(self, topic: str) -> None:
        """Delete the topic's partitions of this owner with all their rows."""
        ...

    def commit(self, commits: Sequence[Commit]) -> list[list[Appended]]:
        """Write all `commits` in one transaction; return when it is durable.

        Raises:
            FencedError: Another process owns the file now; end this process.
            StorageFullError: Nothing was written; the same commits may be tried again.
            StateError: The outcome is unknown; end this process.
        """
        ...

    def get(self, key: str) -> bytes | None:
        """Return the value put under `key`, None where absent or expired."""
        ...

    def scan(self, prefix: str) -> dict[str, bytes]:
        """Return all keyed values whose key starts with `prefix`, sorted by key."""
        ...

    def records(self, stream: str, start: int = 0) -> list[tuple[int, bytes]]:
        """Return (number, record) of a record stream from number `start` on; numbers begin at 0
        and rise by 1.
        """
        ...

    def trim_records(self, stream: str, before: int) -> None:
        """Drop records with a number less than `before`."""
        ...

    def publish_positions(self, reader: str, positions: Mapping[TopicPartition, Position]) -> None:
        """Publish how far `reader` still needs each partition; retention stops there.

        `positions` replaces all that this owner published for `reader` before, and renews it; a
        reader not renewed for seven days holds nothing back. An empty mapping forgets the reader.
        """
        ...

    def publish_status(self, status: bytes) -> None:
        """Replace the owner's status text, which `Reader.statuses` shows; not durable."""
        ...

    def space(self) -> Space:
        """Return the room left where the log lies."""
        ...

    def blocked(self) -> frozenset[str]:
        """Return topics above `retention_bytes` whose oldest rows some reader still needs, as of
        the last `maintain`; they should take no more rows until it has read them.
        """
        ...

    def maintain(self, now_us: int) -> None:
        """Seal and merge segments, drop or archive what retention allows, expire keyed values,
        truncate the write-ahead log. Call about once a second when idle.
        """
        ...

    def close(self) -> None:
        """Release the lock. Committed rows stay."""
        ...


class Reader(Protocol):
    """Reads every owner's partitions; safe to use from one thread at a time."""

    def partitions(
        self, topics: Sequence[str] | None = None
    ) -> dict[TopicPartition, PartitionInfo]:
        """Return all partitions (of `topics`), with their offsets as now committed."""
        ...

    def spec(self, topic: str) -> TopicSpec | None:
        """Return a topic's spec, None where no writer has created it."""
        ...

    def read(self, at: TopicPartition, offset: int, max_rows: int, max_bytes: int) -> list[Batch]:
        """Return committed batches from `offset` on, cut to `max_rows`; at least one batch is
        returned whatever `max_bytes`, unless there is none yet.

        Raises:
            LostRangeError: `offset` is before the oldest row held or beyond the end.
        """
        ...

    def wait(self, timeout_s: float) -> bool:
        """Block until something was committed since the last `wait` or `partitions`, at most
        `timeout_s`; return whether something was.
        """
        ...

    def positions(self) -> dict[str, dict[TopicPartition, Position]]:
        """Return the published positions of every reader (engines, sinks)."""
        ...

    def statuses(self) -> dict[str, bytes]:
        """Return the last status every owner published."""
        ...

    def owner_records(self, owner: str, stream: str, start: int = 0) -> list[tuple[int, bytes]]:
        """Read another owner's record stream."""
        ...

    def close(self) -> None:
        """Let go of all files."""
        ...


class Log(Protocol):
    """A place where topics live."""

    def writer(self, owner: str, slot: int = 0) -> Writer:
        """Open `owner` for writing.

        Raises:
            StateError: Another living process holds it.
        """
        ...

    def reader(self) -> Reader:
        """Open a reader."""
        ...

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after commits of any owner, from a thread of the log; several commits
        may give one call. It must return at once. Calling what is returned ends it.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredTable:
    """How a table lies in the log: a changelog topic with these key columns.

    A changelog row has the table's columns, `__op` ("upsert" or "delete") and, for control
    tables, `version`; deletes carry the key columns only.
    """

    topic: str
    key: tuple[str, ...]
    columns: pl.Schema = field(default_factory=pl.Schema)


OP = "__op"
UPSERT = "upsert"
DELETE = "delete"
