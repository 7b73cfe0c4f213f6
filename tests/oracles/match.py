"""Matches by definition: every word of the pattern, every way to give it rows, each rule checked.

No automaton: a pattern is written out as the sequences of rows it may take, a row is chosen for
each place, and what lies between two rows is looked at when the second is chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from hypothesis import strategies as st

import headrace as hr
from headrace.core.time import EVENT_TIME, TIME_DTYPE, micros
from headrace.operators.match import Match
from headrace.operators.patterns.pattern import VERB_CONTIGUITY, Pattern, Step
from headrace.testing.laws import Case, InputSpec

Row = dict[str, Any]
Taken = Mapping[str, Sequence[Row]]
Holds = Callable[[Row, Taken], bool | None]
DAY = 86_400_000_000


@dataclass(frozen=True)
class Take:
    """A place in a word that takes a row.

    `run` is the number of the visit to its step, `among` the steps that could take it as well.
    """

    step: Step
    contiguity: str
    untils: tuple[str, ...]
    run: int = 0
    among: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leave:
    """A greedy step is left or passed by, though it might still take a row."""

    by: tuple[Take, ...]


Token = Take | Leave | Step
Word = tuple[Token, ...]


@dataclass(frozen=True)
class Found:
    """A match: the rows of each step, by number, and when it is complete."""

    rows: Mapping[str, tuple[int, ...]]
    order: tuple[int, ...]
    end: int
    absent: bool


@dataclass
class Enumeration:
    """All matches of one key.

    Args:
        pattern: Its structure; conditions are read from `holds`.
        holds: Condition of each step by name; that of its until as `name.until`, of a group's
            as `group.until`.
        rows: The key's rows in order.
        bound: Longest match, microseconds.
    """

    pattern: Pattern
    holds: Mapping[str, Holds]
    rows: Sequence[Row]
    bound: int
    found: dict[Any, Found] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for word in Words(self.pattern, len(self.rows)):
            self._fill(word, 0, {}, (), [])

    def _time(self, row: int) -> int:
        return int(self.rows[row][EVENT_TIME])

    def _holds(self, name: str, row: int, taken: Mapping[str, list[int]]) -> bool:
        if name not in self.holds:
            return not name.endswith(".until")
        seen = {step: [self.rows[one] for one in rows] for step, rows in taken.items()}
        return bool(self.holds[name](self.rows[row], seen))

    def _fill(
        self,
        word: Word,
        at: int,
        taken: dict[str, list[int]],
        order: tuple[int, ...],
        runs: list[tuple[int, int]],
    ) -> None:
        """Choose rows for the places of `word` from number `at` on.

        Args:
            word: Places and what is said between them.
            at: The next one.
            taken: Rows by step so far.
            order: Rows in match order.
            runs: The last visit to a step, and the time of the row before it.
        """
        between = list(itertools.takewhile(lambda one: not isinstance(one, Take), word[at:]))
        at += len(between)
        if at == len(word):
            self._end(between, taken, order, runs)
            return
        take = word[at]
        assert isinstance(take, Take)
        for row in range(order[-1] + 1 if order else 0, len(self.rows)):
            if order and self._time(row) > self._time(order[0]) + self.bound:
                return
            visit = runs
            if not visit or visit[-1][0] != take.run:
                before = self._time(order[-1]) if order else self._time(row)
                visit = [*runs, (take.run, before)]
            if not self._may(take, row, taken, order, runs, visit[-1][1], between):
                continue
            name = str(take.step.name)
            more = {**taken, name: [*taken.get(name, []), row]}
            self._fill(word, at + 1, more, (*order, row), visit)

    def _may(
        self,
        take: Take,
        row: int,
        taken: Mapping[str, list[int]],
        order: tuple[int, ...],
        runs: Sequence[tuple[int, int]],
        before: int,
        between: Sequence[Token],
    ) -> bool:
        name, within = str(take.step.name), take.step.within
        if not self._holds(name, row, taken):
            return False
        if within is not None and self._time(row) > before + micros(within):
            return False
        start = order[-1] + 1 if order else row
        for token in between:
            if isinstance(token, Leave):
                if any(self._wants(x, start, row, taken, order, runs) for x in token.by):
                    return False
            elif isinstance(token, Step):
                after = self._after_absence(token, start, row, taken, order[-1])
                if after is None:
                    return False
                start = after
        skipped = range(start, row)
        if any(self._holds(until, x, taken) for until in take.untils for x in (*skipped, row)):
            return False
        broken = take.contiguity == "relaxed" and any(
            self._holds(other, x, taken) for other in (name, *take.among) for x in skipped
        )
        return not order or not (broken or (take.contiguity == "strict" and skipped))

    def _after_absence(
        self, absence: Step, start: int, row: int, taken: Mapping[str, list[int]], last: int
    ) -> int | None:
        """Return the first row that the next step may look at, None where it may not take `row`.

        Args:
            absence: What must not come.
            start: The first row it might look at by what was said before.
            row: The one it wants to take.
            taken: Rows by step so far.
            last: The one taken before.
        """
        forbidden = range(last + 1, row + 1)
        if absence.verb == "not_next":
            forbidden = forbidden[:1]
        elif absence.within is not None:
            over = self._time(last) + micros(absence.within)
            if self._time(row) <= over:
                return None
            forbidden = range(last + 1, next(x for x in forbidden if self._time(x) > over))
            start = max(start, forbidden.stop)
        return None if any(self._holds(str(absence.name), x, taken) for x in forbidden) else start

    def _wants(
        self,
        take: Take,
        start: int,
        last: int,
        taken: Mapping[str, list[int]],
        order: tuple[int, ...],
        runs: Sequence[tuple[int, int]],
    ) -> bool:
        """Whether a step that was left could take one of the rows `start` to `last`."""
        over = None
        if order and take.step.within is not None:
            again = runs[-1][0] == take.run
            over = (runs[-1][1] if again else self._time(order[-1])) + micros(take.step.within)
        for row in range(start, last + 1):
            if over is not None and self._time(row) > over:
                return False
            if any(self._holds(until, row, taken) for until in take.untils):
                return False
            if self._holds(str(take.step.name), row, taken):
                return True
            if take.contiguity == "strict" and order:
                return False
        return False

    def _end(
        self,
        between: Sequence[Token],
        taken: dict[str, list[int]],
        order: tuple[int, ...],
        runs: Sequence[tuple[int, int]],
    ) -> None:
        absences = [token for token in between if isinstance(token, Step)]
        end, over = self._time(order[-1]), self._time(order[0]) + self.bound
        if absences:
            lasting = [one for one in absences if one.verb != "not_next"]
            overs = [over if x.within is None else end + micros(x.within) for x in lasting]
            end = max(overs)
            if end > over:
                return
            after = [x for x in range(order[-1] + 1, len(self.rows)) if self._time(x) <= end]
            for one in absences:
                within = overs[lasting.index(one)] if one in lasting else end
                mine = [x for x in after if self._time(x) <= within]
                if one.verb == "not_next":
                    mine = mine[:1]
                if any(self._holds(str(one.name), x, taken) for x in mine):
                    return
            start, last = order[-1] + 1, max(after, default=order[-1])
            for token in between:
                if isinstance(token, Leave) and any(
                    self._wants(one, start, last, taken, order, runs) for one in token.by
                ):
                    return
                if isinstance(token, Step) and token.within is not None:
                    passed = self._time(order[-1]) + micros(token.within)
                    start += sum(self._time(x) <= passed for x in range(start, last + 1))
        rows = {str(x.name): tuple(taken.get(str(x.name), ())) for x in self.pattern.leaves()}
        self.found[tuple(rows.values())] = Found(rows, order, end, bool(absences))

    def matches(self, skip: Any = "none") -> list[Found]:
        """Return the matches that `skip` leaves, in order of completion."""

        def completion(one: Found) -> Any:
            last = -1 if one.absent else one.order[-1]
            return (one.end, one.absent, last, one.order[0], tuple(one.rows.values()))

        found = sorted(self.found.values(), key=completion)
        if skip == "none":
            return found
        kept: list[Found] = []
        limit = 0
        for one in sorted(found, key=lambda one: (one.order[0], completion(one))):
            if one.order[0] < limit:
                continue
            kept.append(one)
            if skip == "past_last":
                limit = max(limit, one.order[-1] + 1)
            elif skip == "to_next":
                limit = max(limit, one.order[0] + 1)
            elif rows := one.rows[skip[1]]:
                limit = max(limit, rows[0] if skip[0] == "to_first" else rows[-1])
        return sorted(kept, key=completion)


@dataclass
class Words:
    """Every sequence of rows that `pattern` may take, up to `most` rows."""

    pattern: Pattern
    most: int
    runs: Iterator[int] = field(default_factory=itertools.count)

    def __iter__(self) -> Iterator[Word]:
        return (word for word in self.sequence(self.pattern.steps, None, ()) if takes(word))

    def sequence(
        self, steps: Sequence[Step], first: str | None, untils: tuple[str, ...]
    ) -> list[Word]:
        """Write out steps; `first` says how the first row follows where the group does."""
        told: list[Word] = [()]
        for step in steps:
            longer = []
            for word in told:
                follow = first if first is not None and not takes(word) else None
                longer += [(*word, *more) for more in self.visits(step, follow, untils)]
            told = [word for word in longer if takes(word) <= self.most]
        return told

    def visits(self, step: Step, first: str | None, untils: tuple[str, ...]) -> list[Word]:
        """Write out each number of times that a step may run."""
        if step.absent:
            return [(step,)]
        follow = first or VERB_CONTIGUITY[step.verb]
        least, bound = step.times
        told: list[Word] = [left(step, follow, untils)] if step.optional else []
        run = next(self.runs)
        bodies: list[Word] = [()]
        for count in range(1, (bound or self.most) + 1):
            again = self.once(step, follow if count == 1 else step.contiguity, untils, run)
            longer = [(*body, *more) for body in bodies for more in again]
            bodies = [body for body in longer if takes(body) <= self.most]
            if count >= least:
                goes_on = bound is None or count < bound
                end = left(step, step.contiguity, untils, run) if goes_on else ()
                told += [(*body, *end) for body in bodies]
        return told

    def once(self, step: Step, how: str, untils: tuple[str, ...], run: int) -> list[Word]:
        """Write out one run of a step."""
        mine = inner(step, untils)
        if step.group is None:
            return [(Take(step, how, mine, run),)]
        if step.group.order == "sequence":
            return self.sequence(step.group.steps, how, mine)
        chosen = len(step.group.steps) if step.group.order == "all" else 1
        told: list[Word] = []
        for order in itertools.permutations(step.group.steps, chosen):
            names = [str(one.name) for one in order]
            rest = [str(one.name) for one in step.group.steps if str(one.name) not in names]
            takes_of = [
                Take(one, how if at == 0 else step.contiguity, mine, run, (*names[at:], *rest))
                for at, one in enumerate(order)
            ]
            told.append(tuple(takes_of))
        return told


def left(step: Step, how: str, untils: tuple[str, ...], run: int = -1) -> Word:
    return (Leave(tuple(firsts(step, how, untils, run))),) if step.greedy else ()


def firsts(step: Step, how: str, untils: tuple[str, ...], run: int) -> Iterator[Take]:
    """Yield the places that may take the first row of a step."""
    mine = inner(step, untils)
    if step.group is None:
        yield Take(step, how, mine, run)
        return
    for one in step.group.steps:
        if not one.absent:
            yield from firsts(one, how, mine, -1)
            if not one.optional and step.group.order == "sequence":
                return


def inner(step: Step, untils: tuple[str, ...]) -> tuple[str, ...]:
    return untils if step.until is None else (*untils, f"{step.name or 'group'}.until")


def takes(word: Word) -> int:
    return sum(isinstance(token, Take) for token in word)


Measure = Callable[[Mapping[str, Sequence[Row]], Sequence[Row]], Any]


def by_hand(
    operator: Match, holds: Mapping[str, Holds], measures: Mapping[str, Measure]
) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    (schema,) = (operator.output_schema(SCHEMA)["main"],)

    def oracle(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        keys: dict[Any, list[Row]] = {}
        for row in rows.to_dicts():
            keys.setdefault(tuple(row[name] for name in operator.by), []).append(row)
        bound = micros(operator.pattern.bound or "24h")
        answers = []
        for key, mine in keys.items():
            for one in Enumeration(operator.pattern, holds, mine, bound).matches(operator.skip):
                steps = {name: [mine[row] for row in found] for name, found in one.rows.items()}
                order = [mine[row] for row in one.order]
                said = [measure(steps, order) for measure in measures.values()]
                answers.append((*key, order[0][EVENT_TIME], one.end, *said, one.end))
        numbers = {"match_start": pl.Int64(), "match_end": pl.Int64(), EVENT_TIME: pl.Int64()}
        frame = pl.DataFrame(answers, {**schema, **numbers}, orient="row")
        return {"main": frame.cast({"match_start": TIME_DTYPE, "match_end": TIME_DTYPE})}

    return oracle


SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "c": pl.String(), "x": pl.Float64()})
COLUMNS = {
    "k": st.sampled_from(["a", None]),
    "c": st.sampled_from(["a", "a", "b", "b", "n", None]),
    "x": st.sampled_from([1.0, 2.0, 4.5, None]),
}
A, B, N = (pl.col("c") == letter for letter in "abn")
LETTERS: dict[str, Holds] = {
    name: lambda row, _, letter=name[0]: row["c"] == letter  # type: ignore[misc] # a default
    for name in ("a", "b", "n", "a2", "b2", "n2")
}


def rises(row: Row, taken: Taken) -> bool:
    before = taken["a"][-1]["x"] if taken.get("a") else None
    return row["c"] == "b" and None not in (row["x"], before) and row["x"] > before


def case(
    name: str,
    pattern: Pattern,
    skip: Any = "none",
    by: tuple[str, ...] = ("k",),
    holds: Mapping[str, Holds] | None = None,
) -> Case:
    operator = Match(
        pattern=pattern,
        by=by,
        skip=skip,
        measures=(
            ("rows", hr.matched().count()),
            ("xs", hr.matched().collect("x")),
            ("sum", hr.matched("a").sum("x")),
            ("late", hr.matched("a").last("time", 1)),
            ("more", hr.matched("a").count("x") + hr.matched("b").count()),
        ),
    )

    def total(steps: Mapping[str, Sequence[Row]], _: Sequence[Row]) -> float | None:
        present = [row["x"] for row in steps["a"] if row["x"] is not None]
        return sum(present) if present else None

    measures: dict[str, Measure] = {
        "rows": lambda _, order: len(order),
        "xs": lambda _, order: [row["x"] for row in order],
        "sum": total,
        "late": lambda steps, _: steps["a"][-2]["time"] if len(steps["a"]) > 1 else None,
        "more": lambda steps, _: sum(row["x"] is not None for row in steps["a"]) + len(steps["b"]),
    }
    answer = by_hand(operator, {**LETTERS, **(holds or {})}, measures)
    return Case(operator, (InputSpec(SCHEMA, COLUMNS, max_rows=10),), answer, name)


CASES = [
    case(
        "many, none of n, rise",
        hr.Pattern.begin("a", A, times=(1, None))
        .not_followed_by("n", N)
        .followed_by("b", B & (pl.col("x") > hr.matched("a").last("x")))
        .within("8s"),
        holds={"b": rises},
    ),
    case(
        "strict, past last",
        hr.Pattern.begin("a", A, times=(1, 3), contiguity="strict")
        .next("b", B, optional=True)
        .within("30s"),
        "past_last",
    ),
    case(
        "groups, to first, no key",
        hr.Pattern.begin(
            hr.Pattern.begin("a", A).followed_by_any("b", B, optional=True),
            times=(1, 2),
            contiguity="strict",
        )
        .not_next("n", N)
        .followed_by("n2", N | B, greedy=True)
        .within("20s"),
        ("to_first", "n2"),
        by=(),
        holds={"n2": lambda row, _: row["c"] in ("b", "n")},
    ),
    case(
        "absence at the end",
        hr.Pattern.begin("a", A)
        .followed_by("b", B, times=(0, None), within="5s", until=N)
        .not_followed_by("n", N, within="2s")
        .within("12s"),
        "to_next",
        holds={"b.until": LETTERS["n"]},
    ),
]
