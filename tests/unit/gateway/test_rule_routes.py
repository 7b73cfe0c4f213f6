"""Rules over HTTP: kept, checked against the rows, and tried over what is stored."""

from __future__ import annotations

import asyncio
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace.core.log import Log
from headrace.stream.app import App
from headrace.stream.rule_routes import steps_until
from tests.unit.gateway.conftest import Serve

DEEP: dict[str, Any] = {"rule_id": "deep", "condition": "depth_m > 200", "severity": "high"}


@pytest.fixture
def app() -> App:
    app = App("dives")
    utc = pl.Datetime("us", "UTC")
    columns = {"auv": pl.String, "time": utc, "depth_m": pl.Float64}
    dives = app.topic("dives", columns, time="time", key="auv")
    rules = app.control_table("rules", hr.Rule, key="rule_id")
    wet = dives.filter(pl.col("depth_m").is_null() | (pl.col("depth_m") > 0))
    app.output("violations", wet.rules(rules, by="auv"))
    app.output("again", app.output("wet", wet).rules(rules, by="auv"))
    return app


def dive(auv: str, second: int, depth_m: float | None) -> dict[str, Any]:
    return {
        "auv": auv,
        "time": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z",
        "depth_m": depth_m,
    }


async def test_a_rule_is_created_changed_read_and_deleted(app: App, serve: Serve) -> None:
    async with serve(app) as http:
        created = await http.post("/rules", json=DEEP | {"for": "5m"})
        again = await http.post("/rules", json=DEEP)
        stale = await http.put("/rules/deep", json=DEEP, headers={"if-match": '"7"'})
        put = await http.put("/rules/deep", json=DEEP, headers={"if-match": '"1"'})
        patched = await http.patch("/rules/deep", json={"condition": "depth_m > 300"})
        read = await http.get("/rules/deep")
        listed = (await http.get("/rules")).json()
        deleted = await http.delete("/rules/deep")
        gone = await http.get("/rules/deep")

    assert created.status_code == 201
    assert created.json() == {"status": "created", "rule_id": "deep", "version": 1}
    assert (again.status_code, stale.status_code, gone.status_code) == (409, 412, 404)
    assert put.json() == {"status": "updated", "rule_id": "deep", "version": 2}
    assert patched.json()["version"] == 3
    assert (read.json()["condition"], read.headers["etag"]) == ("depth_m > 300", '"3"')
    assert (listed["total"], listed["rules"][0]["version"]) == (1, 3)
    assert deleted.json() == {"status": "deleted", "rule_id": "deep"}


async def test_the_same_request_again_creates_nothing_twice(app: App, serve: Serve) -> None:
    async with serve(app) as http:
        key = {"idempotency-key": "k"}
        first = await http.post("/rules", json=DEEP, headers=key)
        second = await http.post("/rules", json=DEEP, headers=key)

    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("path", ["/rules", "/control/rules"])
async def test_a_rule_that_does_not_fit_is_refused_at_its_place(
    app: App, serve: Serve, path: str
) -> None:
    async with serve(app) as http:
        wrong = await http.post(path, json=DEEP | {"condition": "depth_m > 1 AND speed > 2"})
        hostile = await http.post(path, json=DEEP | {"condition": "depth_m IN (SELECT 1)"})
        made = await http.post(path, json=DEEP)
        patched = await http.patch(f"{path}/deep", json={"message": "at {speed}"})
        version = (await http.get(f"{path}/deep")).json()["version"]

    assert wrong.status_code == 422
    assert "no column 'speed' at character 17" in wrong.json()["error"]["message"]
    assert "not allowed" in hostile.json()["error"]["message"]
    assert made.status_code == 201
    assert "{speed} at character 4" in patched.json()["error"]["message"]
    assert version == 1


async def test_a_trial_says_what_a_rule_would_have_fired(app: App, serve: Serve) -> None:
    dives = [
        dive("a", 0, 100.0),
        dive("a", 60, 250.0),
        dive("b", 61, 300.0),
        dive("a", 120, 260.0),
        dive("a", 180, 100.0),
        dive("b", 181, None),
    ]
    old = {"auv": "a", "time": "2025-12-31T22:00:00Z", "depth_m": 900.0}
    async with serve(app) as http:
        await http.post("/topics/dives", json=[old, *dives])
        rule = {"condition": "depth_m > 200", "message": "{auv} at {depth_m:.0f}"}
        told = (await http.post("/rules/test", json=rule)).json()
        refused = await http.post("/rules/test", json={"condition": "speed > 2"})
        unknown = await http.post("/rules/test", json={"condition": "depth_m > 1", "oops": 1})
        saved = (await http.get("/rules")).json()

    found = {name: told[name] for name in ("violations", "keys", "absent", "rows", "whole")}
    assert found == {"violations": 3, "keys": 2, "absent": 1, "rows": 6, "whole": True}
    assert (told["from"], told["to"]) == ("2026-01-01T00:00:00+00:00", "2026-01-01T00:03:01+00:00")
    assert [row["message"] for row in told["examples"]] == ["a at 250", "b at 300", "a at 260"]
    assert [(row["key"], row["at"][14:19], row["holds"]) for row in told["transitions"]] == [
        ("a", "01:00", True),
        ("a", "03:00", False),
        ("b", "01:01", True),
    ]
    assert told["severities"] == {"warning": 3}
    assert (refused.status_code, unknown.status_code) == (422, 422)
    assert saved["total"] == 0


def test_a_trial_takes_outputs_that_are_read_back_as_they_are_stored(app: App) -> None:
    plan = app.plan()
    node = next(o.source.node for o in plan.outputs if o.name == "again")

    part = steps_until(plan, node)

    assert [topic.name for topic in part.topics] == ["wet"]
    assert [one.id for one in part.nodes] == [node]


async def test_a_rule_from_a_topic_is_checked_against_the_rows_too(serve: Serve, log: Log) -> None:
    app = App("dives")
    utc = pl.Datetime("us", "UTC")
    dives = app.topic("dives", {"auv": pl.String, "time": utc, "depth_m": pl.Float64}, time="time")
    words = {"rule_id": pl.String, "time": utc, "condition": pl.String, "severity": pl.String}
    wished = app.topic("compliance_rules", words, time="time", max_ahead="36500d")
    rules = app.control_table("rules", hr.Rule, key="rule_id", feed=wished)
    app.output("violations", dives.rules(rules, by="auv"))
    at = {"time": "2026-01-01T00:00:00Z"}
    bad = {"rule_id": "bad", "condition": "depth_m > 1 OR speed > 2", **at}
    good = {"rule_id": "good", "condition": "depth_m > 1", "severity": "high", **at}

    reader = log.reader()
    async with serve(app) as http, asyncio.timeout(10):
        await http.post("/topics/compliance_rules", json=[bad, good])
        while not (found := (await http.get("/rules")).json())["total"]:
            await asyncio.to_thread(reader.wait, 1)
        dead = (await http.get("/topics/rules.dead")).json()["rows"]
    reader.close()

    assert [(rule["rule_id"], rule["severity"]) for rule in found["rules"]] == [("good", "high")]
    assert ["no column 'speed' at character 16" in letter["reason"] for letter in dead] == [True]
