"""The zones now, and as they were when positions came that still wait."""

from __future__ import annotations

from typing import Final

import polars as pl

from headrace.core.log import DELETE, OP
from headrace.core.protocols import KeyedTable, RowsTable
from headrace.operators.geo.zone_set import ZONE_ID, ZoneSet

VERSION: Final = "__zones"


class ZoneHistory:
    """Versions of a set of zones, numbered upwards; old ones go when nobody waits for them.

    Args:
        zones: The zones of the oldest version needed: a table, or rows that never change.
        changes: Later changes: zone columns, `OP` and the `VERSION` they made. None where
            nobody waits, so that only the newest version counts.
        attributes: Zone columns to carry along.
        newest_waiting: The newest version that a waiting row came under.
    """

    def __init__(
        self,
        zones: KeyedTable | pl.DataFrame,
        changes: RowsTable | None,
        attributes: tuple[str, ...],
        newest_waiting: int,
    ) -> None:
        self._table = zones
        self._changes = changes
        self._attributes = attributes
        self._rows = zones if isinstance(zones, pl.DataFrame) else zones.frame()
        pieces = () if changes is None else changes.pieces
        numbers = [int(piece[VERSION][0]) for piece in pieces]
        self.newest = max(numbers, default=newest_waiting)
        oldest = min(numbers, default=self.newest + 1) - 1
        self._versions = {oldest: ZoneSet.of(self._rows, attributes)}
        for number, piece in zip(numbers, pieces, strict=True):
            self._rows, self._versions[number] = self._changed(piece)

    def at(self, version: int) -> ZoneSet:
        """Return the zones of `version`."""
        return self._versions[version]

    @property
    def now(self) -> ZoneSet:
        """The zones of the newest version."""
        return self._versions[self.newest]

    @property
    def versions(self) -> int:
        """How many versions are kept."""
        return len(self._versions)

    def change(self, frame: pl.DataFrame, *, waited_for: bool) -> None:
        """Take changes of zones; of equal ids the last row wins.

        Args:
            frame: Zone columns and `OP`.
            waited_for: Whether rows wait that came under the newest version.

        Raises:
            DataError: A zone is invalid; nothing was changed.
        """
        changes = frame.unique(ZONE_ID, keep="last", maintain_order=True)
        rows, zones = self._changed(changes)
        if waited_for and self._changes is not None:
            number = pl.lit(self.newest + 1, pl.Int64).alias(VERSION)
            self._changes.append(changes.select(*self._rows.columns, OP, number))
            self.newest += 1
            self._versions[self.newest] = zones
        else:
            self._apply(changes)
            self._versions = {self.newest: zones}
        self._rows = rows

    def forget(self, oldest: int) -> None:
        """Give up the versions before `oldest`."""
        if self._changes is None or oldest <= min(self._versions):
            return
        kept = []
        for piece in self._changes.pieces:
            if piece[VERSION][0] <= oldest:
                self._apply(piece)
            else:
                kept.append(piece)
        self._changes.replace(kept)
        self._versions = {number: z for number, z in self._versions.items() if number >= oldest}

    def _changed(self, changes: pl.DataFrame) -> tuple[pl.DataFrame, ZoneSet]:
        """Return the newest version's rows and zones after `changes`."""
        upserts, gone = _parted(changes, self._rows.columns)
        kept = self._rows.filter(~pl.col(ZONE_ID).is_in(changes[ZONE_ID].implode()))
        rows = pl.concat([kept, upserts], rechunk=True)
        newest = self._versions[max(self._versions)]
        index = newest.index.with_changes(upserts, gone[ZONE_ID].to_list())
        return rows, ZoneSet(index, rows, self._attributes)

    def _apply(self, changes: pl.DataFrame) -> None:
        upserts, gone = _parted(changes, self._rows.columns)
        if not isinstance(self._table, pl.DataFrame):
            self._table.upsert(upserts)
            self._table.delete(gone)


def _parted(changes: pl.DataFrame, columns: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    is_gone = changes[OP] == DELETE
    return changes.filter(~is_gone).select(columns), changes.filter(is_gone).select(ZONE_ID)
