"""Tumbling, sliding and cumulating windows at work, over partials per slice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from headrace.core.protocols import LATE, MAIN, Out, Tables, TableSpec, Task, Wake, on_time
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, POSITION, TIME_DTYPE
from headrace.operators.assigners import Sliced
from headrace.operators.partials import PARTIALS, Aggregation
from headrace.operators.pieces import add_piece, below, drop_below

SLICE: Final = "__slice"
END: Final = "__end"

_PROGRESS: Final = "progress"
_CHANGED: Final = "changed"
_GIVEN: Final = "given"
_TURN: Final = "__turn"

_MOST_ROWS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Emission:
    """When windows are given out; times in microseconds."""

    update: bool = False
    lateness: int = 0
    every: int | None = None

    @property
    def repeats(self) -> bool:
        """Whether a window may be given out more than once."""
        return self.update or self.lateness > 0

    @property
    def mark(self) -> str | None:
        """The column that tells repeated rows of a window apart."""
        if self.update:
            return "is_final"
        return "revision" if self.lateness else None

    def tables(self, keys: Mapping[str, pl.DataType]) -> tuple[TableSpec, ...]:
        """Declare what is known of windows given before or changed since."""
        window = {**keys, END: pl.Int64()}
        tables = [TableSpec(_PROGRESS, "blob")]
        if self.repeats:
            tables.append(TableSpec(_CHANGED, "rows", pl.Schema({**window, _TURN: pl.Int64()})))
        if self.mark == "revision":
            schema = pl.Schema({**window, "revision": pl.Int64()})
            tables.append(TableSpec(_GIVEN, "keyed", schema, key=tuple(window)))
        return tuple(tables)


class SlicedWindowTask(Task):
    """Keeps partials per (key, slice); a window is the merge of its slices.

    A window *fires* when the watermark reaches its end (`update`: its end plus lateness). All
    windows that end at or before `_fired` have fired or never will, so a row that comes for them
    within lateness is a change, and after a restore none fires twice.
    """

    def __init__(
        self,
        assigner: Sliced,
        by: Sequence[str],
        aggregation: Aggregation,
        emission: Emission,
        tables: Tables,
    ) -> None:
        self._assigner = assigner
        self._window = [*by, END]
        self._slot = [*by, SLICE]
        self._aggregation = aggregation
        self._emission = emission
        self._shift = emission.lateness if emission.update else 0
        self._tables = tables
        self._progress = tables.blob(_PROGRESS)
        self._fired, self._given = _read_progress(self._progress.value)
        self._next_end = self._find_next_end()

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        """Add rows to their slices; rows that no window takes any more are late."""
        if frame.is_empty():
            return
        watermark = self._tables.watermark
        self._reach(_minus(watermark, self._shift))
        closed = self._closed_before(watermark)
        taken, late = on_time(frame, closed, EVENT_TIME)
        if taken.height:
            slices = self._assigner.slices(taken[EVENT_TIME]).alias(SLICE)
            prepared = self._aggregation.prepare(taken, [slices])
            partials = self._aggregation.partial(prepared)
            add_piece(
                self._tables.rows(PARTIALS),
                partials,
                lambda rows: self._aggregation.merge(rows, self._slot),
            )
            for name, rows in self._aggregation.gathered(prepared).items():
                self._keep(name, rows)
            self._next_end = min(self._next_end, self._earliest_end(partials[SLICE]))
            if self._emission.repeats:
                self._note_changes(partials, watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        """Give out the windows that fire, and those that changed since they were given."""
        due = _minus(watermark, self._shift)
        fires = self._next_end <= due and self._next_end < END_OF_TIME
        spans = list(self._spans(due)) if fires else []
        changed = self._changed_at(due) if self._emission.repeats else None
        self._reach(due)
        # Ends ascend: revisions lie before what fires now, updates after it.
        if changed is not None and not self._emission.update:
            yield from self._give(changed)
        for low, high in spans:
            fired = self._answers(low, high)
            if self._emission.mark == "is_final":
                fired = fired.with_columns(is_final=pl.lit(value=True))
            elif self._emission.mark == "revision":
                fired = fired.with_columns(revision=pl.lit(0, pl.Int64))
            yield from self._give(fired)
        if changed is not None and self._emission.update:
            yield from self._give(changed)
        self._forget(watermark)

    def tick(self, clock: int) -> Iterable[Out]:
        """Give out the changed windows whose turn has come."""
        table = self._tables.rows(_CHANGED)
        changed = table.frame()
        table.replace([changed.filter(pl.col(_TURN) > clock)])
        turn = changed.filter(pl.col(_TURN) <= clock)
        if turn.height:
            yield from self._give(self._updates(turn))

    def finish(self) -> Iterable[Out]:
        """Give out every window still open."""
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        """Ask for the end of the earliest open window, and for a turn to report changes."""
        event_time = self._next_end + self._shift if self._next_end < END_OF_TIME else None
        if not self._emission.repeats:
            return Wake(event_time)
        changed = self._tables.rows(_CHANGED)
        if not changed.rows:
            return Wake(event_time)
        if self._emission.every is None:
            # Changes are reported at the end of this step, whether or not time moves.
            return Wake(BEGINNING)
        turns = [piece[_TURN].min() for piece in changed.pieces]
        return Wake(event_time, min(turn for turn in turns if isinstance(turn, int)))

    def _keep(self, name: str, rows: pl.DataFrame) -> None:
        def shrink(more: pl.DataFrame) -> pl.DataFrame:
            return self._aggregation.shrink(name, more, self._slot)

        add_piece(self._tables.rows(name), rows, shrink)

    def _note_changes(self, partials: pl.DataFrame, watermark: int) -> None:
        if self._emission.update:
            low, high = self._fired, END_OF_TIME
        else:
            low, high = _minus(watermark, self._emission.lateness), self._fired
        touched = in_windows(self._assigner, partials.select(self._slot), low, high)
        if touched.height:
            every = self._emission.every
            turn = 0 if every is None else (self._tables.clock // every + 1) * every
            piece = touched.select(*self._window, pl.lit(turn, pl.Int64).alias(_TURN))
            add_piece(self._tables.rows(_CHANGED), piece.unique(maintain_order=True), self._once)

    def _once(self, changed: pl.DataFrame) -> pl.DataFrame:
        return changed.unique(self._window, keep="first", maintain_order=True)

    def _changed_at(self, due: int) -> pl.DataFrame | None:
        table = self._tables.rows(_CHANGED)
        if not table.rows:
            return None
        changed = table.frame()
        if not self._emission.update:
            table.replace([])
            return self._revisions(changed)
        still_open = changed.filter(pl.col(END) > due)
        if self._emission.every is not None:
            if still_open.height < changed.height:
                table.replace([still_open])
            return None
        table.replace([])
        return self._updates(still_open) if still_open.height else None

    def _spans(self, due: int) -> Iterable[tuple[int, int]]:
        """Cut the window ends that fire, (low, high], so that slices shared by many windows are
        not repeated for all of them at once.
        """
        if self._assigner.whole:
            yield self._fired, due
            return
        names = (PARTIALS, *self._aggregation.gathers)
        rows = max(self._tables.rows(name).rows for name in names)
        stretch = max(_MOST_ROWS // rows, 1) * self._assigner.every_us
        newest = [piece[SLICE].max() for piece in self._tables.rows(PARTIALS).pieces]
        last = max(self._assigner.last_end_of(one) for one in newest if isinstance(one, int))
        low, high = self._next_end - 1, min(due, last)
        while low < high:
            yield low, min(low + stretch, high)
            low += stretch

    def _updates(self, changed: pl.DataFrame) -> pl.DataFrame:
        return self._answers_of(changed).with_columns(is_final=pl.lit(value=False))

    def _revisions(self, changed: pl.DataFrame) -> pl.DataFrame:
        answers = self._answers_of(changed)
        known = self._tables.keyed(_GIVEN).lookup(answers.select(self._window))
        return answers.with_columns(revision=(known["revision"] + 1).fill_null(0))

    def _answers_of(self, changed: pl.DataFrame) -> pl.DataFrame:
        windows = self._once(changed).select(self._window)
        ends = windows[END]
        return self._answers(ends.item(ends.arg_min()) - 1, ends.item(ends.arg_max()), windows)

    def _answers(self, low: int, high: int, only: pl.DataFrame | None = None) -> pl.DataFrame:
        """Return the windows with low < end <= high, sorted by end and key."""
        merged = self._aggregation.merge(self._held(PARTIALS, low, high, only), self._window)
        gathered = {name: self._held(name, low, high, only) for name in self._aggregation.gathers}
        answers = self._aggregation.finish(merged, gathered, self._window)
        return answers.sort([END, *self._window[:-1]], maintain_order=True)

    def _held(self, name: str, low: int, high: int, only: pl.DataFrame | None) -> pl.DataFrame:
        table = self._tables.rows(name)
        rows = below(table, SLICE, high)
        if rows is None:
            rows = table.frame().clear()
        inside = in_windows(self._assigner, rows, low, high)
        if only is None:
            return inside
        return inside.join(
            only, on=self._window, how="semi", nulls_equal=True, maintain_order="left"
        )

    def _give(self, rows: pl.DataFrame) -> Iterable[Out]:
        if rows.is_empty():
            return
        if self._emission.mark == "revision":
            self._tables.keyed(_GIVEN).upsert(rows.select(*self._window, "revision"))
        place = pl.int_range(self._given, self._given + rows.height, dtype=pl.Int64)
        self._given += rows.height
        self._write_progress()
        end = pl.col(END)
        keys = self._window[:-1]
        yield (
            MAIN,
            rows.select(
                *keys,
                self._assigner.start(end).cast(TIME_DTYPE).alias("window_start"),
                end.cast(TIME_DTYPE).alias("window_end"),
                pl.exclude(*self._window),
                (end - 1).alias(EVENT_TIME),
                place.alias(POSITION),
            ),
        )

    def _forget(self, watermark: int) -> None:
        closed = self._closed_before(watermark)
        for name in (PARTIALS, *self._aggregation.gathers):
            drop_below(self._tables.rows(name), SLICE, closed)
        if self._emission.mark == "revision":
            before = _minus(watermark, self._emission.lateness) + 1
            self._tables.keyed(_GIVEN).expire(END, before)
        if self._next_end <= self._fired:
            self._next_end = self._find_next_end()

    def _closed_before(self, watermark: int) -> int:
        """Return the event time before which no window takes rows any more."""
        if watermark in (BEGINNING, END_OF_TIME):
            return watermark
        return self._assigner.ended_before(watermark - self._emission.lateness)

    def _reach(self, end: int) -> None:
        if end > self._fired:
            self._fired = end
            self._write_progress()

    def _write_progress(self) -> None:
        self._progress.replace(f"{self._fired} {self._given}".encode())

    def _find_next_end(self) -> int:
        pieces = self._tables.rows(PARTIALS).pieces
        return min((self._earliest_end(piece[SLICE]) for piece in pieces), default=END_OF_TIME)

    def _earliest_end(self, slices: pl.Series) -> int:
        """Return the end of the first window over `slices` that has not fired."""
        over = self._assigner.ended_before(self._fired)
        earliest = slices.min()
        if isinstance(earliest, int) and earliest < over:
            earliest = slices.filter(slices >= over).min()
        if not isinstance(earliest, int):
            return END_OF_TIME
        return max(self._assigner.first_end_of(earliest), self._assigner.end_after(self._fired))


def in_windows(assigner: Sliced, rows: pl.DataFrame, low: int, high: int) -> pl.DataFrame:
    """Repeat rows for each window with low < end <= high that holds their slice.

    Args:
        assigner: Cuts time into slices and windows.
        rows: Have the start of their slice as `SLICE`, microseconds.
        low: A window end that is not asked for any more.
        high: The last one asked for.

    Returns:
        The rows with the window's end as `END`, microseconds; in order, windows ascending.
    """
    slices = pl.col(SLICE)
    if assigner.whole:
        ends = rows.with_columns(assigner.last_end(slices).alias(END))
        return ends.filter(pl.col(END) > low, pl.col(END) <= high)
    first = pl.max_horizontal(assigner.first_end(slices), pl.lit(assigner.end_after(low), pl.Int64))
    last = pl.min_horizontal(assigner.last_end(slices), pl.lit(high, pl.Int64))
    held = pl.int_ranges(first, last + 1, assigner.every_us).alias(END)
    return rows.filter(first <= last).with_columns(held).explode(END)


def _read_progress(value: bytes | None) -> tuple[int, int]:
    if value is None:
        return BEGINNING, 0
    fired, given = value.split()
    return int(fired), int(given)


def _minus(watermark: int, shift: int) -> int:
    return watermark if watermark in (BEGINNING, END_OF_TIME) else watermark - shift
