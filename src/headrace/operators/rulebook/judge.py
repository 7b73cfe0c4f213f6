"""All rules over a batch: where each holds, and where one that held no longer does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple, TypeVar

import numpy as np
import polars as pl

from headrace.operators.rulebook.bits import (
    Bools,
    Floats,
    Ints,
    Words,
    counts,
    is_set,
    next_set,
    pairs,
)
from headrace.operators.rulebook.compiled import CompiledRule
from headrace.operators.rulebook.facts import Facts
from headrace.operators.rulebook.gates import FALSE_LINE, Circuit, Truth
from headrace.operators.rulebook.message import Messages
from headrace.operators.rulebook.tree import Metric, Tree, Window

_NONE: Final = np.empty(0, dtype=np.int64)
_NO: Final = np.empty(0, dtype=np.bool_)


class Held(NamedTuple):
    """Pairs of key and rule that hold, or wait for a value to come back.

    Attributes:
        key: Numbers of keys.
        rule: Numbers of rules.
        version: Version of the rule under which it held last.
        near: It holds no longer, but the value is not back by the hysteresis.
    """

    key: Ints = _NONE
    rule: Ints = _NONE
    version: Ints = _NONE
    near: Bools = _NO

    def take(self, which: Bools | Ints) -> Held:
        """Return some of the pairs."""
        return Held._make(column[which] for column in self)


class Hits(NamedTuple):
    """Where a rule holds: row, rule and severity, by number."""

    row: Ints = _NONE
    rule: Ints = _NONE
    severity: Ints = _NONE


class Cleared(NamedTuple):
    """Where a pair that held does not any more.

    Attributes:
        row: By number.
        rule: By number.
        back: The value is back by the hysteresis, or there is none.
        version: The version under which it held.
    """

    row: Ints = _NONE
    rule: Ints = _NONE
    back: Bools = _NO
    version: Ints = _NONE


Columns = TypeVar("Columns", Held, Hits, Cleared)


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer for a batch; rows are numbered as they were given."""

    hits: Hits
    cleared: Cleared
    held: Held
    undecided: Ints


