"""A notification as the topic `notifications` carries it, and what became of sending it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import quote

import polars as pl

from headrace.core.errors import PlanError

NOTIFICATIONS: Final = "notifications"
"""The topic that notifications are written to, unless the application names another."""
COLUMNS: Final = ("notification_id", "channel", "kind", "severity", "created", "alerts")
SEVERITIES: Final = ("info", "warning", "high", "critical")

DELIVERIES: Final = "deliveries"
DELIVERIES_SCHEMA: Final = pl.Schema(
    {
        "notification_id": pl.String(),
        "channel": pl.String(),
        "attempt": pl.Int64(),
        "outcome": pl.String(),
        "status": pl.Int64(),
        "reason": pl.String(),
        "at": pl.Datetime("us", "UTC"),
        "duration_ms": pl.Float64(),
    }
)
"""One row per attempt: `outcome` is delivered, failed (it is tried again) or dead (it is not)."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One row of the topic of notifications.

    Attributes:
        id: `<rule_id>/<key>/<transition>`, `batch/<route>/<window end>` or
            `<rule_id>/<key>/<transition>/escalation-<n>`.
        kind: transition, batch or escalation.
        severity: The highest of its alerts.
        created: When it was decided, by the engine's clock.
        alerts: The alert records, as they were then.
    """

    id: str
    channel: str
    kind: str
    severity: str
    created: datetime
    alerts: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Notification:
        """Return what a row of the topic says."""
        return cls(
            id=row["notification_id"],
            channel=row["channel"],
            kind=row["kind"],
            severity=row["severity"],
            created=row["created"],
            alerts=tuple(row["alerts"] or ()),
        )

    @property
    def single(self) -> Mapping[str, Any] | None:
        """The alert it is about, None for a batch."""
        return self.alerts[0] if self.kind != "batch" and len(self.alerts) == 1 else None

    @property
    def idempotency_key(self) -> str:
        """The id in visible ASCII, which a header can carry.

        The parts of a transition's key are escaped each by itself: rule `a/b` with key `c` and
        rule `a` with key `b/c` are two alerts.
        """
        alert = self.single
        if alert is None or alert.get("rule_id") is None:
            return quote(self.id, safe="/:+@,=")
        parts = [alert["rule_id"], alert.get("key"), alert.get("transition")]
        if self.kind != "transition":
            parts.append(self.id.rpartition("/")[2])
        return "/".join(_escaped(part) for part in parts)

    @property
    def lane(self) -> tuple[str, str] | None:
        """Notifications of one lane leave one after the other: those of one rule and key.

        So nobody reads "resolved" before "firing". A batch has no lane.
        """
        alert = self.single
        if alert is None:
            return None
        return (str(alert.get("rule_id")), str(alert.get("key")))

    @property
    def rank(self) -> int:
        """How urgent it is; a word that is no severity counts as the least."""
        return SEVERITIES.index(self.severity) if self.severity in SEVERITIES else 0


def _escaped(part: object) -> str:
    return quote("" if part is None else str(part), safe=":+@,=")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one attempt.

    Attributes:
        outcome: `delivered`; `failed` may succeed when tried again; `refused` never will.
        status: HTTP status or SMTP reply code, None where there was none.
        reason: Why it failed, or what to know of a success, in a few words.
        retry_after_s: How long the other side asks us to wait.
    """

    outcome: Literal["delivered", "failed", "refused"]
    status: int | None = None
    reason: str = ""
    retry_after_s: float | None = None


def check_columns(topic: str, schema: pl.Schema) -> None:
    """Check that a topic carries notifications.

    Raises:
        PlanError: A column is missing, or `alerts` is not a list of records.
    """
    missing = [column for column in COLUMNS if column not in schema]
    if missing:
        raise PlanError(
            f"topic {topic!r} carries no notifications: it lacks {', '.join(missing)}",
            hint=f"a topic of notifications has {', '.join(COLUMNS)}",
        )
    alerts = schema["alerts"]
    if not isinstance(alerts, pl.List) or not isinstance(alerts.inner, pl.Struct):
        raise PlanError(
            f"column 'alerts' of topic {topic!r} is {alerts}", hint="it must be a list of structs"
        )
