"""What happens to rows that a topic has no room for: the policy it declared, counted."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping

import numpy as np
import polars as pl

from headrace.gateway.intake import Checked
from headrace.plan.graph import TopicDecl


class Room:
    """Rows that still fit into topics whose `overflow` is `drop_newest`, `drop_random`, `sample`.

    A topic has room for `max_rows` rows that its engine has not read. `drop_newest` takes rows up
    to that and drops what comes then. `drop_random` begins at half of it and drops each row with
    a probability that grows to one at `max_rows`. `sample` also begins at half and keeps every
    k-th row, k growing until nothing more fits. `block` refuses whole requests and `drop_oldest`
    is the reader's: both are not decided here.
    """

    def __init__(self, topics: Mapping[str, TopicDecl] | None = None) -> None:
        self._topics = {
            name: topic
            for name, topic in (topics or {}).items()
            if topic.overflow in {"drop_newest", "drop_random", "sample"} and topic.max_rows
        }
        self._waiting = dict.fromkeys(self._topics, 0)
        self._count = dict.fromkeys(self._topics, 0)
        self._random = random.Random(0)  # noqa: S311 - which rows to drop is no secret
        self._lock = threading.Lock()
        self.dropped: dict[tuple[str, str], int] = {}

    def waiting(self, topic: str, rows: int) -> None:
        """Say how many rows of a topic its slowest engine has not read."""
        with self._lock:
            if topic in self._waiting:
                self._waiting[topic] = rows

    def admit(self, topic: str, rows: pl.DataFrame, results: list[Checked]) -> pl.DataFrame:
        """Return the rows that are taken and bring `results` in line with them."""
        declared = self._topics.get(topic)
        if declared is None or not rows.height:
            return rows
        with self._lock:
            keep = self._keep(declared, rows.height)
            self._waiting[topic] += int(keep.sum())
        gone = rows.height - int(keep.sum())
        if not gone:
            return rows
        policy = (topic, declared.overflow)
        self.dropped[policy] = self.dropped.get(policy, 0) + gone
        before = np.concatenate([[0], np.cumsum(keep)])
        for result in results:
            first, last = before[result.start], before[result.start + result.accepted]
            result.dropped = result.accepted - int(last - first)
            result.start, result.accepted = int(first), int(last - first)
        return rows.filter(pl.Series(keep))

    def _keep(self, declared: TopicDecl, rows: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        limit = declared.max_rows or 0
        free = max(0, limit - self._waiting[declared.name])
        if declared.overflow == "drop_newest":
            return np.arange(rows) < free
        # Full below half of the limit, nothing at the limit, a straight line between.
        share = min(1.0, free / max(1.0, limit / 2))
        if declared.overflow == "drop_random":
            keep = np.array([self._random.random() < share for _ in range(rows)], dtype=np.bool_)
        else:
            step = max(1, round(1 / share)) if share else rows + 1
            first = -self._count[declared.name] % step
            keep = np.zeros(rows, dtype=np.bool_)
            keep[first::step] = share > 0
            self._count[declared.name] += rows
        keep[np.cumsum(keep) > free] = False
        return keep
