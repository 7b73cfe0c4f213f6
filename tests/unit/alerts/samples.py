"""Notifications to send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl

from headrace.alerts.notification import Notification

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
SCHEMA = pl.Schema(
    {
        "notification_id": pl.String(),
        "channel": pl.String(),
        "kind": pl.String(),
        "severity": pl.String(),
        "created": TIME,
        "alerts": pl.List(
            pl.Struct(
                {
                    "alert_id": pl.String(),
                    "rule_id": pl.String(),
                    "rule_name": pl.String(),
                    "severity": pl.String(),
                    "message": pl.String(),
                    "metrics": pl.List(pl.Struct({"metric": pl.String(), "value": pl.Float64()})),
                    "key": pl.String(),
                    "timestamp": TIME,
                    "state": pl.String(),
                    "transition": pl.Int64(),
                }
            )
        ),
    }
)


def alert(key: str = "auv-1", transition: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "alert_id": f"alert-{key}",
        "rule_id": "deep",
        "rule_name": "Too deep",
        "severity": "critical",
        "message": "212.5 m is below 200 m",
        "metrics": [{"metric": "depth_m", "value": 212.5}],
        "key": key,
        "timestamp": NOON,
        "state": "firing",
        "transition": transition,
    } | fields


def row(
    key: str = "auv-1", transition: int = 1, channel: str = "webhook", **fields: Any
) -> dict[str, Any]:
    """One row of the topic of notifications."""
    single = alert(key, transition)
    return {
        "notification_id": f"deep/{key}/{transition}",
        "channel": channel,
        "kind": "transition",
        "severity": "critical",
        "created": NOON,
        "alerts": [single],
    } | fields


def notification(**fields: Any) -> Notification:
    return Notification.of(row(**fields))


def batch(*alerts: dict[str, Any]) -> Notification:
    return notification(
        notification_id="batch/webhook/2026-01-01T12:05:00Z",
        kind="batch",
        severity="warning",
        alerts=list(alerts),
    )
