"""What an engine counts and publishes of itself."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.core.log import Position, TopicPartition
from headrace.core.time import BEGINNING, END_OF_TIME, to_datetime
from headrace.runners.embedded.machine import Machine
from headrace.runners.embedded.step import Result


@dataclass(slots=True)
class Counters:
    """What the engine has counted since it started."""

    rows_in: int = 0
    rows_out: int = 0
    poison: int = 0
    skipped: int = 0
    drift: int = 0
    clock_jumps: int = 0
    replayed: int = 0
    state_rows: int = 0
    state_bytes: int = 0
    late: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    latencies: deque[int] = field(default_factory=lambda: deque(maxlen=512))
    _rated: int = 0

    def count(self, result: Result) -> None:
        """Add one step's result."""
        self.rows_in += result.rows_in
        self.rows_out += sum(output.frame.height for output in result.outputs)
        self.poison += sum(len(poison.rows) for poison in result.poison)
        for target, source in ((self.late, result.late), (self.dead, result.dead)):
            for name, rows in source.items():
                target[name] = target.get(name, 0) + rows

    def rate(self, elapsed_s: float) -> float:
        """Return rows per second since the last call."""
        rows = self.rows_in - self._rated
        self._rated = self.rows_in
        return round(rows / elapsed_s, 1) if elapsed_s > 0 else 0.0


def machine_status(machine: Machine, now: int) -> dict[str, Any]:
    """Return clock, watermarks and lag: how far the newest event time taken lies behind `now`."""
    fronts = [
        progress.front
        for topic in machine.topics.values()
        for progress in topic.partitions.values()
        if progress.front != BEGINNING
    ]
    return {
        "clock": _text(machine.clock),
        "lag_ms": (now - max(fronts)) / 1e3 if fronts else None,
        "watermarks": {
            name: _text(topic.watermark)
            for name, topic in machine.topics.items()
            if BEGINNING < topic.watermark < END_OF_TIME
        },
    }


def counter_status(counters: Counters, elapsed_s: float) -> dict[str, Any]:
    """Return what was counted, rates over the last `elapsed_s` seconds."""
    latencies = sorted(counters.latencies)
    return {
        "p95_ms": latencies[int(len(latencies) * 0.95)] / 1e3 if latencies else None,
        "rows_in": counters.rows_in,
        "rows_out": counters.rows_out,
        "rows_per_s": counters.rate(elapsed_s),
        "late": counters.late,
        "dead": counters.dead,
        "dropped": counters.dropped,
        "poison": counters.poison,
        "skipped": counters.skipped,
        "replayed_steps": counters.replayed,
        "state_rows": counters.state_rows,
        "state_bytes": counters.state_bytes,
    }


def engine_status(  # noqa: PLR0913 - one value a field
    *,
    app: str,
    state: str,
    error: str | None,
    started: int,
    now: int,
    step: int,
    epoch: int,
    last_step: int,
    unread: int,
    positions: Mapping[TopicPartition, Position],
) -> dict[str, Any]:
    """Return who the engine is and where it stands."""
    return {
        "role": "engine",
        "app": app,
        "pid": os.getpid(),
        "started": _text(started),
        "published": _text(now),
        "state": state,
        "error": error,
        "step": step,
        "epoch": epoch,
        "last_step": _text(last_step) if last_step else None,
        "unread": unread,
        "positions": {f"{at.topic}/{at.partition}": p.offset for at, p in positions.items()},
    }


def _text(micros: int) -> str | None:
    return to_datetime(micros).isoformat() if micros != BEGINNING else None