class RuleSet:
    """Rules compiled together, by `rule_id`.

    Args:
        rules: Those that are enabled.
        numbers: Columns that are numbers or truths.

    Attributes:
        rules: In their order.
        windows: What is aggregated, by name.
        singles: Metrics that some rule compares with one constant, sorted.

    Cost: `judge` takes O(rules * rows / 64) beside reading each distinct metric once and
    O(hits + pairs that hold).
    """

    def __init__(self, rules: Sequence[CompiledRule], numbers: Collection[str]) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.rule_id))
        self._numbers = frozenset(numbers)
        trees: list[Tree] = [rule.condition.tree for rule in self.rules]
        trees += [rule.scope.tree for rule in self.rules]
        backs = [number for number, rule in enumerate(self.rules) if rule.back is not None]
        trees += [rule.back for rule in self.rules if rule.back is not None]
        trees += [band.tree for rule in self.rules for band, _ in rule.bands]
        self.circuit = Circuit(trees)
        lines, count = self.circuit.lines, len(self.rules)
        self._holds, self._scope = lines[:count], lines[count : 2 * count]
        self._back = np.full(count, -1, dtype=np.int64)
        self._back[backs] = lines[2 * count : 2 * count + len(backs)]
        self._bands, self._ladder = self._severities(lines[2 * count + len(backs) :])
        self.windows: dict[str, Window] = {}
        self.metrics: dict[str, Metric] = {}
        for rule in self.rules:
            for condition in rule.conditions:
                self.windows |= condition.windows
                self.metrics |= condition.metrics
        self.singles = sorted({r.single.metric for r in self.rules if r.single is not None})
        self.versions = np.array([rule.version for rule in self.rules], dtype=np.int64)

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each rule."""
        return {rule.rule_id: number for number, rule in enumerate(self.rules)}

    @cached_property
    def ids(self) -> pl.Series:
        """Each rule's identity."""
        return pl.Series([rule.rule_id for rule in self.rules], dtype=pl.String)

    @cached_property
    def names(self) -> pl.Series:
        """Each rule's name."""
        return pl.Series([rule.name for rule in self.rules], dtype=pl.String)

    @cached_property
    def messages(self) -> Messages:
        """What each rule says."""
        return Messages([rule.message for rule in self.rules])

    @cached_property
    def reads(self) -> list[str]:
        """Everything that rules read, sorted."""
        every = {name for rule in self.rules for one in rule.conditions for name in one.reads}
        return sorted(every)

    @cached_property
    def shown(self) -> tuple[list[str], Ints, Ints, Ints]:
        """Numbers that conditions name, sorted; and per rule those of its own, as places among
        them: how many, where the first lies, and all.
        """
        own = [
            [name for name in r.condition.reads if name in self._numbers or name in self.windows]
            for r in self.rules
        ]
        names = sorted({name for one in own for name in one})
        place = {name: number for number, name in enumerate(names)}
        count = np.array([len(one) for one in own], dtype=np.int64)
        flat = np.array([place[name] for one in own for name in one], dtype=np.int64)
        return names, count, np.cumsum(count) - count, flat

    @cached_property
    def single(self) -> tuple[Ints, Bools, Floats]:
        """Per rule the place of the metric it compares (-1 none), whether it holds below the
        threshold, and the threshold.
        """
        place = {name: number for number, name in enumerate(self.singles)}
        found = [rule.single for rule in self.rules]
        return (
            np.array([-1 if s is None else place[s.metric] for s in found], dtype=np.int64),
            np.array([s is not None and s.direction == "below" for s in found], dtype=np.bool_),
            np.array([np.nan if s is None else s.threshold for s in found], dtype=np.float64),
        )

    def _severities(self, lines: Ints) -> tuple[Ints, Ints]:
        """Return per rule the lines of its bands, and what they give, its own severity last."""
        most = max((len(rule.bands) for rule in self.rules), default=0)
        band = np.full((len(self.rules), most), FALSE_LINE, dtype=np.int64)
        ladder = np.zeros((len(self.rules), most + 1), dtype=np.int64)
        at = 0
        for number, rule in enumerate(self.rules):
            size = len(rule.bands)
            band[number, :size] = lines[at : at + size]
            ladder[number, :size] = [severity for _, severity in rule.bands]
            ladder[number, -1] = rule.severity
            at += size
        return band, ladder

    def judge(self, facts: Facts, key_of: Ints, held: Held) -> Judged:
        """Judge rows that lie key after key, each key's in their order.

        Args:
            facts: What the rows say.
            key_of: The key of each row, ascending.
            held: Pairs that held before; those of other keys are given back.
        """
        parts: list[_Part] = []
        undecided = np.zeros(key_of.size, dtype=np.int64)
        step = self.circuit.rows_at_once
        for start in range(0, key_of.size if self.rules else 0, step):
            stop = min(start + step, key_of.size)
            keys = key_of[start:stop]
            touched = (held.key >= keys[0]) & (held.key <= keys[-1])
            block = _Block(self, self.circuit.run(facts, start, stop), keys)
            part = block.judge(held.take(touched))
            undecided[start:stop] = block.undecided()
            held = _joined([held.take(~touched), part.held])
            parts.append(part.moved(start))
        return Judged(
            _joined([Hits(), *(part.hits for part in parts)]),
            _joined([Cleared(), *(part.cleared for part in parts)]),
            held,
            undecided,
        )

    def asked(self, truth: Truth, rule: Ints) -> Words:
        """Return where some rules are asked."""
        return truth.holds(self._scope[rule])

    def holds(self, truth: Truth, rule: Ints) -> Words:
        """Return where some rules hold."""
        return truth.holds(self._holds[rule]) & self.asked(truth, rule)

    def fails(self, truth: Truth, rule: Ints) -> Words:
        """Return where some rules do not hold."""
        return truth.holds(self._holds[rule] ^ 1) & self.asked(truth, rule)

    def back(self, truth: Truth, rule: Ints) -> Words:
        """Return where values are back."""
        line = np.where(self._back[rule] < 0, self._holds[rule] ^ 1, self._back[rule])
        return truth.holds(line) & self.asked(truth, rule)

    def alive(self, truth: Truth) -> Ints:
        """Return the rules that may hold for some row."""
        return np.flatnonzero(truth.alive(self._holds) & truth.alive(self._scope))

    def open(self, truth: Truth) -> Words:
        """Return where rules are asked and cannot be decided."""
        if truth.is_whole:
            return truth.valid[None, :][:0]
        rule = self.alive(truth)
        line = self._holds[rule]
        return truth.possible(line) & ~truth.holds(line) & self.asked(truth, rule)

    def severity(self, truth: Truth, rule: Ints, row: Ints) -> Ints:
        """Return the severity of each hit."""
        result: Ints = self._ladder[rule, -1]
        for place in range(self._bands.shape[1] - 1, -1, -1):
            line, which = np.unique(self._bands[rule, place], return_inverse=True)
            band = is_set(truth.holds(line), which, row)
            result[band] = self._ladder[rule[band], place]
        return result


