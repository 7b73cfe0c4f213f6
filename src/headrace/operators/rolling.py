"""Aggregates over the rows up to each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from pydantic import model_validator

from headrace.core.component import DurationField
from headrace.core.errors import BugError, PlanError
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
)
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, HIDDEN_SCHEMA, POSITION, micros
from headrace.operators.aggregates import AggregateField
from headrace.operators.columns import ColumnNames
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import ALL, Bools, Ints, KeyRuns, changes, key_runs, running_max
from headrace.operators.partials import Aggregation, check_aggregates

_HISTORY: Final = "history"
_WAITING: Final = "waiting"
_LATEST: Final = "__latest"
_INDEX: Final = "__index"
_ROW: Final = "__row"
_INDEX_BITS: Final = 62


class Rolling(Operator):
    """Add to each row aggregates over its key's rows up to and including it.

    The rows covered are those within `over` before it, (t - over, t], or the last `rows`; rows
    with equal event time count in their order. Sketched aggregates are exact here.

    With `order="event"` rows wait for the watermark, so answers do not depend on the order of
    arrival; rows before the watermark go to `late`. With `order="arrival"` answers leave at
    once; a row before what its key has shown goes to `late`.

    Attributes:
        by: Key columns; none means one group.
        aggregates: Output column and aggregate; they follow the input's columns.
        over: Length of event time covered.
        rows: Number of rows covered, instead of `over`.
        order: `event` or `arrival`.
        forget: A key without rows for this long (event time) begins anew; at least `over`.

    State: the columns read, for the rows still covered. Cost per batch: O(n log n) in its rows
    and the rows covered of its keys, more where an aggregate needs each window whole.
    """

    kind: ClassVar[str] = "rolling"
    by: ColumnNames = ()
    aggregates: tuple[tuple[str, AggregateField], ...]
    over: DurationField | None = None
    rows: int | None = None
    order: Literal["event", "arrival"] = "event"
    forget: DurationField = timedelta(hours=24)

    @model_validator(mode="after")
    def _check(self) -> Rolling:
        if (self.over is None) == (self.rows is None):
            raise PlanError(
                "rolling takes a length of time or a number of rows",
                hint='rolling("5m") or rolling(rows=100)',
            )
        if (self.over is not None and self.over <= timedelta(0)) or (
            self.rows is not None and self.rows < 1
        ):
            raise PlanError("rolling must cover more than nothing")
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
        """Return the input's columns and the aggregates, and the input's for late rows."""
        (schema,) = inputs
        check_aggregates(self.by, self.aggregates, schema, [n for n in schema if n not in self.by])
        answers = {name: one.output_dtype(schema) for name, one in self.aggregates}
        Aggregation(self.aggregates, schema, self.by, {ALL: pl.Boolean()})
        return {MAIN: pl.Schema({**schema, **answers}), LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare each key's rows still covered, and rows that wait."""
        (schema,) = inputs
        history = _History.table(schema, self.by, self._columns_read(schema))
        if self.order == "arrival":
            return (history,)
        waiting = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
        return (history, TableSpec(_WAITING, "rows", waiting))

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over each key's rows still covered."""
        (schema,) = inputs
        answers = [
            one.over_rows(schema).cast(one.output_dtype(schema)).alias(name)
            for name, one in self.aggregates
        ]
        over = None if self.over is None else micros(self.over)
        forget = max(micros(self.forget), over or 0)
        history = _History(tables, self.by, self._columns_read(schema), forget)
        cover = _Cover(history, answers, over, self.rows)
        return _InEventOrder(tables, cover) if self.order == "event" else _AsTheyCome(cover)

    def _columns_read(self, schema: pl.Schema) -> tuple[str, ...]:
        read = {
            root for _, one in self.aggregates for root in one.over_rows(schema).meta.root_names()
        }
        return tuple(name for name in schema if name in read)


