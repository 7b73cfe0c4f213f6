"""How far an engine has read each partition, and where it passes rows over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from headrace.core.log import PartitionInfo, Position, TopicPartition
from headrace.plan.graph import TopicDecl
from headrace.runners.embedded.checkpoint import Checkpoint
from headrace.runners.embedded.status import Counters
from headrace.runners.embedded.step import Input

_log = structlog.get_logger(__name__)


class Positions(dict[TopicPartition, Position]):
    """The next offset to read, by partition.

    Args:
        topics: The plan's input topics.
        counters: Where rows passed over are counted.
    """

    def __init__(self, topics: Iterable[TopicDecl], counters: Counters) -> None:
        super().__init__()
        topics = list(topics)
        self._latest = {topic.name for topic in topics if topic.start == "latest"}
        self._shedding = [topic for topic in topics if topic.overflow == "drop_oldest"]
        self._counters = counters

    def load(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was taken."""
        self.clear()
        self.update(saved_positions(checkpoint))

    def discover(self, infos: Mapping[TopicPartition, PartitionInfo], *, first_step: bool) -> None:
        """Begin with partitions that are new."""
        for at, info in infos.items():
            if at not in self:
                skip = first_step and at.topic in self._latest
                self[at] = Position(info.incarnation, info.end if skip else info.start)

    def skip_lost(self, infos: Mapping[TopicPartition, PartitionInfo]) -> None:
        """Go on at the oldest row held where the next one is gone."""
        for at, info in infos.items():
            place = self[at]
            lost = place.incarnation not in ("", info.incarnation)
            if lost or not info.start <= place.offset <= info.end:
                _log.warning("engine.skipped_lost", topic=at.topic, partition=at.partition)
                self._counters.skipped += max(0, info.start - place.offset)
                self[at] = Position(info.incarnation, info.start)

    def shed(self, infos: Mapping[TopicPartition, PartitionInfo]) -> None:
        """Pass over the oldest rows of topics that declare `overflow="drop_oldest"`.

        The record's slices begin where reading goes on, so replay passes over the same rows.
        """
        for topic in self._shedding:
            ours = {at: info for at, info in infos.items() if at.topic == topic.name}
            unread = sum(info.end - self[at].offset for at, info in ours.items())
            excess = unread - (topic.max_rows or 0)
            for at, info in sorted(ours.items()):
                place = self[at]
                gone = min(max(excess, 0), info.end - place.offset)
                if gone:
                    self[at] = Position(place.incarnation, place.offset + gone)
                    dropped = self._counters.dropped
                    dropped[topic.name] = dropped.get(topic.name, 0) + gone
                    excess -= gone

    def advance(self, inputs: Iterable[Input]) -> None:
        """Go past the rows of a step."""
        for each in inputs:
            at = TopicPartition(each.topic, each.partition)
            self[at] = Position(each.incarnation, each.stop)


def saved_positions(checkpoint: Checkpoint) -> dict[TopicPartition, Position]:
    """Return the input positions as of a checkpoint."""
    return {
        TopicPartition(topic, partition): Position(incarnation, offset)
        for topic, partition, incarnation, offset in checkpoint.manifest["extra"]["positions"]
    }
