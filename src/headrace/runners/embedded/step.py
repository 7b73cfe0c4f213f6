"""What goes into a step and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from headrace.core.protocols import TableSpec
from headrace.runners.embedded.journal import Digest, Effect, Poison


@dataclass(frozen=True, slots=True)
class Input:
    """Rows [start, stop) of one partition for one step; `end` was its end offset then.

    Attributes:
        frame: The rows as stored, None where there are none.
        watermark: Stored beside the latest batch of an output topic that is read back.
        arrival_us: When the log took the first row.
    """

    topic: str
    partition: int
    incarnation: str
    start: int
    stop: int
    end: int
    frame: pl.DataFrame | None
    watermark: int | None = None
    arrival_us: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Rows for one topic, with the watermark stored beside them."""

    topic: str
    frame: pl.DataFrame
    watermark: int | None


@dataclass(slots=True)
class Result:
    """What one step answered.

    Attributes:
        late: Late rows by node.
        dead: Dead letters by topic.
    """

    outputs: list[Output] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    late: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    letters: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    rows_in: int = 0

    def add_letters(self, topic: str, letters: pl.DataFrame) -> None:
        """Add dead letters of `topic`."""
        self.dead[topic] = self.dead.get(topic, 0) + letters.height
        self.letters.setdefault(topic, []).append(letters)


@dataclass(frozen=True, slots=True)
class StatePart:
    """The immutable parts of one table of one node."""

    node: str
    spec: TableSpec
    parts: tuple[pl.DataFrame | bytes, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All state as of a step, by reference."""

    progress: dict[str, Any]
    tables: list[StatePart]
