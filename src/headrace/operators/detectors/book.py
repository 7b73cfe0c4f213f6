"""What is known of every key, and its next values judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import polars as pl

from headrace.core.protocols import KeyedTable, TableSpec
from headrace.core.time import BEGINNING, EVENT_TIME
from headrace.operators.detectors.detector import LARGEST, Detector, Floats
from headrace.operators.key_runs import ALL, Bools, Ints, KeyRuns, changes, key_runs

KNOWN: Final = "known"
LATEST: Final = "__latest"
_MEMORY: Final = "__memory"

_Views = Mapping[str, Floats]


class Verdicts:
    """What is said of each row of a frame; nothing, until it is said."""

    def __init__(self, rows: int) -> None:
        self.surprise = np.zeros(rows)
        self.change = np.zeros(rows, np.bool_)
        self.expected = np.zeros(rows)
        self.spread = np.zeros(rows)
        self.reason = np.zeros(rows, np.int64)


class Book:
    """Memories by key, kept in the operator's table as one vector each.

    Rows are judged in rounds: the first row of every key, then the second of those that have
    one, and so on; a round is one step of the detector over all of its keys.

    Args:
        table: The one that `spec` declares.
        detector: What judges.
        by: Key columns.
        forget: Longest silence of a key before it begins anew, microseconds.
    """

    def __init__(
        self, table: KeyedTable, detector: Detector, by: tuple[str, ...], forget: int
    ) -> None:
        self._table = table
        self._detector = detector
        self._by = by
        self._forget = forget
        self._layout = dict(detector.layout())

    @staticmethod
    def spec(detector: Detector, keys: pl.Schema) -> TableSpec:
        """Declare the memories by key."""
        columns: dict[str, pl.DataType] = {**(keys or {ALL: pl.Boolean()})}
        key = tuple(columns)
        columns |= {LATEST: pl.Int64(), _MEMORY: pl.Array(pl.Float64(), detector.size)}
        return TableSpec(KNOWN, "keyed", pl.Schema(columns), key=key)

    def latest(self, runs: KeyRuns) -> Ints:
        """Return the event time of each key's last row, `BEGINNING` without one."""
        latest: Ints = self._table.lookup(runs.keys)[LATEST].fill_null(BEGINNING).to_numpy()
        return latest

    def expire(self, watermark: int) -> None:
        """Forget keys that no row on time can belong to any more."""
        if watermark > BEGINNING + 2 * self._forget:
            self._table.expire(LATEST, watermark - 2 * self._forget)

    def judge(self, frame: pl.DataFrame, values: pl.Series) -> Verdicts:
        """Judge the rows of `frame`, each key's in their order, and learn them.

        Args:
            frame: Rows with key columns and event times, which ascend within each key.
            values: Their values as Float64; those that are no finite number are left out.
        """
        runs = key_runs(frame, self._by)
        state = self._table.lookup(runs.keys)
        latest = state[LATEST].fill_null(BEGINNING).to_numpy()
        times = frame[EVENT_TIME].to_numpy()[runs.order]
        numbers = values.fill_null(np.nan).to_numpy()[runs.order]
        begins = _begins(times, runs.key_of, latest, state["__found"].to_numpy(), self._forget)
        good = np.isfinite(numbers)
        rounds = _Rounds(runs.key_of, good, begins, runs.keys.height)
        cells = np.ascontiguousarray(self._memories(state)[:, rounds.keys])
        verdicts = Verdicts(frame.height)
        numbers = np.clip(numbers, -LARGEST, LARGEST)
        with np.errstate(over="ignore", under="ignore"):
            known = self._views(cells, 0)
            width = 0
            for places, anew in rounds:
                if anew.any():
                    cells[:, : places.size][:, anew] = 0.0
                if places.size != width:
                    width = places.size
                    known = self._views(cells, width)
                said = self._detector.step(known, numbers[places], times[places])
                rows = runs.order[places]
                verdicts.surprise[rows] = said.surprise
                verdicts.change[rows] = said.change
                verdicts.expected[rows] = said.expected
                verdicts.spread[rows] = said.spread
                verdicts.reason[rows] = said.reason
        cells[:, rounds.ended] = 0.0
        self._store(runs, rounds.keys, cells, times)
        return verdicts

    def _memories(self, state: pl.DataFrame) -> Floats:
        """Return the stored vectors as columns, zeros for new keys."""
        cells = np.zeros((state.height, self._detector.size))
        found = state["__found"].to_numpy()
        if found.any():
            cells[found] = state[_MEMORY].filter(state["__found"]).to_numpy()
        return cells.T

    def _views(self, cells: Floats, keys: int) -> _Views:
        views: dict[str, Floats] = {}
        start = 0
        for name, size in self._layout.items():
            part = cells[start : start + size, :keys]
            views[name] = part[0] if size == 1 else part
            start += size
        return views

    def _store(self, runs: KeyRuns, keys: Ints, cells: Floats, times: Ints) -> None:
        back = np.empty_like(keys)
        back[keys] = np.arange(keys.size)
        ends = np.flatnonzero(np.append(changes(runs.key_of)[1:], True))
        memory = np.ascontiguousarray(cells.T[back])
        self._table.upsert(
            runs.keys.with_columns(
                pl.Series(LATEST, times[ends], dtype=pl.Int64),
                pl.Series(_MEMORY, memory, dtype=pl.Array(pl.Float64, self._detector.size)),
            )
        )


class _Rounds:
    """The order in which rows are judged, given that they lie key after key.

    Iterating gives, round by round, the places of the rows, and which of their keys begin anew
    before them. `keys` is the order of keys, those with the most rows first, so that a round's
    keys are the first ones; `ended` says which of them begin anew after their last good row.
    """

    def __init__(self, key_of: Ints, good: Bools, begins: Bools, keys: int) -> None:
        self._places = np.flatnonzero(good)
        mine = key_of[self._places]
        count = np.bincount(mine, minlength=keys)
        self.keys: Ints = np.argsort(-count, kind="stable")
        self._count = count[self.keys]
        first = np.cumsum(count) - count
        self._first = first[self.keys]
        # A key begins anew before a good row when any row since the good one before it did.
        total = np.cumsum(begins)
        start = np.searchsorted(key_of, np.arange(keys))
        base = np.where(start > 0, total[np.maximum(start, 1) - 1], 0)
        at = total[self._places]
        before = np.roll(at, 1)
        opening = changes(mine)
        before[opening] = base[mine[opening]]
        self._anew = at > before
        end = np.append(start[1:], key_of.size) - 1
        seen = base.copy()
        seen[mine] = at
        self.ended: Bools = (total[end] > seen)[self.keys]

    def __iter__(self) -> Iterator[tuple[Ints, Bools]]:
        for number in range(int(self._count[0]) if self._count.size else 0):
            there = int(np.searchsorted(-self._count, -number, side="left"))
            at = self._first[:there] + number
            yield self._places[at], self._anew[at]


def _begins(times: Ints, key_of: Ints, latest: Ints, found: Bools, forget: int) -> Bools:
    """Return before which rows their key was silent for longer than `forget`."""
    first = changes(key_of)
    before = np.roll(times, 1)
    known = key_of[first]
    before[first] = np.where(found[known], latest[known], times[first])
    answer: Bools = times - before > forget
    return answer
