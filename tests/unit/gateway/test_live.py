import asyncio
import json
from typing import Any

import polars as pl
import pytest
from websockets.exceptions import ConnectionClosed

from headrace.core.log import Log
from headrace.core.settings import GatewaySettings
from headrace.log import MemoryLog
from headrace.stream.app import App
from tests.unit.gateway.conftest import Engine, Live, Run, ask, told


def order(name: str, items: int = 1) -> dict[str, Any]:
    return {"order": name, "time": "2026-01-01T00:00:00+00:00", "euro": 1.5, "items": items}


async def post(live: Live, *rows: dict[str, Any]) -> None:
    answer = await live.http.post("/topics/orders", json=list(rows))
    assert answer.json()["accepted"] == len(rows)


async def test_a_topic_is_followed_from_its_newest_rows_on(app: App, run: Run) -> None:
    async with run(app) as live, live.socket() as socket:
        await post(live, order("a"), order("b"))
        await ask(socket, op="subscribe", id="s1", topic="orders", limit=1)
        subscribed, snapshot = await told(socket), await told(socket)
        await post(live, order("c"), order("d"))
        rows = await told(socket)

    channel = subscribed["channel"]
    assert subscribed == {
        "op": "subscribed",
        "id": "s1",
        "channel": channel,
        "seq": 2,
        "columns": [
            {"name": "order", "type": "String"},
            {"name": "time", "type": "Datetime(time_unit='us', time_zone='UTC')"},
            {"name": "euro", "type": "Float64"},
            {"name": "items", "type": "Int64"},
        ],
        "key": "order",
    }
    assert snapshot == {"op": "snapshot", "channel": channel, "seq": 2, "rows": [order("b")]}
    assert rows == {"op": "rows", "channel": channel, "seq": 4, "rows": [order("c"), order("d")]}


async def test_a_filter_lets_only_its_rows_through(app: App, run: Run) -> None:
    async with run(app) as live, live.socket() as socket:
        await ask(socket, op="subscribe", id="s", topic="orders", where="items > 5", snapshot=False)
        await told(socket)
        await post(live, order("a", 1))
        await post(live, order("b", 9), order("c", 2))
        rows = await told(socket)

    assert rows["rows"] == [order("b", 9)]
    assert rows["seq"] == 3


async def test_a_lost_connection_resumes_without_gap_or_repeat(app: App, run: Run) -> None:
    async with run(app) as live:
        async with live.socket() as socket:
            await ask(socket, op="subscribe", id="s", topic="orders")
            await told(socket)
            await told(socket)
            await post(live, order("a"))
            seq = (await told(socket))["seq"]
        await post(live, order("b"), order("c"))
        async with live.socket() as socket:
            await ask(socket, **{"op": "subscribe", "id": "s", "topic": "orders", "from": seq})
            subscribed, rows = await told(socket), await told(socket)
            await post(live, order("d"))
            more = await told(socket)

    assert subscribed["seq"] == 3
    assert rows["op"] == "rows"
    assert [row["order"] for row in rows["rows"] + more["rows"]] == ["b", "c", "d"]


@pytest.mark.parametrize("after", [7, -1])
async def test_an_unknown_sequence_number_is_lost_and_a_snapshot_follows(
    app: App, run: Run, after: int
) -> None:
    async with run(app) as live, live.socket() as socket:
        await post(live, order("a"))
        await ask(socket, **{"op": "subscribe", "id": "s", "topic": "orders", "from": after})
        subscribed, lost, snapshot = [await told(socket) for _ in range(3)]

    channel = subscribed["channel"]
    assert lost == {"op": "lost", "channel": channel, "from": after, "seq": 1}
    assert snapshot["op"] == "snapshot"
    assert snapshot["rows"] == [order("a")]


async def test_from_latest_sends_only_what_is_new(app: App, run: Run) -> None:
    async with run(app) as live, live.socket() as socket:
        await post(live, order("a"))
        await ask(socket, **{"op": "subscribe", "id": "s", "topic": "orders", "from": "latest"})
        await told(socket)
        await post(live, order("b"))

        assert (await told(socket))["rows"] == [order("b")]


