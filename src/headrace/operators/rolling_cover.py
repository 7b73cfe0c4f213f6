"""Rolling aggregates at work: the rows that each row's answer covers, and what is kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from headrace.core.errors import BugError
from headrace.core.protocols import Tables, TableSpec
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, HIDDEN_SCHEMA, POSITION
from headrace.operators.key_runs import ALL, Bools, Ints, KeyRuns, changes, key_runs, running_max

_HISTORY: Final = "history"
_LATEST: Final = "__latest"
_INDEX: Final = "__index"
_ROW: Final = "__row"
_INDEX_BITS: Final = 62


class History:
    """Each key's rows still covered, oldest first: one list per column.

    Args:
        tables: State, with the table that `table` declares.
        by: Key columns.
        columns: Columns that answers read.
        forget: How long after its last row a key is forgotten, microseconds.
    """

    def __init__(
        self, tables: Tables, by: Sequence[str], columns: Sequence[str], forget: int
    ) -> None:
        self.by = list(by)
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
        return key_runs(frame, self.by)

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

    def forget(self, following: int) -> None:
        """Forget keys without rows for long; rows not answered are at most `following` old."""
        watermark = self._tables.watermark
        if watermark not in (BEGINNING, END_OF_TIME):
            self._table.expire(_LATEST, watermark - following - self.forget_after)


class Cover:
    """Computes the answers of rows that come in order.

    Args:
        history: The rows that rows to come may cover.
        answers: Aggregates over the covered rows.
        over: How far answers reach back, microseconds; or
        rows: how many rows they cover.
        following: How far they reach ahead, microseconds.
    """

    def __init__(
        self,
        history: History,
        answers: Sequence[pl.Expr],
        over: int | None,
        rows: int | None,
        following: int = 0,
    ) -> None:
        self.history = history
        self._answers = list(answers)
        self._over = over
        self._rows = rows
        self.following = following

    def forget(self) -> None:
        """Forget what no row to come can cover."""
        self.history.forget(self.following)

    def answer_ahead(self, frame: pl.DataFrame, ahead: pl.DataFrame) -> pl.DataFrame:
        """Return the rows with their answers, which cover rows of `ahead` too.

        Args:
            frame: Rows by (event time, position), none older than what its key has shown.
            ahead: Rows that follow them in that order, answered later.
        """
        by = self.history.by
        if by and ahead.height:
            keys = self.history.runs(frame).keys
            ahead = ahead.join(keys, on=by, how="semi", nulls_equal=True, maintain_order="left")
        runs = self.history.runs(pl.concat([frame, ahead]) if ahead.height else frame)
        kept, kept_key, _ = self.history.lookup(runs.keys)
        return self._along(frame, ahead, runs, kept, kept_key)

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
        return self._along(frame, frame.clear(), runs, kept, kept_key), late

    def _along(
        self,
        frame: pl.DataFrame,
        ahead: pl.DataFrame,
        runs: KeyRuns,
        kept: pl.DataFrame,
        kept_key: Ints,
    ) -> pl.DataFrame:
        """Return `frame` with its answers; `runs` groups its rows and then those of `ahead`."""
        row = np.concatenate([np.full(kept.height, -1), runs.order])
        key_of = np.concatenate([kept_key, runs.key_of])
        by_key = np.argsort(key_of, kind="stable")
        row, key_of = row[by_key], key_of[by_key]
        columns = self.history.columns
        new = pl.concat([frame.select(columns), ahead.select(columns)])[runs.order]
        rows = pl.concat([kept, new])[by_key]
        index, before, after = self._index(rows[EVENT_TIME].to_numpy(), key_of)
        rolled = (
            rows.with_columns(pl.Series(_INDEX, index))
            .rolling(_INDEX, period=f"{before + after}i", offset=f"-{before}i", closed="right")
            .agg(*self._answers)
            .with_columns(pl.Series(_ROW, row))
            .filter(pl.col(_ROW).is_between(0, frame.height - 1))
            .sort(_ROW)
            .drop(_INDEX, _ROW)
        )
        shown = row < frame.height
        self._store(runs, rows.filter(pl.Series(shown)), key_of[shown])
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

    def _index(self, times: Ints, key_of: Ints) -> tuple[Ints, int, int]:
        """Return an ascending index and numbers such that (i - before, i + after] covers what
        row i covers, and never a row of another key.

        Event times of one key become steps cut to what an answer reaches and 1 (longer silences
        change nothing), shifted left to make room for the rank among equal times; an answer that
        reaches ahead covers all of these.
        """
        size = times.size
        if self._rows is not None:
            place = np.arange(size, dtype=np.int64)
            moved = np.cumsum(np.where(self._fresh(times, key_of), self._rows, 0))
            return place + moved, self._rows, 0
        over = self._over or 0
        longest = over + self.following + 1
        steps = np.minimum(np.diff(times, prepend=times[:1]), longest)
        steps[changes(key_of)] = longest
        moved = np.cumsum(steps)
        if self.following:
            return moved, over, self.following
        tie = np.arange(size) - np.maximum.accumulate(np.where(steps != 0, np.arange(size), 0))
        most = int(tie.max())
        bits = (2 * most).bit_length()
        if int(moved[-1]).bit_length() + bits > _INDEX_BITS:
            raise BugError(f"{size} rows over {over} us with {most} equal times are too many")
        return (moved << bits) + tie, (over << bits) - most, 0


def _list_name(name: str) -> str:
    return f"__rows_{name}"
