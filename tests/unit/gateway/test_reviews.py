"""Anomalies and what people say of them, with a real engine that finds them."""

import asyncio
from datetime import UTC, datetime

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import PlanError
from headrace.core.log import Log
from headrace.core.time import TIME_DTYPE
from headrace.runners.embedded.engine import Engine
from headrace.testing import TestClock
from tests.unit.gateway.conftest import Serve

SCHEMA = {"auv": pl.String, "time": TIME_DTYPE, "x": pl.Float64}


async def test_people_review_what_detectors_found(serve: Serve, log: Log) -> None:
    app = hr.App("dives")
    rows = app.topic("rows", SCHEMA, time="time")
    strange = rows.with_columns(is_anomaly=pl.col("x") > 3)
    reviews = strange.anomalies(by="auv")
    marked = strange.with_columns(anomaly_id=hr.anomaly_id("auv"))
    app.output("labelled", marked.lookup(reviews, on="anomaly_id"))
    sent = [
        {"auv": auv, "time": f"2026-01-01T00:00:0{second}Z", "x": x}
        for second, (auv, x) in enumerate([("a/1", 9.0), ("b", 1.0), ("b", 5.0)])
    ]
    async with serve(app) as http:
        engine = Engine(app.plan(), log, clock=TestClock(datetime(2026, 1, 1, 0, 1, tzinfo=UTC)))
        engine.start()
        await http.post("/topics/rows", json=sent)
        while engine.step_once():
            pass
        engine.flush()
        async with asyncio.timeout(5):
            while (listed := (await http.get("/anomalies")).json())["total"] < 2:
                pass
        newest, oldest = (one["anomaly"]["anomaly_id"] for one in listed["anomalies"])
        said = {"state": "dismissed", "by": "ann", "note": "buoy"}
        done = await http.post(f"/anomalies/{oldest}/review", json=said)
        # The same row again has a label now.
        await http.post("/topics/rows", json=sent[:1])
        while engine.step_once():
            pass
        engine.close()
        labels = (await http.get("/topics/labelled")).json()["rows"]
        unknown = await http.post("/anomalies/1-00/review", json=said)
        wrong = await http.post(f"/anomalies/{newest}/review", json={"state": "maybe"})
        left = (await http.get("/anomalies", params={"state": "open"})).json()
        gone = (await http.get("/anomalies", params={"state": "dismissed"})).json()
        odd = await http.get("/anomalies", params={"state": "maybe"})

    assert [one["anomaly"]["auv"] for one in listed["anomalies"]] == ["b", "a/1"]
    assert (done.status_code, done.json()["state"], done.json()["version"]) == (200, "dismissed", 1)
    assert [row["state"] for row in labels] == [None, None, None, "dismissed"]
    assert [unknown.status_code, wrong.status_code, odd.status_code] == [404, 422, 422]
    assert [one["anomaly"]["anomaly_id"] for one in left["anomalies"]] == [newest]
    assert [one["review"] for one in gone["anomalies"]] == [said]


def test_rows_without_verdict_cannot_be_reviewed() -> None:
    rows = hr.App("dives").topic("rows", SCHEMA, time="time")

    with pytest.raises(PlanError, match="is_anomaly"):
        rows.anomalies(by="auv")
