"""Alerts over HTTP, with a real engine that makes them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx2
import polars as pl
import pytest

import headrace as hr
from headrace.alerts.notification import DELIVERIES, DELIVERIES_SCHEMA
from headrace.connect.handlers import CONNECT_SLOT
from headrace.core.log import Append, Commit, Log, TopicSpec
from headrace.core.time import TIME_DTYPE
from headrace.runners.embedded.engine import Engine
from headrace.stream.app import App
from headrace.testing import TestClock
from tests.unit.gateway.conftest import Serve

DEEP = {"rule_id": "deep", "condition": "depth_m > 200", "severity": "critical"}
WARM = {"rule_id": "warm", "condition": "depth_m < 10", "severity": "warning"}


@pytest.fixture
def app() -> App:
    app = hr.App("dives")
    schema = {"auv": pl.String, "time": TIME_DTYPE, "depth_m": pl.Float64}
    dives = app.topic("dives", schema, time="time")
    rules = app.control_table("rules", hr.Rule, key="rule_id")
    hook = hr.channel.webhook("https://hooks.example.com/a")
    dives.rules(rules, by="auv").alerts(channels=[hook])
    return app


class Site:
    """A gateway and an engine on one log."""

    def __init__(self, http: httpx2.AsyncClient, engine: Engine) -> None:
        self.http = http
        self.engine = engine

    async def dive(self, auv: str, second: int, depth_m: float) -> None:
        row = {"auv": auv, "time": f"2026-01-01T00:00:{second:02}Z", "depth_m": depth_m}
        await self.http.post("/topics/dives", json=row)
        self.step()

    def step(self) -> None:
        while self.engine.step_once():
            pass
        self.engine.flush()

    async def get(self, path: str, **parameters: Any) -> Any:
        return (await self.http.get(path, params=parameters)).json()

    async def until(self, wanted: Any, **parameters: Any) -> list[dict[str, Any]]:
        """Return the alerts once `wanted` holds of them: the gateway follows the engine."""
        async with asyncio.timeout(5):
            while True:
                alerts: list[dict[str, Any]] = (await self.get("/alerts", **parameters))["alerts"]
                if wanted(alerts):
                    return alerts

    async def fired(self) -> str:
        """Return the id of an alert that fires."""
        await self.dive("a", 1, 250.0)
        (alert,) = await self.until(len)
        return str(alert["alert_id"])


class Open(Protocol):
    def __call__(self) -> AbstractAsyncContextManager[Site]: ...


@pytest.fixture
def site(app: App, serve: Serve, log: Log) -> Open:
    @asynccontextmanager
    async def running() -> AsyncIterator[Site]:
        async with serve(app) as http:
            for rule in (DEEP, WARM):
                assert (await http.post("/control/rules", json=rule)).status_code == 201
            clock = TestClock(datetime(2026, 1, 1, 0, 1, tzinfo=UTC))
            engine = Engine(app.plan(), log, clock=clock)
            engine.start()
            try:
                yield Site(http, engine)
            finally:
                engine.close()

    return running


async def test_alerts_are_listed_and_chosen(site: Open) -> None:
    async with site() as at:
        await at.dive("a", 1, 250.0)
        await at.dive("b", 2, 5.0)
        await at.dive("a", 3, 100.0)
        everything = await at.until(
            lambda rows: [row["state"] for row in rows] == ["resolved", "firing"]
        )
        firing = await at.get("/alerts", state="firing,acknowledged")
        severe = await at.get("/alerts", severity="critical")
        of_rule = await at.get("/alerts", rule="warm", limit=5)
        late = await at.get("/alerts", **{"from": "2026-01-01T00:00:03Z"})
        wrong = await at.http.get("/alerts", params={"state": "burning"})

    assert [row["key"] for row in everything] == ["a", "b"]
    assert (firing["total"], firing["alerts"][0]["rule_id"]) == (1, "warm")
    assert [row["rule_id"] for row in severe["alerts"]] == ["deep"]
    assert [row["key"] for row in of_rule["alerts"]] == ["b"]
    assert [row["rule_id"] for row in late["alerts"]] == ["deep"]
    assert wrong.status_code == 422
    assert "acknowledged" in wrong.text


async def test_an_alert_is_followed_with_all_that_was_told(site: Open, log: Log) -> None:
    writer = log.writer("connect-dives", CONNECT_SLOT)
    partition = writer.create(TopicSpec(DELIVERIES, DELIVERIES_SCHEMA))[0].partition
    attempts = pl.DataFrame(
        [{"notification_id": name, "outcome": "failed"} for name in ("deep/a/1", "other/a/1")],
        DELIVERIES_SCHEMA,
    )
    writer.commit([Commit([Append(DELIVERIES, partition, attempts, attempts.height)])])
    async with site() as at:
        alert = await at.fired()
        await at.dive("b", 2, 250.0)
        await at.dive("a", 3, 20.0)
        await at.until(lambda rows: len(rows) == 2)
        found = await at.http.get(f"/alerts/{alert}")
        missing = await at.http.get("/alerts/unknown")
    writer.close()

    body = found.json()
    assert body["alert"]["alert_id"] == alert
    assert [row["state"] for row in body["transitions"]] == ["firing", "resolved"]
    assert [row["notification_id"] for row in body["notifications"]] == ["deep/a/1", "deep/a/2"]
    assert [row["notification_id"] for row in body["deliveries"]] == ["deep/a/1"]
    assert found.headers["etag"].strip('"') == str(body["alert"]["transition"])
    assert missing.status_code == 404


async def test_people_acknowledge_and_resolve(site: Open) -> None:
    async with site() as at:
        alert = await at.fired()
        said = {"by": "ann", "note": "on my way"}
        path = f"/alerts/{alert}/acknowledge"
        stale = await at.http.post(path, json=said, headers={"if-match": '"7"'})
        key = {"idempotency-key": "k1", "if-match": '"1"'}
        taken = await at.http.post(path, json=said, headers=key)
        at.step()
        (row,) = await at.until(lambda rows: rows[0]["state"] == "acknowledged")
        replayed = await at.http.post(path, json=said, headers=key)
        reused = await at.http.post(path, json={"by": "bob"}, headers=key)
        again = await at.http.post(path, json=said)
        await at.http.post(f"/alerts/{alert}/comment", json={"by": "bob", "note": "cable cut"})
        at.step()
        await at.http.post(f"/alerts/{alert}/resolve")
        at.step()
        await at.until(lambda rows: rows[0]["state"] == "resolved")
        over = await at.http.post(f"/alerts/{alert}/resolve")
        followed = await at.get(f"/alerts/{alert}")

    assert (stale.status_code, stale.json()["current"]["transition"]) == (412, 1)
    assert (taken.status_code, taken.json()["by"]) == (202, "ann")
    assert (row["by"], row["note"], row["previous_state"]) == ("ann", "on my way", "firing")
    assert replayed.headers["idempotency-replayed"] == "true"
    assert replayed.content == taken.content
    assert [answer.status_code for answer in (again, over, reused)] == [409, 409, 409]
    assert "takes alerts that are firing" in again.text
    states = [(one["state"], one["by"]) for one in followed["transitions"]]
    assert states == [
        ("firing", None),
        ("acknowledged", "ann"),
        ("acknowledged", "bob"),
        ("resolved", ""),
    ]


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"by": 1}', b'{"who": "ann"}'])
async def test_a_body_that_says_something_else_is_refused(site: Open, body: bytes) -> None:
    async with site() as at:
        alert = await at.fired()
        wrong = await at.http.post(f"/alerts/{alert}/acknowledge", content=body)
        nobody = await at.http.post("/alerts/unknown/acknowledge", json={})

    assert wrong.status_code == 422
    assert nobody.status_code == 404


async def test_silences_have_a_path_of_their_own(site: Open) -> None:
    async with site() as at:
        silence = {"silence_id": "night", "key": "a", "hours": "22:00-06:00", "by": "ann"}
        created = await at.http.post("/silences", json=silence)
        wrong = await at.http.post(
            "/silences", json={**silence, "silence_id": "x", "hours": "night"}
        )
        changed = await at.http.patch(
            "/silences/night", json={"key": "b"}, headers={"if-match": created.headers["etag"]}
        )
        everything = await at.get("/silences")
        removed = await at.http.delete("/silences/night")
        paths = (await at.get("/openapi.json"))["paths"]

    assert (created.status_code, created.json()["version"]) == (201, 1)
    assert wrong.status_code == 422
    assert "22:00-06:00" in wrong.text
    assert changed.json()["key"] == "b"
    assert [row["silence_id"] for row in everything["rows"]] == ["night"]
    assert removed.status_code == 204
    assert {"/alerts", "/alerts/{alert_id}", "/silences"} <= paths.keys()


async def test_an_application_without_alerts_has_no_such_paths(serve: Serve) -> None:
    app = hr.App("plain")
    app.output("same", app.topic("rows", {"time": TIME_DTYPE}, time="time"))
    async with serve(app) as http:
        answer = await http.get("/alerts")

    assert answer.status_code == 404
