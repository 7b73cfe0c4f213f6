"""What an owner's head file says of its topics, partitions and segments."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import apsw
import polars as pl

from headrace.core.log import PartitionInfo, TopicPartition, TopicSpec
from headrace.core.rows import decode_rows, encode_rows
from headrace.log.retention import Extent
from headrace.log.sqlite.statements import query

ALL_OFFSETS: Final = (1 << 63) - 1
_PAGE_ROWS: Final = 64


@dataclass(slots=True)
class Partition:
    """A partition as its writer knows it.

    Attributes:
        id: Its key in the head file.
        sealed: Rows before this offset lie in segments.
        head_bytes: Stored bytes of the rows in the head file.
        head_since_us: Arrival of the oldest row in the head file, None where there is none.
    """

    id: int
    at: TopicPartition
    incarnation: str
    start: int
    sealed: int
    end: int
    bytes: int
    head_bytes: int = 0
    head_since_us: int | None = None

    @property
    def head_start(self) -> int:
        """The first offset that lies in the head file."""
        return max(self.start, self.sealed)

    def info(self, owner: str) -> PartitionInfo:
        """Return what readers know of it."""
        return PartitionInfo(*self.at, owner, self.incarnation, self.start, self.end, self.bytes)


class Segment(NamedTuple):
    """A sealed segment in the catalogue; `arrival_us` is that of its last row."""

    partition_id: int
    first: int
    end: int
    bytes: int
    arrival_us: int
    name: str


class Garbage(NamedTuple):
    """Batches of a partition that no reader sees any more: those that begin before `before`."""

    partition_id: int
    before: int


def load_partitions(db: apsw.Connection) -> dict[TopicPartition, Partition]:
    """Return the owner's partitions."""
    found = {}
    for number, topic, partition, *rest in query(
        db, "SELECT id, topic, partition, incarnation, start, sealed, end, bytes FROM partitions"
    ):
        at = TopicPartition(topic, partition)
        found[at] = Partition(number, at, *rest)
        [(found[at].head_bytes, found[at].head_since_us)] = query(
            db,
            "SELECT coalesce(sum(bytes), 0), min(arrival_us) FROM batches"
            " WHERE partition_id = ? AND first >= ?",
            number,
            found[at].head_start,
        )
    return found


def load_garbage(db: apsw.Connection) -> list[Garbage]:
    """Return what a writer that died left to delete."""
    return [
        Garbage(number, before)
        for number, before in query(
            db,
            "SELECT b.partition_id, coalesce(max(p.start, p.sealed), ?) AS before"
            " FROM (SELECT partition_id, min(first) AS first FROM batches GROUP BY 1) b"
            " LEFT JOIN partitions p ON p.id = b.partition_id WHERE b.first < before",
            ALL_OFFSETS,
        )
    ]


def load_specs(db: apsw.Connection, topic: str | None = None) -> dict[str, TopicSpec]:
    """Return the owner's topics, or the one named."""
    return {
        name: TopicSpec(
            name,
            decode_rows(schema).schema,
            partitions,
            retention_us,
            retention_bytes,
            archive=bool(archive),
        )
        for name, schema, partitions, retention_us, retention_bytes, archive in query(
            db,
            "SELECT name, schema, partitions, retention_us, retention_bytes, archive FROM topics"
            " WHERE ?1 IS NULL OR name = ?1",
            topic,
        )
    }


def store_spec(db: apsw.Connection, spec: TopicSpec) -> None:
    """Insert or replace a topic."""
    schema = encode_rows(pl.DataFrame(schema=spec.schema))
    db.execute(
        "INSERT OR REPLACE INTO topics VALUES (?, ?, ?, ?, ?, ?)",
        (
            spec.name,
            schema,
            spec.partitions,
            spec.retention_us,
            spec.retention_bytes,
            int(spec.archive),
        ),
    )


def add_partition(db: apsw.Connection, at: TopicPartition) -> Partition:
    """Insert an empty partition of a new incarnation."""
    incarnation = secrets.token_hex(8)
    [(number,)] = query(
        db,
        "INSERT INTO partitions (topic, partition, incarnation, start, sealed, end, bytes)"
        " VALUES (?, ?, ?, 0, 0, 0, 0) RETURNING id",
        *at,
        incarnation,
    )
    return Partition(number, at, incarnation, 0, 0, 0, 0)


def segments(
    db: apsw.Connection, partition_id: int, offset: int = 0, limit: int = -1
) -> list[Segment]:
    """Return a partition's segments that begin at `offset` or later, ascending."""
    return [
        Segment(*row)
        for row in query(
            db,
            "SELECT partition_id, first, end, bytes, arrival_us, name FROM segments"
            " WHERE partition_id = ? AND first >= ? ORDER BY first LIMIT ?",
            partition_id,
            offset,
            limit,
        )
    ]


def drop_segments(db: apsw.Connection, partition_id: int, before: int) -> list[str]:
    """Strike a partition's segments that end at `before` or earlier; return their file names."""
    return [
        name
        for (name,) in query(
            db,
            "DELETE FROM segments WHERE partition_id = ? AND end <= ? RETURNING name",
            partition_id,
            before,
        )
    ]


def segment_names(db: apsw.Connection) -> set[str]:
    """Return the file names of all the owner's segments."""
    return {name for (name,) in query(db, "SELECT name FROM segments")}


def extents(db: apsw.Connection, partition: Partition) -> Iterator[Extent]:
    """Yield a partition's segments, then its batches in the head, ascending in offset."""
    offset, at = 0, partition.at
    while found := segments(db, partition.id, offset, _PAGE_ROWS):
        for segment in found:
            offset = segment.end
            yield Extent(at, segment.first, offset, segment.bytes, segment.arrival_us)
    offset = partition.head_start
    while page := head_sizes(db, partition.id, offset, _PAGE_ROWS):
        for first, rows, size, arrival_us in page:
            offset = first + rows
            yield Extent(at, first, offset, size, arrival_us)


def head_sizes(db: apsw.Connection, partition_id: int, offset: int, limit: int) -> list[Any]:
    """Return (first, rows, bytes, arrival_us) of batches in the head from `offset` on."""
    return query(
        db,
        "SELECT first, rows, bytes, arrival_us FROM batches"
        " WHERE partition_id = ? AND first >= ? ORDER BY first LIMIT ?",
        partition_id,
        offset,
        limit,
    )
