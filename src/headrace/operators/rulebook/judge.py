"""All rules over a batch: where each holds, and where one that held no longer does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple, TypeVar

import numpy as np

from headrace.operators.rulebook.bits import (
    Bools,
    Ints,
    Words,
    counts,
    is_set,
    next_set,
    pairs,
)
from headrace.operators.rulebook.compiled import CompiledRule
from headrace.operators.rulebook.facts import Facts
from headrace.operators.rulebook.gates import FALSE_LINE, TRUE_LINE, Circuit
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

    Attributes:
        rules: In their order.
        windows: What is aggregated, by name.
        singles: Metrics that some rule compares with one constant, sorted.

    Cost: `judge` takes O(rules * rows / 64) beside reading each distinct metric once and
    O(hits + pairs that hold).
    """

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.rule_id))
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

    def planes(self, lines: Words) -> tuple[Words, Words, Words]:
        """Return where each rule is asked, where it holds, and where it does not."""
        if bool((self._scope == TRUE_LINE).all()):
            asked = lines[:1]
            return asked, lines[self._holds], lines[self._holds ^ 1]
        asked = lines[self._scope]
        return asked, lines[self._holds] & asked, lines[self._holds ^ 1] & asked

    def back(self, lines: Words, asked: Words, fails: Words) -> Words | None:
        """Return where values are back; None where that is where rules do not hold."""
        with_back = np.flatnonzero(self._back >= 0)
        if not with_back.size:
            return None
        result = fails.copy()
        mine = asked if asked.shape[0] == 1 else asked[with_back]
        result[with_back] = lines[self._back[with_back]] & mine
        return result

    def severity(self, lines: Words, rule: Ints, row: Ints) -> Ints:
        """Return the severity of each hit."""
        result: Ints = self._ladder[rule, -1]
        for place in range(self._bands.shape[1] - 1, -1, -1):
            band = is_set(lines, self._bands[rule, place], row)
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

    def __init__(self, rules: RuleSet, lines: Words, keys: Ints) -> None:
        self._rules, self._lines, self._keys = rules, lines, keys
        self._asked, self._holds, self._fails = rules.planes(lines)
        back = rules.back(lines, self._asked, self._fails)
        self._back = self._fails if back is None else back
        self._decided = self._holds | self._fails

    def undecided(self) -> Ints:
        """Return per row how many rules are asked and cannot be decided."""
        open_ = self._asked & ~self._decided
        some = open_.any(axis=1)
        if not some.any():
            return np.zeros(self._keys.size, dtype=np.int64)
        return counts(open_[some], self._keys.size)

    def judge(self, before: Held) -> _Part:
        rule, row = pairs(self._holds)
        hits = Hits(row, rule, self._rules.severity(self._lines, rule, row))
        end = np.searchsorted(self._keys, self._keys[row], side="right").astype(np.int64)
        version = self._rules.versions[rule]
        news = [self._after(rule, row + 1, end, version, self._keys[row], near=False)]
        for near in (False, True):
            old = before.take(before.near == near)
            if old.key.size:
                first = np.searchsorted(self._keys, old.key, side="left").astype(np.int64)
                last = np.searchsorted(self._keys, old.key, side="right").astype(np.int64)
                news.append(self._after(old.rule, first, last, old.version, old.key, near=near))
        return _Part(hits, _joined([each[0] for each in news]), _joined([each[1] for each in news]))

    def _after(
        self, rule: Ints, start: Ints, end: Ints, version: Ints, key: Ints, *, near: bool
    ) -> tuple[Cleared, Held]:
        """Follow pairs from a row on to the next that tells: do they still hold?

        A pair that holds again is the business of that hit.
        """
        if not rule.size:
            return Cleared(), Held()
        ending = self._back if near else self._fails
        telling = self._holds | ending if near else self._decided
        row = next_set(telling, rule, start, end)
        stays = Held(key, rule, version, np.full(key.size, near)).take(row < 0)
        ends = np.flatnonzero(row >= 0)
        ends = ends[is_set(ending, rule[ends], row[ends])]
        back = is_set(self._back, rule[ends], row[ends])
        cleared = Cleared(row[ends], rule[ends], back, version[ends])
        waits = ends[~back]
        if not waits.size:
            return cleared, stays
        later, kept = self._after(
            rule[waits], row[waits] + 1, end[waits], version[waits], key[waits], near=True
        )
        return _joined([cleared, later]), _joined([stays, kept])


def _joined(parts: Sequence[Columns]) -> Columns:
    return type(parts[0])._make(np.concatenate(columns) for columns in zip(*parts, strict=True))
