"""The log in memory: same contract as on disk, gone with the process."""

from __future__ import annotations

import bisect
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from headrace.core.errors import BugError, ConfigError, FencedError, StateError
from headrace.core.log import (
    PARTITIONS_PER_SLOT,
    Append,
    Appended,
    Batch,
    Commit,
    PartitionInfo,
    Position,
    Put,
    Space,
    TopicPartition,
    TopicSpec,
)
from headrace.core.rows import decode_rows
from headrace.core.time import Clock, SystemClock
from headrace.log.batches import check_offset, clip
from headrace.log.retention import Extent, Published, expired, floor, living


@dataclass(slots=True)
class _Partition:
    owner: str
    incarnation: str
    start: int = 0
    end: int = 0
    bytes: int = 0
    batches: list[Batch] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def info(self, at: TopicPartition) -> PartitionInfo:
        return PartitionInfo(*at, self.owner, self.incarnation, self.start, self.end, self.bytes)

    def append(self, batch: Batch) -> None:
        size = int(batch.frame.estimated_size())
        self.batches.append(batch)
        self.starts.append(batch.start)
        self.sizes.append(size)
        self.end = batch.end
        self.bytes += size

    def extents(self, at: TopicPartition) -> Iterator[Extent]:
        for batch, size in zip(self.batches, self.sizes, strict=True):
            yield Extent(at, batch.start, batch.end, size, batch.arrival_us)

    def cut(self, before: int) -> None:
        count = bisect.bisect_left(self.starts, before)
        self.bytes -= sum(self.sizes[:count])
        del self.batches[:count], self.starts[:count], self.sizes[:count]
        self.start = before


@dataclass(slots=True)
class _Stream:
    base: int = 0
    records: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Owner:
    epoch: int = 0
    live: bool = False
    specs: dict[str, TopicSpec] = field(default_factory=dict)
    streams: dict[str, _Stream] = field(default_factory=dict)
    values: dict[str, Put] = field(default_factory=dict)
    published: dict[str, Published] = field(default_factory=dict)
    status: bytes | None = None


