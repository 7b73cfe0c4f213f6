"""The state machine of alerts, for many pairs of rule and key at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.core.time import BEGINNING, END_OF_TIME
from headrace.operators.alerting.transitions import (
    COMMENTED,
    DELETED,
    DISABLED,
    FIRING,
    IDLE,
    LOWERED,
    OVER,
    PENDING,
    RAISED,
    SILENT,
)
from headrace.operators.key_runs import Bools, Ints

BACK: Final = -1
BAND: Final = -2
"""What a row that clears says: back for good, or within the band of hysteresis. A row that
violates has its severity, 0 to 3."""

_REASONS: Final = (None, RAISED, LOWERED, OVER, SILENT, DISABLED, DELETED, COMMENTED)
_REASON_OF: Final = {reason: number for number, reason in enumerate(_REASONS)}
_NONE: Final = np.int64(-1)


@dataclass(frozen=True, slots=True)
class Runs:
    """Rows of one pair that say the same, one after the other; ordered by pair, then time.

    Attributes:
        pair: Number of the pair.
        kind: Severity, `BACK` or `BAND`.
        first: Event time of the first row.
        last: Event time of the last row.
        start: Where its rows begin in the rows ordered by pair and time.
        stop: Where they end.
    """

    pair: Ints
    kind: Ints
    first: Ints
    last: Ints
    start: Ints
    stop: Ints

    def at(self, chosen: Ints | Bools) -> Runs:
        """Return some of them."""
        return Runs(
            self.pair[chosen],
            self.kind[chosen],
            self.first[chosen],
            self.last[chosen],
            self.start[chosen],
            self.stop[chosen],
        )


@dataclass(slots=True)
class Pairs:
    """The state of some pairs, an array of each part of it, and the transitions they make.

    Times are event times in microseconds.

    Attributes:
        state: `IDLE`, `PENDING`, `FIRING` or `ACKNOWLEDGED`.
        begin: Since when the condition holds, while pending.
        due: When a pending alert fires.
        cool: Before this nothing fires.
        changed: Time of the last transition.
        until: When the pair is given up if no row comes; the end of time while pending.
        number: Number of the last transition.
        first: Number of the open alert's first transition.
        rank: Severity that the open alert shows.
        shown: Which of the rows at hand it shows.
        wait: `for` of the rule.
        cooldown: `cooldown` of the rule.
        grid: Pairs are given up at multiples of this.
    """

    state: Ints
    begin: Ints
    due: Ints
    cool: Ints
    changed: Ints
    until: Ints
    number: Ints
    first: Ints
    rank: Ints
    shown: Ints
    wait: Ints
    cooldown: Ints
    grid: int
    _made: list[dict[str, Ints]] = field(default_factory=list, init=False)

    def judge(self, runs: Runs, times: Ints, row_of: Ints) -> None:
        """Take rows: the runs of each pair one after the other, those of all pairs together.

        Args:
            runs: Ordered by pair and time.
            times: Event time of each row.
            row_of: For each row, its number among the rows at hand: violations that alerts may
                show, or rows that clear.

        Cost: O(n log n) for n rows, and some 0.1 ms for each run of the pair that has most.
        """
        last_before = _LastBefore(runs, times)
        opens = np.flatnonzero(np.diff(runs.pair, prepend=_NONE))
        rank = np.arange(runs.pair.size) - np.repeat(
            opens, np.diff(np.append(opens, runs.pair.size))
        )
        order = np.argsort(rank, kind="stable")
        bounds = np.searchsorted(rank[order], np.arange(rank.max(initial=-1) + 2))
        for low, high in pairwise(bounds):
            now = order[low:high]
            some = runs.at(now)
            self._ripen(some)
            holds = some.kind >= 0
            if holds.any():
                self._hold(some.at(holds), last_before, row_of, now[holds])
            if not holds.all():
                self._clear(some.at(~holds), row_of)

    def fire(self, due: Bools) -> None:
        """Let the pending alerts of these pairs fire, each at its own time."""
        ripe = np.flatnonzero(due & (self.state == PENDING))
        self._make(ripe, self.due[ripe], FIRING)
        self.until[ripe] = self._given_up(self.due[ripe])

    def give_up(self) -> None:
        """Resolve the open alerts of all pairs: no row came until `until`."""
        silent = np.flatnonzero(self.state != IDLE)
        self._resolve(silent, self.until[silent], SILENT)

    def end(self, time: int, reason: str | None) -> None:
        """Resolve all open alerts at `time`."""
        still = np.flatnonzero(self.state != IDLE)
        self._resolve(still, np.full(still.size, time), reason)

    def note(self, time: int, state: int | None, reason: str | None) -> None:
        """Make a transition of each pair to `state`, None for the one that it has."""
        every = np.arange(self.state.size)
        self._make(every, np.full(every.size, time), state, reason)

    def made(self) -> pl.DataFrame:
        """Return the transitions in the order they were made.

        Columns, all Int64: `pair`, `time`, `state`, `previous`, `number`, `first`, `shown`,
        `cleared` (number of the row that cleared, else -1), `reason` (index into `reasons`).
        """
        if not self._made:
            return pl.DataFrame(schema=dict.fromkeys(_MADE, pl.Int64))
        return pl.DataFrame(
            {name: np.concatenate([one[name] for one in self._made]) for name in _MADE}
        )

    @staticmethod
    def reasons() -> pl.Series:
        """Return the texts that the column `reason` of `made` counts."""
        return pl.Series("reason", _REASONS, dtype=pl.String)

    def _ripen(self, runs: Runs) -> None:
        """Fire what was due before the first row of each run, or at it."""
        pair = runs.pair
        ripe = pair[(self.state[pair] == PENDING) & (self.due[pair] <= runs.first)]
        self._make(ripe, self.due[ripe], FIRING)
        self.until[ripe] = self._given_up(self.due[ripe])

    def _hold(self, runs: Runs, last_before: _LastBefore, row_of: Ints, number: Ints) -> None:
        pair = runs.pair
        was_open = self.state[pair] >= FIRING
        begins = self.state[pair] == IDLE
        self.begin[pair[begins]] = runs.first[begins]
        # The rule may be another than when the condition began to hold.
        due = np.maximum(self.begin[pair] + self.wait[pair], self.cool[pair])
        at_once = ~was_open & (due <= runs.first)
        later = ~was_open & ~at_once
        self.due[pair[later]] = due[later]
        self.rank[pair[~was_open]] = runs.kind[~was_open]
        self._show(pair[at_once | (later & begins)], row_of[runs.start[at_once | (later & begins)]])
        self._make(pair[at_once], runs.first[at_once], FIRING)
        opening = later & begins
        self._make(pair[opening], runs.first[opening], PENDING)
        within = later & (due <= runs.last)
        if within.any():
            row = last_before(number[within], due[within])
            self._show(pair[within], row_of[row])
            self._make(pair[within], due[within], FIRING)
        beyond = later & ~within
        self._show(pair[beyond], row_of[runs.stop[beyond] - 1])
        self.until[pair[beyond]] = END_OF_TIME
        self._grade(runs.at(was_open), row_of)
        now_open = pair[~beyond]
        self.until[now_open] = self._given_up(runs.last[~beyond])

    def _grade(self, runs: Runs, row_of: Ints) -> None:
        """Raise or lower the severity of open alerts."""
        pair = runs.pair
        up = runs.kind > self.rank[pair]
        down = runs.kind < self.rank[pair]
        self._show(pair[up | down], row_of[runs.start[up | down]])
        self.rank[pair] = runs.kind
        # Who acknowledged it knew of something less severe.
        self._make(pair[up], runs.first[up], FIRING, RAISED)
        self._make(pair[down], runs.first[down], None, LOWERED)

    def _clear(self, runs: Runs, row_of: Ints) -> None:
        pair, state = runs.pair, self.state[runs.pair]
        ends = (state == PENDING) | ((state >= FIRING) & (runs.kind == BACK))
        self._resolve(pair[ends], runs.first[ends], OVER, row_of[runs.start[ends]])
        band = ~ends & (state >= FIRING)
        self.until[pair[band]] = self._given_up(runs.last[band])

    def _resolve(
        self, pair: Ints, time: Ints, reason: str | None, cleared: Ints | None = None
    ) -> None:
        fired = self.state[pair] >= FIRING
        self._make(pair, time, IDLE, reason, cleared)
        self.cool[pair[fired]] = time[fired] + self.cooldown[pair[fired]]
        self.until[pair] = self._given_up(np.maximum(time, self.cool[pair]))

    def _show(self, pair: Ints, row: Ints) -> None:
        self.shown[pair] = row

    def _given_up(self, time: Ints) -> Ints:
        """Return when pairs are given up that had their last row at `time`."""
        until: Ints = (time // self.grid + 2) * self.grid
        return until

    def _make(
        self,
        pair: Ints,
        time: Ints,
        state: int | None,
        reason: str | None = None,
        cleared: Ints | None = None,
    ) -> None:
        if not pair.size:
            return
        previous = self.state[pair]
        self.number[pair] += 1
        begins = previous == IDLE
        self.first[pair[begins]] = self.number[pair[begins]]
        # A transition is never older than the one before it.
        self.changed[pair] = np.maximum(time, self.changed[pair])
        self.state[pair] = previous if state is None else state
        self._made.append(
            {
                "pair": pair,
                "time": self.changed[pair],
                "state": self.state[pair],
                "previous": previous,
                "number": self.number[pair],
                "first": self.first[pair],
                "shown": self.shown[pair],
                "cleared": np.full(pair.size, _NONE) if cleared is None else cleared,
                "reason": np.full(pair.size, _REASON_OF.get(reason, 0)),
            }
        )


class _LastBefore:
    """Finds the last row of a run that lies before a time, in O(log n) each."""

    def __init__(self, runs: Runs, times: Ints) -> None:
        self._distinct, ranks = np.unique(times, return_inverse=True)
        self._width = np.int64(self._distinct.size + 1)
        lengths = runs.stop - runs.start
        run = np.repeat(np.arange(runs.pair.size, dtype=np.int64), lengths)
        self._places = run * self._width + ranks

    def __call__(self, run: Ints, time: Ints) -> Ints:
        wanted = run * self._width + np.searchsorted(self._distinct, time, "left")
        return np.searchsorted(self._places, wanted, "left") - 1


_MADE: Final = (
    *("pair", "time", "state", "previous", "number", "first", "shown", "cleared", "reason"),
)

STATE: Final[dict[str, pl.DataType]] = {
    "state": pl.Int64(),
    "begin": pl.Int64(),
    "due": pl.Int64(),
    "cool": pl.Int64(),
    "changed": pl.Int64(),
    "until": pl.Int64(),
    "number": pl.Int64(),
    "first": pl.Int64(),
    "rank": pl.Int64(),
}
"""The state of a pair as it is stored."""

_FRESH: Final = {
    **dict.fromkeys(("state", "number", "first", "rank"), 0),
    **dict.fromkeys(("begin", "due", "cool", "changed"), BEGINNING),
    "until": END_OF_TIME,
}


def pairs_of(stored: pl.DataFrame, rules: pl.DataFrame, floor: Ints, grid: int) -> Pairs:
    """Return the state of pairs to work on.

    Args:
        stored: The columns of `STATE`, null where a pair is new.
        rules: `wait` and `cooldown` of each pair's rule, null where it is not known.
        floor: The number from which a new pair counts.
        grid: See `Pairs`.
    """
    arrays: dict[str, npt.NDArray[np.int64]] = {
        name: stored[name].fill_null(value).to_numpy().copy() for name, value in _FRESH.items()
    }
    new = stored["state"].is_null().to_numpy()
    arrays["number"][new] = floor[new]
    return Pairs(
        **arrays,
        shown=np.arange(stored.height, dtype=np.int64),
        wait=rules["wait"].fill_null(0).to_numpy(),
        cooldown=rules["cooldown"].fill_null(0).to_numpy(),
        grid=grid,
    )


def runs_of(pair: Ints, kind: Ints, times: Ints) -> Runs:
    """Return the runs of rows ordered by pair and time."""
    fresh = np.ones(pair.size, dtype=np.bool_)
    fresh[1:] = (pair[1:] != pair[:-1]) | (kind[1:] != kind[:-1])
    start = np.flatnonzero(fresh)
    stop = np.append(start[1:], pair.size)
    return Runs(pair[start], kind[start], times[start], times[stop - 1], start, stop)
