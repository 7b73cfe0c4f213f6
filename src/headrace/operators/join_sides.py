"""The state of an interval join: each side's rows, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from headrace.core.protocols import Tables, TableSpec
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, HIDDEN_SCHEMA, POSITION
from headrace.operators.key_runs import Bools
from headrace.operators.timed_rows import TimedRows

NUMBER: Final = "__number"

_OWN_TIME: Final = "__own_time"
_MATCHED: Final = "__matched"
_DUE: Final = "due"


class Side:
    """Rows of one side, as long as the other side may match them.

    Args:
        tables: State as `tables` of this class declares it.
        name: Name of the rows table.
        by: Key columns.
        reach: How long after its event time a row may still be matched, microseconds; the
            watermark minus this is where the rows begin that are kept.
    """

    exact = False
    """Whether rows leave at the moment when nothing can match them any more."""

    def __init__(self, tables: Tables, name: str, by: Sequence[str], reach: int) -> None:
        self._tables = tables
        self._reach = reach
        self.by = tuple(by)
        self.rows = TimedRows(tables.rows(name), by)

    @staticmethod
    def tables(name: str, schema: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the rows."""
        return (TableSpec(name, "rows", pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})),)

    def numbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Give `rows` numbers where it must be known which of them have a match."""
        return rows

    def add(self, rows: pl.DataFrame, found: Bools) -> None:  # noqa: ARG002 - for sides that care
        """Keep `rows`, some of which have found a match."""
        watermark = self._tables.watermark
        if watermark != BEGINNING:
            rows = rows.filter(pl.col(EVENT_TIME) >= watermark - self._reach)
        self.rows.add(rows)

    def note(self, rows: pl.DataFrame) -> None:
        """Note that `rows`, which are kept here, have a match."""

    def expire(self, watermark: int) -> pl.DataFrame | None:
        """Forget what nothing can match any more; return the rows that leave without a match."""
        self.rows.forget(watermark - self._reach)
        return None

    def wake(self) -> int:
        """Return the watermark at which `expire` has something to do, or the end of time."""
        return self._after(self.rows.half())

    def _after(self, time: int) -> int:
        return time if time == END_OF_TIME else time + self._reach + 1


class TrackedSide(Side):
    """Rows of one side, and which of them have a match.

    Rows come with a number, and with whether they found a match when they came; later matches
    are noted by number, since rows once stored are not changed.
    """

    def __init__(self, tables: Tables, name: str, by: Sequence[str], reach: int) -> None:
        super().__init__(tables, name, by, reach)
        self._noted = tables.keyed(_noted(name))
        # Unique among the rows that are there; those of rows long gone may come again.
        last = [piece[NUMBER].max() for piece in tables.rows(name).pieces]
        self._next = 1 + max((number for number in last if isinstance(number, int)), default=-1)

    @staticmethod
    def tables(name: str, schema: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the rows, and the numbers of those that were matched later."""
        (rows,) = Side.tables(name, schema)
        marked = pl.Schema({**rows.schema, NUMBER: pl.Int64(), _MATCHED: pl.Boolean()})
        noted = pl.Schema({NUMBER: pl.Int64(), _OWN_TIME: pl.Int64()})
        return (
            TableSpec(name, "rows", marked),
            TableSpec(_noted(name), "keyed", noted, key=(NUMBER,)),
        )

    def numbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Give `rows` the numbers that follow."""
        first, self._next = self._next, self._next + rows.height
        return rows.with_columns(
            pl.int_range(first, self._next, dtype=pl.Int64).alias(NUMBER),
            pl.lit(value=False).alias(_MATCHED),
        )

    def add(self, rows: pl.DataFrame, found: Bools) -> None:
        """Keep `rows`, and which of them have found a match."""
        super().add(rows.with_columns(pl.Series(_MATCHED, found)), found)

    def note(self, rows: pl.DataFrame) -> None:
        """Note that `rows`, which are kept here, have a match."""
        self._note(rows.select(NUMBER, pl.col(EVENT_TIME).alias(_OWN_TIME), _MATCHED))

    def _note(self, rows: pl.DataFrame) -> None:
        fresh = rows.filter(~pl.col(_MATCHED)).unique(NUMBER, keep="first", maintain_order=True)
        self._noted.upsert(fresh)

    def _has_match(self, rows: pl.DataFrame) -> pl.Series:
        return rows[_MATCHED] | self._noted.lookup(rows)["__found"]

    def expire(self, watermark: int) -> pl.DataFrame | None:
        """Forget what nothing can match any more."""
        self._noted.expire(_OWN_TIME, watermark - self._reach)
        return super().expire(watermark)


class OuterSide(TrackedSide):
    """Rows of one side that leave without a match at the moment when none can come any more."""

    exact = True

    def add(self, rows: pl.DataFrame, found: Bools) -> None:
        """Keep `rows`, also those that nothing can match any more: they leave in this step."""
        self.rows.add(rows.with_columns(pl.Series(_MATCHED, found)))

    def expire(self, watermark: int) -> pl.DataFrame | None:
        """Give up what nothing can match any more; return the rows without a match."""
        gone = self.rows.release(watermark - self._reach)
        alone = None if gone is None else gone.filter(~self._has_match(gone))
        super().expire(watermark)
        return alone

    def wake(self) -> int:
        """Return the watermark at which a row leaves, or the end of time."""
        return self._after(self.rows.oldest())


class AntiSide(OuterSide):
    """Rows of one side of which those with a match are of no use any more."""

    def add(self, rows: pl.DataFrame, found: Bools) -> None:
        """Keep the rows that have not found a match."""
        super().add(rows.filter(~pl.Series(found)), found[~found])


class SemiSide(TrackedSide):
    """Rows of one side that leave once, with the event time of their first match.

    A match at or before a row's own time is the first one there is, and the row leaves at once.
    Otherwise it waits for the watermark to pass its match: an earlier one may still come.
    """

    def __init__(self, tables: Tables, name: str, by: Sequence[str], reach: int) -> None:
        super().__init__(tables, name, by, reach)
        self._due = tables.keyed(_DUE)

    @staticmethod
    def tables(name: str, schema: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the rows, the numbers of those that have left, and those that wait."""
        rows, noted = TrackedSide.tables(name, schema)
        due = pl.Schema({**rows.schema, _OWN_TIME: pl.Int64()})
        return (rows, noted, TableSpec(_DUE, "keyed", due, key=(NUMBER,)))

    def add(self, rows: pl.DataFrame, found: Bools) -> None:
        """Keep the rows that have not left."""
        super().add(rows.filter(~pl.Series(found)), found[~found])

    def matched(self, rows: pl.DataFrame, times: pl.Series, *, kept: bool) -> pl.DataFrame:
        """Take pairs of a row and the event time of its match; return the rows that leave now.

        Args:
            rows: The row of each pair.
            times: Event time of each match, microseconds.
            kept: Whether the rows are kept here already. Others that leave are never added, so
                nothing is noted of them: their numbers may come again.
        """
        own = rows[EVENT_TIME]
        first = (
            rows.with_columns(
                own.alias(_OWN_TIME),
                times.zip_with(times > own, own).alias(EVENT_TIME),
            )
            .sort(EVENT_TIME, POSITION, maintain_order=True)
            .unique(NUMBER, keep="first", maintain_order=True)
        )
        first = first.filter(~self._has_match(first))
        now = first.filter(pl.col(EVENT_TIME) == pl.col(_OWN_TIME))
        later = first.filter(pl.col(EVENT_TIME) > pl.col(_OWN_TIME))
        known = self._due.lookup(later)[EVENT_TIME].fill_null(END_OF_TIME)
        self._due.upsert(later.filter(later[EVENT_TIME] < known))
        if kept:
            self._leave(now)
        return now

    def ready(self, watermark: int) -> pl.DataFrame:
        """Give up the rows whose first match lies before `watermark`."""
        rows = self._due.expire(EVENT_TIME, watermark)
        self._leave(rows)
        return rows.sort(EVENT_TIME, POSITION, maintain_order=True)

    def wake(self) -> int:
        """Return the watermark at which a row leaves or is forgotten, or the end of time."""
        due = self._due.frame()[EVENT_TIME].min()
        first = due + 1 if isinstance(due, int) else END_OF_TIME
        return min(first, super().wake())

    def _leave(self, rows: pl.DataFrame) -> None:
        self._due.delete(rows)
        self._note(rows)


def number_found(rows: pl.DataFrame, numbers: pl.Series) -> Bools:
    """Return which of `rows`, numbered in a row, have one of `numbers`."""
    found = np.zeros(rows.height, dtype=np.bool_)
    found[numbers.to_numpy() - rows[NUMBER][0]] = True
    return found


def _noted(name: str) -> str:
    return f"{name}_matched"
