from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from headrace.core.errors import PlanError
from headrace.core.log import OP
from headrace.operators.alerting.hours import ends_at
from headrace.operators.alerting.route import Route
from headrace.operators.alerting.silence import Silence
from headrace.operators.notify import Notify
from tests.oracles.notify import ALERTS, RULES, SILENCES
from tests.unit.operators.drive import Drive, at, timed

MINUTE = 60


def transitions(*given: tuple[Any, ...]) -> pl.DataFrame:
    """Rows of (second, alert, severity, state, transition)."""
    rows = [
        {
            "t": t,
            "alert_id": name,
            "rule_id": f"rule-{name}",
            "key": name[0],
            "severity": severity,
            "state": state,
            "transition": number,
            "previous_state": "firing" if state == "resolved" else None,
            "timestamp": at(t),
        }
        for t, name, severity, state, number in given
    ]
    return timed(pl.DataFrame(rows, schema={"t": pl.Float64(), **ALERTS})).drop("t")


def silence(name: str = "x", **given: Any) -> pl.DataFrame:
    row = {"t": 0, "silence_id": name, OP: "upsert", **given}
    return timed(pl.DataFrame([row], schema={"t": pl.Int64(), **SILENCES})).drop("t")


def rule(name: str, **given: Any) -> pl.DataFrame:
    row = {"t": 0, "rule_id": f"rule-{name}", OP: "upsert", **given}
    return timed(pl.DataFrame([row], schema={"t": pl.Int64(), **RULES})).drop("t")


def drive(**parameters: Any) -> Drive:
    notify = Notify(**{"routes": [Route("hook")], **parameters})
    return Drive(notify, ALERTS, SILENCES, RULES, reopen=True)


def told(run: Drive) -> list[tuple[str, str]]:
    return [(row["notification_id"], row["channel"]) for row in run.take()]


def test_severe_alerts_leave_at_once_and_others_when_their_batch_ends() -> None:
    run = drive()
    rows = transitions((10, "a1", "critical", "firing", 1), (10, "b1", "high", "firing", 1))
    run.step(rows, clock=10)
    assert told(run) == [("rule-a1/a/1", "hook"), ("rule-b1/b/1", "hook")]
    run.step(transitions((20, "c1", "info", "firing", 1)), clock=20)
    run.step(transitions((30, "d1", "warning", "firing", 1)), clock=30)
    assert run.take() == []
    assert run.task.wake().clock == 300_000_000
    run.step(clock=300)
    (row,) = run.take()

    assert row["notification_id"] == "batch/hook/1970-01-01T00:05:00Z"
    assert (row["kind"], row["severity"], row["created"]) == ("batch", "warning", at(300))
    assert [alert["alert_id"] for alert in row["alerts"]] == ["d1", "c1"]


def test_by_event_time_a_batch_ends_with_the_watermark() -> None:
    run = drive(order="event", batch="1m")
    run.step(transitions((10, "a1", "info", "firing", 1)), watermark=59)
    assert run.take() == []
    run.step(watermark=60)

    assert told(run) == [("batch/hook/1970-01-01T00:01:00Z", "hook")]


def test_nobody_is_told_of_pending_falling_or_commented_alerts() -> None:
    run = drive()
    rows = transitions((1, "a1", "high", "pending", 1), (2, "b1", "critical", "firing", 1))
    run.step(rows, clock=2)
    run.take()
    lowered = transitions((3, "b1", "high", "firing", 2)).with_columns(
        reason=pl.lit("severity lowered")
    )
    run.step(lowered, clock=3)
    comment = transitions((4, "b1", "high", "firing", 3)).with_columns(reason=pl.lit("commented"))
    run.step(comment, clock=4)
    never_fired = transitions((5, "a1", "high", "resolved", 2)).with_columns(
        previous_state=pl.lit("pending")
    )
    run.step(never_fired, clock=5)

    assert run.take() == []


def test_routes_choose_channels_and_who_was_told_is_told_of_the_end() -> None:
    run = drive(
        routes=[
            Route("hook", rules="rule-a1"),
            Route(["mail", "hook"], severity_at_least="critical"),
        ]
    )
    run.step(transitions((1, "a1", "high", "firing", 1), (1, "b1", "high", "firing", 1)), clock=1)
    run.step(transitions((2, "a1", "critical", "firing", 2)), clock=2)
    run.step(transitions((3, "a1", "high", "resolved", 3)), clock=3)

    assert told(run) == [
        ("rule-a1/a/1", "hook"),
        ("rule-a1/a/2", "hook"),
        ("rule-a1/a/2", "mail"),
        ("rule-a1/a/3", "hook"),
        ("rule-a1/a/3", "mail"),
    ]


def test_a_silence_keeps_alerts_quiet_until_it_is_over() -> None:
    run = drive()
    run.step(silence(rule="rule-a*", ends_at=at(60)), port=1)
    rows = transitions((1, "a1", "high", "firing", 1), (1, "b1", "high", "firing", 1))
    run.step(rows, clock=1)
    run.step(transitions((2, "a2", "high", "firing", 1)), clock=2)
    run.step(transitions((3, "a2", "high", "resolved", 2)), clock=3)
    assert told(run) == [("rule-b1/b/1", "hook")]
    run.step(clock=59)
    assert run.take() == []
    run.step(clock=60)

    assert told(run) == [("rule-a1/a/1", "hook")]


