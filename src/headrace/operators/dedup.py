"""Drop rows that repeat a key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from headrace.core.component import DurationField
from headrace.core.protocols import (
    LATE,
    MAIN,
    NEVER,
    Meaning,
    Operator,
    Out,
    Tables,
    TableSpec,
    Task,
    Wake,
    on_time,
)
from headrace.core.time import BEGINNING, EVENT_TIME, HIDDEN_SCHEMA, micros, positive_duration
from headrace.operators.columns import ColumnNames
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import Bools, Ints, key_runs, running_max
from headrace.operators.project import check_present

_KEPT: Final = "kept"
_WAITING: Final = "waiting"
_TIME: Final = "__kept"


class Dedup(Operator):
    """Keep a row unless one of the same key was kept at most `within` before it.

    With `order="event"` rows wait for the watermark and the first in (event time, position) is
    kept; rows before the watermark go to `late`. With `order="arrival"` rows pass at once and the
    first to arrive is kept; rows more than `within` before the watermark, or before what their
    key has shown, go to `late`: whether they repeat is no longer known.

    Attributes:
        by: Columns that identify what a row says; null is a value like any other.
        within: Event time for which a row is remembered, its end included.
        order: `event` or `arrival`.

    State: one row per key and `within`. Cost: O(k log n) per batch of k rows.
    """

    kind: ClassVar[str] = "dedup"
    by: ColumnNames = Field(min_length=1)
    within: DurationField = timedelta(hours=24)
    order: Literal["event", "arrival"] = "event"

    @model_validator(mode="after")
    def _check(self) -> Dedup:
        positive_duration(self.within, "within")
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`."""
        return self.by

    def meaning(self) -> Meaning:
        """Declare that arrival order shows in the result where it was asked for."""
        return "rows" if self.order == "event" else "arrival"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns for both."""
        (schema,) = inputs
        check_present(self.by, schema)
        return {MAIN: schema, LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the time of the last row kept per key, and rows that wait."""
        (schema,) = inputs
        keys = {name: schema[name] for name in self.by}
        kept = TableSpec(_KEPT, "keyed", pl.Schema({**keys, _TIME: pl.Int64()}), key=self.by)
        if self.order == "arrival":
            return (kept,)
        waiting = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
        return (kept, TableSpec(_WAITING, "rows", waiting))

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - state says it
        """Return a task over the keys kept."""
        kept = _Kept(tables, self.by, micros(self.within))
        return _InEventOrder(tables, kept) if self.order == "event" else _AsTheyCome(tables, kept)


class _Kept:
    """The time of the last row kept of each key."""

    def __init__(self, tables: Tables, by: Sequence[str], within: int) -> None:
        self._table = tables.keyed(_KEPT)
        self._by = list(by)
        self.within = within

    def first_rows(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Return for each row whether it is kept, and whether it lies before its key's last."""
        runs = key_runs(frame, self._by)
        times = frame[EVENT_TIME].to_numpy()[runs.order]
        known = self._table.lookup(runs.keys)
        before = known[_TIME].fill_null(BEGINNING).to_numpy()[runs.key_of]
        reached = running_max(times, runs.key_of)
        chosen = _chain(reached, before, runs.key_of, runs.starts, self.within)
        kept = np.zeros(frame.height, dtype=np.bool_)
        kept[runs.order[chosen]] = True
        marks = before.copy()
        marks[chosen] = times[chosen]
        older = np.zeros(frame.height, dtype=np.bool_)
        older[runs.order] = running_max(marks, runs.key_of) - times > self.within
        last = pl.DataFrame({"__key": runs.key_of[chosen], _TIME: times[chosen]}).unique(
            "__key", keep="last", maintain_order=True
        )
        keys = runs.keys[last["__key"]]
        self._table.upsert(keys.with_columns(last[_TIME]))
        return kept, older & ~kept

    def forget(self, before: int) -> None:
        """Forget keys whose last row kept lies before that."""
        self._table.expire(_TIME, before)


class _InEventOrder(Task):
    def __init__(self, tables: Tables, kept: _Kept) -> None:
        self._tables = tables
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))
        self._kept = kept

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        ready = self._waiting.release(watermark)
        if ready is not None:
            kept, _ = self._kept.first_rows(ready)
            self._kept.forget(watermark - self._kept.within)
            if kept.any():
                yield MAIN, ready.filter(pl.Series(kept))

    def finish(self) -> Iterable[Out]:
        ready = self._waiting.release_all()
        if ready is not None:
            kept, _ = self._kept.first_rows(ready)
            if kept.any():
                yield MAIN, ready.filter(pl.Series(kept))

    def wake(self) -> Wake:
        return self._waiting.wake()


class _AsTheyCome(Task):
    def __init__(self, tables: Tables, kept: _Kept) -> None:
        self._tables = tables
        self._kept = kept

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        if frame.is_empty():
            return
        watermark, within = self._tables.watermark, self._kept.within
        known = watermark if watermark == BEGINNING else watermark - within
        taken, late = on_time(frame, known, EVENT_TIME)
        if taken.height:
            kept, older = self._kept.first_rows(taken)
            if kept.any():
                yield MAIN, taken.filter(pl.Series(kept))
            if older.any():
                late = pl.concat([late, taken.filter(pl.Series(older))])
        if watermark != BEGINNING:
            # A row not late lies within `within` of the watermark, and its like before it.
            self._kept.forget(watermark - 2 * within)
        if late.height:
            yield LATE, late

    def wake(self) -> Wake:
        return NEVER


def _chain(reached: Ints, before: Ints, key_of: Ints, starts: Bools, within: int) -> Ints:
    """Return which rows are kept: along each key the first that lies more than `within` after
    the one kept before it.

    Args:
        reached: Running maximum of event time along each key.
        before: Time of the row last kept of the row's key, `BEGINNING` where there is none.
        key_of: Key of each row, ascending.
        starts: Whether a row is the first of its key.
        within: Microseconds.

    Each row points at the one that would be kept after it; the rows on the paths from the first
    of each key are found by doubling steps, so the cost is O(n log n) however long a path is.
    """
    size = reached.size
    ranks = np.unique(reached)
    width = np.int64(ranks.size + 1)
    place = key_of * width + np.searchsorted(ranks, reached)
    follow = _first_after(place, key_of * width + np.searchsorted(ranks, reached + within, "right"))
    first = np.flatnonzero(starts)
    bound = before[first]
    opening = np.searchsorted(ranks, np.where(bound == BEGINNING, bound, bound + within), "right")
    entries = _first_after(place, key_of[first] * width + opening)
    # A path that leaves its key has ended.
    next_key = np.append(key_of, -1)
    entries = entries[next_key[entries] == key_of[first]]
    follow = np.where(next_key[follow] == key_of, follow, size)
    reach = np.zeros(size + 1, dtype=np.bool_)
    reach[entries] = True
    jump = np.append(follow, size)
    steps = 1
    while steps < size + 1:
        reach[jump[np.flatnonzero(reach)]] = True
        jump = jump[jump]
        steps *= 2
    return np.flatnonzero(reach[:size])


def _first_after(place: Ints, wanted: Ints) -> Ints:
    return np.searchsorted(place, wanted, "left")
