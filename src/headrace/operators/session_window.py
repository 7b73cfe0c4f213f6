"""Session windows at work: rows of a key less than a gap apart make one window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import numpy as np
import polars as pl

from headrace.core.protocols import LATE, MAIN, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, POSITION, TIME_DTYPE
from headrace.operators.aggregates.ordered import in_event_order
from headrace.operators.key_runs import changes, key_runs, running_max
from headrace.operators.partials import PARTIALS, Aggregation
from headrace.operators.pieces import is_piled

BEGIN: Final = "__slice"
LATEST: Final = "__latest"

_GIVEN: Final = "given"
_LATE: Final = "__late"


SESSION_TABLES: Final = (TableSpec(_GIVEN, "blob"),)
"""The number of windows given so far."""


class SessionTask(Task):
    """Keeps partials per (key, begin of a session or of a part of one).

    Each batch makes its own sessions; those less than the gap apart become one when pieces pile
    up, when a row comes that may be late, and before any can close. Cost of closing: O(n log n)
    for n open sessions, once per step in which one closes.
    """

    def __init__(
        self,
        gap: int,
        by: Sequence[str],
        aggregation: Aggregation,
        lateness: int,
        tables: Tables,
    ) -> None:
        self._gap = gap
        self._by = list(by)
        self._slot = [*by, BEGIN]
        self._aggregation = aggregation
        self._lateness = lateness
        self._tables = tables
        self._partials = tables.rows(PARTIALS)
        stored = tables.blob(_GIVEN)
        self._given = int(stored.value or b"0")
        self._stored = stored
        self._next_end = self._find_next_end()

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        """Add rows to their sessions; rows that reach no open one are late."""
        taken, late = self._judge(frame)
        if taken.height:
            self._add(taken)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        """Give out the sessions that no row can reach any more."""
        self._merge()
        # A row at window_end would still join, so a session closes strictly after it.
        over = watermark - self._gap - self._lateness
        sessions = self._partials.frame()
        closed = sessions.filter(pl.col(LATEST) < over)
        if closed.height:
            yield MAIN, self._answers(closed)
            self._partials.replace([sessions.filter(pl.col(LATEST) >= over)])
            for name in self._aggregation.gathers:
                table = self._tables.rows(name)
                table.replace([self._of(table.frame(), closed, "anti")])
        self._next_end = self._find_next_end()

    def finish(self) -> Iterable[Out]:
        """Give out every session still open."""
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        """Ask for the first moment at which a session may close."""
        if self._next_end == END_OF_TIME:
            return Wake()
        return Wake(self._next_end + self._lateness + 1)

    def _judge(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Split rows into those of open sessions and late ones."""
        watermark = self._tables.watermark
        if watermark == BEGINNING:
            return frame, frame.clear()
        alone_over = watermark - self._gap - self._lateness
        old = frame[EVENT_TIME] < alone_over
        if not old.any():
            return frame, frame.clear()
        # A session by itself would be over, so the row counts only where it joins an open one.
        self._merge()
        spans = pl.concat(
            [
                self._partials.frame().select(
                    *self._slot, LATEST, pl.lit(-1, pl.Int64).alias(POSITION)
                ),
                frame.select(
                    *self._by,
                    pl.col(EVENT_TIME).alias(BEGIN),
                    pl.col(EVENT_TIME).alias(LATEST),
                    pl.int_range(pl.len(), dtype=pl.Int64).alias(POSITION),
                ),
            ]
        )
        joined = self._joined(spans)
        reach = joined.group_by(self._slot, maintain_order=True).agg(
            pl.col(POSITION), (pl.col(LATEST).max() < alone_over).alias(_LATE)
        )
        lost = reach.filter(_LATE)[POSITION].explode().to_numpy()
        marks = np.zeros(frame.height, dtype=np.bool_)
        marks[lost] = True
        is_late = pl.Series(marks)
        return frame.filter(~is_late), frame.filter(is_late)

    def _add(self, frame: pl.DataFrame) -> None:
        ordered = in_event_order(frame)
        runs = key_runs(ordered, self._by)
        times = ordered[EVENT_TIME].to_numpy()[runs.order]
        fresh = changes(runs.key_of) | (np.diff(times, prepend=times[:1]) > self._gap)
        begins = np.empty_like(times)
        begins[runs.order] = times[np.flatnonzero(fresh)[np.cumsum(fresh) - 1]]
        prepared = self._aggregation.prepare(ordered, [pl.Series(BEGIN, begins)])
        partials = self._aggregation.partial(prepared)
        self._partials.append(partials)
        for name, rows in self._aggregation.gathered(prepared).items():
            self._tables.rows(name).append(rows)
        self._next_end = min(self._next_end, self._earliest_end(partials))
        if is_piled(self._partials):
            self._merge()

    def _merge(self) -> None:
        """Make one of what is less than the gap apart."""
        if len(self._partials.pieces) <= 1:
            return
        partials = self._partials.frame()
        joined = self._joined(partials.with_columns(pl.col(BEGIN).alias("__was")))
        renamed = joined.select(*self._by, pl.col("__was"), BEGIN).unique(maintain_order=True)
        merged = self._aggregation.merge(joined.drop("__was"), self._slot)
        self._partials.replace([merged])
        # Joined sessions end later; the wake-up must be the one that a restored task finds.
        self._next_end = self._find_next_end()
        for name in self._aggregation.gathers:
            table = self._tables.rows(name)
            rows = table.frame()
            moved = rows.rename({BEGIN: "__was"}).join(
                renamed,
                on=[*self._by, "__was"],
                how="left",
                nulls_equal=True,
                maintain_order="left",
            )
            kept = self._aggregation.shrink(name, moved.select(rows.columns), self._slot)
            table.replace([kept.select(rows.columns)])
        self._next_end = self._find_next_end()

    def _joined(self, spans: pl.DataFrame) -> pl.DataFrame:
        """Return spans [BEGIN, LATEST] key by key, BEGIN replaced by that of their session."""
        ordered = spans.sort(BEGIN, maintain_order=True)
        runs = key_runs(ordered, self._by)
        ordered = ordered[runs.order]
        begins = ordered[BEGIN].to_numpy()
        reached = running_max(ordered[LATEST].to_numpy(), runs.key_of)
        fresh = changes(runs.key_of)
        fresh[1:] |= begins[1:] - reached[:-1] > self._gap
        return ordered.with_columns(
            pl.Series(BEGIN, begins[np.flatnonzero(fresh)[np.cumsum(fresh) - 1]])
        )

    def _answers(self, closed: pl.DataFrame) -> pl.DataFrame:
        gathered: Mapping[str, pl.DataFrame] = {
            name: self._of(self._tables.rows(name).frame(), closed, "semi")
            for name in self._aggregation.gathers
        }
        answers = self._aggregation.finish(closed, gathered, self._slot).with_columns(
            closed[LATEST] + self._gap
        )
        rows = answers.sort([LATEST, *self._by], maintain_order=True)
        place = pl.int_range(self._given, self._given + rows.height, dtype=pl.Int64)
        self._given += rows.height
        self._stored.replace(str(self._given).encode())
        end = pl.col(LATEST)
        return rows.select(
            *self._by,
            pl.col(BEGIN).cast(TIME_DTYPE).alias("window_start"),
            end.cast(TIME_DTYPE).alias("window_end"),
            pl.exclude(*self._slot, LATEST),
            end.alias(EVENT_TIME),
            place.alias(POSITION),
        )

    def _of(
        self, rows: pl.DataFrame, sessions: pl.DataFrame, how: Literal["semi", "anti"]
    ) -> pl.DataFrame:
        return rows.join(
            sessions.select(self._slot),
            on=self._slot,
            how=how,
            nulls_equal=True,
            maintain_order="left",
        )

    def _find_next_end(self) -> int:
        pieces = self._partials.pieces
        return min((self._earliest_end(piece) for piece in pieces), default=END_OF_TIME)

    def _earliest_end(self, partials: pl.DataFrame) -> int:
        earliest = partials[LATEST].min()
        return earliest + self._gap if isinstance(earliest, int) else END_OF_TIME
