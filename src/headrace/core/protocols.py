"""What an author of an operator or codec implements, and what the engine gives in return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar, Literal, NamedTuple, Protocol

import polars as pl

from headrace.core.component import Component
from headrace.core.time import BEGINNING

MAIN = "main"
LATE = "late"


def is_late(port: str) -> bool:
    """Whether an output port carries rows that came too late: `late`, `late_right` and so on."""
    return port.startswith(LATE)


Out = tuple[str, pl.DataFrame]
"""A port name and the rows that leave by it."""

Meaning = Literal["rows", "changelog", "arrival", "step"]
"""How two outputs of the same rows compare: all rows equal; last row per key equal; equal for
one partition cut differently; equal only for the same steps (SEMANTICS 10)."""


class Wake(NamedTuple):
    """When a task next wants time, in microseconds; None means never."""

    event_time: int | None = None
    clock: int | None = None


NEVER = Wake()


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One declared piece of an operator's state.

    Attributes:
        name: Unique within the operator.
        kind: `keyed` (one row per key), `rows` (a bag of rows) or `blob` (opaque bytes).
        schema: Columns of a keyed or rows table, hidden columns included where it keeps them.
        key: Key columns of a keyed table.
        version: Raised by the author when the meaning of stored state changes.
    """

    name: str
    kind: Literal["keyed", "rows", "blob"]
    schema: pl.Schema = field(default_factory=pl.Schema)
    key: tuple[str, ...] = ()
    version: int = 1


