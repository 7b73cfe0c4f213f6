"""What a handler of an application's own route or socket can do with its data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from headrace.plan.graph import Plan

Key = Any
"""A table's key: one value, or a tuple in the order of the key columns."""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of rows that were sent; all of it is durable.

    Attributes:
        accepted: Rows in the topic now.
        rejected: Rows in its dead letters now.
        offsets: `{"partition", "from", "to"}` of the accepted rows, `to` exclusive.
        reasons: The first few `{"index", "reason"}` of rejected rows.
        ignored: Names in the first row that are no column.
    """

    accepted: int
    rejected: int = 0
    offsets: Sequence[Mapping[str, int]] = ()
    reasons: Sequence[Mapping[str, Any]] = ()
    ignored: Sequence[str] = ()

    def answer(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "accepted": self.accepted,
            "rejected": self.rejected,
            "offsets": list(self.offsets),
            "reasons": list(self.reasons),
            "ignored": list(self.ignored),
        }


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest rows of a topic.

    Attributes:
        rows: Newest first, with the topic's columns.
        total: How many rows of the topic match in all.
        next: Give it as `before` to read on; None where nothing older matches.
    """

    rows: pl.DataFrame
    total: int
    next: str | None


@dataclass(frozen=True, slots=True)
class Versioned:
    """A row of a control table and its version, which rises by one with each change of the key."""

    row: Mapping[str, Any]
    version: int
    created: bool = field(default=False)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What steps would have said of stored rows.

    Attributes:
        outputs: Rows per output.
        rows: How many rows they took.
        since: The least event time of these, RFC 3339; None where there are none.
        until: The greatest.
        whole: Whether these are all rows of the time.
    """

    outputs: Mapping[str, pl.DataFrame]
    rows: int
    since: str | None
    until: str | None
    whole: bool


class Data(ABC):
    """An application's topics and tables; annotate a handler's parameter with it.

    Rows are JSON-like dictionaries: times are RFC 3339 text with an offset.
    """

    @abstractmethod
    async def publish(
        self, topic: str, rows: pl.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> Published:
        """Append rows to an input topic and return when they are durable.

        Raises:
            ThrottledError: Too many rows wait to be read.
            StorageFullError: No room; nothing was written.
        """

    @abstractmethod
    async def recent(
        self, topic: str, *, where: str = "", limit: int = 100, before: str | None = None
    ) -> Recent:
        """Read the newest rows of a topic that match a SQL condition, newest first.

        The total is counted once and then kept up to date, so repeated calls cost what is new.
        """

    @abstractmethod
    def get(self, table: str, key: Key) -> dict[str, Any] | None:
        """Return a table's or control table's row, None where there is none."""

    @abstractmethod
    def scan(
        self, table: str, *, where: str = "", limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Return rows of a table or control table that match a SQL condition."""

    @abstractmethod
    def frame(self, table: str) -> pl.DataFrame:
        """Return all live rows of a table or control table as a frame."""

    @abstractmethod
    async def put(
        self, table: str, row: Mapping[str, Any], *, if_version: int | None = None
    ) -> Versioned:
        """Create or replace a control table's row.

        Args:
            table: Control table.
            row: All its columns; checked by the table's model.
            if_version: Only if the row is at this version; 0 means only if there is none.

        Raises:
            ConstraintError: The row breaks the model.
            ConflictError: The row is at another version.
        """

    @abstractmethod
    async def patch(
        self, table: str, key: Key, changes: Mapping[str, Any], *, if_version: int | None = None
    ) -> Versioned:
        """Change some columns of a control table's row.

        Raises:
            NotFoundError: There is no such row.
            ConstraintError: The changed row breaks the model.
            ConflictError: The row is at another version.
        """

    @abstractmethod
    async def delete(self, table: str, key: Key, *, if_version: int | None = None) -> None:
        """Remove a control table's row.

        Raises:
            NotFoundError: There is no such row.
            ConflictError: The row is at another version.
        """

    @abstractmethod
    async def rehearse(
        self, plan: Plan, controls: Mapping[str, pl.DataFrame], *, span: str, limit: int
    ) -> Rehearsal:
        """Run a plan over the newest stored rows of its topics; nothing is written.

        Args:
            plan: The steps; its topics may be inputs or outputs of the application.
            controls: Rows of its control tables.
            span: How far back from the newest event time.
            limit: Most rows of a topic.

        Raises:
            ThrottledError: Another rehearsal is under way, or this one takes too long.
        """
