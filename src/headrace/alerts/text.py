"""Notifications as people read them: a title, a text, a priority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from headrace.alerts.notification import SEVERITIES, Notification

MOST_LINES: Final = 20
"""Alerts of a batch that are spelled out; the rest is counted."""

_PRIORITIES: Final = dict(zip(SEVERITIES, (2, 3, 4, 5), strict=True))


def title_of(notification: Notification) -> str:
    """Return one line: how bad, what, where."""
    alert = notification.single
    if alert is None:
        counts = Counter(str(one.get("severity")) for one in notification.alerts)
        found = ", ".join(f"{counts[word]} {word}" for word in reversed(SEVERITIES) if counts[word])
        count = len(notification.alerts)
        return f"[{notification.severity}] {count} alert{'s' * (count != 1)}: {found}"
    again = " (not acknowledged)" if notification.kind == "escalation" else ""
    name = alert.get("rule_name") or alert.get("rule_id")
    return _plain(
        f"[{notification.severity}] {name}: {alert.get('key')} {alert.get('state')}{again}"
    )


def text_of(notification: Notification) -> str:
    """Return what there is to say, a line per alert, at most `MOST_LINES` of them."""
    lines = [_line(alert) for alert in notification.alerts[:MOST_LINES]]
    more = len(notification.alerts) - MOST_LINES
    if more > 0:
        lines.append(f"and {more} more")
    return "\n".join(lines)


def priority_of(notification: Notification) -> int:
    """Return 2 (info), 3 (warning), 4 (high) or 5 (critical), as ntfy and others count."""
    return _PRIORITIES.get(notification.severity, 3)


def _line(alert: Mapping[str, Any]) -> str:
    name = alert.get("rule_name") or alert.get("rule_id")
    moment = alert.get("timestamp")
    when = f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment is not None else "no time"
    parts = [f"{when} {alert.get('severity')} {alert.get('state')}: {name}, {alert.get('key')}"]
    if alert.get("message"):
        parts.append(str(alert["message"]))
    values = ", ".join(f"{one['metric']} = {one['value']}" for one in alert.get("metrics") or ())
    if values:
        parts.append(f"({values})")
    if alert.get("by"):
        note = f": {alert['note']}" if alert.get("note") else ""
        parts.append(f"by {alert['by']}{note}")
    return _plain(" ".join(parts))


def _plain(text: str) -> str:
    """Return `text` as one line: a key or message may hold anything."""
    return " ".join(text.split())
