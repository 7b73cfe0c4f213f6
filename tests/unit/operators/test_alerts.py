from typing import Any

import numpy as np
import polars as pl
import pytest

from headrace.core.errors import PlanError
from headrace.core.log import OP
from headrace.core.time import EVENT_TIME
from headrace.operators.alerting.transitions import alert_id
from headrace.operators.alerts import Alerts
from tests.oracles.alerts import ACTIONS, CLEARS, RULES, VIOLATIONS, Walk
from tests.unit.operators.drive import SECOND, Drive, at, timed

RULE = pl.Schema({name: dtype for name, dtype in RULES.items() if name != OP})


def violations(*given: tuple[float, str, str], rule: str = "r") -> pl.DataFrame:
    rows = [
        {"t": t, "time": at(t), "rule_id": rule, "key": key, "severity": severity, "site": f"s{t}"}
        for t, key, severity in given
    ]
    frame = pl.DataFrame(rows, schema={"t": pl.Float64(), **VIOLATIONS})
    return timed(frame).drop("t")


def cleared(*given: tuple[float, str, bool], reason: str | None = None) -> pl.DataFrame:
    rows = [
        {"t": t, "rule_id": "r", "key": key, "is_back": back, "value_after": t, "reason": reason}
        for t, key, back in given
    ]
    return timed(pl.DataFrame(rows, schema={"t": pl.Float64(), **CLEARS}), start=1000).drop("t")


def rule(**given: Any) -> pl.DataFrame:
    row = {"rule_id": "r", "enabled": True, OP: "upsert", **given}
    return timed(pl.DataFrame([{"t": 0, **row}], schema={"t": pl.Int64(), **RULES})).drop("t")


def action(id_: str, what: str, by: str = "ann") -> pl.DataFrame:
    row = {"t": 0, "alert_id": id_, "action": what, "by": by, "note": "seen"}
    return timed(pl.DataFrame([row], schema={"t": pl.Int64(), **ACTIONS})).drop("t")


def drive(**parameters: Any) -> Drive:
    alerts = Alerts(**{"order": "arrival", **parameters})
    return Drive(alerts, VIOLATIONS, CLEARS, RULE, ACTIONS, reopen=True)


def told(run: Drive) -> list[tuple[Any, ...]]:
    return [(row["state"], row["timestamp"].timestamp(), row["transition"]) for row in run.take()]


def test_without_for_an_alert_fires_at_its_first_row_and_only_then() -> None:
    run = drive(keep=("site",))
    run.step(violations((1, "a", "warning"), (2, "a", "warning"), (2, "b", "warning")), clock=2)
    run.step(violations((3, "a", "warning")), clock=3)
    rows = run.take()

    assert [(row["key"], row["state"], row["previous_state"]) for row in rows] == [
        ("a", "firing", None),
        ("b", "firing", None),
    ]
    assert rows[0]["alert_id"] == alert_id("r", "a", 1)
    assert rows[0]["site"] == "s1"
    assert rows[0]["reason"] is None


def test_for_ends_by_the_clock_without_a_row_of_the_key() -> None:
    run = drive(keep=("site",))
    run.step(rule(for_="10s"), port=2)
    run.step(violations((1, "a", "high"), (4, "a", "high")), clock=4)
    assert told(run) == [("pending", 1, 1)]
    assert run.task.wake().clock == 11 * SECOND
    run.step(clock=10.5)
    assert told(run) == []
    run.step(clock=60)
    (row,) = run.take()

    assert (row["state"], row["timestamp"], row["transition"]) == ("firing", at(11), 2)
    assert row["previous_state"] == "pending"
    # It shows the latest row before it fired.
    assert row["site"] == "s4"


def test_by_event_time_for_ends_with_the_watermark() -> None:
    run = drive(order="event")
    run.step(rule(for_="10s"), port=2, clock=1000)
    run.step(violations((1, "a", "high")), watermark=1)
    assert told(run) == []
    run.step(watermark=10)
    assert told(run) == [("pending", 1, 1)]
    run.step(watermark=11)

    assert told(run) == [("firing", 11, 2)]


def test_what_clears_before_for_has_passed_ends_a_pending_alert() -> None:
    run = drive()
    run.step(rule(for_="10s"), port=2)
    run.step(violations((1, "a", "high")), clock=1)
    run.step(cleared((5, "a", False)), port=1, clock=5)
    run.step(violations((6, "a", "high")), clock=6)
    run.step(clock=15)
    assert told(run) == [("pending", 1, 1), ("resolved", 5, 2), ("pending", 6, 3)]
    run.step(clock=16)

    assert told(run) == [("firing", 16, 4)]