class _History:
    """Each key's rows still covered, oldest first: one list per column."""

    def __init__(
        self, tables: Tables, by: Sequence[str], columns: Sequence[str], forget: int
    ) -> None:
        self._by = list(by)
        self.columns = [*columns, EVENT_TIME, POSITION]
        self._tables = tables
        self._table = tables.keyed(_HISTORY)
        self._lists = {name: _list_name(name) for name in self.columns}
        self.forget_after = forget

    @staticmethod
    def table(schema: pl.Schema, by: Sequence[str], columns: Sequence[str]) -> TableSpec:
        """Declare the keyed table."""
        keys = {name: schema[name] for name in by} or {ALL: pl.Boolean()}
        kept = {**{name: schema[name] for name in columns}, **pl.Schema(HIDDEN_SCHEMA)}
        lists = {_list_name(name): pl.List(dtype) for name, dtype in kept.items()}
        return TableSpec(
            _HISTORY,
            "keyed",
            pl.Schema({**keys, **lists, _LATEST: pl.Int64()}),
            key=tuple(keys),
        )

    def runs(self, frame: pl.DataFrame) -> KeyRuns:
        """Group rows by key."""
        return key_runs(frame, self._by)

    def lookup(self, keys: pl.DataFrame) -> tuple[pl.DataFrame, Ints, Ints]:
        """Return the rows kept of `keys`, the number of the key of each, and each key's latest
        event time.
        """
        known = self._table.lookup(keys)
        numbered = known.select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("__key"),
            *(pl.col(listed).alias(name) for name, listed in self._lists.items()),
        )
        rows = numbered.filter(known["__found"]).explode(self.columns)
        latest = known[_LATEST].fill_null(BEGINNING).to_numpy()
        return rows.select(self.columns), rows["__key"].to_numpy(), latest

    def store(self, keys: pl.DataFrame, rows: pl.DataFrame, key_of: Ints) -> None:
        """Keep `rows` (sorted by key, oldest first) as all that is known of their keys."""
        lists = (
            rows.select(self.columns)
            .with_columns(pl.Series("__key", key_of))
            .group_by("__key", maintain_order=True)
            .agg(
                *(pl.col(name).alias(listed) for name, listed in self._lists.items()),
                pl.col(EVENT_TIME).last().alias(_LATEST),
            )
        )
        self._table.upsert(keys[lists["__key"]].hstack(lists.drop("__key").get_columns()))

    def forget(self) -> None:
        """Forget keys without rows for long."""
        watermark = self._tables.watermark
        if watermark not in (BEGINNING, END_OF_TIME):
            self._table.expire(_LATEST, watermark - self.forget_after)


