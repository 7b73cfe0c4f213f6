"""Alerts: what becomes of violations, from pending to resolved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, Literal

import polars as pl

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import (
    LATE,
    MAIN,
    Meaning,
    Operator,
    Tables,
    TableSpec,
    Task,
)
from headrace.core.time import EVENT_TIME, POSITION, duration
from headrace.operators.alerting.pairs import STATE
from headrace.operators.alerting.transitions import SHOWN, TRANSITION
from headrace.operators.columns import ColumnNames
from headrace.operators.project import check_present
from headrace.operators.rulebook.ports import CLEARED_SCHEMA, VIOLATION_COLUMNS

CLEARED_PORT: Final = 1
RULES_PORT: Final = 2
ACTIONS_PORT: Final = 3
LATE_CLEARED: Final = "late_cleared"

PAIRS: Final = "pairs"
TIMERS: Final = "timers"
RULES: Final = "rules"
FLOORS: Final = "floors"
LOOK: Final = "look"
VIOLATIONS: Final = "violations"
CLEARS: Final = "clears"


class Alerts(Operator):
    """Follow each pair of rule and key from pending to firing, acknowledged, resolved.

    Inputs: violations, rows that clear, changes of the rules, and what people do (`alert_id`,
    `action` acknowledge, resolve or comment, `by`, `note`). Output: one row per transition, with
    the columns of `TRANSITION` and those of `keep`.

    - A violation begins an alert. It fires at once, or `for` later if the rule says so and nothing
      cleared it until then; before that it is pending. There is one open alert per pair.
    - It is resolved by a row that clears it for good (a pending one by any), when its rule goes or
      is disabled, by a person, or when no row of the pair came for `forget`.
    - `cooldown` counts from the end of an alert that fired; an alert that begins meanwhile is
      pending until then, and fires then if it still holds.
    - A severity that rises makes a firing or acknowledged alert firing again; one that falls is
      recorded. A new version of a rule counts from the pair's next violation on.
    - Transitions are numbered 1, 2, ... per pair. A pair that is forgotten leaves its number
      behind for all that share its shard: who begins there counts on from the highest, so
      that no number is given twice.

    A transition's event time is its `timestamp`: that of the row, `begin + for`, or the step clock
    for what people do; it is never before that of the transition before it.

    Attributes:
        order: `event` waits for the watermark, also to fire; `arrival` takes rows as they come
            and fires by the step clock.
        keep: Columns of the violation's row to carry along.
        forget: A pair is given up when no row of it came for this long, at most twice as long.

    State: a row per pair that is open, or was in the last `forget`; a number per shard. Cost:
    O(n log n) for n rows, and 0.1 ms for each change back and forth of the pair that has most.
    What people do costs O(pairs).
    """

    kind: ClassVar[str] = "alerts"
    control_ports: ClassVar[frozenset[int]] = frozenset({RULES_PORT, ACTIONS_PORT})

    order: Literal["event", "arrival"] = "arrival"
    keep: ColumnNames = ()
    forget: DurationField = duration("7d")

    def outputs(self) -> tuple[str, ...]:
        """Name main, and what came late: violations, and rows that clear."""
        return (MAIN, LATE, LATE_CLEARED)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of a transition, and those of late rows.

        Raises:
            PlanError: An input lacks columns, or a column to keep has the name of another.
        """
        violations, cleared, rules, actions = inputs
        check_columns(violations, VIOLATION_COLUMNS, "violations")
        check_columns(cleared, CLEARED_SCHEMA, "rows that clear")
        check_present(("rule_id",), rules)
        check_present(("alert_id", "action", "by", "note"), actions)
        check_present(self.keep, violations)
        twice = [name for name in self.keep if name in TRANSITION]
        if twice:
            raise PlanError(
                f"an alert has a column {twice[0]!r} already",
                hint="rename the row's column before the rules",
            )
        kept = {name: violations[name] for name in self.keep}
        main = pl.Schema({**TRANSITION, **kept})
        return {MAIN: main, LATE: violations, LATE_CLEARED: cleared}

    def key_columns(self) -> tuple[str, ...]:
        """The key of a pair; every shard sees all rules and all that people do."""
        return ("key",)

    def meaning(self) -> Meaning:
        """By arrival, alerts fire when a step's clock says so."""
        return "rows" if self.order == "event" else "step"

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare pairs, when pending ones fire, the rules' times, numbers of shards, when to look
        for pairs to give up, and rows that wait.
        """
        violations, cleared = inputs[0], inputs[1]
        kept = {name: violations[name] for name in self.keep}
        pair: dict[str, pl.DataType] = {"rule_id": pl.String(), "key": pl.String()}
        names = tuple(pair)
        times: dict[str, pl.DataType] = {"wait": pl.Int64(), "cooldown": pl.Int64()}
        pairs = pl.Schema({**pair, "alert_id": pl.String(), **STATE, **SHOWN, **kept})
        timers = pl.Schema({**pair, "due": pl.Int64()})
        rules = pl.Schema({"rule_id": pl.String(), **times})
        floors = pl.Schema({"shard": pl.UInt8(), "number": pl.Int64()})
        hidden = {EVENT_TIME: pl.Int64(), POSITION: pl.Int64()}
        return (
            TableSpec(PAIRS, "keyed", pairs, key=names),
            TableSpec(TIMERS, "keyed", timers, key=names),
            TableSpec(RULES, "keyed", rules, key=("rule_id",)),
            TableSpec(FLOORS, "keyed", floors, key=("shard",)),
            TableSpec(LOOK, "blob"),
            TableSpec(VIOLATIONS, "rows", pl.Schema({**violations, **hidden})),
            TableSpec(CLEARS, "rows", pl.Schema({**cleared, **hidden})),
        )

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - checked before
        """Return the task."""
        from headrace.operators.alerts_task import AlertsTask

        return AlertsTask(self, tables)


def check_columns(schema: pl.Schema, needed: Mapping[str, pl.DataType], what: str) -> None:
    """Check that an input has the columns it needs, by type.

    Raises:
        PlanError: With the first that is missing or of another type.
    """
    for name, dtype in needed.items():
        if schema.get(name) != dtype:
            found = f"is {schema[name]}" if name in schema else "is missing"
            raise PlanError(
                f"{what}: column {name!r} {found}, an alert needs {dtype}",
                hint="alerts are made of what stream.rules() gives",
            )
