from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import headrace as hr
from headrace.alerts.notification import DELIVERIES
from headrace.alerts.secrets import Secrets
from headrace.cli.main import app as commands
from headrace.connect.handlers import CONNECT_SLOT
from headrace.connect.role import ConnectRole
from headrace.core.errors import ConfigError
from headrace.core.log import Append, Commit, Reader, TopicSpec, Writer
from headrace.core.time import SystemClock
from headrace.log import MemoryLog
from tests.unit.alerts.samples import SCHEMA, row
from tests.unit.alerts.servers import http_server

SOURCE = """
import headrace as hr
from tests.unit.alerts.samples import SCHEMA

app = hr.App("shop")
told = app.topic("told", SCHEMA, time="created")
app.notify(told, [hr.channel.slack("${SLACK_URL_NOBODY_HAS}")])
"""


class Running:
    """A role in this process, over a log in memory."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.input: Writer = self.log.writer("gateway-0", 0)
        self.input.create(TopicSpec("told", SCHEMA))
        self.writer: Writer = self.log.writer("connect-shop", CONNECT_SLOT)
        self.reader: Reader = self.log.reader()
        self.stop = threading.Event()
        self.app = hr.App("shop")
        self.told = self.app.topic("told", SCHEMA, time="created")

    def put(self, *rows: dict[str, Any]) -> None:
        frame = pl.DataFrame(list(rows), SCHEMA)
        self.input.commit([Commit([Append("told", 0, frame, frame.height)])])

    def role(self) -> ConnectRole:
        secrets = Secrets(environment={})
        return ConnectRole(
            self.app, self.reader, self.writer, SystemClock(), secrets, allow_private=True
        )

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.reader.statuses()["connect-shop"])
        return status


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    for each in (made.reader, made.writer, made.input):
        each.close()


async def test_a_function_that_hangs_holds_up_no_channel(running: Running) -> None:
    let_go, entered = asyncio.Event(), asyncio.Event()

    async def hangs(_frame: pl.DataFrame) -> None:
        entered.set()
        await let_go.wait()

    async with http_server() as server:
        running.app.on(running.told, hangs)
        running.app.notify(running.told, [hr.channel.webhook(server.url)])
        task = asyncio.create_task(running.role().run(running.log, running.stop))
        running.put(row("a"))
        await asyncio.wait_for(entered.wait(), 5)
        running.put(row("b"))
        await server.until(requests=2)
        let_go.set()
        running.stop.set()
        await asyncio.wait_for(task, 10)

    assert [one.headers["idempotency-key"] for one in server.received] == ["deep/a/1", "deep/b/1"]
    status = running.status()
    assert status["state"] == "stopped"
    assert status["channels"]["webhook"] == {
        "kind": "webhook",
        "delivered": 2,
        "failed": 0,
        "dead": 0,
        "waiting": 0,
        "failing": "",
    }
    ends = {at.topic: info.end for at, info in running.reader.partitions().items()}
    assert ends[DELIVERIES] == 2


async def test_retention_waits_for_the_slowest_sink_of_a_topic(running: Running) -> None:
    async with http_server() as server:
        running.app.on(running.told, lambda _frame: None, name="quick")
        running.app.notify(
            running.told, [hr.channel.webhook(server.url), hr.channel.slack(server.url)]
        )
        role = running.role()
        running.put(row("a"), row("b", channel="slack"))
        task = asyncio.create_task(role.run(running.log, running.stop))
        await server.until(requests=2)
        running.stop.set()
        await asyncio.wait_for(task, 10)

    (positions,) = running.reader.positions().values()
    assert [place.offset for place in positions.values()] == [2]


async def test_what_breaks_one_sink_ends_the_role_with_its_reason(running: Running) -> None:
    async with http_server() as server:
        running.app.notify(running.told, [hr.channel.webhook(server.url)])
        role = running.role()
        running.put(row("a"))
        running.writer.close()

        with pytest.raises(Exception) as raised:  # noqa: PT011 - of any kind, but no group
            await asyncio.wait_for(role.run(running.log, running.stop), 10)

    assert not isinstance(raised.value, BaseExceptionGroup)


def test_a_channel_without_its_secret_does_not_open(running: Running) -> None:
    running.app.notify(running.told, [hr.channel.slack("${SLACK_URL}")])

    with pytest.raises(ConfigError, match="secret 'SLACK_URL' is not set"):
        running.role()


def test_a_run_without_a_secret_is_refused_before_it_starts(tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text(SOURCE)

    result = CliRunner().invoke(
        commands, ["run", str(source), "--data", str(tmp_path / "data"), "--port", "0"]
    )

    assert isinstance(result.exception, ConfigError)
    assert "channel 'slack' needs SLACK_URL_NOBODY_HAS" in str(result.exception)
    assert not (tmp_path / "data").exists()
