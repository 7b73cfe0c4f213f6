"""Finds the matches of many keys: frames in, the automaton between, frames out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from headrace.core.protocols import KeyedTable, Tables, TableSpec
from headrace.core.time import END_OF_TIME, EVENT_TIME, HIDDEN_SCHEMA, POSITION, TIME_DTYPE
from headrace.operators.key_runs import ALL, Ints, key_runs
from headrace.operators.patterns.automaton import Automaton
from headrace.operators.patterns.code import decode, encode
from headrace.operators.patterns.conditions import BITS, FIRST, Conditions
from headrace.operators.patterns.matched import Taken, references
from headrace.operators.patterns.run import Done, KeyRun, Node, Partial, Rules

OPEN: Final = "open"
TIMERS: Final = "timers"
_CODE: Final = "__code"
_NEXT: Final = "__next"

Measures = Sequence[tuple[str, pl.Expr]]


class Matcher:
    """All that follows from the operator and the columns of its input.

    Args:
        automaton: The compiled pattern.
        rules: What all keys share.
        by: Key columns.
        conditions: What rows say.
        taken: What rows taken say.
        measures: Name and expression of each.
        schema: Visible columns of the input.
    """

    def __init__(
        self,
        automaton: Automaton,
        rules: Rules,
        by: Sequence[str],
        conditions: Conditions,
        taken: Taken,
        measures: Measures,
        schema: pl.Schema,
    ) -> None:
        self.automaton = automaton
        self.rules = rules
        self.by = list(by)
        self.conditions = conditions
        self.taken = taken
        self.measures = [expr.alias(name) for name, expr in measures]
        self.asked = list(dict.fromkeys(one.name for _, e in measures for one in references(e)))
        self.keys = pl.Schema({n: schema[n] for n in by} if by else {ALL: pl.Boolean()})
        self.kept = pl.Schema({**taken.kept, **pl.Schema(HIDDEN_SCHEMA)})
        self.lists = {name: f"__rows_{name}" for name in self.kept}

    def tables(self) -> tuple[TableSpec, ...]:
        """Declare the partial matches of each key with the rows they took, and when event time
        next matters to it.
        """
        lists = {self.lists[name]: pl.List(dtype) for name, dtype in self.kept.items()}
        codes = {_CODE: pl.List(pl.Int64()), _NEXT: pl.Int64()}
        key = tuple(self.keys)
        opened = TableSpec(OPEN, "keyed", pl.Schema({**self.keys, **codes, **lists}), key=key)
        if not self.rules.timed:
            return (opened,)
        timers = pl.Schema({**self.keys, _NEXT: pl.Int64()})
        return (opened, TableSpec(TIMERS, "keyed", timers, key=key))


class Matches:
    """The matches of all keys.

    Args:
        matcher: What to look for.
        tables: Its state.
    """

    def __init__(self, matcher: Matcher, tables: Tables) -> None:
        self._matcher = matcher
        self._open = tables.keyed(OPEN)
        self._timers: KeyedTable | None = tables.keyed(TIMERS) if matcher.rules.timed else None
        self.next_time = self._next_time()

    def find(self, ready: pl.DataFrame | None, watermark: int) -> pl.DataFrame | None:
        """Take the rows released by `watermark`, in order, and return the matches complete by
        then, in order of completion.
        """
        keys, rows, counts = self._entering(ready)
        if self._timers is not None:
            self._timers.delete(keys)
            due = self._timers.expire(_NEXT, watermark).select(self._matcher.keys.names())
            counts = np.concatenate([counts, np.zeros(due.height, dtype=np.int64)])
            keys = pl.concat([keys, due])
        if keys.is_empty():
            self._forget(watermark)
            return None
        batch = _Batch(self._matcher, self._open.lookup(keys), rows, counts)
        batch.run(watermark)
        self._store(keys, batch)
        self._forget(watermark)
        return batch.answers(keys)

    def _entering(self, ready: pl.DataFrame | None) -> tuple[pl.DataFrame, pl.DataFrame, Ints]:
        """Return the keys that have rows for the automaton, these rows key by key, and how many
        each has.
        """
        matcher = self._matcher
        nothing = np.zeros(0, dtype=np.int64)
        if ready is None:
            return matcher.keys.to_frame(), matcher.conditions.schema.to_frame(), nothing
        runs = key_runs(ready, matcher.by)
        rows, key_of = ready[runs.order], runs.key_of
        if matcher.automaton.watches == "breaks":
            # A row that satisfies nothing matters right after one that does, or one of before.
            says = rows[BITS].to_numpy() != 0
            after = np.roll(says, 1)
            found = self._open.lookup(runs.keys)["__found"].to_numpy()
            starts = runs.starts
            after[starts] = found[key_of[starts]]
            enters = np.flatnonzero(says | after)
            rows, key_of = rows[enters], key_of[enters]
        present, counts = np.unique(key_of, return_counts=True)
        return runs.keys[present], rows, counts.astype(np.int64)

    def _store(self, keys: pl.DataFrame, batch: _Batch) -> None:
        matcher = self._matcher
        held = [place for place, run in enumerate(batch.runs) if run.open or run.waiting]
        gone = np.setdiff1d(np.flatnonzero(batch.found), held)
        if gone.size:
            self._open.delete(keys[gone])
        if not held:
            self.next_time = self._next_time()
            return
        codes, rows, lengths = [], [], []
        for place in held:
            code, mine = encode(batch.runs[place])
            codes.append(code)
            rows.extend(mine)
            lengths.append(len(mine))
        lists = (
            batch.rows[rows]
            .with_columns(pl.Series("__key", np.repeat(np.arange(len(held)), lengths)))
            .group_by("__key", maintain_order=True)
            .agg(pl.col(name).alias(listed) for name, listed in matcher.lists.items())
            .drop("__key")
        )
        times = [batch.runs[place].next_time() for place in held]
        entries = keys[held].with_columns(
            pl.Series(_CODE, codes, dtype=pl.List(pl.Int64())),
            pl.Series(_NEXT, times, dtype=pl.Int64),
        )
        self._open.upsert(entries.hstack(lists.get_columns()))
        if self._timers is not None:
            self._timers.upsert(entries.drop(_CODE))
        self.next_time = self._next_time()

    def _forget(self, watermark: int) -> None:
        if self._timers is None and watermark != END_OF_TIME:
            self._open.expire(_NEXT, watermark)

    def _next_time(self) -> int | None:
        if self._timers is None:
            return None
        soonest = self._timers.frame()[_NEXT].min()
        return soonest if isinstance(soonest, int) else None


class _Batch:
    """The keys touched at once, each with its automaton.

    Attributes:
        runs: One per key.
        found: Whether a key had partial matches.
        rows: Rows taken before by these keys, then the new ones, key by key.
    """

    def __init__(
        self, matcher: Matcher, states: pl.DataFrame, rows: pl.DataFrame, counts: Ints
    ) -> None:
        self._matcher = matcher
        self._new = rows
        self.found = states["__found"].to_numpy()
        known = states.filter(pl.col("__found")).select(
            pl.col(listed).alias(name) for name, listed in matcher.lists.items()
        )
        lengths = known[EVENT_TIME].list.len().to_list()
        loaded = known.explode(known.columns) if known.height else matcher.kept.to_frame()
        self._loaded = loaded.height
        self.rows = pl.concat([loaded, rows.select(loaded.columns)], rechunk=True)
        self._times: list[int] = self.rows[EVENT_TIME].to_list()
        self.runs: list[KeyRun] = []
        offset = 0
        lengths_left = iter(lengths)
        for code in states[_CODE].to_list():
            run = KeyRun(matcher.rules, self._times)
            if code is not None:
                decode(run, matcher.automaton, code, offset)
                offset += next(lengths_left)
            self.runs.append(run)
        ends = np.cumsum(counts) + self._loaded
        self._spans = list(zip((ends - counts).tolist(), ends.tolist(), strict=True))

    def run(self, watermark: int) -> None:
        """Let every key take its rows, and event time reach `watermark`."""
        bits: list[int] = self._new[BITS].to_list()
        first: list[int] = self._new[FIRST].to_list() if FIRST in self._new.columns else bits
        waiting = [
            self._steps(run, span, bits, first)
            for run, span in zip(self.runs, self._spans, strict=True)
        ]
        # A Python loop: what a row does depends on the rows before it. Conditions that look at
        # rows taken are asked for the next row of every key at once.
        while waiting:
            asked = [(steps, found) for steps in waiting if (found := next(steps, None))]
            self._answer([question for _, found in asked for question in found])
            waiting = [steps for steps, _ in asked]
        for run in self.runs:
            run.reach(watermark)

    def answers(self, keys: pl.DataFrame) -> pl.DataFrame | None:
        """Return a row per match, in order of completion."""
        positions = self.rows[POSITION]
        found: list[tuple[Any, int, Done]] = []
        for place, run in enumerate(self.runs):
            for match in run.given:
                last = -1 if match.absent else positions[match.node.row]
                start = (self._times[match.start], positions[match.start])
                order = (match.end, match.absent, last, *start, match.assignment)
                found.append((order, place, match))
        if not found:
            return None
        found.sort(key=lambda one: one[0])
        matches = [match for _, _, match in found]
        answer = keys[[place for _, place, _ in found]].select(
            *self._matcher.by,
            pl.Series("match_start", [self._times[one.start] for one in matches], pl.Int64).cast(
                TIME_DTYPE
            ),
            pl.Series("match_end", [one.end for one in matches], pl.Int64).cast(TIME_DTYPE),
            pl.Series(EVENT_TIME, [one.end for one in matches], pl.Int64),
            positions[[one.node.row for one in matches]].alias(POSITION),
        )
        chains = [one.node.chain() for one in matches]
        said = answer.hstack(self._said(self._matcher.asked, chains))
        # Beside a column of every row a measure without one fills it.
        measured = said.select(POSITION, *self._matcher.measures).drop(POSITION)
        return answer.hstack(measured.get_columns())

    def _steps(
        self, run: KeyRun, span: tuple[int, int], bits: list[int], first: list[int]
    ) -> Iterator[list[_Question]]:
        """Let a key take its rows, yielding what must be answered before the next."""
        for row in range(*span):
            at = row - self._loaded
            questions = [(one, number, row) for one, number in run.questions(bits[at])]
            if questions:
                yield questions
            run.take(row, bits[at], first[at])

    def _answer(self, questions: Sequence[_Question]) -> None:
        by_condition: dict[int, list[tuple[Partial, int]]] = {}
        for partial, number, row in questions:
            partial.answers.clear()
            by_condition.setdefault(number, []).append((partial, row))
        for number, asked in by_condition.items():
            chains = [partial.node.chain() for partial, _ in asked]
            under_test = self._new[[row - self._loaded for _, row in asked]]
            said = self._said(self._matcher.conditions.asked[number], chains)
            held = self._matcher.conditions.holds(number, under_test, said)
            for (partial, _), answer in zip(asked, held, strict=True):
                partial.answers[number] = answer

    def _said(self, names: Sequence[str], chains: Sequence[Sequence[Node]]) -> list[pl.Series]:
        if not names:
            return []
        groups = np.repeat(np.arange(len(chains)), [len(chain) for chain in chains])
        steps = [node.step for chain in chains for node in chain]
        rows = self.rows[[node.row for chain in chains for node in chain]]
        return self._matcher.taken.of(names, groups, steps, rows).get_columns()


_Question = tuple[Partial, int, int]
"""A partial match, the number of a condition and the row under test."""