class _Store:
    """What writers and readers share; every access holds `changed`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.changed = threading.Condition(threading.RLock())
        self.version = 0
        self.owners: dict[str, _Owner] = {}
        self.partitions: dict[TopicPartition, _Partition] = {}
        self.listeners: dict[int, Callable[[], None]] = {}

    def notify(self) -> None:
        with self.changed:
            self.version += 1
            self.changed.notify_all()
            listeners = list(self.listeners.values())
        for listener in listeners:
            listener()


class MemoryLog:
    """Topics that live as long as this object; safe to use from any thread.

    Frames are kept as they are: appending and reading cost no copy and no encoding. `archive` of a
    topic is ignored, nothing here outlives the process.

    Args:
        clock: Where expiry and missing arrival times come from.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._store = _Store(clock or SystemClock())

    def writer(self, owner: str, slot: int = 0) -> MemoryWriter:
        """Open `owner` for writing.

        Raises:
            StateError: Another writer holds it.
        """
        with self._store.changed:
            state = self._store.owners.setdefault(owner, _Owner())
            if state.live:
                raise StateError(f"{owner!r} is open for writing already", hint="close that writer")
            state.live = True
            state.epoch += 1
            return MemoryWriter(self._store, owner, slot, state)

    def reader(self) -> MemoryReader:
        """Open a reader."""
        return MemoryReader(self._store)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each commit, from the committing thread."""
        store = self._store
        with store.changed:
            key = max(store.listeners, default=0) + 1
            store.listeners[key] = callback

        def stop() -> None:
            with store.changed:
                store.listeners.pop(key, None)

        return stop


class MemoryWriter:
    """Writes one owner's partitions."""

    def __init__(self, store: _Store, owner: str, slot: int, state: _Owner) -> None:
        self.owner = owner
        self.epoch = state.epoch
        self._slot = slot
        self._store = store
        self._state = state
        self._blocked: frozenset[str] = frozenset()
        self._warned: set[tuple[str, str]] = set()

    def create(self, spec: TopicSpec) -> list[PartitionInfo]:
        """Make the topic's partitions of this owner, or update its spec; idempotent.

        Raises:
            ConfigError: Another owner writes one of these partitions (same slot).
        """
        first = self._slot * PARTITIONS_PER_SLOT
        wanted = [TopicPartition(spec.name, first + i) for i in range(spec.partitions)]
        with self._store.changed:
            self._check()
            partitions = self._store.partitions
            for at in wanted:
                if at in partitions and partitions[at].owner != self.owner:
                    raise ConfigError(
                        f"{partitions[at].owner!r} writes partition {at.partition} of"
                        f" {spec.name!r} already",
                        hint=f"open {self.owner!r} with a slot of its own",
                    )
            for at in wanted:
                if at not in partitions:
                    partitions[at] = _Partition(self.owner, secrets.token_hex(8))
            self._state.specs[spec.name] = spec
            infos = [partitions[at].info(at) for at in wanted]
        self._store.notify()
        return infos

    def drop(self, topic: str) -> None:
        """Delete the topic's partitions of this owner with all their rows."""
        with self._store.changed:
            self._check()
            self._state.specs.pop(topic, None)
            for at in self._own(topic):
                del self._store.partitions[at]
        self._store.notify()

    def commit(self, commits: Sequence[Commit]) -> list[list[Appended]]:
        """Write all `commits` together.

        Raises:
            FencedError: The writer is closed.
        """
        # Decoding comes first: nothing may fail once the first batch is in.
        frames = [[_frame(append) for append in commit.appends] for commit in commits]
        with self._store.changed:
            self._check()
            partitions = self._store.partitions
            for commit in commits:
                for append in commit.appends:
                    at = TopicPartition(append.topic, append.partition)
                    if at not in partitions or partitions[at].owner != self.owner:
                        raise BugError(f"{self.owner!r} did not create {at}")
            answer = [
                [
                    self._append(append, frame)
                    for append, frame in zip(commit.appends, rows, strict=True)
                ]
                for commit, rows in zip(commits, frames, strict=True)
            ]
            for commit in commits:
                for stream, record in commit.records:
                    self._state.streams.setdefault(stream, _Stream()).records.append(record)
                for put in commit.puts:
                    if put.value is None:
                        self._state.values.pop(put.key, None)
                    else:
                        self._state.values[put.key] = put
        self._store.notify()
        return answer

    def get(self, key: str) -> bytes | None:
        """Return the value put under `key`, None where absent or expired."""
        with self._store.changed:
            put = self._state.values.get(key)
            return put.value if put is not None and self._is_living(put) else None

    def scan(self, prefix: str) -> dict[str, bytes]:
        """Return all keyed values whose key starts with `prefix`, sorted by key."""
        with self._store.changed:
            return {
                key: put.value
                for key, put in sorted(self._state.values.items())
                if key.startswith(prefix) and put.value is not None and self._is_living(put)
            }

    def records(self, stream: str, start: int = 0) -> list[tuple[int, bytes]]:
        """Return (number, record) of a record stream from number `start` on."""
        with self._store.changed:
            return _records(self._state, stream, start)

    def trim_records(self, stream: str, before: int) -> None:
        """Drop records with a number less than `before`."""
        with self._store.changed:
            self._check()
            state = self._state.streams.setdefault(stream, _Stream())
            count = min(max(before - state.base, 0), len(state.records))
            del state.records[:count]
            state.base += count

    def publish_positions(self, reader: str, positions: Mapping[TopicPartition, Position]) -> None:
        """Publish how far `reader` still needs each partition; retention stops there."""
        now = self._store.clock.now()
        with self._store.changed:
            self._check()
            if positions:
                published = Published(self.owner, reader, now, dict(positions))
                self._state.published[reader] = published
            else:
                self._state.published.pop(reader, None)

    def publish_status(self, status: bytes) -> None:
        """Replace the owner's status text."""
        with self._store.changed:
            self._state.status = status

    def space(self) -> Space:
        """Return room without end: memory is watched by the process itself."""
        return Space(free_bytes=sys.maxsize, min_free_bytes=0, wal_bytes=0)

    def blocked(self) -> frozenset[str]:
        """Return topics above `retention_bytes` whose oldest rows some reader still needs."""
        return self._blocked

    def maintain(self, now_us: int) -> None:
        """Drop what retention allows and expire keyed values."""
        with self._store.changed:
            self._check()
            everyone = [p for o in self._store.owners.values() for p in o.published.values()]
            alive = living(everyone, now_us, self._warned)
            self._blocked = frozenset(
                spec.name
                for spec in self._state.specs.values()
                if self._retain(spec, alive, now_us)
            )
            values = self._state.values
            for key in [k for k, put in values.items() if _is_over(put, now_us)]:
                del values[key]

    def close(self) -> None:
        """Let another writer open this owner. Committed rows stay."""
        with self._store.changed:
            if self._state.epoch == self.epoch:
                self._state.live = False

    def _retain(self, spec: TopicSpec, alive: Sequence[Published], now_us: int) -> bool:
        own = {at: self._store.partitions[at] for at in self._own(spec.name)}
        gone, blocked = expired(
            spec,
            sum(partition.bytes for partition in own.values()),
            {at: partition.extents(at) for at, partition in own.items()},
            {at: floor(partition.info(at), alive) for at, partition in own.items()},
            now_us,
        )
        for extent in gone:
            own[extent.at].cut(extent.end)
        return blocked

    def _append(self, append: Append, frame: pl.DataFrame) -> Appended:
        partition = self._store.partitions[TopicPartition(append.topic, append.partition)]
        arrival_us = append.arrival_us or self._store.clock.now()
        start = partition.end
        partition.append(
            Batch(append.topic, append.partition, start, frame, append.watermark, arrival_us)
        )
        return Appended(append.topic, append.partition, start, partition.end)

    def _own(self, topic: str) -> list[TopicPartition]:
        return [
            at
            for at, partition in self._store.partitions.items()
            if at.topic == topic and partition.owner == self.owner
        ]

    def _is_living(self, put: Put) -> bool:
        return not _is_over(put, self._store.clock.now())

    def _check(self) -> None:
        if self._state.epoch != self.epoch or not self._state.live:
            raise FencedError(f"this writer of {self.owner!r} is closed")


