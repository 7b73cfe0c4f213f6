from __future__ import annotations

import pytest

from headrace.alerts.text import priority_of, text_of, title_of
from tests.unit.alerts.samples import alert, batch, notification


def test_a_title_says_how_bad_what_and_where() -> None:
    assert title_of(notification()) == "[critical] Too deep: auv-1 firing"


def test_an_escalation_says_why_it_comes() -> None:
    again = notification(kind="escalation", notification_id="deep/auv-1/1/escalation-2")

    assert title_of(again).endswith("(not acknowledged)")
    assert again.idempotency_key == "deep/auv-1/1/escalation-2"


def test_who_acknowledged_is_told_with_the_note() -> None:
    what = notification(alerts=[alert(state="acknowledged", by="kim", note="on my\nway")])

    assert text_of(what).endswith("(depth_m = 212.5) by kim: on my way")


def test_a_batch_counts_by_severity_worst_first() -> None:
    many = batch(alert(severity="info"), alert(severity="warning"), alert(severity="info"))

    assert title_of(many) == "[warning] 3 alerts: 1 warning, 2 info"
    assert text_of(many).count("\n") == 2


def test_an_alert_of_which_little_is_known_can_be_told() -> None:
    what = notification(alerts=[{"rule_id": "deep", "key": None, "transition": 1}])

    assert text_of(what) == "no time None None: deep, None"


@pytest.mark.parametrize(
    ("severity", "priority"), [("info", 2), ("warning", 3), ("high", 4), ("critical", 5), ("x", 3)]
)
def test_priorities_follow_severities(severity: str, priority: int) -> None:
    assert priority_of(notification(severity=severity)) == priority
