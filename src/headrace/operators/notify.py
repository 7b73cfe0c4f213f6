"""Notify: which transitions of alerts people are told of, by which channel and when."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import polars as pl
from pydantic import BeforeValidator, Field

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, MAIN, Meaning, Operator, Tables, TableSpec, Task
from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, duration
from headrace.operators.alerting.route import Route, channel_names
from headrace.operators.alerting.transitions import TRANSITION
from headrace.operators.alerts import check_columns
from headrace.operators.columns import ColumnNames
from headrace.operators.project import check_present

SILENCES_PORT: Final = 1
RULES_PORT: Final = 2

OPEN: Final = "open"
CRITICALS: Final = "criticals"
BATCHES: Final = "batches"
SILENCES: Final = "silences"
RULES: Final = "rules"
WAITING: Final = "waiting"

SILENCE_COLUMNS: Final[dict[str, pl.DataType]] = {
    "silence_id": pl.String(),
    **dict.fromkeys(("rule", "key", "severity", "labels"), pl.String()),
    "starts_at": TIME_DTYPE,
    "ends_at": TIME_DTYPE,
    "hours": pl.String(),
    "weekdays": pl.List(pl.String()),
    "zone": pl.String(),
}
RULE_COLUMNS: Final[dict[str, pl.DataType]] = {
    "rule_id": pl.String(),
    "group": pl.String(),
    "escalate_after": pl.String(),
    "labels": pl.String(),
}


def _levels(given: Any) -> Any:
    """Return levels of escalation, each of one or several channels."""
    many = given if isinstance(given, list | tuple) else [given]
    return tuple(channel_names(level) for level in many)


Levels = Annotated[tuple[tuple[str, ...], ...], BeforeValidator(_levels)]


class Notify(Operator):
    """Decide who is told of which transition, and when.

    Inputs: transitions of alerts, changes of the silences, changes of the rules. Output: one row
    per notification and channel: `notification_id`, `channel`, `kind` (transition, batch or
    escalation), `severity` (the highest of its alerts), `created`, `alerts` (the records).

    - An alert is told of when it fires and when its severity rises: to every channel with a route
      that takes it. Who was told is told too when it is acknowledged or resolved. A pending alert,
      a falling severity and a comment are told to nobody.
    - `high` and `critical` leave at once, under `<rule_id>/<key>/<transition>`; `info` and
      `warning` when the `batch` ends in which they came, one notification per channel and group,
      `batch/<channel>/<window end>`, or `batch/<channel>/<group>/<window end>`. Groups are the
      `group` of the rule and the values of the columns `group`.
    - A silence keeps alerts quiet while it lasts, what is in no batch either.
    - While a critical alert is open, `info` and `warning` of the same key (or, with `group`, of the
      same values), or of the same rule group, cause no notification; a batch that leaves anyway
      names them. What still fires afterwards is told then.
    - An alert that is not acknowledged goes to the next level of `escalate_to` each
      `escalate_after` of its rule: `<rule_id>/<key>/<transition>/escalation-<n>`.

    Attributes:
        routes: Which alerts go where.
        escalate_to: Channels of each level of escalation.
        group: Columns of the alerts whose values are told of apart.
        batch: How long less severe alerts are gathered, aligned to the epoch.
        order: `event` waits for the watermark and goes by event time; `arrival` takes transitions
            as they come and goes by the step clock.

    State: a row per open alert and per alert waiting in a batch. Cost: Python per transition, about
    0.1 ms, and O(open alerts) per call: transitions are what people read.
    """

    kind: ClassVar[str] = "notify"
    parallel: ClassVar[bool] = False
    control_ports: ClassVar[frozenset[int]] = frozenset({SILENCES_PORT, RULES_PORT})

    routes: tuple[Route, ...] = Field(min_length=1)
    escalate_to: Levels = ()
    group: ColumnNames = ()
    batch: DurationField = duration("5m")
    order: Literal["event", "arrival"] = "arrival"

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of a notification.

        Raises:
            PlanError: The first input has no alerts, or a column to group by is missing.
        """
        transitions, silences, rules = inputs
        check_columns(transitions, TRANSITION, "transitions")
        check_columns(silences, {"silence_id": pl.String()}, "silences")
        check_present(("rule_id",), rules)
        check_present(self.group, transitions)
        if self.batch <= duration("0s"):
            raise PlanError("batch must be longer than zero", hint='e.g. batch="5m"')
        main = pl.Schema(
            {
                "notification_id": pl.String(),
                "channel": pl.String(),
                "kind": pl.String(),
                "severity": pl.String(),
                "created": TIME_DTYPE,
                "alerts": pl.List(pl.Struct(dict(transitions))),
            }
        )
        return {MAIN: main, LATE: transitions}

    def meaning(self) -> Meaning:
        """By arrival, batches end when a step's clock says so."""
        return "rows" if self.order == "event" else "step"

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare open alerts, open critical ones by scope, batches, silences, rules, rows that
        wait.
        """
        alert = pl.Struct(dict(inputs[0]))
        times = dict.fromkeys(("hold_until", "escalate_at", "escalations"), pl.Int64())
        opened = pl.Schema(
            {
                "alert_id": pl.String(),
                "alert": alert,
                "scopes": pl.List(pl.String()),
                "told": pl.List(pl.String()),
                "held": pl.Boolean(),
                **times,
            }
        )
        batches = pl.Schema(
            {
                "ends": pl.Int64(),
                "channel": pl.String(),
                "group": pl.String(),
                "hidden": pl.Boolean(),
                "alert": alert,
            }
        )
        criticals = pl.Schema({"scope": pl.String(), "count": pl.Int64()})
        hidden = {EVENT_TIME: pl.Int64(), POSITION: pl.Int64()}
        return (
            TableSpec(OPEN, "keyed", opened, key=("alert_id",)),
            TableSpec(CRITICALS, "keyed", criticals, key=("scope",)),
            TableSpec(BATCHES, "rows", batches),
            TableSpec(SILENCES, "keyed", pl.Schema(SILENCE_COLUMNS), key=("silence_id",)),
            TableSpec(RULES, "keyed", pl.Schema(RULE_COLUMNS), key=("rule_id",)),
            TableSpec(WAITING, "rows", pl.Schema({**inputs[0], **hidden})),
        )

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return the task."""
        from headrace.operators.notify_task import NotifyTask

        return NotifyTask(self, tables, self.output_schema(*inputs)[MAIN])
