"""Rules: which row breaks which of the rules that people change while it runs."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Final, Literal

import polars as pl
from pydantic import Field

from headrace.core.component import DurationField
from headrace.core.errors import ConstraintError, DataError, PlanError
from headrace.core.protocols import LATE, MAIN, Meaning, Operator, Tables, TableSpec, Task
from headrace.core.time import HIDDEN_SCHEMA
from headrace.operators.columns import ColumnNames
from headrace.operators.project import check_present
from headrace.operators.rulebook.compiled import columns_of, compile_rule
from headrace.operators.rulebook.facts import is_zone_column
from headrace.operators.rulebook.ports import (
    ABSENT,
    ABSENT_SCHEMA,
    CLEARED,
    CLEARED_SCHEMA,
    RULES_PORT,
    VIOLATION_COLUMNS,
)
from headrace.operators.rulebook.windows import PANE
from headrace.operators.rules_task import (
    BUFFER,
    HELD,
    KEYS,
    LAST,
    PAIR,
    PAIRS,
    PANES,
    RULES,
    SINGLES,
    SOURCE,
    STORED,
    VALUES,
    VERSION,
    WINDOWS,
    RulesTask,
)

RULE_ID: Final = "rule_id"


class Rules(Operator):
    """Judge every row by every rule.

    Port main gives one row per row and rule that holds: the row's columns, then `rule_id`,
    `rule_name`, `rule_version`, `severity`, `message`, `metrics` (the numbers that the condition
    names), `key`, and where the condition is one comparison of a number with a constant
    `direction` (`above` or `below`, where the value now lies), `value_before` (the key's last
    known value, null at the first), `value_after` and `threshold`, otherwise nulls. Port
    `cleared` gives one row where a (rule, key) that held definitely does not any more: `is_back`
    is false while the value has not come back by the rule's hysteresis, and one more row, true,
    follows when it has. `reason` says so where the rule was changed, disabled or deleted, or the
    key fell silent. Port `absent` gives one row per row by which rules could not be decided: the
    metrics that are null or NaN, and the number of rules. Port `late` gives rows that came too
    late to be judged. Rows leave in the order in which they are judged, each with its rules by
    `rule_id`.

    Logic has three values, as in SQL: what is absent neither fires nor clears a rule.

    Rules come from a control table with the columns of `headrace.Rule`. A change counts from the
    next row that is judged. A key that held under the old version stays so until a row tells. A
    record that does not fit the rows is refused, and the version before stays.

    Attributes:
        by: Columns that identify what is judged.
        order: `arrival` judges rows at once; those older than the latest of their key are late.
            `event` judges them in event-time order, once the watermark has passed them.
        zones: The column that names the zones of a row, for `in_zone('...')`: a list of ids, or of
            records with `zone_id` (and `event`, where exit, outside and cross do not count).
        forget: A key silent for longer, by event time, has no value before. A day later what
            held for it is cleared.

    State: one row per key; one per key for which rules hold, with these; and per key and window
    60 partial results. Cost: O(rules * rows / 64) words beside reading each distinct metric once;
    equal conditions and parts of conditions of all rules are found once; O(log keys) per key and
    batch.
    """

    kind: ClassVar[str] = "rules"
    control_ports: ClassVar[frozenset[int]] = frozenset({RULES_PORT})

    by: ColumnNames = Field(min_length=1)
    order: Literal["event", "arrival"] = "arrival"
    zones: str | None = None
    forget: DurationField = timedelta(hours=24)

    def outputs(self) -> tuple[str, ...]:
        """Name main, cleared, absent and late."""
        return (MAIN, CLEARED, ABSENT, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Rows of one key belong together."""
        return self.by

    def meaning(self) -> Meaning:
        """By arrival, the order of rows decides."""
        return "rows" if self.order == "event" else "arrival"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of violations, and those of the other ports.

        Raises:
            PlanError: A column is missing, taken, or of a wrong type; a parameter is wrong.
        """
        self._check(*inputs)
        rows = inputs[0]
        return {
            MAIN: pl.Schema([*rows.items(), *VIOLATION_COLUMNS.items()]),
            CLEARED: CLEARED_SCHEMA,
            ABSENT: ABSENT_SCHEMA,
            LATE: rows,
        }

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare rules, keys, what holds, partial results, and the rows that wait."""
        keys = {column: inputs[0][column] for column in self.by}
        rules = {name: inputs[RULES_PORT][name] for name in STORED}
        known = {**keys, LAST: pl.Int64(), VALUES: pl.List(pl.Float64)}
        held = {**keys, LAST: pl.Int64(), PAIRS: pl.List(PAIR)}
        panes = {**keys, SOURCE: pl.String(), LAST: pl.Int64(), PANES: pl.List(PANE)}
        specs = [
            TableSpec(RULES, "keyed", pl.Schema({**rules, VERSION: pl.Int64()}), key=(RULE_ID,)),
            TableSpec(KEYS, "keyed", pl.Schema(known), key=self.by),
            TableSpec(HELD, "keyed", pl.Schema(held), key=self.by),
            TableSpec(WINDOWS, "keyed", pl.Schema(panes), key=(*self.by, SOURCE)),
            TableSpec(SINGLES, "blob"),
        ]
        if self.order == "event":
            waiting = pl.Schema([*inputs[0].items(), *HIDDEN_SCHEMA.items()])
            specs.append(TableSpec(BUFFER, "rows", waiting))
        return tuple(specs)

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return the task; rules are compiled from their table."""
        return RulesTask(self, tables, inputs)

    def _check(self, *inputs: pl.Schema) -> None:
        rows, changes = inputs
        check_present(self.by, rows)
        missing = [name for name in STORED if name not in changes]
        if missing:
            raise PlanError(
                f"the control table of rules has no {', '.join(missing)}",
                hint='declare it as app.control_table("rules", hr.Rule, key="rule_id")',
            )
        nested = [name for name in self.by if rows[name].is_nested()]
        if nested:
            raise PlanError(f"rules: {nested[0]!r} is a list or record, no key")
        taken = [name for name in VIOLATION_COLUMNS if name in rows]
        if taken:
            raise PlanError(
                f"rules: the columns {', '.join(taken)} would be there twice",
                hint="rename them before",
            )
        if self.zones is not None and (
            self.zones not in rows or not is_zone_column(rows[self.zones])
        ):
            raise PlanError(
                f"rules: {self.zones!r} is no list of zones",
                hint="name a list of ids, or the column fences of geofence(...).positions",
            )
        if self.forget <= timedelta(0):
            raise PlanError("rules: forget must be longer than zero")


class FittingRules:
    """Refuses records of rules that do not fit a stream; the gateway asks before it saves.

    Args:
        rules: The step that judges by them.
        rows: Columns of the rows it judges.
    """

    def __init__(self, rules: Rules, rows: pl.Schema) -> None:
        self._zones = rules.zones
        self._columns = columns_of(rows)

    def __call__(self, records: pl.DataFrame) -> None:
        """Check records, as rows of the control table.

        Raises:
            ConstraintError: The first that does not fit; the message says which word, and where.
        """
        for row in records.with_columns(pl.lit(0).alias(VERSION)).iter_rows(named=True):
            try:
                compile_rule(row, self._columns, self._zones)
            except DataError as error:
                raise ConstraintError(error.message, hint=error.hint) from error
