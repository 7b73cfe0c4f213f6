from __future__ import annotations

import json
import re

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import ConfigError, PlanError
from headrace.operators.alerting.route import Route
from headrace.plan.explain import explain_mermaid, explain_text
from headrace.stream.app import App
from headrace.stream.stream import Stream
from tests.unit.alerts.samples import SCHEMA


def declare() -> tuple[App, Stream]:
    app = hr.App("shop")
    rows = app.topic("rows", SCHEMA, time="created")
    return app, rows.filter(pl.col("channel").is_not_null())


def test_channels_are_in_the_plan_by_name_only() -> None:
    app, rows = declare()
    channels = [
        hr.channel.webhook("https://hooks.example.com/path", secret="HOOK"),  # noqa: S106 - its name
        hr.channel.email("smtp://mail.example.com", "a@example.com", "b@example.com", name="mail"),
    ]
    app.notify(rows, channels)

    plan = app.plan()

    assert plan.to_json()["deliveries"] == [
        {"topic": "notifications", "channel": "webhook", "kind": "webhook"},
        {"topic": "notifications", "channel": "mail", "kind": "email"},
    ]
    assert [output.name for output in plan.outputs] == ["notifications"]
    assert "  channel mail (email) <- notifications" in explain_text(plan)
    assert "example.com" not in json.dumps(plan.to_json())
    drawn = explain_mermaid(plan)
    (told,) = re.findall(r'^  (n\d+)\[\\"notifications"', drawn, re.MULTILINE)
    (mail,) = re.findall(r'^  (n\d+)>"mail"\]', drawn, re.MULTILINE)
    assert f"  {told} --> {mail}" in drawn


def test_another_channel_is_no_other_plan() -> None:
    fingerprints = set()
    for url in ("https://a.example.com", "https://b.example.com"):
        app, rows = declare()
        app.notify(rows, [hr.channel.webhook(url, name=url[8])])
        fingerprints.add(app.plan().fingerprint())

    assert len(fingerprints) == 1


def test_an_output_of_any_name_can_carry_notifications() -> None:
    app, rows = declare()
    topic = app.output("told", rows)

    app.notify(topic, [hr.channel.websocket("/ws/told")])

    assert app.deliveries[0].topic == "told"
    (socket,) = app.sockets
    assert (socket.path, socket.topic, socket.where) == (
        "/ws/told",
        "told",
        "channel = 'websocket'",
    )


def test_a_route_takes_channels_as_they_are_or_by_name() -> None:
    hook, mail = hr.channel.webhook("https://hooks.example.com"), "mail"

    assert Route(hook).channels == ("webhook",)
    assert Route([hook, mail]).channels == ("webhook", "mail")


def test_two_channels_need_two_names() -> None:
    app, rows = declare()
    hook = hr.channel.webhook("https://hooks.example.com")

    with pytest.raises(ConfigError, match="declared twice"):
        app.notify(rows, [hook, hook])


def test_a_stream_without_notifications_is_refused() -> None:
    app, rows = declare()

    with pytest.raises(PlanError, match="lacks severity"):
        app.notify(rows.drop("severity"), [])
    with pytest.raises(PlanError, match="column 'alerts'"):
        app.notify(app.output("told", rows.with_columns(alerts=pl.lit("x"))), [])


def test_the_topic_of_attempts_is_ours_where_there_are_channels() -> None:
    app, rows = declare()
    app.output("deliveries", rows)
    app.plan()
    app.notify(rows, [hr.channel.webhook("https://hooks.example.com")])

    with pytest.raises(PlanError, match="'deliveries' is the topic of attempts"):
        app.plan()
