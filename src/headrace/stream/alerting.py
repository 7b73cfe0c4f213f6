"""Alerts: from violations to who is told of them, with all that people see and change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from headrace.core.errors import ConfigError, PlanError
from headrace.core.time import Duration, duration, positive_duration
from headrace.operators.columns import column_names
from headrace.operators.rulebook.ports import CLEARED, CLEARED_SCHEMA, RULES_PORT
from headrace.plan.graph import Node, Ref
from headrace.stream.handle import Columns, Handle, Order, TimeColumn

if TYPE_CHECKING:
    from headrace.alerts.channel import Channel
    from headrace.operators.alerting.route import Route
    from headrace.stream.decided import HasStream
    from headrace.stream.stream import Stream

ALERTS: Final = "alerts"
TRANSITIONS: Final = "alert_transitions"
ACTIONS: Final = "alert_actions"
SILENCES: Final = "silences"

_DISTURBING: Final = frozenset({"email", "sms", "push"})
"""Kinds of channels that by default are told of `high` and `critical` alone."""


class Alerting(Handle):
    """Alerts of violations."""

    __slots__ = ()

    def alerts(  # noqa: PLR0913 - what people decide about alerts
        self,
        channels: Sequence[Channel] = (),
        *,
        routes: Sequence[Route] | None = None,
        escalate_to: Sequence[str | Sequence[str]] = (),
        group: Columns | None = None,
        keep: Columns | None = None,
        batch: Duration = "5m",
        order: Order | None = None,
        cleared: Stream | None = None,
        rules: HasStream | None = None,
        forget: Duration = "7d",
        remember: Duration = "90d",
        name: str | None = None,
    ) -> Stream:
        """Make alerts of violations, and tell people of them.

        The application gets the topic `alert_transitions`, the table `alerts` (each alert as it
        is now), the control tables `alert_actions` and `silences`, and where there are channels or
        routes the topic `notifications`, which is delivered. The gateway serves `/alerts` and
        `/silences`. See `headrace.operators.alerts.Alerts` and `headrace.operators.notify.Notify`.

        Args:
            channels: Where to, `hr.channel.webhook(...)` and so on.
            routes: Which alerts go to which channels; by default all to every channel, but only
                `high` and `critical` to e-mail, SMS and push.
            escalate_to: Channels, level by level, of alerts that nobody acknowledges.
            group: Columns of the violations; alerts of other values are told of apart, and a
                critical alert hides warnings of the same values instead of the same key.
            keep: Further columns of the violations to carry along.
            batch: How long warnings and infos are gathered.
            order: As that of `rules`, which is the default.
            cleared: Where conditions no longer hold; by default what the rules behind this
                stream say.
            rules: The control table of the rules; by default that of the rules behind this stream.
            forget: An alert without rows for longer is resolved.
            remember: How long after its last change an alert stays in the table `alerts`.
            name: Identity of the state.

        Returns:
            The topic of transitions.

        Raises:
            PlanError: The stream has no violations; the message names the column.
            ConfigError: A route names a channel that is not there, or alerts are made twice.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> columns = {"vehicle": pl.String, "time": utc, "depth_m": pl.Float64}
            >>> dives = app.topic("dives", columns, time="time")
            >>> rules = app.control_table("rules", hr.Rule, key="rule_id")
            >>> _ = dives.rules(rules, by="vehicle").alerts()
            >>> deep = {"rule_id": "deep", "condition": "depth_m > 200", "severity": "high"}
            >>> rows = pl.DataFrame(
            ...     {"vehicle": "a", "time": [0, 1, 2], "depth_m": [250.0, 260.0, 150.0]}
            ... ).cast({"time": utc})
            >>> outputs = hr.testing.run(app, {"rules": hr.Rule.frame([deep]), "dives": rows})
            >>> outputs["alert_transitions"]["state"].to_list()
            ['firing', 'resolved']
        """
        from headrace.operators.alerting.action import AlertAction
        from headrace.operators.alerting.silence import Silence
        from headrace.operators.alerts import Alerts

        app = self.graph.app
        if app is None:
            raise PlanError("the stream belongs to no application")
        if app.declares(ALERTS):
            raise ConfigError(
                f"application {app.name!r} has alerts already, or something of that name",
                hint="put violations together with union() before alerts()",
            )
        judged = self._rules_node()
        grouped = column_names(group)
        operator = Alerts(
            order=order or getattr(judged and judged.operator, "order", "arrival"),
            keep=tuple(dict.fromkeys([*column_names(keep), *grouped])),
            forget=positive_duration(forget, "forget"),
            name=name,
        )
        rule_changes = self._rule_changes(judged, rules)
        actions = app.control_table(
            ACTIONS, AlertAction, key="alert_id", description="What people do about alerts."
        )
        made = self.then(
            operator,
            cleared if cleared is not None else self._cleared(judged),
            rule_changes,
            actions.stream,
            time=TimeColumn("timestamp"),
        )
        self.graph.times[made.ref.node] = self.time
        topic = app.output(
            TRANSITIONS, made, description="What became of alerts, change by change."
        )
        app.table(
            ALERTS, made, key="alert_id", ttl=remember, description="Each alert as it is now."
        )
        silences = app.control_table(
            SILENCES, Silence, key="silence_id", description="What nobody is told of for a while."
        )
        ways = _routes(channels, routes, escalate_to)
        if ways:
            from headrace.operators.notify import Notify

            notify = Notify(
                routes=ways,
                escalate_to=tuple(escalate_to),
                group=grouped,
                batch=duration(batch),
                order=operator.order,
            )
            told = made.then(notify, silences.stream, rule_changes, time=TimeColumn("created"))
            self.graph.times[told.ref.node] = made.time
            app.notify(told, channels)
        return topic

    def _rules_node(self) -> Node | None:
        """Return the rules that the rows of this stream come from."""
        node = self.graph.nodes.get(self.ref.node)
        while node is not None and node.operator.kind != "rules":
            node = self.graph.nodes.get(node.inputs[0].node)
        return node

    def _cleared(self, judged: Node | None) -> Stream:
        if judged is not None:
            return self._at(Ref(judged.id, CLEARED), judged.output_schemas[CLEARED], None)
        return self._nothing(CLEARED_SCHEMA)

    def _rule_changes(self, judged: Node | None, rules: HasStream | None) -> Stream:
        if rules is not None:
            return rules.stream
        if judged is not None:
            ref = judged.inputs[RULES_PORT]
            return self._at(ref, judged.input_schemas[RULES_PORT], None)
        return self._nothing(pl.Schema({"rule_id": pl.String()}))

    def _nothing(self, schema: pl.Schema) -> Stream:
        """Return a stream of these columns that has no rows."""
        whole = self._at(self.ref, self.schema, self.time)
        nothing = whole.filter(pl.lit(value=False))
        empty = {column: pl.lit(None, dtype).alias(column) for column, dtype in schema.items()}
        return nothing.select(*empty.values())


def _routes(
    channels: Sequence[Channel],
    routes: Sequence[Route] | None,
    escalate_to: Sequence[str | Sequence[str]],
) -> tuple[Route, ...]:
    from headrace.operators.alerting.route import Route

    levels = [[level] if isinstance(level, str) else level for level in escalate_to]
    escalated = {name for level in levels for name in level}
    if routes is None:
        ways = tuple(
            Route(
                channel.name,
                severity_at_least="high" if channel.kind in _DISTURBING else "info",
            )
            for channel in channels
        )
    else:
        ways = tuple(routes)
    known = {channel.name for channel in channels}
    named = {name for way in ways for name in way.channels} | escalated
    missing = sorted(named - known) if channels else []
    if missing:
        raise ConfigError(
            f"there is no channel {missing[0]!r}",
            hint=f"channels are {', '.join(sorted(known))}; give one a name with name=",
        )
    return ways
