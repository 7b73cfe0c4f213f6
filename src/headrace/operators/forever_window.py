"""One growing window per key at work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl

from headrace.core.protocols import LATE, MAIN, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, POSITION, TIME_DTYPE
from headrace.operators.aggregates.aggregate import Aggregate
from headrace.operators.aggregates.ordered import in_event_order
from headrace.operators.key_runs import ALL, changes, key_runs
from headrace.operators.partials import PARTIALS, Aggregation
from headrace.operators.pieces import add_piece

FIRST: Final = "__first"
NEWEST: Final = "__newest"

_OPEN: Final = "open"
_CHANGED: Final = "changed"
_PROGRESS: Final = "progress"
_TURN: Final = "__turn"
_FOUND: Final = "__found"


def forever_aggregation(
    aggregates: Sequence[tuple[str, Aggregate]], schema: pl.Schema, by: Sequence[str]
) -> Aggregation:
    """Compile aggregates for one group per key, and the span of its rows."""
    full = pl.Schema({**schema, ALL: pl.Boolean()})
    return Aggregation(aggregates, full, by or (ALL,), {}, earliest=FIRST, latest=NEWEST)


def forever_tables(
    aggregation: Aggregation, keys: Mapping[str, pl.DataType]
) -> tuple[TableSpec, ...]:
    """Declare the open windows, those changed since they were given, and how many were given."""
    keys = keys or {ALL: pl.Boolean()}
    columns: dict[str, pl.DataType] = {}
    for table in aggregation.tables:
        for name, dtype in table.schema.items():
            if table.name == PARTIALS:
                columns[name] = dtype
            elif name not in keys:
                columns[_list_name(table.name, name)] = pl.List(dtype)
    return (
        TableSpec(_OPEN, "keyed", pl.Schema(columns), key=tuple(keys)),
        TableSpec(_CHANGED, "rows", pl.Schema({**keys, _TURN: pl.Int64()})),
        TableSpec(_PROGRESS, "blob"),
    )


class ForeverTask(Task):
    """Keeps one row per key: partials, and rows that aggregates gather as lists.

    A key's window ends when the watermark is more than `forget` after its newest row, or at once
    when a row comes more than `forget` after it. A row more than `forget` before the window, or
    before the watermark where there is none, is late. Cost: O(k log n) per batch of k keys.
    """

    def __init__(
        self,
        forget: int,
        by: Sequence[str],
        aggregation: Aggregation,
        every: int | None,
        tables: Tables,
    ) -> None:
        self._forget = forget
        self._by = list(by)
        self._key = list(by) or [ALL]
        self._aggregation = aggregation
        self._every = every
        self._tables = tables
        self._open = tables.keyed(_OPEN)
        self._changed = tables.rows(_CHANGED)
        self._progress = tables.blob(_PROGRESS)
        given, oldest = (self._progress.value or f"0 {END_OF_TIME}".encode()).split()
        self._given = int(given)
        # No key was silent for longer; the exact value is looked up when this one is due.
        self._oldest = int(oldest)
        self._floor = tables.watermark
        self._gathered = {
            table.name: [name for name in table.schema if name not in self._key]
            for table in aggregation.tables
            if table.name != PARTIALS
        }

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        """Add rows to their keys' windows; a window that is over by this leaves at once."""
        if frame.is_empty():
            return
        self._floor = self._tables.watermark
        late = []
        for stretch in self._stretches(frame.with_columns(pl.lit(value=True).alias(ALL))):
            taken, refused, over = self._judge(stretch)
            if over.height:
                yield MAIN, self._rows(over, is_final=True)
            if taken.height:
                self._add(taken)
            if refused.height:
                late.append(refused.drop(ALL))
        if late:
            yield LATE, pl.concat(late).sort(POSITION, maintain_order=True)

    def advance(self, watermark: int) -> Iterable[Out]:
        """Give out windows that changed, and as final those whose keys were silent too long."""
        if self._every is None and self._changed.rows:
            changed = self._changed.frame().select(self._key).unique(maintain_order=True)
            self._changed.replace([])
            yield from self._updates(changed)
        before = watermark if watermark == END_OF_TIME else watermark - self._forget
        if self._oldest < before:
            over = self._open.expire(NEWEST, before)
            self._note_oldest(self._find_oldest())
            if over.height:
                yield MAIN, self._rows(over, is_final=True)

    def tick(self, clock: int) -> Iterable[Out]:
        """Give out the changed windows whose turn has come."""
        changed = self._changed.frame()
        self._changed.replace([changed.filter(pl.col(_TURN) > clock)])
        turn = changed.filter(pl.col(_TURN) <= clock)
        self._floor = self._tables.watermark
        yield from self._updates(turn.select(self._key).unique(maintain_order=True))

    def finish(self) -> Iterable[Out]:
        """Give out every window as final."""
        self._changed.replace([])
        yield from self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        """Ask for the moment a key may be over, and for a turn to report changes."""
        over = None if self._oldest == END_OF_TIME else self._oldest + self._forget + 1
        if not self._changed.rows:
            return Wake(over)
        if self._every is None:
            return Wake(BEGINNING)
        turns = [piece[_TURN].min() for piece in self._changed.pieces]
        return Wake(over, min(turn for turn in turns if isinstance(turn, int)))

    def _stretches(self, frame: pl.DataFrame) -> Iterable[pl.DataFrame]:
        """Return the rows in stretches in which no key is silent for longer than `forget`."""
        times = frame[EVENT_TIME].to_numpy()
        if times.max() - times.min() <= self._forget:
            return [frame]
        ordered = in_event_order(frame)
        runs = key_runs(ordered, self._key)
        along = ordered[EVENT_TIME].to_numpy()[runs.order]
        fresh = changes(runs.key_of)
        jumps = np.cumsum(~fresh & (np.diff(along, prepend=along[:1]) > self._forget))
        number = np.empty_like(along)
        number[runs.order] = jumps - jumps[fresh][runs.key_of]
        return ordered.with_columns(pl.Series("__stretch", number)).partition_by(
            "__stretch", maintain_order=True, include_key=False
        )

    def _judge(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Return the rows taken, those refused as late, and the windows that are over."""
        spans = frame.group_by(self._key, maintain_order=True).agg(
            pl.col(EVENT_TIME).min().alias("__low"), pl.col(EVENT_TIME).max().alias("__high")
        )
        known = self._open.lookup(spans)
        watermark = self._tables.watermark
        dead = watermark if watermark == BEGINNING else watermark - self._forget
        state = spans.hstack(known.get_columns())
        found = pl.col(_FOUND)
        refused = state.select(
            (found & (pl.col("__high") < pl.col(FIRST) - self._forget))
            | (~found & (pl.col("__high") < dead))
        ).to_series()
        over = state.filter(found & (pl.col("__low") > pl.col(NEWEST) + self._forget))
        if over.height:
            self._open.delete(over.select(self._key))
        ended = over.drop("__low", "__high", _FOUND)
        if not refused.any():
            return frame, frame.clear(), ended
        keys = spans.filter(refused).select(self._key)
        late = frame.join(keys, on=self._key, how="semi", nulls_equal=True, maintain_order="left")
        taken = frame.join(keys, on=self._key, how="anti", nulls_equal=True, maintain_order="left")
        return taken, late, ended

    def _add(self, frame: pl.DataFrame) -> None:
        prepared = self._aggregation.prepare(frame, ())
        partials = self._aggregation.partial(prepared)
        keys = partials.select(self._key)
        known = keys.hstack(self._open.lookup(keys).get_columns()).filter(_FOUND).drop(_FOUND)
        merged = self._aggregation.merge(
            pl.concat([known.select(partials.columns), partials]), self._key
        )
        result = keys.join(
            merged, on=self._key, how="left", nulls_equal=True, maintain_order="left"
        )
        for name, rows in self._aggregation.gathered(prepared).items():
            more = pl.concat([self._unpacked(name, known), rows])
            kept = self._aggregation.shrink(name, more, self._key)
            lists = kept.group_by(self._key, maintain_order=True).agg(
                pl.col(column).alias(_list_name(name, column)) for column in self._gathered[name]
            )
            result = result.join(
                lists, on=self._key, how="left", nulls_equal=True, maintain_order="left"
            )
        self._open.upsert(result)
        self._note_oldest(min(self._oldest, int(result[NEWEST].to_numpy().min())))
        turn = 0
        if self._every is not None:
            turn = (self._tables.clock // self._every + 1) * self._every
        add_piece(
            self._changed,
            keys.with_columns(pl.lit(turn, pl.Int64).alias(_TURN)),
            lambda changed: changed.unique(self._key, keep="first", maintain_order=True),
        )

    def _unpacked(self, name: str, windows: pl.DataFrame) -> pl.DataFrame:
        columns = self._gathered[name]
        lists = windows.select(
            *self._key, *(pl.col(_list_name(name, column)).alias(column) for column in columns)
        )
        return lists.filter(pl.col(columns[0]).list.len() > 0).explode(columns)

    def _updates(self, keys: pl.DataFrame) -> Iterable[Out]:
        windows = keys.hstack(self._open.lookup(keys).get_columns()).filter(_FOUND).drop(_FOUND)
        if windows.height:
            yield MAIN, self._rows(windows, is_final=False)

    def _rows(self, windows: pl.DataFrame, *, is_final: bool) -> pl.DataFrame:
        gathered = {name: self._unpacked(name, windows) for name in self._gathered}
        answers = self._aggregation.finish(windows, gathered, self._key)
        place = pl.int_range(self._given, self._given + windows.height, dtype=pl.Int64)
        self._given += windows.height
        self._write_progress()
        return (
            answers.with_columns(windows[FIRST], windows[NEWEST])
            .sort(self._key, maintain_order=True)
            .select(
                *self._by,
                pl.col(FIRST).cast(TIME_DTYPE).alias("window_start"),
                pl.lit(None, TIME_DTYPE).alias("window_end"),
                pl.exclude(*self._key, FIRST, NEWEST),
                pl.lit(is_final).alias("is_final"),
                (pl.col(NEWEST) + self._forget if is_final else self._present()).alias(EVENT_TIME),
                place.alias(POSITION),
            )
        )

    def _present(self) -> pl.Expr:
        # Not behind what the stream has promised, whatever old row changed the window.
        return pl.max_horizontal(pl.col(NEWEST), pl.lit(self._floor, pl.Int64))

    def _note_oldest(self, oldest: int) -> None:
        if oldest != self._oldest:
            self._oldest = oldest
            self._write_progress()

    def _write_progress(self) -> None:
        self._progress.replace(f"{self._given} {self._oldest}".encode())

    def _find_oldest(self) -> int:
        oldest = self._open.frame()[NEWEST].min() if self._open.rows else None
        return oldest if isinstance(oldest, int) else END_OF_TIME


def _list_name(table: str, column: str) -> str:
    return f"__rows_{table}_{column}"