class _Cover:
    """Computes the answers of rows that come in order."""

    def __init__(
        self, history: _History, answers: Sequence[pl.Expr], over: int | None, rows: int | None
    ) -> None:
        self.history = history
        self._answers = list(answers)
        self._over = over
        self._rows = rows

    def answer(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows with their answers, and those older than what their key has shown."""
        runs = self.history.runs(frame)
        kept, kept_key, latest = self.history.lookup(runs.keys)
        times = frame[EVENT_TIME].to_numpy()[runs.order]
        shown = running_max(np.maximum(times, latest[runs.key_of]), runs.key_of)
        old = times < shown
        late = frame.clear()
        if old.any():
            is_late = np.zeros(frame.height, dtype=np.bool_)
            is_late[runs.order[old]] = True
            late = frame.filter(pl.Series(is_late))
            frame = frame.filter(pl.Series(~is_late))
            if frame.is_empty():
                return frame, late
            runs = self.history.runs(frame)
            kept, kept_key, _ = self.history.lookup(runs.keys)
        return self._along(frame, runs, kept, kept_key), late

    def _along(
        self, frame: pl.DataFrame, runs: KeyRuns, kept: pl.DataFrame, kept_key: Ints
    ) -> pl.DataFrame:
        row = np.concatenate([np.full(kept.height, -1), runs.order])
        key_of = np.concatenate([kept_key, runs.key_of])
        by_key = np.argsort(key_of, kind="stable")
        row, key_of = row[by_key], key_of[by_key]
        new = frame.select(self.history.columns)[runs.order]
        rows = pl.concat([kept, new])[by_key]
        index, period = self._index(rows[EVENT_TIME].to_numpy(), key_of)
        rolled = (
            rows.with_columns(pl.Series(_INDEX, index), pl.Series(_ROW, row))
            .rolling(_INDEX, period=f"{period}i", closed="right")
            .agg(pl.col(_ROW).last(), *self._answers)
            .filter(pl.col(_ROW) >= 0)
            .sort(_ROW)
            .drop(_INDEX, _ROW)
        )
        self._store(runs, rows, key_of)
        return frame.hstack(rolled.get_columns())

    def _store(self, runs: KeyRuns, rows: pl.DataFrame, key_of: Ints) -> None:
        times = rows[EVENT_TIME].to_numpy()
        last = np.append(np.flatnonzero(np.diff(key_of)), key_of.size - 1)
        own_last = last[key_of]
        if self._rows is not None:
            run = np.cumsum(self._fresh(times, key_of))
            near = own_last - np.arange(key_of.size) < max(self._rows - 1, 1)
            covered = near & (run == run[own_last])
        else:
            covered = times > times[own_last] - (self._over or 0)
        self.history.store(runs.keys, rows.filter(pl.Series(covered)), key_of[covered])

    def _fresh(self, times: Ints, key_of: Ints) -> Bools:
        """Return where a key begins, or begins anew after it was silent for `forget`."""
        return changes(key_of) | (np.diff(times, prepend=times[:1]) > self.history.forget_after)

    def _index(self, times: Ints, key_of: Ints) -> tuple[Ints, int]:
        """Return an ascending index and a period such that (i - period, i] covers what row i
        covers, and never a row of another key.

        Event times of one key become steps cut to `over` + 1 (longer silences change nothing),
        shifted left to make room for the rank among equal times.
        """
        size = times.size
        if self._rows is not None:
            place = np.arange(size, dtype=np.int64)
            return place + np.cumsum(
                np.where(self._fresh(times, key_of), self._rows, 0)
            ), self._rows
        over = self._over or 0
        steps = np.minimum(np.diff(times, prepend=times[:1]), over + 1)
        steps[changes(key_of)] = over + 1
        moved = np.cumsum(steps)
        tie = np.arange(size) - np.maximum.accumulate(np.where(steps != 0, np.arange(size), 0))
        most = int(tie.max())
        bits = (2 * most).bit_length()
        if int(moved[-1]).bit_length() + bits > _INDEX_BITS:
            raise BugError(f"{size} rows over {over} us with {most} equal times are too many")
        return (moved << bits) + tie, (over << bits) - most


class _InEventOrder(Task):
    def __init__(self, tables: Tables, cover: _Cover) -> None:
        self._tables = tables
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))
        self._cover = cover

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        ready = self._waiting.release(watermark)
        if ready is not None:
            yield MAIN, self._cover.answer(ready)[0]
            self._cover.history.forget()

    def finish(self) -> Iterable[Out]:
        ready = self._waiting.release_all()
        if ready is not None:
            yield MAIN, self._cover.answer(ready)[0]

    def wake(self) -> Wake:
        return self._waiting.wake()


class _AsTheyCome(Task):
    def __init__(self, cover: _Cover) -> None:
        self._cover = cover

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        if frame.is_empty():
            return
        answered, late = self._cover.answer(frame)
        self._cover.history.forget()
        if answered.height:
            yield MAIN, answered
        if late.height:
            yield LATE, late

    def wake(self) -> Wake:
        return NEVER


def _list_name(name: str) -> str:
    return f"__rows_{name}"
