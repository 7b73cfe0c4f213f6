"""Rows of a key that follow one another as a pattern says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal

import polars as pl
from pydantic import field_validator, model_validator

from headrace.core.component import DurationField, Expression
from headrace.core.errors import PlanError
from headrace.core.protocols import (
    LATE,
    MAIN,
    Operator,
    Out,
    Tables,
    TableSpec,
    Task,
    Wake,
    on_time,
)
from headrace.core.time import EVENT_TIME, TIME_DTYPE, micros, positive_duration
from headrace.operators.columns import ColumnNames
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.patterns.automaton import Automaton
from headrace.operators.patterns.conditions import BITS, Conditions, check_measures
from headrace.operators.patterns.matched import Taken, references
from headrace.operators.patterns.matches import Matcher, Matches
from headrace.operators.patterns.pattern import Pattern, longest
from headrace.operators.patterns.run import Rules
from headrace.operators.project import check_present
from headrace.operators.row_wise import check_row_wise, check_visible, row_wise_schema

MATCH_COLUMNS: Final = {"match_start": TIME_DTYPE, "match_end": TIME_DTYPE}

_WAITING: Final = "waiting"


class Match(Operator):
    """Give one row per match of `pattern`: `by`, `match_start`, `match_end`, the measures.

    Rows wait for the watermark; those before it go to `late`. A match is complete with its last
    row, or where an absence ends it, when the watermark passes its deadline; that is `match_end`
    and its event time. With `skip` other than `none` it then waits until no partial match that
    began earlier is left.

    Attributes:
        pattern: What to look for.
        by: Key columns; none means one group.
        skip: Which matches a match rules out: `none`; `past_last`, those that begin at or before
            its last row; `to_next`, at or before its first; `("to_first", name)` and
            `("to_last", name)`, before the first or last row of that step.
        measures: Output column and expression over `headrace.matched`.
        forget: The longest match where the pattern has no `within`.

    State: the rows taken by partial matches, which share them, and rows that satisfy a condition
    and wait (all rows, where the pattern has `next`, `not_next` or strict contiguity). A partial
    match is dropped when `within` is over. Cost: conditions are evaluated over whole frames as
    rows come; a row that satisfies one costs O(p) in Python for p partial matches of its key, of
    which `any` and open-ended steps may make many. A condition that looks at rows taken is
    evaluated once per row that its other parts let through, over all keys together.
    """

    kind: ClassVar[str] = "match"
    pattern: Pattern
    by: ColumnNames = ()
    skip: Literal["none", "past_last", "to_next"] | tuple[Literal["to_first", "to_last"], str] = (
        "none"
    )
    measures: tuple[tuple[str, Expression], ...] = ()
    forget: DurationField = timedelta(hours=24)

    @field_validator("skip", mode="before")
    @classmethod
    def _as_pair(cls, value: Any) -> Any:
        pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        if pair not in ("none", "past_last", "to_next") and not (
            isinstance(pair, tuple) and len(pair) == 2 and pair[0] in ("to_first", "to_last")  # noqa: PLR2004 - a pair
        ):
            raise PlanError(
                f"skip={value!r} is none of the ways to go on after a match",
                hint='none, past_last, to_next, ("to_first", name) or ("to_last", name)',
            )
        return pair

    @model_validator(mode="after")
    def _check(self) -> Match:
        positive_duration(self.forget, "forget")
        automaton = Automaton(self.pattern)
        if isinstance(self.skip, tuple) and self.skip[1] not in automaton.steps:
            raise PlanError(
                f"skip names the step {self.skip[1]!r}, which takes no rows",
                hint=f"the steps are {', '.join(automaton.steps)}",
            )
        longest(self.pattern, self.forget)
        check_measures(self.measures)
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`."""
        return self.by

    def hold(self) -> timedelta:
        """Return the longest match where a match may leave later than its last row."""
        ends_in_absence = Automaton(self.pattern).ends_in_absence
        if self.skip == "none" and not ends_in_absence:
            return timedelta(0)
        return longest(self.pattern, self.forget)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the key, the span of the match and the measures, and the input's for late."""
        (schema,) = inputs
        check_present(self.by, schema)
        taken = {*self.by, *MATCH_COLUMNS}
        for name, _ in self.measures:
            check_visible(name)
            if name in taken:
                raise PlanError(
                    f"two columns are called {name!r}", hint="give the measure another name"
                )
            taken.add(name)
        matcher = self._matcher(schema)
        matcher.conditions.check()
        exprs = [expr.alias(name) for name, expr in self.measures]
        measured = row_wise_schema(exprs, matcher.taken.schema)
        check_row_wise(exprs, matcher.taken.schema)
        keys = {name: schema[name] for name in self.by}
        return {MAIN: pl.Schema({**keys, **MATCH_COLUMNS, **measured}), LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare partial matches, and rows that wait."""
        matcher = self._matcher(inputs[0])
        return (*matcher.tables(), TableSpec(_WAITING, "rows", matcher.conditions.schema))

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the partial matches of each key."""
        return _MatchTask(self._matcher(inputs[0]), tables)

    def _matcher(self, schema: pl.Schema) -> Matcher:
        automaton = Automaton(self.pattern)
        expressions = [*automaton.conditions, *(measure for _, measure in self.measures)]
        wanted = dict.fromkeys(one for expr in expressions for one in references(expr))
        taken = Taken(list(wanted), automaton.steps, schema)
        conditions = Conditions(automaton.conditions, self.by, taken, schema)
        within = micros(longest(self.pattern, self.forget))
        rules = Rules(automaton, within, self.skip, conditions.asking)
        return Matcher(automaton, rules, self.by, conditions, taken, self.measures, schema)


class _MatchTask(Task):
    def __init__(self, matcher: Matcher, tables: Tables) -> None:
        self._conditions = matcher.conditions
        self._watches = matcher.automaton.watches != "none"
        self._tables = tables
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))
        self._matches = Matches(matcher, tables)

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        taken, late = on_time(frame, self._tables.watermark, EVENT_TIME)
        if taken.height:
            # Judged as they come, so that few have to wait and a row that raises is found.
            rows = self._conditions.judge(taken)
            if not self._watches:
                rows = rows.filter(pl.col(BITS) != 0)
            if rows.height:
                self._waiting.add(rows, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        found = self._matches.find(self._waiting.release(watermark), watermark)
        if found is not None:
            yield MAIN, found

    def finish(self) -> Iterable[Out]:
        return self.advance(self._tables.watermark)

    def wake(self) -> Wake:
        """Ask for the first watermark that releases a row, or lets a match end or be dropped."""
        rows, matches = self._waiting.wake().event_time, self._matches.next_time
        times = [
            time for time in (rows, None if matches is None else matches + 1) if time is not None
        ]
        return Wake(min(times)) if times else Wake()
