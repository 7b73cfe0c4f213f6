"""Control tables that a topic feeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any

import httpx2
import polars as pl
import pytest
from pydantic import BaseModel, Field

from headrace.core.errors import ConfigError, SchemaError
from headrace.core.log import Log
from headrace.stream.app import App
from tests.unit.gateway.conftest import Serve

TIME = "2026-01-01T00:00:00Z"


class Limit(BaseModel):
    name: str = Field(min_length=2)
    most: float = Field(default=10, gt=0)
    tags: list[str] = Field(default_factory=list)


class LimitChange(BaseModel):
    time: datetime
    name: str | None = None
    most: float | None = None
    tags: list[str] | None = None
    gone: bool = False


@pytest.fixture
def fed() -> App:
    app = App("shop")
    changes = app.topic("limit_changes", LimitChange, time="time", max_ahead="36500d")
    app.control_table("limits", Limit, key="name", feed=changes, delete=pl.col("gone"))
    return app


Until = Callable[[httpx2.AsyncClient, int], Awaitable[list[dict[str, Any]]]]


@pytest.fixture
def limits(log: Log) -> Iterator[Until]:
    """The rows of the table as soon as there are so many."""
    reader = log.reader()

    async def until(http: httpx2.AsyncClient, rows: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            while len(found := (await http.get("/control/limits")).json()["rows"]) != rows:
                await asyncio.to_thread(reader.wait, 1)
        return list(found)

    yield until
    reader.close()


async def test_rows_of_the_topic_create_change_and_remove_rows(
    fed: App, serve: Serve, limits: Until
) -> None:
    async with serve(fed) as http:
        sent = [
            {"time": TIME, "name": "ab", "most": 5, "tags": ["x"]},
            {"time": TIME, "name": "cd"},
            {"time": TIME, "name": "ab", "most": 6},
            {"time": TIME, "name": "cd", "gone": True},
            {"time": TIME, "name": "never", "gone": True},
            {"time": TIME, "name": "ef"},
        ]
        await http.post("/topics/limit_changes", json=sent)
        rows = await limits(http, 2)
        by_hand = await http.patch("/control/limits/ab", json={"most": 7})

    assert rows == [
        {"name": "ab", "most": 6.0, "tags": [], "version": 2},
        {"name": "ef", "most": 10.0, "tags": [], "version": 1},
    ]
    assert by_hand.json()["version"] == 3


async def test_a_bad_record_is_a_dead_letter_and_the_others_count(
    fed: App, serve: Serve, limits: Until
) -> None:
    async with serve(fed) as http:
        bad = [{"time": TIME, "name": "a"}, {"time": TIME, "name": "zz", "most": -1}]
        await http.post("/topics/limit_changes", json=[*bad, {"time": TIME}])
        await http.post("/topics/limit_changes", json={"time": TIME, "name": "good"})
        rows = await limits(http, 1)
        dead = (await http.get("/topics/limits.dead")).json()["rows"]

    assert [row["name"] for row in rows] == ["good"]
    assert [(row["topic"], row["offset"]) for row in dead] == [
        ("limit_changes", 0),
        ("limit_changes", 1),
        ("limit_changes", 2),
    ]
    assert "at least 2 characters" in dead[0]["reason"]
    assert "greater than 0" in dead[1]["reason"]
    assert "name" in dead[2]["reason"]


async def test_after_a_restart_no_row_counts_twice(fed: App, serve: Serve, limits: Until) -> None:
    async with serve(fed) as http:
        await http.post("/topics/limit_changes", json={"time": TIME, "name": "ab"})
        await limits(http, 1)
    async with serve(fed) as http:
        await http.post("/topics/limit_changes", json={"time": TIME, "name": "cd"})
        rows = await limits(http, 2)

    assert [(row["name"], row["version"]) for row in rows] == [("ab", 1), ("cd", 1)]


def test_a_feed_must_be_a_topic_that_has_the_key() -> None:
    app = App("shop")
    rows = app.topic("rows", {"time": pl.Datetime("us", "UTC")}, time="time")

    with pytest.raises(ConfigError, match="no topic"):
        app.control_table("a", Limit, key="name", feed="nowhere")
    with pytest.raises(SchemaError, match="'name', the key"):
        app.control_table("b", Limit, key="name", feed=rows)
    with pytest.raises(ConfigError, match="feed="):
        app.control_table("c", Limit, key="name", delete=pl.col("gone"))
