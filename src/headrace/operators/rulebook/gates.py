"""Many conditions as one circuit: each distinct part is there once and found once per batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from headrace.operators.rulebook.bits import Bools, Ints, Words, pack, words_of
from headrace.operators.rulebook.facts import Facts, Planes, Values
from headrace.operators.rulebook.tree import (
    All,
    AtLeast,
    Equals,
    Holds,
    InZone,
    Not,
    Tree,
    Unknown,
)

TRUE_LINE: Final = 0
FALSE_LINE: Final = 1
"""Node n has two lines, 2 n and its contrary, 2 n + 1."""
TRUE_NODE: Final = 0
_UNKNOWN_NODE: Final = 1
_FIRST: Final = 2

_BYTES_AT_ONCE: Final = 16 << 20
_MAX_WORDS: Final = 1024
_MIN_WORDS: Final = 4


@dataclass(frozen=True, slots=True)
class _Gates:
    """ANDs of equally many lines: node numbers, and a row of lines for each."""

    nodes: Ints
    lines: Ints


class Circuit:
    """Conditions with their common parts shared.

    Nodes are numbered: true, unknown, the atoms family by family, then ANDs by how deep they lie.
    An OR is the contrary of an AND. Logic has three values, as in SQL.

    Args:
        trees: The conditions.

    Attributes:
        texts: Constants by the text that is compared with them, sorted.
        zones: Zones asked for, sorted.

    Cost: O(nodes) to build; to run, O(nodes * rows / 64) beside reading the atoms.
    """

    def __init__(self, trees: Iterable[Tree]) -> None:
        found = _Found()
        temporary = [found.line(tree) for tree in trees]
        thresholds: dict[str, set[float]] = {}
        texts: dict[str, set[str]] = {}
        for atom in found.atoms:
            if isinstance(atom, AtLeast):
                thresholds.setdefault(atom.metric, set()).add(atom.threshold)
            elif isinstance(atom, Equals):
                texts.setdefault(atom.metric, set()).add(atom.value)
        self.texts = {name: sorted(values) for name, values in sorted(texts.items())}
        self.zones = sorted(a.zone_id for a in found.atoms if isinstance(a, InZone))
        self._truths = sorted(a.metric for a in found.atoms if isinstance(a, Holds))
        order: list[Tree] = []
        self._thresholds: list[tuple[str, Values]] = []
        for name, values in sorted(thresholds.items()):
            ascending = sorted(values)
            self._thresholds.append((name, np.array(ascending)))
            order += [AtLeast(name, value) for value in ascending]
        order += [Equals(name, value) for name, values in self.texts.items() for value in values]
        order += [Holds(name) for name in self._truths]
        order += [InZone(zone) for zone in self.zones]
        number = {atom: place + _FIRST for place, atom in enumerate(order)}
        final = np.zeros(found.count, dtype=np.int64)
        final[:2] = (0, 1)
        for atom, place in found.atoms.items():
            final[place] = number[atom]
        self._gates = self._layered(found, final, len(order) + _FIRST)
        self.count = found.count
        self._asks_null = found.asks_null
        self.lines = np.array([_moved(final, line) for line in temporary], dtype=np.int64)

    @staticmethod
    def _layered(found: _Found, final: Ints, first: int) -> list[_Gates]:
        """Number the ANDs so that each comes after what it needs; group them by size."""
        groups: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        for lines in found.gates:
            groups.setdefault((found.depth[lines], len(lines)), []).append(lines)
        layers = []
        for key in sorted(groups):
            members = groups[key]
            nodes = np.arange(first, first + len(members))
            first += len(members)
            for node, lines in zip(nodes.tolist(), members, strict=True):
                final[found.gates[lines]] = node
            moved = [[_moved(final, line) for line in lines] for lines in members]
            layers.append(_Gates(nodes, np.array(moved, dtype=np.int64)))
        return layers

    @property
    def rows_at_once(self) -> int:
        """How many rows to judge together, so that their bits stay near the processor."""
        words = _BYTES_AT_ONCE // (8 * self.count)
        return 64 * min(max(words, _MIN_WORDS), _MAX_WORDS)

    def run(self, facts: Facts, start: int, stop: int) -> Truth:
        """Return the truth of all nodes over some rows."""
        is_whole = not self._asks_null and facts.is_whole(start, stop)
        truth = Truth(self.count, stop - start, is_whole=is_whole)
        at = _FIRST
        for name, thresholds in self._thresholds:
            facts.at_least(name, thresholds, start, stop, truth.part(at, thresholds.size))
            at += thresholds.size
        for name, constants in self.texts.items():
            facts.equals(name, start, stop, truth.part(at, len(constants)))
            at += len(constants)
        for name in self._truths:
            facts.holds(name, start, stop, truth.part(at, 1))
            at += 1
        if self.zones:
            facts.in_zones(start, stop, truth.part(at, len(self.zones)))
        for gates in self._gates:
            truth.add(gates.nodes, gates.lines)
        return truth


class Truth:
    """Where each node holds, and where it may hold; what cannot hold anywhere costs nothing.

    Args:
        count: Number of nodes.
        rows: Number of rows.
        is_whole: Whether nothing that is read is absent.

    Attributes:
        valid: The bits that stand for rows.
    """

    def __init__(self, count: int, rows: int, *, is_whole: bool) -> None:
        self.valid = pack(np.ones(rows, dtype=np.bool_))
        self.is_whole = is_whole
        self._holds = np.zeros((count, words_of(rows)), dtype=np.uint64)
        self._possible = self._holds if is_whole else np.zeros_like(self._holds)
        # By node: whether it may hold for some row, and whether it may fail for some.
        self._alive = np.zeros((count, 2), dtype=np.bool_)
        self._holds[TRUE_NODE] = self._possible[TRUE_NODE] = self.valid
        self._alive[TRUE_NODE] = (True, False)
        if not is_whole:
            self._possible[_UNKNOWN_NODE] = self.valid
        self._alive[_UNKNOWN_NODE] = not is_whole

    def part(self, first: int, count: int) -> Planes:
        """Return some nodes, to be filled."""
        nodes = slice(first, first + count)
        holds = self._holds[nodes]
        possible = holds if self.is_whole else self._possible[nodes]
        return Planes(holds, possible, self.valid, self._alive[nodes])

    def add(self, nodes: Ints, lines: Ints) -> None:
        """Find ANDs of lines."""
        alive = self.alive(lines).all(axis=1)
        self._alive[nodes, 1] = True
        if not alive.any():
            return
        mine, lines = nodes[alive], lines[alive]
        holds = self.holds(lines[:, 0])
        for column in range(1, lines.shape[1]):
            holds &= self.holds(lines[:, column])
        self._holds[mine] = holds
        if not self.is_whole:
            possible = self.possible(lines[:, 0])
            for column in range(1, lines.shape[1]):
                possible &= self.possible(lines[:, column])
            self._possible[mine] = possible
        self._alive[mine, 0] = self._possible[mine].any(axis=1)

    def holds(self, lines: Ints) -> Words:
        """Return where lines hold."""
        return self._lines(lines, self._holds, self._possible)

    def possible(self, lines: Ints) -> Words:
        """Return where lines hold or are unknown."""
        return self._lines(lines, self._possible, self._holds)

    def alive(self, lines: Ints) -> Bools:
        """Return which lines may hold for some row."""
        found: Bools = self._alive.reshape(-1)[lines]
        return found

    def _lines(self, lines: Ints, plain: Words, contrary: Words) -> Words:
        found: Words = plain[lines >> 1]
        negated = np.flatnonzero(lines & 1)
        if negated.size:
            found[negated] = ~contrary[lines[negated] >> 1] & self.valid
        return found


def _moved(final: Ints, line: int) -> int:
    return int(final[line >> 1]) << 1 | line & 1


class _Found:
    """Distinct atoms and ANDs, numbered as they are found."""

    def __init__(self) -> None:
        self.atoms: dict[Tree, int] = {}
        self.gates: dict[tuple[int, ...], int] = {}
        self.depth: dict[tuple[int, ...], int] = {}
        self.count = 2
        self.asks_null = False
        self._levels = [0, 0]

    def line(self, tree: Tree) -> int:
        """Return the line that says where `tree` holds."""
        if isinstance(tree, Not):
            return self.line(tree.part) ^ 1
        if isinstance(tree, All):
            return self._gate({self.line(part) for part in tree.parts} - {TRUE_LINE})
        if isinstance(tree, Unknown):
            self.asks_null = True
            return _UNKNOWN_NODE << 1
        if tree not in self.atoms:
            self.atoms[tree] = self._next(0)
        return self.atoms[tree] << 1

    def _gate(self, parts: set[int]) -> int:
        if not parts:
            return TRUE_LINE
        if FALSE_LINE in parts:
            return FALSE_LINE
        lines = tuple(sorted(parts))
        if len(lines) == 1:
            return lines[0]
        if lines not in self.gates:
            level = 1 + max(self._levels[line >> 1] for line in lines)
            self.depth[lines] = level
            self.gates[lines] = self._next(level)
        return self.gates[lines] << 1

    def _next(self, level: int) -> int:
        self._levels.append(level)
        self.count += 1
        return self.count - 1
