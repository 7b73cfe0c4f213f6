"""Rows wait for the watermark and leave in event-time order."""

from __future__ import annotations

from typing import Final

import polars as pl

from headrace.core.protocols import NEVER, RowsTable, Wake, on_time
from headrace.core.time import END_OF_TIME, EVENT_TIME, POSITION

_MAX_PIECES: Final = 64


class EventOrderBuffer:
    """Holds rows in a rows table until the watermark has passed them.

    Rows leave strictly below the watermark, sorted by (event time, position), so what follows
    sees one order however the rows arrived. Ties keep their order of arrival.

    Args:
        table: A rows table whose schema is the input's columns with the hidden ones. Everything
            here is rebuilt from it, so a task makes a buffer anew in `open`.
    """

    def __init__(self, table: RowsTable) -> None:
        self._table = table
        self._oldest = [_oldest(piece) for piece in table.pieces]

    @property
    def rows(self) -> int:
        """Number of rows waiting."""
        return self._table.rows

    def add(self, frame: pl.DataFrame, watermark: int) -> pl.DataFrame:
        """Take `frame` and return its late rows (before `watermark`) in their order."""
        taken, late = on_time(frame, watermark, EVENT_TIME)
        if taken.height:
            self._table.append(taken)
            self._oldest.append(_oldest(taken))
        return late

    def release(self, watermark: int) -> pl.DataFrame | None:
        """Give up the rows strictly before `watermark`, in order; None when there are none.

        Cost: O(n log n) for the pieces that hold such rows, nothing for the others.
        """
        if not self._oldest or min(self._oldest) >= watermark:
            return None
        due: list[pl.DataFrame] = []
        waiting: list[pl.DataFrame] = []
        for piece, oldest in zip(self._table.pieces, self._oldest, strict=True):
            if oldest >= watermark:
                waiting.append(piece)
                continue
            is_due = piece[EVENT_TIME] < watermark
            due.append(piece.filter(is_due))
            rest = piece.filter(~is_due)
            if rest.height:
                waiting.append(rest)
        if len(waiting) > _MAX_PIECES:
            waiting = [pl.concat(waiting, rechunk=True)]
        self._table.replace(waiting)
        self._oldest = [_oldest(piece) for piece in waiting]
        rows = pl.concat(due, rechunk=True)
        if rows[EVENT_TIME].is_sorted() and rows[POSITION].is_sorted():
            return rows
        return rows.sort(EVENT_TIME, POSITION, maintain_order=True)

    def before(self, bound: int) -> pl.DataFrame:
        """Return the rows strictly before `bound`, in order, and keep them. Cost: O(n log n) for
        the pieces that hold such rows.
        """
        pieces = zip(self._table.pieces, self._oldest, strict=True)
        found = [
            piece.filter(piece[EVENT_TIME] < bound) for piece, first in pieces if first < bound
        ]
        rows = pl.concat(found, rechunk=True) if found else self._table.frame().clear()
        return rows.sort(EVENT_TIME, POSITION, maintain_order=True)

    def release_all(self) -> pl.DataFrame | None:
        """Give up every row, in order; None when there are none."""
        return self.release(END_OF_TIME)

    def wake(self) -> Wake:
        """Ask for the first watermark that releases a row."""
        return Wake(event_time=min(self._oldest) + 1) if self._oldest else NEVER


def _oldest(piece: pl.DataFrame) -> int:
    oldest = piece[EVENT_TIME].min()
    return oldest if isinstance(oldest, int) else END_OF_TIME