def test_a_row_at_the_very_end_of_for_comes_after_the_alert() -> None:
    run = drive()
    run.step(rule(for_="10s"), port=2)
    run.step(violations((1, "a", "high")), clock=1)
    run.step(cleared((11, "a", True)), port=1, clock=11)

    assert told(run) == [("pending", 1, 1), ("firing", 11, 2), ("resolved", 11, 3)]


def test_within_the_band_of_hysteresis_an_alert_goes_on() -> None:
    run = drive()
    run.step(violations((1, "a", "high")), clock=1)
    run.step(cleared((2, "a", False)), port=1, clock=2)
    run.step(violations((3, "a", "high")), clock=3)
    assert told(run) == [("firing", 1, 1)]
    run.step(cleared((4, "a", False), (5, "a", True)), port=1, clock=5)
    (row,) = run.take()

    assert (row["state"], row["timestamp"]) == ("resolved", at(5))
    assert (row["reason"], row["value_after"]) == ("condition no longer holds", 5.0)


def test_rows_that_clear_and_rows_that_violate_are_taken_in_their_order() -> None:
    run = drive(order="event")
    run.step(violations((1, "a", "high"), (3, "a", "high"), (5, "a", "high")))
    run.step(cleared((2, "a", True), (4, "a", True)), port=1, watermark=6)

    assert [state for state, _, _ in told(run)] == ["firing", "resolved"] * 2 + ["firing"]


def test_cooldown_counts_from_the_end_and_then_what_holds_fires() -> None:
    run = drive()
    run.step(rule(cooldown="10s"), port=2)
    run.step(violations((1, "a", "high")), clock=1)
    run.step(cleared((2, "a", True)), port=1, clock=2)
    run.step(violations((3, "a", "high")), clock=3)
    run.step(cleared((4, "a", True)), port=1, clock=4)
    run.step(violations((6, "a", "high")), clock=6)
    assert [state for state, _, _ in told(run)][2:] == ["pending", "resolved", "pending"]
    run.step(clock=12)
    assert told(run) == [("firing", 12, 6)]
    run.step(cleared((13, "a", True)), port=1, clock=13)
    run.step(violations((23, "a", "high")), clock=23)

    assert told(run) == [("resolved", 13, 7), ("firing", 23, 8)]


def test_a_rising_severity_fires_again_and_a_falling_one_is_recorded() -> None:
    run = drive()
    run.step(violations((1, "a", "warning"), (2, "a", "critical"), (3, "a", "info")), clock=3)
    rows = run.take()

    assert [(row["state"], row["severity"], row["reason"]) for row in rows] == [
        ("firing", "warning", None),
        ("firing", "critical", "severity raised"),
        ("firing", "info", "severity lowered"),
    ]
    assert len({row["alert_id"] for row in rows}) == 1


def test_people_acknowledge_comment_and_resolve() -> None:
    run = drive()
    run.step(violations((1, "a", "warning")), clock=1)
    run.take()
    first = alert_id("r", "a", 1)
    run.step(action(first, "acknowledge"), port=3, clock=2)
    (row,) = run.take()
    assert (row["state"], row["previous_state"]) == ("acknowledged", "firing")
    assert (row["by"], row["note"], row["timestamp"]) == ("ann", "seen", at(2))
    run.step(action(first, "acknowledge"), port=3, clock=3)
    run.step(action("unknown", "resolve"), port=3, clock=3)
    assert run.take() == []
    run.step(action(first, "comment", "bob"), port=3, clock=4)
    (row,) = run.take()
    assert (row["state"], row["reason"], row["by"]) == ("acknowledged", "commented", "bob")
    run.step(violations((5, "a", "critical")), clock=5)
    assert [(r["state"], r["previous_state"]) for r in run.take()] == [("firing", "acknowledged")]
    run.step(action(first, "resolve"), port=3, clock=6)
    run.step(violations((7, "a", "critical")), clock=7)
    resolved, again = run.take()

    assert (resolved["state"], resolved["alert_id"], resolved["transition"]) == (
        "resolved",
        first,
        5,
    )
    assert (again["state"], again["alert_id"]) == ("firing", alert_id("r", "a", 6))


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"enabled": False}, "rule disabled"), ({OP: "delete"}, "rule deleted")],
)
def test_a_rule_that_goes_resolves_its_alerts(change: dict[str, Any], reason: str) -> None:
    run = drive()
    run.step(rule(for_="5s"), port=2)
    run.step(violations((1, "a", "high")), clock=1)
    run.step(violations((1, "b", "high"), rule="other"), clock=1)
    run.take()
    run.step(rule(**change), port=2, clock=3)
    (row,) = run.take()
    assert (row["state"], row["reason"], row["timestamp"]) == ("resolved", reason, at(3))
    run.step(clock=100)
    run.step(cleared((101, "a", True), reason="rule changed"), port=1, clock=101)

    assert run.take() == []