class MemoryReader:
    """Reads every owner's partitions."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._seen = -1

    def partitions(
        self, topics: Sequence[str] | None = None
    ) -> dict[TopicPartition, PartitionInfo]:
        """Return all partitions (of `topics`), with their offsets as now committed."""
        with self._store.changed:
            self._seen = self._store.version
            return {
                at: partition.info(at)
                for at, partition in sorted(self._store.partitions.items())
                if topics is None or at.topic in topics
            }

    def spec(self, topic: str) -> TopicSpec | None:
        """Return a topic's spec, None where no writer has created it."""
        with self._store.changed:
            for _, state in sorted(self._store.owners.items()):
                if topic in state.specs:
                    return state.specs[topic]
        return None

    def read(self, at: TopicPartition, offset: int, max_rows: int, max_bytes: int) -> list[Batch]:
        """Return committed batches from `offset` on, cut to `max_rows`.

        Raises:
            LostRangeError: `offset` is before the oldest row held or beyond the end.
        """
        with self._store.changed:
            partition = self._store.partitions.get(at)
            if partition is None:
                check_offset(at, offset, 0, 0)
                return []
            check_offset(at, offset, partition.start, partition.end)
            batches: list[Batch] = []
            index = bisect.bisect_right(partition.starts, offset) - 1
            for number in range(max(index, 0), len(partition.batches)):
                batch = clip(partition.batches[number], offset, offset + max_rows)
                if batch is None:
                    break
                max_bytes -= partition.sizes[number]
                if max_bytes < 0 and batches:
                    break
                batches.append(batch)
            return batches

    def wait(self, timeout_s: float) -> bool:
        """Block until something was committed since the last `wait` or `partitions`."""
        with self._store.changed:
            changed = self._store.changed.wait_for(
                lambda: self._store.version != self._seen, timeout_s
            )
            self._seen = self._store.version
            return changed

    def positions(self) -> dict[str, dict[TopicPartition, Position]]:
        """Return the published positions of every reader."""
        with self._store.changed:
            return {
                name: dict(published.positions)
                for _, state in sorted(self._store.owners.items())
                for name, published in sorted(state.published.items())
            }

    def statuses(self) -> dict[str, bytes]:
        """Return the last status every owner published."""
        with self._store.changed:
            return {
                owner: state.status
                for owner, state in sorted(self._store.owners.items())
                if state.status is not None
            }

    def owner_records(self, owner: str, stream: str, start: int = 0) -> list[tuple[int, bytes]]:
        """Read another owner's record stream."""
        with self._store.changed:
            state = self._store.owners.get(owner)
            return [] if state is None else _records(state, stream, start)

    def close(self) -> None:
        """Do nothing: a reader in memory holds nothing."""


def _frame(append: Append) -> pl.DataFrame:
    payload = append.payload
    frame = decode_rows(payload) if isinstance(payload, bytes) else payload.clone()
    if frame.height != append.rows or append.rows < 1:
        raise BugError(f"an append of {append.rows} rows holds {frame.height}")
    return frame


def _records(state: _Owner, stream: str, start: int) -> list[tuple[int, bytes]]:
    found = state.streams.get(stream, _Stream())
    skip = max(start - found.base, 0)
    return [(found.base + skip + i, record) for i, record in enumerate(found.records[skip:])]


def _is_over(put: Put, now_us: int) -> bool:
    return put.expires_us is not None and put.expires_us <= now_us
