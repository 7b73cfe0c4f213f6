"""A key's partial and waiting matches as a list of integers, for a table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from headrace.operators.patterns.automaton import Automaton
from headrace.operators.patterns.run import KeyRun, Node


def encode(run: KeyRun) -> tuple[list[int], list[int]]:
    """Return what `decode` reads, and the rows that it speaks of, ascending.

    Rows taken by several matches are written once, as they are held.
    """
    nodes: dict[int, int] = {}
    ordered: list[Node] = []
    ends = [*(one.node for one in run.open), *(one.node for one in run.waiting)]
    for end in ends:
        for node in end.chain():
            if id(node) not in nodes:
                nodes[id(node)] = len(ordered)
                ordered.append(node)
    rows = sorted({node.row for node in ordered})
    place = dict(zip(rows, count(), strict=False))
    code = [len(ordered)]
    for node in ordered:
        before = -1 if node.before is None else nodes[id(node.before)]
        code += (before, node.step, place[node.row])
    code.append(len(run.open))
    for partial in run.open:
        code += (nodes[id(partial.node)], place[partial.start])
        code += (partial.live, partial.entered, int(partial.fresh), *partial.counts)
    code.append(len(run.waiting))
    for match in run.waiting:
        code += (nodes[id(match.node)], place[match.start], match.end, int(match.absent))
    return code, rows


def decode(run: KeyRun, automaton: Automaton, code: Sequence[int], offset: int) -> None:
    """Put into `run` what `encode` wrote of one whose rows now begin at number `offset`."""
    at = iter(code)
    nodes: list[Node] = []
    for _ in range(next(at)):
        before, step, row = next(at), next(at), next(at)
        nodes.append(Node(nodes[before] if before >= 0 else None, step, row + offset))
    for _ in range(next(at)):
        node, start = nodes[next(at)], next(at) + offset
        live, entered, fresh = next(at), next(at), bool(next(at))
        counts = tuple(next(at) for _ in range(automaton.depth(node.step)))
        state = automaton.state(node.step, counts)
        run.open.append(run.restore(state, counts, node, start, live, entered, fresh=fresh))
    for _ in range(next(at)):
        node, start, end, absent = nodes[next(at)], next(at) + offset, next(at), bool(next(at))
        run.remember(node, start, end, absent=absent)