async def test_a_table_gives_its_rows_then_its_changes(app: App, run: Run, engine: Engine) -> None:
    engine.change(("a", 1, "upsert"), ("b", 2, "upsert"), ("c", 3, "upsert"))
    engine.change(("a", 4, "upsert"), ("c", None, "delete"))
    async with run(app) as live, live.socket() as socket:
        await ask(socket, op="subscribe", id="t", table="latest")
        subscribed, snapshot = await told(socket), await told(socket)
        engine.change(("b", 5, "upsert"), ("b", 6, "upsert"), ("a", None, "delete"))
        changes = await told(socket)
        page = (await live.http.get("/tables/latest")).json()
        row = (await live.http.get("/tables/latest/b")).json()
        gone = await live.http.get("/tables/latest/a")

    assert subscribed["key"] == "order"
    assert snapshot["seq"] == 5
    assert {row["order"]: row["items"] for row in snapshot["rows"]} == {"a": 4, "b": 2}
    assert changes["seq"] == 8
    assert [row["items"] for row in changes["upserts"]] == [6]
    assert changes["deletes"] == ["a"]
    assert [row["items"] for row in page["rows"]] == [6]
    assert (page["seq"], page["total"]) == (8, 1)
    assert row["row"]["items"] == 6
    assert gone.status_code == 404


async def test_a_row_that_leaves_the_filter_is_a_delete(app: App, run: Run, engine: Engine) -> None:
    engine.change(("a", 9, "upsert"), ("b", 1, "upsert"))
    async with run(app) as live, live.socket() as socket:
        await ask(socket, op="subscribe", id="t", table="latest", where="items > 5")
        await told(socket)
        snapshot = await told(socket)
        engine.change(("b", 2, "upsert"))
        engine.change(("a", 3, "upsert"), ("b", 8, "upsert"))
        changes = await told(socket)

    assert [row["order"] for row in snapshot["rows"]] == ["a"]
    assert [row["order"] for row in changes["upserts"]] == ["b"]
    assert changes["deletes"] == ["a"]


async def test_a_table_resumes_with_the_last_change_of_each_key(
    app: App, run: Run, engine: Engine
) -> None:
    engine.change(("a", 1, "upsert"), ("b", 1, "upsert"))
    engine.change(("a", 2, "upsert"))
    engine.change(("a", 3, "upsert"), ("b", None, "delete"))
    async with run(app) as live, live.socket() as socket:
        await ask(socket, **{"op": "subscribe", "id": "t", "table": "latest", "from": 2})
        await told(socket)
        changes = await told(socket)

    assert [row["items"] for row in changes["upserts"]] == [3]
    assert (changes["deletes"], changes["seq"]) == (["b"], 5)


async def test_changes_can_be_gathered(app: App, run: Run, engine: Engine) -> None:
    async with run(app) as live, live.socket() as socket:
        await ask(socket, op="subscribe", id="t", table="latest", every_ms=200)
        await told(socket)
        await told(socket)
        for items in range(5):
            engine.change(("a", items, "upsert"))
        changes = await told(socket)

    assert [row["items"] for row in changes["upserts"]] == [4]


async def test_control_tables_are_followed_with_their_versions(app: App, run: Run) -> None:
    async with run(app) as live, live.socket() as socket:
        await ask(socket, op="subscribe", id="z", control_table="zones")
        await told(socket)
        await told(socket)
        await live.http.post("/control/zones", json={"zone_id": "a", "geometry": {"x": [1]}})
        created = await told(socket)
        await live.http.delete("/control/zones/a")
        removed = await told(socket)

    assert created["upserts"] == [
        {"zone_id": "a", "kind": "park", "depth_m": 0.0, "geometry": {"x": [1]}, "version": 1}
    ]
    assert removed["deletes"] == ["a"]