class KeyedTable(Protocol):
    """One row per key. Every frame handed out or in is immutable."""

    @property
    def rows(self) -> int:
        """Number of keys held."""
        ...

    def lookup(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return one row per row of `keys`, in its order: the stored non-key columns, null
        where the key is absent, and a Boolean column `__found`.

        `keys` holds the key columns (others are ignored); null and NaN are keys like any other.
        Cost: O(k log n) for k keys.
        """
        ...

    def upsert(self, rows: pl.DataFrame) -> None:
        """Store `rows`; among equal keys the last row wins. Cost: O(k log n) amortised."""
        ...

    def delete(self, keys: pl.DataFrame) -> None:
        """Forget `keys`; absent keys are no error."""
        ...

    def expire(self, column: str, before: int) -> pl.DataFrame:
        """Forget and return the rows whose Int64 `column` is less than `before`.

        Cheap when nothing expires: each part keeps its minimum.
        """
        ...

    def frame(self) -> pl.DataFrame:
        """Return all rows, in a defined order that depends only on the calls made."""
        ...


class RowsTable(Protocol):
    """A bag of rows kept as immutable pieces in insertion order."""

    @property
    def rows(self) -> int:
        """Number of rows held."""
        ...

    @property
    def pieces(self) -> tuple[pl.DataFrame, ...]:
        """The frames as they were appended."""
        ...

    def append(self, rows: pl.DataFrame) -> None:
        """Add `rows` as one piece; an empty frame adds nothing."""
        ...

    def replace(self, pieces: Sequence[pl.DataFrame]) -> None:
        """Put `pieces` in the place of everything held."""
        ...

    def frame(self) -> pl.DataFrame:
        """Return all rows as one frame with one chunk."""
        ...


class BlobTable(Protocol):
    """Opaque bytes, replaced and never mutated."""

    @property
    def value(self) -> bytes | None:
        """What was last stored, None at first."""
        ...

    def replace(self, value: bytes) -> None:
        """Store `value`."""
        ...


class Tables(Protocol):
    """An open task's window on the world: its state, its watermark and the step's clock.

    `watermark` is the operator's input watermark; rows older than it are late. `clock` is the
    step's clock. Both are microseconds and never go back.
    """

    watermark: int
    clock: int

    def keyed(self, name: str) -> KeyedTable:
        """Return the declared keyed table `name`."""
        ...

    def rows(self, name: str) -> RowsTable:
        """Return the declared rows table `name`."""
        ...

    def blob(self, name: str) -> BlobTable:
        """Return the declared blob table `name`."""
        ...


class Task:
    """An operator at work. All state lives in its tables; nothing on `self` survives a step
    unless `open` can rebuild it from them.

    Frames come rechunked, never empty, with `EVENT_TIME` and `POSITION` beside the columns;
    frames that leave carry both too, in a defined order.
    """

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Take rows of input `port` (0 based, in the order of the operator's inputs)."""
        raise NotImplementedError

    def advance(self, watermark: int) -> Iterable[Out]:  # noqa: ARG002 - the default has no timers
        """Act on event time having reached `watermark`; called when `wake` asked for it."""
        return ()

    def tick(self, clock: int) -> Iterable[Out]:  # noqa: ARG002 - the default has no timers
        """Act on the step clock having reached `clock`; called when `wake` asked for it."""
        return ()

    def finish(self) -> Iterable[Out]:
        """Give up everything still held: bounded input has ended (watermark is END_OF_TIME)."""
        return ()

    def wake(self) -> Wake:
        """Say when this task next wants `advance` or `tick`. Asked after each call and after
        restore; must follow from the tables alone.
        """
        return NEVER


class Operator(Component, ABC):
    """A frozen description of a step of the plan.

    Attributes:
        name: Identity of its state; by default derived from parameters and lineage.
        recorded: The answer is not a pure function of rows and state; its added columns are
            journalled and replay takes them from there.
        parallel: Keyed operators may be split over shards; False keeps them on shard 0.
        control_ports: Inputs that carry control-table changes, applied before data rows.
    """

    name: str | None = None

    recorded: ClassVar[bool] = False
    parallel: ClassVar[bool] = True
    control_ports: ClassVar[frozenset[int]] = frozenset()

    def outputs(self) -> tuple[str, ...]:
        """Name the output ports; the first is main."""
        return (MAIN,)

    @abstractmethod
    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the visible columns of every port for these input columns.

        Raises:
            PlanError: The operator does not fit its inputs; the hint says what would.
        """

    def key_columns(self) -> tuple[str, ...]:
        """Name the columns whose values decide which shard a row belongs to."""
        return ()

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:  # noqa: ARG002 - stateless default
        """Declare the state, for these input columns."""
        return ()

    @abstractmethod
    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over `tables`, which may hold restored state."""

    def hold(self) -> timedelta:
        """Return the longest time results lie behind the watermark that releases them."""
        return timedelta(0)

    def meaning(self) -> Meaning:
        """Declare how outputs are compared by the laws."""
        return "rows"

    def changelog_key(self) -> tuple[str, ...]:
        """For the meaning `changelog`: the columns whose last row counts."""
        return ()


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows read from payloads.

    Attributes:
        frame: The good rows, in payload order.
        rejected: Columns `index` (UInt32, which payload), `payload` (String, cut to 4 kB) and
            `reason` (String).
    """

    frame: pl.DataFrame
    rejected: pl.DataFrame


REJECTED_SCHEMA = pl.Schema({"index": pl.UInt32, "payload": pl.String, "reason": pl.String})


class Codec(Component, ABC):
    """A wire format: bytes to rows and back."""

    @abstractmethod
    def decode(self, payloads: Sequence[bytes], schema: pl.Schema) -> Decoded:
        """Read payloads as rows of `schema`; bad data never raises, it is rejected."""

    @abstractmethod
    def encode(self, frame: pl.DataFrame) -> list[bytes]:
        """Return one payload per row."""


def on_time(
    frame: pl.DataFrame, watermark: int, event_time: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into (on time, late): late is strictly before the watermark. Order is kept."""
    if watermark == BEGINNING:
        return frame, frame.clear()
    times = frame[event_time]
    oldest = times.min()
    if not isinstance(oldest, int) or oldest >= watermark:
        return frame, frame.clear()
    late = times < watermark
    return frame.filter(~late), frame.filter(late)
