"""Rates and counts of topics, taken whenever the gateway looks at its log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.core.log import PartitionInfo
from headrace.plan.graph import DEAD


class TopicRates:
    """Rows held and rows per second, by topic."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self.rows: dict[str, int] = {}
        self.per_s: dict[str, float] = {}

    def update(self, infos: Iterable[PartitionInfo]) -> None:
        """Take the topics' offsets as of now."""
        now = time.monotonic()
        rows: dict[str, int] = {}
        for info in infos:
            rows[info.topic] = rows.get(info.topic, 0) + info.end
        elapsed = now - self._at
        if elapsed > 0:
            self.per_s = {
                topic: round((count - self.rows.get(topic, count)) / elapsed, 1)
                for topic, count in rows.items()
            }
        self.rows, self._at = rows, now


def stats_body(
    engine: Mapping[str, Any], rates: TopicRates, dropped: Mapping[str, int]
) -> dict[str, Any]:
    """Return what `/stats` answers and the page's top bar shows."""
    late = sum((engine.get("late") or {}).values())
    dead = {
        topic.removesuffix(DEAD): rows for topic, rows in rates.rows.items() if topic.endswith(DEAD)
    }
    return {
        "clock": engine.get("clock"),
        "lag_ms": engine.get("lag_ms"),
        "rows_per_s": engine.get("rows_per_s", 0.0),
        "p95_ms": engine.get("p95_ms"),
        "late": late,
        "dropped": sum(dropped.values()),
        "dead": sum(dead.values()),
        "topics": {
            topic: {
                "rows": rows,
                "rows_per_s": rates.per_s.get(topic, 0.0),
                "dropped": dropped.get(topic, 0),
                "dead": dead.get(topic, 0),
            }
            for topic, rows in sorted(rates.rows.items())
            if not topic.endswith(DEAD)
        },
    }