def test_when_a_silence_is_taken_back_what_still_fires_is_told() -> None:
    run = drive()
    run.step(silence(labels='{"team": "sea"}'), port=1)
    run.step(rule("a1", labels='{"team": "sea", "site": "north"}'), port=2)
    run.step(transitions((1, "a1", "high", "firing", 1), (1, "b1", "high", "firing", 1)), clock=1)
    assert told(run) == [("rule-b1/b/1", "hook")]
    run.step(silence(**{OP: "delete"}), port=1, clock=9)
    (row,) = run.take()

    assert (row["notification_id"], row["created"]) == ("rule-a1/a/1", at(9))


def test_an_open_critical_alert_hides_warnings_of_its_key() -> None:
    run = drive(batch="1m")
    run.step(transitions((1, "a1", "critical", "firing", 1)), clock=1)
    run.step(transitions((2, "a2", "warning", "firing", 1)), clock=2)
    run.step(clock=60)
    assert told(run) == [("rule-a1/a/1", "hook")]
    run.step(transitions((70, "a1", "critical", "resolved", 2)), clock=70)
    run.step(clock=120)

    assert told(run) == [("rule-a1/a/2", "hook"), ("batch/hook/1970-01-01T00:02:00Z", "hook")]


def test_a_batch_that_leaves_anyway_names_what_is_hidden() -> None:
    run = drive(batch="1m")
    run.step(transitions((1, "a1", "critical", "firing", 1)), clock=1)
    rows = transitions((2, "a2", "warning", "firing", 1), (3, "b1", "warning", "firing", 1))
    run.step(rows, clock=3)
    run.take()
    run.step(clock=60)
    (row,) = run.take()

    assert [alert["alert_id"] for alert in row["alerts"]] == ["a2", "b1"]


def test_rule_groups_hide_and_are_told_together() -> None:
    run = drive(batch="1m", group="site")
    for name in ("a1", "b1"):
        run.step(rule(name, group="dives"), port=2)
    rows = transitions(
        (1, "a1", "warning", "firing", 1),
        (2, "b1", "warning", "firing", 1),
        (3, "c1", "warning", "firing", 1),
    ).with_columns(site=pl.Series(["n", "n", "s"]))
    run.step(rows, clock=3)
    run.step(clock=60)

    assert told(run) == [
        ("batch/hook/dives/n/1970-01-01T00:01:00Z", "hook"),
        ("batch/hook/s/1970-01-01T00:01:00Z", "hook"),
    ]


def test_what_nobody_acknowledges_is_escalated_level_by_level() -> None:
    run = drive(escalate_to=["sms", ["sms", "boss"]])
    for name in ("a1", "b1"):
        run.step(rule(name, escalate_after="10s"), port=2)
    run.step(transitions((1, "a1", "high", "firing", 1), (1, "b1", "high", "firing", 1)), clock=1)
    run.step(transitions((5, "b1", "high", "acknowledged", 2)), clock=5)
    run.take()
    run.step(clock=11)
    (row,) = run.take()
    assert (row["notification_id"], row["channel"]) == ("rule-a1/a/1/escalation-1", "sms")
    assert row["kind"] == "escalation"
    run.step(clock=100)
    assert told(run) == [("rule-a1/a/1/escalation-2", "sms"), ("rule-a1/a/1/escalation-2", "boss")]
    run.step(clock=1000)
    run.step(transitions((1000, "a1", "high", "resolved", 2)), clock=1000)

    assert [channel for _, channel in told(run)] == ["hook", "sms", "boss"]


def test_the_end_of_the_input_ends_batches_but_escalates_nothing() -> None:
    run = drive(escalate_to=["sms"])
    run.step(rule("a1", escalate_after="10s"), port=2)
    run.step(transitions((1, "a1", "high", "firing", 1), (1, "b1", "info", "firing", 1)), clock=1)
    run.finish()

    assert [name for name, _ in told(run)] == ["rule-a1/a/1", "batch/hook/1970-01-01T00:05:00Z"]


@pytest.mark.parametrize(
    ("moment", "hours", "weekdays", "zone", "expected"),
    [
        ("2026-01-02T21:59", "22:00-06:00", None, "UTC", None),
        ("2026-01-02T22:00", "22:00-06:00", None, "UTC", "2026-01-03T06:00"),
        ("2026-01-03T05:59", "22:00-06:00", ["fri"], "UTC", "2026-01-03T06:00"),
        ("2026-01-03T22:30", "22:00-06:00", ["fri"], "UTC", None),
        ("2026-01-02T12:00", None, ["fri"], "UTC", "2026-01-03T00:00"),
        ("2026-07-01T06:30", "08:00-09:00", None, "Europe/Berlin", "2026-07-01T07:00"),
        ("2026-01-02T12:00", "00:00-24:00", None, "UTC", "2026-01-03T00:00"),
    ],
)
def test_hours_of_the_week(
    moment: str, hours: str | None, weekdays: list[str] | None, zone: str, expected: str | None
) -> None:
    def micros(text: str) -> int:
        return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000

    wanted = None if expected is None else micros(expected)

    assert ends_at(micros(moment), hours, weekdays, zone) == wanted


@pytest.mark.parametrize(
    ("given", "told_what"),
    [
        ({"hours": "25:00-26:00"}, "no hours"),
        ({"weekdays": ["someday"]}, "no weekday"),
        ({"zone": "Mars"}, "no time zone"),
        ({"starts_at": at(5), "ends_at": at(5)}, "not after"),
    ],
)
def test_a_silence_that_cannot_be_is_refused(given: dict[str, Any], told_what: str) -> None:
    with pytest.raises(ValidationError, match=told_what):
        Silence(silence_id="x", **given)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PlanError, match="alert_id"):
        drive(routes=[Route("hook")]).operator.output_schema(
            pl.Schema({"x": pl.Int64()}), SILENCES, RULES
        )
