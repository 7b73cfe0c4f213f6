"""Many conditions as one circuit: each distinct part is there once and found once per batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from headrace.operators.rulebook.bits import Ints, Words, pack, words_of
from headrace.operators.rulebook.facts import Facts, Values
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
_UNKNOWN_LINE: Final = 2
"""A node has two lines of bits: where it is known to hold, and where it is known not to. Line
2 n is the one, line 2 n + 1 the other, so the contrary of a line is the line beside it."""

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
        number = {atom: place + 2 for place, atom in enumerate(order)}
        final = np.zeros(found.count, dtype=np.int64)
        final[:2] = (0, 1)
        for atom, place in found.atoms.items():
            final[place] = number[atom]
        self._gates = self._layered(found, final, len(order) + 2)
        self.count = found.count
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
        words = _BYTES_AT_ONCE // (16 * self.count)
        return 64 * min(max(words, _MIN_WORDS), _MAX_WORDS)

    def run(self, facts: Facts, start: int, stop: int) -> Words:
        """Return the lines of all nodes over some rows."""
        words = words_of(stop - start)
        nodes = np.zeros((self.count, 2, words), dtype=np.uint64)
        nodes[0, 0] = pack(np.ones(stop - start, dtype=np.bool_))
        at = 2
        for name, thresholds in self._thresholds:
            end = at + thresholds.size
            nodes[at:end, 0], nodes[at:end, 1] = facts.at_least(name, thresholds, start, stop)
            at = end
        for name, constants in self.texts.items():
            end = at + len(constants)
            nodes[at:end, 0], nodes[at:end, 1] = facts.equals(name, len(constants), start, stop)
            at = end
        for name in self._truths:
            nodes[at, 0], nodes[at, 1] = facts.holds(name, start, stop)
            at += 1
        if self.zones:
            end = at + len(self.zones)
            nodes[at:end, 0], nodes[at:end, 1] = facts.in_zones(start, stop)
        lines = nodes.reshape(2 * self.count, words)
        for gates in self._gates:
            holds = lines[gates.lines[:, 0]]
            fails = lines[gates.lines[:, 0] ^ 1]
            for column in range(1, gates.lines.shape[1]):
                holds &= lines[gates.lines[:, column]]
                fails |= lines[gates.lines[:, column] ^ 1]
            first = gates.nodes[0]
            nodes[first : first + gates.nodes.size, 0] = holds
            nodes[first : first + gates.nodes.size, 1] = fails
        return lines


def _moved(final: Ints, line: int) -> int:
    return int(final[line >> 1]) << 1 | line & 1


class _Found:
    """Distinct atoms and ANDs, numbered as they are found."""

    def __init__(self) -> None:
        self.atoms: dict[Tree, int] = {}
        self.gates: dict[tuple[int, ...], int] = {}
        self.depth: dict[tuple[int, ...], int] = {}
        self.count = 2
        self._levels = [0, 0]

    def line(self, tree: Tree) -> int:
        """Return the line that says where `tree` holds."""
        if isinstance(tree, Not):
            return self.line(tree.part) ^ 1
        if isinstance(tree, All):
            return self._gate({self.line(part) for part in tree.parts} - {TRUE_LINE})
        if isinstance(tree, Unknown):
            return _UNKNOWN_LINE
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