def test_a_new_version_keeps_the_state_and_counts_from_the_next_row() -> None:
    run = drive()
    run.step(rule(for_="60s"), port=2)
    run.step(violations((1, "a", "high")), clock=1)
    run.step(rule(for_="2s"), port=2, clock=10)
    assert told(run) == [("pending", 1, 1)]
    run.step(violations((12, "a", "high")), clock=12)
    assert told(run) == [("firing", 12, 2)]
    run.step(cleared((13, "a", True), reason="rule changed"), port=1, clock=13)

    assert [row["reason"] for row in run.take()] == ["rule changed"]


def test_an_alert_without_rows_is_given_up_but_its_numbers_are_not_given_again() -> None:
    run = drive(order="event", forget="10s")
    run.step(violations((1, "a", "high")), watermark=2)
    run.step(watermark=19.9)
    assert told(run) == [("firing", 1, 1)]
    run.step(watermark=20)
    (row,) = run.take()
    assert (row["reason"], row["timestamp"]) == ("no more rows", at(20))
    run.step(watermark=60)
    assert run.tables.row_counts()["pairs"] == 0
    run.step(violations((61, "a", "high")), watermark=62)
    (row,) = run.take()

    assert (row["transition"], row["alert_id"]) == (3, alert_id("r", "a", 3))


def test_late_rows_leave_apart() -> None:
    run = drive(order="event")
    run.step(violations((10, "a", "high")), watermark=8)
    run.step(violations((7, "a", "high")))
    run.step(cleared((7, "a", True), (9, "a", True)), port=1)
    run.finish()

    assert [row["time"] for row in run.take("late")] == [at(7)]
    assert [row["value_after"] for row in run.take("late_cleared")] == [7.0]
    assert [row["state"] for row in run.take()] == ["firing"]


def test_by_arrival_one_row_at_a_time_the_walk_says_the_same() -> None:
    drawn = np.random.default_rng(7)
    events: list[dict[str, Any]] = []
    run = drive()
    for name, wait, cooldown in (("r", "3s", "10s"), ("s", None, "4s")):
        run.step(rule(rule_id=name, for_=wait, cooldown=cooldown), port=2)
    now = 0.0
    for _ in range(150):
        now += float(drawn.choice([0.0, 0.5, 1.0, 4.0]))
        key, name = str(drawn.choice(["a", "b"])), str(drawn.choice(["r", "s"]))
        if drawn.random() < 0.6:
            frame, port = violations((now, key, str(drawn.choice(["info", "high"]))), rule=name), 0
        else:
            back = bool(drawn.random() < 0.7)
            frame, port = cleared((now, key, back)).with_columns(rule_id=pl.lit(name)), 1
        events += frame.to_dicts()
        run.step(frame, clock=now, port=port)
    rows = Walk({"r": (3 * SECOND, 10 * SECOND), "s": (0, 4 * SECOND)}, 1 << 50, ()).run(events, 0)
    run.step(clock=now + 100)
    shown = ["alert_id", "state", "previous_state", "transition", "severity", "reason"]
    expected = pl.DataFrame([{n: r[n] for n in (*shown, EVENT_TIME)} for r in rows])
    order = [EVENT_TIME, "alert_id", "transition"]

    assert expected.height > 50
    assert run.frame().select(expected.columns).sort(order).equals(expected.sort(order))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PlanError, match="rule_name"):
        Alerts().output_schema(
            VIOLATIONS.to_frame().drop("rule_name").schema, CLEARS, RULE, ACTIONS
        )
    with pytest.raises(PlanError, match="'message'"):
        Alerts(keep=("message",)).output_schema(VIOLATIONS, CLEARS, RULE, ACTIONS)
