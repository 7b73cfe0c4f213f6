"""Compile a pattern to states and arcs.

A state is what may follow once a row was taken: the step that took it and how often each
enclosing step has run. An arc leads to a row that may be taken next, or to the end. Rules speak
of the rows between the one taken before and the one the arc takes, so a partial match is its
state, the rows it took, and which arcs those rows have not ruled out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import polars as pl

from headrace.core.component import expression_text
from headrace.core.errors import BugError, PlanError
from headrace.core.time import micros
from headrace.operators.patterns.arcs import END, MOST, Absence, Arc, Counts, State, Ways
from headrace.operators.patterns.pattern import VERB_CONTIGUITY, Contiguity, Pattern, Step

_MOST_STATES: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A step that takes rows, with its place: which step of each enclosing sequence it is."""

    place: tuple[int, ...]
    condition: int
    untils: tuple[int, ...]
    within: int | None


@dataclass(frozen=True, slots=True)
class _Before:
    """What an arc inherits from the steps left or passed by before it."""

    absences: tuple[Absence, ...] = ()
    rivals: int = 0


class Automaton:
    """A compiled pattern.

    Args:
        pattern: What to look for.

    Attributes:
        steps: Number of each step that takes rows, by name.
        conditions: The conditions; arcs name them by number.
        start: What a match may begin with.
        overlap: Whether a match may begin while another is open.
        watches: Whether rows that satisfy nothing matter too: `breaks` where the first after one
            that does, `all` where any, `none` elsewhere.
        ends_in_absence: Whether a match may complete without a row.

    Raises:
        PlanError: The pattern cannot be found, or not with bounded state.
    """

    def __init__(self, pattern: Pattern) -> None:
        if pattern.order != "sequence":
            raise PlanError(
                f"{pattern.order}_of(...) is a step of a pattern",
                hint=f"hr.Pattern.begin(hr.{pattern.order}_of(...))",
            )
        self._pattern = pattern
        self.conditions: list[pl.Expr] = []
        self._texts: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        self._leaves: list[_Leaf] = []
        self._leaf_at: dict[tuple[int, ...], int] = {}
        self._number(pattern, (), ())
        self._states: dict[tuple[int, Counts], State] = {}
        self.overlap = pattern.steps[0].overlap
        self.start = self._start()
        reached = self._reached()
        self.ends_in_absence = any(state.end is not None for state in reached)
        self.watches: Literal["none", "breaks", "all"] = _watched(reached)

    def state(self, step: int, counts: Counts) -> State:
        """Return the state after `step` took a row."""
        found = self._states.get((step, counts))
        if found is None:
            found = self._states[step, counts] = self._after(step, counts)
        return found

    def depth(self, step: int) -> int:
        """Return how many counts a state after `step` has."""
        return len(self._leaves[step].place)

    def _number(self, pattern: Pattern, place: tuple[int, ...], untils: tuple[int, ...]) -> None:
        for index, step in enumerate(pattern.steps):
            here = (*place, index)
            inner = untils if step.until is None else (*untils, self._condition(step.until))
            if step.group is not None:
                self._number(step.group, here, inner)
            elif not step.absent:
                within = None if step.within is None else micros(step.within)
                leaf = _Leaf(here, self._condition(step.condition), inner, within)
                self.steps[str(step.name)] = self._leaf_at[here] = len(self._leaves)
                self._leaves.append(leaf)
            else:
                self._condition(step.condition)

    def _condition(self, condition: pl.Expr | None) -> int:
        expr = pl.lit(value=True) if condition is None else condition
        number = self._texts.setdefault(expression_text(expr), len(self.conditions))
        if number == len(self.conditions):
            self.conditions.append(expr)
            if number == MOST:
                raise PlanError(
                    f"the pattern has more than {MOST} conditions",
                    hint="compute some of them as columns before",
                )
        return number

    def _start(self) -> State:
        ways = Ways()
        rest = self._enter(ways, self._pattern, 0, (), (), None, _Before())
        if rest is not None:
            raise PlanError("every step is optional", hint="at least one must take a row")
        if any(arc.absences for arc in ways.arcs):
            raise PlanError(
                "a pattern begins with a row: nothing can be absent before it",
                hint="begin with a step that is not optional",
            )
        return ways.state(accepts=False)

    def _after(self, number: int, counts: Counts) -> State:
        leaf = self._leaves[number]
        ways = Ways()
        before = _Before()
        for level in reversed(range(len(leaf.place))):
            place, index = leaf.place[:level], leaf.place[level]
            sequence = self._sequence(place)
            if sequence.order != "sequence":
                open_steps = self._still_open(sequence, counts[level])
                if open_steps:
                    holder = self._sequence(place[:-1]).steps[place[-1]]
                    self._one_of(
                        ways, sequence, place, counts[: level + 1], holder.contiguity, before
                    )
                    return ways.state(accepts=False)
                continue
            step = sequence.steps[index]
            least, most = step.times
            done = counts[level]
            mine = 0
            if most is None or done < most:
                # What matters of a count without a most is whether it reached the least.
                again = (*counts[:level], min(done + 1, least) if most is None else done + 1)
                mine = self._repeat(ways, step, leaf.place[: level + 1], again, before)
            if done < least:
                return ways.state(accepts=False)
            if step.greedy:
                before = replace(before, rivals=before.rivals | mine)
            rest = self._enter(ways, sequence, index + 1, place, counts[:level], None, before)
            if rest is None:
                return ways.state(accepts=False)
            before = rest
        if not before.absences:
            return ways.state(accepts=True)
        ways.add(Arc(END, absences=before.absences, rivals=before.rivals))
        return ways.state(accepts=False)

    def _sequence(self, place: tuple[int, ...]) -> Pattern:
        sequence = self._pattern
        for index in place:
            group = sequence.steps[index].group
            if group is None:
                raise BugError(f"no group at {place}")
            sequence = group
        return sequence

    def _enter(
        self,
        ways: Ways,
        sequence: Pattern,
        index: int,
        place: tuple[int, ...],
        counts: Counts,
        first: Contiguity | None,
        before: _Before,
    ) -> _Before | None:
        """Add the arcs into steps `index` and on of `sequence`; `first` says how the row follows
        where that is not the step's to say. Return what is left where the sequence may end
        without a row, else None.
        """
        for at in range(index, len(sequence.steps)):
            step = sequence.steps[at]
            if step.absent:
                before = replace(before, absences=(*before.absences, self._absence(step)))
                continue
            contiguity = first or VERB_CONTIGUITY[step.verb]
            mine = self._into(ways, step, (*place, at), (*counts, 1), contiguity, before)
            if not step.optional:
                return None
            if step.greedy:
                before = replace(before, rivals=before.rivals | mine)
        return before

    def _into(
        self,
        ways: Ways,
        step: Step,
        place: tuple[int, ...],
        counts: Counts,
        contiguity: Contiguity,
        before: _Before,
        *,
        again: bool = False,
    ) -> int:
        """Add the arcs into `step` and return their bits."""
        if step.group is not None:
            known = ways.bits
            if step.group.order == "sequence":
                self._enter(ways, step.group, 0, place, counts, contiguity, before)
            else:
                self._one_of(ways, step.group, place, (*counts, 0), contiguity, before)
            return ways.bits & ~known
        arc = self._arc(self._leaf_at[place], counts, contiguity, before)
        return ways.add(replace(arc, again=again and arc.within is not None))

    def _arc(self, number: int, counts: Counts, contiguity: Contiguity, before: _Before) -> Arc:
        leaf = self._leaves[number]
        return Arc(
            number,
            condition=leaf.condition,
            counts=counts,
            contiguity=contiguity,
            absences=before.absences,
            until=leaf.untils,
            within=leaf.within,
            rivals=before.rivals,
        )

    def _still_open(self, group: Pattern, done: int) -> list[int]:
        """Return the steps of an `all` or `any` group that may take the next row.

        Args:
            group: Its steps in any order.
            done: Bits of those that took theirs, which stand in the place of a count.
        """
        if group.order == "any" and done:
            return []
        return [at for at in range(len(group.steps)) if not done >> at & 1]

    def _one_of(
        self,
        ways: Ways,
        group: Pattern,
        place: tuple[int, ...],
        counts: Counts,
        contiguity: Contiguity,
        before: _Before,
    ) -> None:
        """Add the arcs into the steps still open of an `all` or `any` group; the last of `counts`
        says which are done.
        """
        still_open = self._still_open(group, counts[-1])
        leaves = {at: self._leaf_at[(*place, at)] for at in still_open}
        beside = sum({1 << self._leaves[number].condition for number in leaves.values()})
        for at, number in leaves.items():
            done = (*counts[:-1], counts[-1] | 1 << at)
            ways.add(replace(self._arc(number, done, contiguity, before), beside=beside))

    def _repeat(
        self, ways: Ways, step: Step, place: tuple[int, ...], counts: Counts, before: _Before
    ) -> int:
        return self._into(ways, step, place, counts, step.contiguity, before, again=True)

    def _absence(self, step: Step) -> Absence:
        within = None if step.within is None else micros(step.within)
        return Absence(self._condition(step.condition), step.verb == "not_next", within)

    def _reached(self) -> list[State]:
        """Return every state, which also checks them."""
        found: dict[tuple[int, Counts], State] = {}
        waiting = [self.start]
        while waiting:
            for arc in waiting.pop().arcs:
                key = (arc.step, arc.counts)
                if arc.step == END:
                    self._check_end(arc)
                elif key not in found:
                    found[key] = self.state(*key)
                    waiting.append(found[key])
            if len(found) > _MOST_STATES:
                raise PlanError(
                    f"the pattern has more than {_MOST_STATES} states",
                    hint="ask for fewer repetitions, or for (least, None)",
                )
        return [self.start, *found.values()]

    def _check_end(self, end: Arc) -> None:
        lasting = [absence for absence in end.absences if not absence.at_once]
        if not lasting:
            raise PlanError(
                "not_next cannot end a pattern: without a next row nothing completes the match",
                hint="use not_followed_by(..., within=...)",
            )
        if self._pattern.bound is None and any(one.within is None for one in lasting):
            raise PlanError(
                "an absence at the end needs to know for how long",
                hint='give it within="10s", or the pattern .within("1m")',
            )


def _watched(states: list[State]) -> Literal["none", "breaks", "all"]:
    arcs = [arc for state in states[1:] for arc in state.arcs]
    absences = [absence for arc in arcs for absence in arc.absences]
    if any(
        arc.contiguity == "strict" and any(absence.within for absence in arc.absences)
        for arc in arcs
    ):
        return "all"
    strict = any(arc.contiguity == "strict" for arc in arcs)
    return "breaks" if strict or any(absence.at_once for absence in absences) else "none"
