"""When a topic takes no more rows: too many unread, or no room on the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace.core.errors import StorageFullError, ThrottledError
from headrace.core.log import PartitionInfo, TopicPartition

MAX_RETRY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What of a topic its slowest reader has not read."""

    rows: int = 0
    bytes: int = 0


class Limits:
    """Refuses rows while a topic is behind or the disk is low; changed about twice a second.

    Args:
        max_rows: Unread rows of a topic above which it takes no more.
        max_bytes: Unread bytes of a topic above which it takes no more.
    """

    def __init__(self, max_rows: int = 10_000_000, max_bytes: int = 4 << 30) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._backlogs: dict[str, Backlog] = {}
        self._blocked: frozenset[str] = frozenset()
        self._low = False
        self._rates: dict[str, float] = {}
        self.refused: dict[str, int] = {}

    @property
    def storage_low(self) -> bool:
        """Whether the disk is nearly full."""
        return self._low

    def backlog(self, topic: str) -> Backlog:
        """Return what is unread of a topic, as of the last look."""
        return self._backlogs.get(topic, Backlog())

    def rate(self, topic: str) -> float:
        """Return rows of a topic read per second, as of the last look."""
        return self._rates.get(topic, 0.0)

    def is_behind(self, topic: str) -> bool:
        """Say whether too much of a topic is unread."""
        found = self.backlog(topic)
        too_many = found.rows > self._max_rows or found.bytes > self._max_bytes
        return topic in self._blocked or too_many

    def check(self, topic: str) -> None:
        """Raise if the topic takes no rows now.

        Raises:
            ThrottledError: Too much of it is unread; `retry_after` follows the present rate.
            StorageFullError: The disk is nearly full.
        """
        if self._low:
            self._count(topic)
            raise StorageFullError("the disk is nearly full")
        found = self.backlog(topic)
        if topic in self._blocked:
            self._count(topic)
            raise ThrottledError(
                f"topic {topic!r} is at its size limit and its readers still need its oldest rows",
                hint="wait for them, or raise retention_bytes",
                retry_after=MAX_RETRY_S / 2,
            )
        if self.is_behind(topic):
            self._count(topic)
            raise ThrottledError(
                f"{found.rows} rows of topic {topic!r} wait to be read",
                hint="send again after Retry-After seconds",
                retry_after=self._retry_after(topic, found),
            )

    def update(
        self,
        infos: Iterable[PartitionInfo],
        positions: Mapping[TopicPartition, int],
        rates: Mapping[str, float],
        *,
        blocked: frozenset[str] = frozenset(),
        low: bool = False,
    ) -> dict[str, Backlog]:
        """Take a new look.

        Args:
            infos: Partitions of input topics.
            positions: Where the slowest engine is in each; partitions without one have no reader.
            rates: Rows read per second, by topic.
            blocked: Topics above their size limit.
            low: Whether the disk is nearly full.
        """
        found: dict[str, Backlog] = {}
        for info in infos:
            at = TopicPartition(info.topic, info.partition)
            if at not in positions:
                continue
            unread = max(0, info.end - max(positions[at], info.start))
            held = max(1, info.end - info.start)
            before = found.get(info.topic, Backlog())
            size = info.bytes * unread // held
            found[info.topic] = Backlog(before.rows + unread, before.bytes + size)
        with self._lock:
            self._backlogs, self._blocked, self._low = found, blocked, low
            self._rates = dict(rates)
        return found

    def _retry_after(self, topic: str, found: Backlog) -> float:
        rate = self._rates.get(topic, 0.0)
        excess = max(found.rows - self._max_rows * 0.9, 1.0)
        return min(MAX_RETRY_S, max(1.0, excess / rate)) if rate > 0 else MAX_RETRY_S / 2

    def _count(self, topic: str) -> None:
        self.refused[topic] = self.refused.get(topic, 0) + 1


def engine_positions(statuses: Mapping[str, Mapping[str, Any]]) -> dict[TopicPartition, int]:
    """Return the position of the slowest engine in each partition, from their statuses."""
    slowest: dict[TopicPartition, int] = {}
    for status in statuses.values():
        for name, offset in status.get("positions", {}).items():
            topic, _, partition = name.rpartition("/")
            at = TopicPartition(topic, int(partition))
            slowest[at] = min(offset, slowest.get(at, offset))
    return slowest