class _Part(NamedTuple):
    hits: Hits
    cleared: Cleared
    held: Held

    def moved(self, by: int) -> _Part:
        return self._replace(
            hits=self.hits._replace(row=self.hits.row + by),
            cleared=self.cleared._replace(row=self.cleared.row + by),
        )


class _Block:
    """Some rows with the truth of every rule over them."""

    def __init__(self, rules: RuleSet, truth: Truth, keys: Ints) -> None:
        self._rules, self._truth, self._keys = rules, truth, keys

    def undecided(self) -> Ints:
        """Return per row how many rules are asked and cannot be decided."""
        open_ = self._rules.open(self._truth)
        some = open_.any(axis=1)
        if not some.any():
            return np.zeros(self._keys.size, dtype=np.int64)
        return counts(open_[some], self._keys.size)

    def judge(self, before: Held) -> _Part:
        """Return where rules hold, and what became of pairs that held before."""
        alive = self._rules.alive(self._truth)
        line, row = pairs(self._rules.holds(self._truth, alive))
        rule = alive[line]
        hits = Hits(row, rule, self._rules.severity(self._truth, rule, row))
        involved = _Involved(self._rules, self._truth, np.union1d(rule, before.rule))
        end = np.searchsorted(self._keys, self._keys[row], side="right").astype(np.int64)
        held = Held(self._keys[row], rule, self._rules.versions[rule], np.zeros(row.size, np.bool_))
        news = [involved.after(held, row + 1, end)]
        for near in (False, True):
            old = before.take(before.near == near)
            first = np.searchsorted(self._keys, old.key, side="left").astype(np.int64)
            last = np.searchsorted(self._keys, old.key, side="right").astype(np.int64)
            news.append(involved.after(old, first, last))
        return _Part(hits, _joined([each[0] for each in news]), _joined([each[1] for each in news]))


class _Involved:
    """The rules that hold or held, with the bits that tell what becomes of them."""

    def __init__(self, rules: RuleSet, truth: Truth, rule: Ints) -> None:
        self._place = np.zeros(len(rules.rules), dtype=np.int64)
        self._place[rule] = np.arange(rule.size)
        self._holds = rules.holds(truth, rule)
        self._fails = rules.fails(truth, rule)
        self._back = rules.back(truth, rule)

    def after(self, pairs: Held, start: Ints, end: Ints) -> tuple[Cleared, Held]:
        """Follow pairs from a row on to the next that tells: do they still hold?

        A pair that holds again is the business of that hit. All pairs are `near`, or none.
        """
        if not pairs.rule.size:
            return Cleared(), Held()
        place = self._place[pairs.rule]
        ending = self._back if pairs.near[0] else self._fails
        row = next_set(self._holds | ending, place, start, end)
        ends = np.flatnonzero(row >= 0)
        ends = ends[is_set(ending, place[ends], row[ends])]
        back = is_set(self._back, place[ends], row[ends])
        cleared = Cleared(row[ends], pairs.rule[ends], back, pairs.version[ends])
        stays, waits = pairs.take(row < 0), ends[~back]
        if not waits.size:
            return cleared, stays
        near = pairs.take(waits)._replace(near=np.ones(waits.size, dtype=np.bool_))
        later, kept = self.after(near, row[waits] + 1, end[waits])
        return _joined([cleared, later]), _joined([stays, kept])


def _joined(parts: Sequence[Columns]) -> Columns:
    return type(parts[0])._make(np.concatenate(columns) for columns in zip(*parts, strict=True))
