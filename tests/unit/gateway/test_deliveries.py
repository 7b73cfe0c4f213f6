"""What the gateway shows of channels: their topics, their route, their counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace.alerts.notification import DELIVERIES, DELIVERIES_SCHEMA
from headrace.connect.handlers import CONNECT_SLOT
from headrace.core.log import Append, Commit, Log, TopicSpec, Writer
from headrace.stream.app import App
from tests.unit.alerts.samples import SCHEMA, row
from tests.unit.gateway.conftest import Run, Serve, told


@pytest.fixture
def app() -> App:
    app = hr.App("shop")
    rows = app.topic("rows", SCHEMA, time="created")
    channels = [
        hr.channel.webhook("https://hooks.example.com"),
        hr.channel.websocket("/ws/told"),
    ]
    app.notify(rows.filter(pl.col("channel").is_not_null()), channels)
    return app


@pytest.fixture
def connect(log: Log) -> Iterator[Writer]:
    writer = log.writer("connect-shop", CONNECT_SLOT)
    yield writer
    writer.close()


def put(writer: Writer, topic: str, schema: pl.Schema, *rows: dict[str, Any]) -> None:
    frame = pl.DataFrame(list(rows), schema)
    partition = writer.create(TopicSpec(topic, schema))[0].partition
    writer.commit([Commit([Append(topic, partition, frame, frame.height)])])


async def test_attempts_are_a_topic_like_any_other(app: App, serve: Serve, connect: Writer) -> None:
    attempt = {"notification_id": "r/a/1", "channel": "webhook", "attempt": 1, "outcome": "dead"}
    put(connect, DELIVERIES, DELIVERIES_SCHEMA, attempt)

    async with serve(app) as http:
        page = (await http.get(f"/topics/{DELIVERIES}")).json()
        letters = await http.get("/topics/notifications.dead")

    assert [(one["notification_id"], one["outcome"]) for one in page["rows"]] == [("r/a/1", "dead")]
    assert letters.json()["rows"] == []


async def test_counts_of_channels_are_in_metrics_and_health(
    app: App, serve: Serve, connect: Writer
) -> None:
    counts = {"delivered": 7, "failed": 2, "dead": 1, "waiting": 3}
    status = {
        "role": "connect",
        "app": "shop",
        "state": "running",
        "published": "9999-01-01T00:00:00+00:00",
        "channels": {
            "webhook": {"kind": "webhook", **counts, "failing": "503 away"},
            "websocket": {"kind": "websocket", **counts, "failing": ""},
        },
    }
    connect.publish_status(json.dumps(status).encode())

    async with serve(app) as http:
        metrics = (await http.get("/metrics")).text
        checks = (await http.get("/health")).json()["checks"]

    assert 'headrace_deliveries_total{channel="webhook",outcome="dead"} 1.0' in metrics
    assert 'headrace_deliveries_total{channel="webhook",outcome="delivered"} 7.0' in metrics
    assert 'headrace_deliveries_waiting{channel="websocket"} 3.0' in metrics
    assert checks["channel webhook"] == {
        "status": "degraded",
        "detail": "the last attempt failed: 503 away; 7 delivered, 1 dead, 3 waiting",
    }
    assert checks["channel websocket"]["status"] == "healthy"


async def test_notifications_of_the_websocket_are_pushed(app: App, run: Run, log: Log) -> None:
    engine = log.writer("engine-shop", 32)
    rows = [row("a", channel="webhook"), row("b", channel="websocket")]
    engine.create(TopicSpec("notifications", SCHEMA))
    async with run(app) as live, live.socket("/ws/told") as socket:
        put(engine, "notifications", SCHEMA, *rows)
        frame = await told(socket)
    engine.close()

    assert frame["data"]["notification_id"] == "deep/b/1"
    assert frame["data"]["alerts"][0]["key"] == "b"