async def test_clients_of_one_channel_share_it_until_they_leave(app: App, run: Run) -> None:
    async with run(app) as live, live.socket() as one, live.socket() as two:
        for socket in (one, two):
            await ask(socket, op="subscribe", id="s", topic="orders", snapshot=False)
        channels = [(await told(socket))["channel"] for socket in (one, two)]
        await ask(one, op="unsubscribe", id="s")
        await ask(one, op="ping", t={"at": 1})
        pong = await told(one)
        await post(live, order("a"))
        rows = await told(two)
        await ask(one, op="ping", t=2)
        nothing_else = await told(one)

    assert channels[0] == channels[1]
    assert pong == {"op": "pong", "t": {"at": 1}}
    assert rows["rows"] == [order("a")]
    assert nothing_else == {"op": "pong", "t": 2}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("nonsense", "the message was not understood"),
        ("[]", "the message was not understood"),
        ('{"op": "dance", "id": "x"}', "the message was not understood"),
        ('{"op": "subscribe", "id": "x"}', "name one of topic, table, control_table"),
        ('{"op": "subscribe", "id": "x", "topic": "none"}', "there is no topic 'none'"),
        ('{"op": "subscribe", "id": "x", "table": "none"}', "there is no table 'none'"),
        ('{"op": "subscribe", "id": "x", "topic": "orders", "where": "nope = 1"}', "no column"),
        ('{"op": "subscribe", "id": "x", "topic": "orders", "limit": -1}', "limit"),
        ('{"op": "unsubscribe", "id": "x"}', "there is no such subscription"),
    ],
)
async def test_a_wrong_message_is_answered_and_the_connection_lives(
    app: App, run: Run, message: str, reason: str
) -> None:
    async with run(app) as live, live.socket() as socket:
        await socket.send(message)
        error = await told(socket)
        await ask(socket, op="ping", t=1)

        assert (await told(socket))["op"] == "pong"
    assert error["op"] == "error"
    assert reason in error["message"]


async def test_statistics_come_every_second(app: App, run: Run, engine: Engine) -> None:
    engine.publish(role="engine", state="running", step=7, clock="2026-01-01T00:00:00+00:00")
    async with run(app) as live, live.socket() as socket:
        await ask(socket, op="subscribe", id="stats", stats=True)
        await told(socket)
        stats = await told(socket)
        http = (await live.http.get("/stats")).json()

    assert stats.pop("op") == "stats"
    assert stats.keys() == http.keys()
    assert stats["clock"] == "2026-01-01T00:00:00+00:00"
    assert stats["topics"]["orders"]["dead"] == 0


async def test_a_page_of_another_site_is_refused(app: App, run: Run) -> None:
    async with run(app) as live:
        with pytest.raises(Exception, match="403"):
            async with live.socket(origin="http://evil.example"):
                pass
        async with live.socket(origin=f"http://127.0.0.1:{live.port}") as socket:
            await ask(socket, op="ping", t=1)
            assert (await told(socket))["op"] == "pong"


async def test_no_more_clients_than_allowed_are_held(app: App, run: Run) -> None:
    async with run(app, settings=GatewaySettings(max_clients=1)) as live, live.socket() as first:
        await ask(first, op="ping", t=1)
        await told(first)
        async with live.socket() as second:
            with pytest.raises(ConnectionClosed) as closed:
                await second.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


async def test_a_thousand_subscribers_get_the_same_row(app: App, run: Run) -> None:
    async with run(app) as live:
        sockets = []
        for _ in range(4):
            sockets += await asyncio.gather(*(live.socket() for _ in range(25)))
        for socket in sockets:
            await ask(socket, op="subscribe", id="s", topic="orders", snapshot=False)
        channels = {(await told(socket))["channel"] for socket in sockets}
        await post(live, order("a"))
        got = [json.dumps(await told(socket)) for socket in sockets]
        await asyncio.gather(*(socket.close() for socket in sockets))

    assert len(channels) == len(set(got)) == 1


async def test_a_new_gateway_goes_on_where_the_old_one_was(app: App, run: Run, log: Log) -> None:
    assert isinstance(log, MemoryLog)
    async with run(app) as live:
        await post(live, order("a"))
        await live.http.post("/control/zones", json={"zone_id": "z"})
    async with run(app) as live, live.socket() as socket:
        await ask(socket, **{"op": "subscribe", "id": "s", "topic": "orders", "from": 0})
        await told(socket)
        rows = await told(socket)
        zone = await live.http.get("/control/zones/z")
        again = await live.http.post("/control/zones", json={"zone_id": "z"})
        await post(live, order("b"))
        page = (await live.http.get("/topics/orders")).json()

    assert rows["rows"] == [order("a")]
    assert zone.json()["version"] == 1
    assert again.status_code == 409
    assert [row["order"] for row in page["rows"]] == ["a", "b"]
    assert pl.DataFrame(page["rows"]).height == 2
