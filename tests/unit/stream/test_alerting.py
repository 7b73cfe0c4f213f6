import polars as pl
import pytest

import headrace as hr
from headrace.alerts.channel import Channel
from headrace.core.errors import ConfigError, PlanError
from headrace.core.time import TIME_DTYPE
from headrace.operators.notify import Notify


def dives() -> tuple[hr.App, hr.Stream, hr.ControlTable]:
    app = hr.App("dives")
    schema = {"auv": pl.String, "time": pl.Datetime("us", "UTC"), "depth_m": pl.Float64}
    topic = app.topic("dives", schema, time="time")
    return app, topic, app.control_table("rules", hr.Rule, key="rule_id")


def hook(name: str = "webhook") -> Channel:
    return hr.channel.webhook("https://hooks.example.com/a", name=name)


def routes(app: hr.App) -> list[hr.Route]:
    operators = [node.operator for node in app.plan().nodes]
    (notify,) = [one for one in operators if isinstance(one, Notify)]
    return list(notify.routes)


def test_by_default_what_disturbs_people_is_told_of_severe_alerts_only() -> None:
    app, topic, rules = dives()
    mail = hr.channel.email("smtp://mail.example.com", "a@example.com", "b@example.com")
    topic.rules(rules, by="auv").alerts(channels=[hook(), mail])

    assert [(way.channels, way.severity_at_least) for way in routes(app)] == [
        (("webhook",), "info"),
        (("email",), "high"),
    ]


def test_alerts_of_filtered_violations_find_their_rules() -> None:
    app, topic, rules = dives()
    severe = topic.rules(rules, by="auv", order="event").filter(pl.col("severity") == "high")
    severe.alerts()
    given = hr.Rule.frame(
        [{"rule_id": "deep", "condition": "depth_m > 200", "severity": "high", "for": "2s"}]
    )
    rows = pl.DataFrame({"auv": "a", "time": [0, 3, 5], "depth_m": [250.0, 250.0, 0.0]})
    seconds = (pl.col("time") * 1_000_000).cast(TIME_DTYPE)

    outputs = hr.testing.run(app, {"rules": given, "dives": rows.with_columns(seconds)})

    states = outputs["alert_transitions"].select("state", "timestamp").rows()
    assert [(state, time.timestamp()) for state, time in states] == [
        ("pending", 0),
        ("firing", 2),
        ("resolved", 5),
    ]
    assert "notifications" not in outputs


def test_violations_of_other_origin_need_only_the_columns() -> None:
    app, topic, _ = dives()
    metrics = pl.lit([], dtype=pl.List(pl.Struct({"metric": pl.String, "value": pl.Float64})))
    nothing = [
        pl.lit(None, pl.Float64).alias(name)
        for name in ("value_before", "value_after", "threshold")
    ]
    made = topic.filter(pl.col("depth_m") > 200).with_columns(
        *nothing,
        rule_id=pl.lit("deep"),
        rule_name=pl.lit("deep"),
        rule_version=pl.lit(1, pl.Int64),
        severity=pl.lit("high"),
        message=pl.lit("deep"),
        metrics=metrics,
        key=pl.col("auv"),
        direction=pl.lit(None, pl.String),
    )
    made.alerts()
    rows = pl.DataFrame({"auv": "a", "time": [0, 1], "depth_m": [250.0, 250.0]})

    outputs = hr.testing.run(app, {"dives": rows.with_columns(pl.col("time").cast(TIME_DTYPE))})

    assert outputs["alert_transitions"]["state"].to_list() == ["firing"]


def test_what_is_not_there_is_refused() -> None:
    _, topic, rules = dives()
    violations = topic.rules(rules, by="auv")
    with pytest.raises(PlanError, match="rule_id"):
        topic.alerts()
    _, topic, rules = dives()
    violations = topic.rules(rules, by="auv")
    with pytest.raises(ConfigError, match="no channel 'mail'"):
        violations.alerts(channels=[hook()], routes=[hr.Route("mail")])
    _, topic, rules = dives()
    violations = topic.rules(rules, by="auv")
    violations.alerts()
    with pytest.raises(ConfigError, match="has alerts already"):
        violations.alerts(batch="1m")


def test_the_page_may_show_alerts() -> None:
    app, topic, rules = dives()
    topic.rules(rules, by="auv").alerts()
    app.view.alerts(limit=50)

    (view,) = app.views
    assert view == {
        "kind": "alerts",
        "name": "alerts",
        "title": "Alerts",
        "place": "side",
        "table": "alerts",
        "limit": 50,
    }
