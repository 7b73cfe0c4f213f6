"""States and arcs: what may follow a row that was taken, and under which rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from headrace.core.errors import PlanError
from headrace.operators.patterns.pattern import Contiguity

END: Final = -1
MOST: Final = 62
"""Arcs and conditions are bits of a 64-bit integer in state."""

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Absence:
    """Rows that must not come before an arc is taken.

    Attributes:
        condition: Number of the condition that they satisfy.
        at_once: Only the row right after the one taken before counts (`not_next`).
        within: Microseconds for which the absence lasts; None: until the arc is taken.
    """

    condition: int
    at_once: bool
    within: int | None


@dataclass(frozen=True, slots=True)
class Arc:
    """A way on from a state.

    Attributes:
        step: Number of the step that takes the row, or `END`.
        condition: Number of the condition that the row satisfies.
        counts: How often each enclosing step has run then, outermost first.
        contiguity: Which rows may lie between.
        absences: What must not come before.
        until: Numbers of the conditions that end it.
        within: Microseconds between the row before the step and the step's rows.
        again: Whether the step took the row before too.
        rivals: Arcs, as bits, that this one yields a row to (greedy).
        bit: Its own bit among the arcs of the state.
        asks: Bits of all conditions that it looks at.
        beside: Conditions, as bits, that count like its own for what `relaxed` passes over.
    """

    step: int
    condition: int = -1
    counts: Counts = ()
    contiguity: Contiguity = "relaxed"
    absences: tuple[Absence, ...] = ()
    until: tuple[int, ...] = ()
    within: int | None = None
    again: bool = False
    rivals: int = 0
    bit: int = 0
    asks: int = 0
    beside: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What may follow.

    Attributes:
        arcs: To rows, and to an end that an absence must first confirm.
        end: That end among them.
        accepts: Whether the match is complete already.
        live: The bits of all arcs.
    """

    arcs: tuple[Arc, ...]
    end: Arc | None
    accepts: bool
    live: int


class Ways:
    """The arcs of a state in the making."""

    def __init__(self) -> None:
        self.arcs: list[Arc] = []
        self.bits = 0

    def add(self, arc: Arc) -> int:
        """Add an arc and return its bit; one that says the same as another is that one."""
        for known in self.arcs:
            if replace(known, bit=0, asks=0) == arc:
                return known.bit
        bit = 1 << len(self.arcs)
        if len(self.arcs) == MOST:
            raise PlanError(
                f"more than {MOST} steps may follow one row", hint="make fewer of them optional"
            )
        conditions = {*arc.until, *(absence.condition for absence in arc.absences)}
        if arc.step != END:
            conditions.add(arc.condition)
            conditions |= {n for n in range(MOST) if arc.beside >> n & 1}
        self.arcs.append(replace(arc, bit=bit, asks=sum(1 << one for one in conditions)))
        self.bits |= bit
        return bit

    def state(self, *, accepts: bool) -> State:
        """Return the state."""
        end = next((arc for arc in self.arcs if arc.step == END), None)
        return State(tuple(self.arcs), end, accepts, self.bits)
