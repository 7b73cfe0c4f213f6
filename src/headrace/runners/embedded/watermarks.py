"""Watermarks that follow the rows, not the wall (SEMANTICS 1).

Per partition: min(max event time of the rows taken, clock) - delay. An idle partition holds
nothing back; when all of a topic's partitions are idle its watermark moves at the clock's pace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from headrace.core.time import BEGINNING


@dataclass(slots=True)
class PartitionProgress:
    """What has been seen of one partition.

    Attributes:
        front: Highest min(event time, clock) taken, or the stored watermark of an output topic.
        last_row_clock: Step clock when its last row was taken; None before the first row.
        position: Next offset to read.
        end: End offset seen at the start of the latest step.
    """

    front: int = BEGINNING
    last_row_clock: int | None = None
    position: int = 0
    end: int = 0

    def idle(self, clock: int, engine_start: int, idle_after: int) -> bool:
        """Whether the partition is caught up and silent for `idle_after` of step clock."""
        if self.position < self.end:
            return False
        since = engine_start if self.last_row_clock is None else self.last_row_clock
        return clock - max(since, engine_start) >= idle_after


@dataclass(slots=True)
class TopicProgress:
    """The watermark of one topic over its partitions.

    Attributes:
        delay: Microseconds a row may be behind; 0 where batches carry their own watermark.
        idle_after: Microseconds of silence that make a caught-up partition idle.
        watermark: The value reached; it never goes back.
    """

    delay: int
    idle_after: int
    watermark: int = BEGINNING
    partitions: dict[int, PartitionProgress] = field(default_factory=dict)

    def partition(self, number: int) -> PartitionProgress:
        """Return the progress of partition `number`, new at its first row."""
        return self.partitions.setdefault(number, PartitionProgress())

    def take(self, number: int, max_event_time: int, clock: int) -> None:
        """Note rows of partition `number` whose latest event time is `max_event_time`."""
        progress = self.partition(number)
        progress.front = max(progress.front, min(max_event_time, clock))
        progress.last_row_clock = clock

    def take_watermark(self, number: int, watermark: int, clock: int) -> None:
        """Note a batch of an output topic that was stored with its own watermark."""
        progress = self.partition(number)
        progress.front = max(progress.front, watermark)
        progress.last_row_clock = clock

    def reached(self, clock: int, engine_start: int) -> int | None:
        """Return the watermark at `clock`; None while the topic is idle and never had a row."""
        active = [
            progress.front - self.delay if progress.front != BEGINNING else BEGINNING
            for progress in self.partitions.values()
            if not progress.idle(clock, engine_start, self.idle_after)
        ]
        if active:
            return max(self.watermark, min(active))
        fronts = [p for p in self.partitions.values() if p.front != BEGINNING]
        if not fronts:
            return None if self.watermark == BEGINNING else self.watermark
        front = max(progress.front for progress in fronts)
        last = max(p.last_row_clock for p in fronts if p.last_row_clock is not None)
        moved = front + max(0, clock - max(last, engine_start))
        return max(self.watermark, min(clock, moved) - self.delay)

    def due_at(self, event_time: int, clock: int, engine_start: int) -> int | None:
        """Return the step clock at which silence alone brings the watermark to `event_time`.

        None when rows must come first, as something is unread.
        """
        silences = sorted(
            (
                max(engine_start if p.last_row_clock is None else p.last_row_clock, engine_start)
                + self.idle_after,
                p.front,
                p.position < p.end,
            )
            for p in self.partitions.values()
        )
        for rank, (silent, _, unread) in enumerate(silences):
            if unread:
                return None
            left = [front for _, front, _ in silences[rank + 1 :]]
            if left and min(left) - self.delay >= event_time:
                return max(silent, clock)
        fronts = [p for p in self.partitions.values() if p.front != BEGINNING]
        if not fronts:
            # Once idle, a topic that never had a row holds nothing back.
            return max([clock, *(silent for silent, _, _ in silences)])
        front = max(p.front for p in fronts)
        last = max(p.last_row_clock for p in fronts if p.last_row_clock is not None)
        pace = event_time + self.delay - front + max(last, engine_start)
        return max(silences[-1][0], pace, event_time + self.delay, clock)

    def to_state(self) -> dict[str, Any]:
        """Return everything as plain data for a checkpoint."""
        return {
            "watermark": self.watermark,
            "partitions": {
                str(number): [p.front, p.last_row_clock, p.position, p.end]
                for number, p in self.partitions.items()
            },
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `to_state` returned."""
        self.watermark = state["watermark"]
        self.partitions = {
            int(number): PartitionProgress(*values)
            for number, values in state["partitions"].items()
        }
