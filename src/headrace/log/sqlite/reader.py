"""Read every owner's partitions, from any process, while they are being written."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from headrace.core.errors import StateError
from headrace.core.log import Batch, PartitionInfo, Position, TopicPartition, TopicSpec
from headrace.log.batches import check_offset, clip
from headrace.log.retention import Published
from headrace.log.sqlite.owners import FETCH_BYTES, OwnerReader, Owners, read_statuses
from headrace.log.sqlite.segments import Stored, batches_of, decode_stored
from headrace.log.sqlite.tail import Tail

_KEPT_FRAMES: Final = 4


class SqliteReader:
    """Reads all owners of a data directory; use it from one thread at a time.

    No read transaction is open between calls, nor while rows are decoded.

    Args:
        root: The data directory; it may not exist yet.
        tail: What notices commits, shared by all readers of a process.
    """

    def __init__(self, root: Path, tail: Tail) -> None:
        self._root = root
        self._owners = Owners(root)
        self._tail = tail
        self._generation = -1
        self._versions: dict[str, int] = {}
        self._owner_of: dict[TopicPartition, OwnerReader] = {}
        self._frames: OrderedDict[tuple[str, int, int, int], pl.DataFrame] = OrderedDict()

    def partitions(
        self, topics: Sequence[str] | None = None
    ) -> dict[TopicPartition, PartitionInfo]:
        """Return all partitions (of `topics`), with their offsets as now committed.

        Raises:
            StateError: Two owners write one partition, or a file is damaged.
        """
        self._generation = self._tail.generation
        owners = self._owners.all()
        self._versions = {owner.files.owner: owner.version() for owner in owners}
        found: dict[TopicPartition, PartitionInfo] = {}
        self._owner_of.clear()
        for owner in owners:
            for info in owner.partitions():
                at = TopicPartition(info.topic, info.partition)
                if at in found:
                    raise StateError(
                        f"{found[at].owner!r} and {info.owner!r} both write partition"
                        f" {at.partition} of {at.topic!r}",
                        hint="give each writing process a slot of its own",
                    )
                found[at] = info
                self._owner_of[at] = owner
        return {at: found[at] for at in sorted(found) if topics is None or at.topic in topics}

    def spec(self, topic: str) -> TopicSpec | None:
        """Return a topic's spec, None where no writer has created it."""
        for owner in self._owners.all():
            spec = owner.spec(topic)
            if spec is not None:
                return spec
        return None

    def read(self, at: TopicPartition, offset: int, max_rows: int, max_bytes: int) -> list[Batch]:
        """Return committed batches from `offset` on, cut to `max_rows`; at least one batch is
        returned whatever `max_bytes` (of stored payload), unless there is none yet.

        Raises:
            LostRangeError: `offset` is before the oldest row held or beyond the end.
            StateError: A file is damaged.

        Cost: 30 us and the decoding of each batch touched.
        """
        owner = self._owner(at)
        if owner is None:
            check_offset(at, offset, 0, 0)
            return []
        end = offset + max_rows
        batches: list[Batch] = []
        while offset < end and (max_bytes > 0 or not batches):
            number, found = owner.fetch(at, offset, end - offset, min(max_bytes, FETCH_BYTES))
            for stored in found:
                size = len(stored.payload)
                if batches and size > max_bytes:
                    return batches
                max_bytes -= size
                frame = self._decoded(owner.files.owner, number, at, stored, end)
                batches += [
                    part
                    for batch in batches_of(at, stored, frame)
                    if (part := clip(batch, offset, end)) is not None
                ]
            if not found:
                break
            offset = found[-1].first + found[-1].rows
        return batches

    def wait(self, timeout_s: float) -> bool:
        """Block until something was committed since the last `wait` or `partitions`, at most
        `timeout_s`; return whether something was.
        """
        deadline = time.monotonic() + timeout_s
        while not self._has_changed():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._generation = self._tail.wait(self._generation, left)
        return True

    def positions(self) -> dict[str, dict[TopicPartition, Position]]:
        """Return the published positions of every reader (engines, sinks)."""
        return {reader.reader: dict(reader.positions) for reader in self.published()}

    def published(self) -> list[Published]:
        """Return what every owner has published, with the time it was renewed."""
        return [reader for owner in self._owners.all() for reader in owner.published()]

    def statuses(self) -> dict[str, bytes]:
        """Return the last status every owner published."""
        return read_statuses(self._root)

    def owner_records(self, owner: str, stream: str, start: int = 0) -> list[tuple[int, bytes]]:
        """Read another owner's record stream."""
        found = self._owners.get(owner)
        return [] if found is None else found.records(stream, start)

    def close(self) -> None:
        """Let go of all files."""
        self._owners.close()
        self._owner_of.clear()
        self._frames.clear()

    def _owner(self, at: TopicPartition) -> OwnerReader | None:
        if at not in self._owner_of:
            for owner in self._owners.all():
                for info in owner.partitions():
                    self._owner_of[TopicPartition(info.topic, info.partition)] = owner
        return self._owner_of.get(at)

    def _has_changed(self) -> bool:
        versions = {owner.files.owner: owner.version() for owner in self._owners.all()}
        changed = versions != self._versions
        self._versions = versions
        return changed

    def _decoded(
        self, owner: str, number: int, at: TopicPartition, stored: Stored, end: int
    ) -> pl.DataFrame:
        key = (owner, number, stored.first, stored.rows)
        frame = self._frames.pop(key, None)
        if frame is None:
            frame = decode_stored(at, stored)
        if stored.first + stored.rows > end:
            # The rest of a batch that was cut is what is asked for next.
            self._frames[key] = frame
            if len(self._frames) > _KEPT_FRAMES:
                self._frames.popitem(last=False)
        return frame
