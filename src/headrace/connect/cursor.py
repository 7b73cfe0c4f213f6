"""Where a sink stands in its topic: in memory as it reads, in the role's file as it commits."""

from __future__ import annotations

import json

import structlog

from headrace.core.log import PartitionInfo, Position, Put, Reader, TopicPartition, Writer

_log = structlog.get_logger(__name__)


class Cursor:
    """The place of one sink in every partition of its topic.

    Args:
        sink: Name of the sink; the cursor is kept under it.
        topic: What it reads.
        reader: Where the rows are.
        writer: Whose file holds the cursor.

    Attributes:
        positions: The next row of each partition that the sink has not dealt with.
    """

    def __init__(self, sink: str, topic: str, reader: Reader, writer: Writer) -> None:
        self._sink = sink
        self._topic = topic
        self._reader = reader
        self.positions: dict[TopicPartition, Position] = {}
        for key, value in writer.scan(f"cursor/{sink}/").items():
            _, _, at_topic, partition = key.split("/")
            incarnation, offset = json.loads(value)
            self.positions[TopicPartition(at_topic, int(partition))] = Position(incarnation, offset)

    def unread(
        self, positions: dict[TopicPartition, Position]
    ) -> list[tuple[TopicPartition, PartitionInfo]]:
        """Return the partitions that have rows after `positions`.

        A position whose row is no longer there, or lies in another incarnation of the topic, is
        set to the oldest row, and logged.
        """
        due = []
        for at, info in sorted(self._reader.partitions([self._topic]).items()):
            place = positions.setdefault(at, Position(info.incarnation, info.start))
            if place.incarnation != info.incarnation or place.offset < info.start:
                _log.warning("sink.rows_lost", sink=self._sink, topic=at.topic)
                positions[at] = Position(info.incarnation, info.start)
            if info.end > positions[at].offset:
                due.append((at, info))
        return due

    def put(self, at: TopicPartition, place: Position) -> Put:
        """Return what makes `place` durable with the commit it goes into."""
        return Put(f"cursor/{self._sink}/{at.topic}/{at.partition}", json.dumps(place).encode())
