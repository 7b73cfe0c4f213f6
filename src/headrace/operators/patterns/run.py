"""The automaton at work on the rows of one key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.core.time import END_OF_TIME
from headrace.operators.patterns.arcs import END, Arc, State
from headrace.operators.patterns.automaton import Automaton

Skip = Literal["none", "past_last", "to_next"] | tuple[Literal["to_first", "to_last"], str]


class Node:
    """A row taken by a step, and the one taken before it; partial matches share them."""

    __slots__ = ("before", "row", "step")

    def __init__(self, before: Node | None, step: int, row: int) -> None:
        self.before = before
        self.step = step
        self.row = row

    def chain(self) -> list[Node]:
        """Return the rows taken, in match order."""
        nodes = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.before
        nodes.reverse()
        return nodes


class Partial:
    """A match that may go on.

    Attributes:
        state: What may follow.
        counts: How often each enclosing step has run.
        node: The row taken last.
        start: The first row taken.
        live: Bits of the arcs that no row has ruled out.
        entered: Time of the row before the step that took the last one.
        deadline: When the end is confirmed, while that is among the live arcs.
        fresh: Whether no row came since the last one taken.
        answers: Conditions about rows taken, for the row under test.
    """

    __slots__ = (
        *("answers", "counts", "deadline", "entered"),
        *("fresh", "live", "node", "start", "state"),
    )

    def __init__(  # noqa: PLR0913 - a record
        self,
        state: State,
        counts: tuple[int, ...],
        node: Node,
        start: int,
        live: int,
        entered: int,
        deadline: int,
        *,
        fresh: bool,
    ) -> None:
        self.state = state
        self.counts = counts
        self.node = node
        self.start = start
        self.live = live
        self.entered = entered
        self.deadline = deadline
        self.fresh = fresh
        self.answers: dict[int, bool] = {}


@dataclass(frozen=True, slots=True)
class Done:
    """A complete match.

    Attributes:
        node: The row taken last.
        start: The first row taken.
        end: When it was complete, microseconds.
        absent: Whether an absence completed it.
        assignment: The rows of each step.
    """

    node: Node
    start: int
    end: int
    absent: bool
    assignment: tuple[tuple[int, ...], ...]

    @property
    def completion(self) -> tuple[object, ...]:
        """What matches of a key are ordered by when they leave."""
        # Within one time, absences are confirmed when its rows have passed.
        return (self.end, self.absent, -1 if self.absent else self.node.row, *self.rank)

    @property
    def rank(self) -> tuple[object, ...]:
        """What tells matches that complete together apart."""
        return (self.start, self.assignment)


class Rules:
    """What all keys share.

    Args:
        automaton: The compiled pattern.
        within: Longest match, microseconds.
        skip: Which matches a match rules out.
        asking: Bits of the conditions that look at rows taken.
    """

    def __init__(self, automaton: Automaton, within: int, skip: Skip, asking: int) -> None:
        self.automaton = automaton
        self.within = within
        self.skip = skip
        self.asking = asking
        self.start = automaton.start
        self.overlap = automaton.overlap
        self.steps = len(automaton.steps)
        self.timed = skip != "none" or automaton.ends_in_absence
        self.skip_step = automaton.steps[skip[1]] if isinstance(skip, tuple) else END


class KeyRun:
    """The matches of one key.

    Rows are numbers that ascend in (event time, position) order.

    Args:
        rules: What all keys share.
        times: Event time of each row.

    Attributes:
        open: Partial matches.
        waiting: Complete ones that an open one may still rule out.
        given: Those that have left since this was made.
    """

    def __init__(self, rules: Rules, times: Sequence[int]) -> None:
        self._rules = rules
        self._times = times
        self.open: list[Partial] = []
        self.waiting: list[Done] = []
        self.given: list[Done] = []

    def questions(self, bits: int) -> Iterator[tuple[Partial, int]]:
        """Yield the conditions that look at rows taken, with the match they ask about, on which
        the fate of a row depends. `bits` are the conditions that the row may satisfy.
        """
        bits &= self._rules.asking
        for partial in self.open if bits else ():
            asked = 0
            for arc in partial.state.arcs:
                if partial.live & arc.bit:
                    asked |= arc.asks
            asked &= bits
            while asked:
                lowest = asked & -asked
                asked ^= lowest
                yield partial, lowest.bit_length() - 1

    def take(self, row: int, bits: int, first: int) -> None:
        """Take the next row.

        Args:
            row: Its number.
            bits: Conditions that it satisfies, or may satisfy where they look at rows taken;
                the `answers` of the partial matches then say.
            first: Conditions that it satisfies where nothing is taken yet.
        """
        time = self._times[row]
        if self.open:
            self.reach(time)
        begin = first and (self._rules.overlap or not self.open)
        done: list[Done] = []
        kept: list[Partial] = []
        for partial in self.open:
            taken = self._offer(partial, time, bits)
            if partial.live:
                kept.append(partial)
            for arc in taken:
                self._follow(partial, arc, row, time, kept, done)
        if begin:
            for arc in self._begin(first):
                self._follow(None, arc, row, time, kept, done)
        self.open = kept
        self._complete(done)

    def reach(self, time: int) -> None:
        """Let event time pass everything before `time`."""
        rules = self._rules
        oldest = time - rules.within
        kept: list[Partial] = []
        done: list[Done] = []
        for partial in self.open:
            end = partial.state.end
            if end is not None and partial.live & end.bit and partial.deadline < time:
                done.append(self._done(partial.node, partial.start, partial.deadline, absent=True))
                partial.live &= ~end.bit
            if partial.live and self._times[partial.start] >= oldest:
                kept.append(partial)
        self.open = kept
        self._complete(done)

    def next_time(self) -> int:
        """Return when event time next matters; without timers, when nothing is left to match."""
        within = self._rules.within
        if not self._rules.timed:
            return max(self._times[partial.start] + within for partial in self.open)
        soonest = END_OF_TIME
        for partial in self.open:
            end = partial.state.end
            waits = end is not None and partial.live & end.bit
            over = partial.deadline if waits else self._times[partial.start] + within
            soonest = min(soonest, over)
        return soonest

    def _begin(self, first: int) -> list[Arc]:
        taken = [
            arc
            for arc in self._rules.start.arcs
            if first >> arc.condition & 1 and not any(first >> end & 1 for end in arc.until)
        ]
        bits = sum(arc.bit for arc in taken)
        return [arc for arc in taken if not bits & arc.rivals]

    def _offer(self, partial: Partial, time: int, bits: int) -> list[Arc]:
        """Return the arcs that take a row, and rule out those that it breaks."""
        live = partial.live
        taken: list[Arc] = []
        takes = 0
        for arc in partial.state.arcs:
            if not live & arc.bit:
                continue
            if arc.absences or arc.until or arc.within is not None:
                verdict = self._judge(partial, arc, time, bits)
                if verdict != "offered":
                    if verdict == "broken":
                        live &= ~arc.bit
                    continue
            met = self._holds(partial, arc.condition, bits)
            if met:
                takes |= arc.bit
                taken.append(arc)
            if arc.contiguity == "strict" or (
                arc.contiguity == "relaxed" and (met or self._met_beside(partial, arc, bits))
            ):
                live &= ~arc.bit
        partial.live = live & ~sum(arc.bit for arc in partial.state.arcs if arc.rivals & takes)
        partial.fresh = False
        return [arc for arc in taken if not arc.rivals & takes]

    def _judge(
        self, partial: Partial, arc: Arc, time: int, bits: int
    ) -> Literal["offered", "passed", "broken"]:
        """Say whether an arc may take a row, is broken by it, or lets it pass."""
        last = self._times[partial.node.row]
        offered = arc.step != END
        for absence in arc.absences:
            lasts = absence.within is None or time <= last + absence.within
            counts = partial.fresh if absence.at_once else lasts
            if counts and self._holds(partial, absence.condition, bits):
                return "broken"
            if absence.within is not None and lasts:
                offered = False
        if not offered:
            return "passed"
        if any(self._holds(partial, condition, bits) for condition in arc.until):
            return "broken"
        if arc.within is not None and time > arc.within + (partial.entered if arc.again else last):
            return "broken"
        return "offered"

    def _met_beside(self, partial: Partial, arc: Arc, bits: int) -> bool:
        beside = arc.beside & bits
        return beside != 0 and any(
            self._holds(partial, number, bits)
            for number in range(beside.bit_length())
            if beside >> number & 1
        )

    def _holds(self, partial: Partial, condition: int, bits: int) -> bool:
        if not bits >> condition & 1:
            return False
        return not self._rules.asking >> condition & 1 or partial.answers[condition]

    def _follow(
        self,
        partial: Partial | None,
        arc: Arc,
        row: int,
        time: int,
        kept: list[Partial],
        done: list[Done],
    ) -> None:
        state = self._rules.automaton.state(arc.step, arc.counts)
        if partial is None:
            node, start, entered = Node(None, arc.step, row), row, time
        else:
            node, start = Node(partial.node, arc.step, row), partial.start
            entered = partial.entered if arc.again else self._times[partial.node.row]
        if state.accepts:
            done.append(self._done(node, start, time, absent=False))
        if state.arcs:
            grown = self.restore(state, arc.counts, node, start, state.live, entered, fresh=True)
            if grown.live:
                kept.append(grown)

    def restore(
        self,
        state: State,
        counts: tuple[int, ...],
        node: Node,
        start: int,
        live: int,
        entered: int,
        *,
        fresh: bool,
    ) -> Partial:
        """Return a partial match, with the moment at which its end is confirmed."""
        last, over = self._times[node.row], self._times[start] + self._rules.within
        deadline = END_OF_TIME
        if state.end is not None:
            lasting = [one for one in state.end.absences if not one.at_once]
            deadline = max(over if one.within is None else last + one.within for one in lasting)
            if deadline > over:
                live &= ~state.end.bit
        return Partial(state, counts, node, start, live, entered, deadline, fresh=fresh)

    def _done(self, node: Node, start: int, end: int, *, absent: bool) -> Done:
        rows: list[list[int]] = [[] for _ in range(self._rules.steps)]
        for one in node.chain():
            rows[one.step].append(one.row)
        return Done(node, start, end, absent, tuple(tuple(mine) for mine in rows))

    def remember(self, node: Node, start: int, end: int, *, absent: bool) -> None:
        """Put back a complete match that waits."""
        self.waiting.append(self._done(node, start, end, absent=absent))

    def _complete(self, done: list[Done]) -> None:
        if done:
            if len(done) > 1:
                done.sort(key=lambda one: one.completion)
                # Repetitions of groups may give the same rows to the same steps in several ways.
                done = list({one.completion: one for one in done}.values())
            if self._rules.skip == "none":
                self.given.extend(done)
                return
            self.waiting.extend(done)
            self.waiting.sort(key=lambda one: (one.start, one.completion))
        if self.waiting:
            self._release()

    def _release(self) -> None:
        while self.waiting:
            match = self.waiting[0]
            if any(partial.start < match.start for partial in self.open):
                return
            self.given.append(match)
            limit = self._limit(match)
            self.open = [partial for partial in self.open if partial.start >= limit]
            self.waiting = [one for one in self.waiting[1:] if one.start >= limit]

    def _limit(self, match: Done) -> int:
        """Return the first row at which matches may begin that `match` does not rule out."""
        skip = self._rules.skip
        if skip == "past_last":
            return match.node.row + 1
        if skip == "to_next":
            return match.start + 1
        rows = match.assignment[self._rules.skip_step]
        if not rows:
            return match.start
        return rows[0] if skip[0] == "to_first" else rows[-1]
