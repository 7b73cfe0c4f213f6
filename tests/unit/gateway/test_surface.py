from datetime import datetime
from typing import Annotated, Any

import polars as pl
import pytest
from pydantic import BaseModel, Field

from headrace.core.errors import ConfigError, NotFoundError
from headrace.core.log import Log
from headrace.gateway.app import create_gateway
from headrace.stream.app import App
from headrace.stream.data import Data, Published, Versioned
from tests.unit.gateway.conftest import Engine, Run, Serve, ask, told

ROW = {"order": "a", "time": "2026-01-01T00:00:00Z", "euro": 2.5, "items": 1}


class Double(BaseModel):
    number: int
    double: int


def route_everything(app: App) -> App:
    @app.route("GET", "/double/{number}", model=Double)
    def double(number: int, plus: Annotated[int, Field(ge=0, le=9)] = 0) -> dict[str, int]:
        """Twice as much."""
        return {"number": number, "double": 2 * number + plus}

    @app.route("POST", "/send")
    async def send(order: dict[str, Any], data: Data) -> dict[str, Any]:
        return (await data.publish("orders", order)).answer()

    @app.route("GET", "/newest")
    async def newest(
        data: Data,
        limit: int = 2,
        where: str = "",
        before: str | None = None,
        since: Annotated[datetime | None, Field(alias="from")] = None,
    ) -> dict[str, Any]:
        found = await data.recent("orders", where=where, limit=limit, before=before)
        rows = found.rows["items"].to_list()
        return {"rows": rows, "total": found.total, "next": found.next, "since": since}

    @app.route("GET", "/missing")
    def missing() -> None:
        raise NotFoundError("nothing here")

    @app.route("PUT", "/mine/{zone_id}")
    async def mine(zone_id: str, zone: dict[str, Any], data: Data) -> dict[str, Any]:
        made = await data.put("zones", {**zone, "zone_id": zone_id})
        patched = await data.patch("zones", zone_id, {"depth_m": 3})
        seen = data.get("zones", zone_id)
        deep = data.scan("zones", where="depth_m > 2")
        return {"versions": [made.version, patched.version], "seen": seen, "deep": len(deep)}

    def answer(published: Published, first: dict[str, Any] | None) -> dict[str, Any]:
        order = first["order"] if first else None
        return {"status": "accepted", "order": order, "rejected": published.rejected}

    def zone(row: Versioned | None, path: dict[str, str]) -> dict[str, Any]:
        return {"path": path, "version": row.version if row else None}

    app.route("POST", "/orders", to="orders", aliases={"price": "euro"}, answer=answer)
    app.route("POST", "/orders/{source}", to="orders")
    app.route("GET", "/last/{order}", table="latest")
    app.route(
        "GET",
        "/seen/{order}",
        table="latest",
        answer=lambda row, path: {"order": path["order"], "seen": row is not None},
    )
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        app.route(method, "/zones/{zone_id}", control_table="zones", answer=zone)
    app.route("GET", "/zones", control_table="zones")
    app.route("POST", "/zones", control_table="zones", aliases={"id": "zone_id"})
    return app


async def test_handlers_take_typed_parameters_and_data(app: App, serve: Serve) -> None:
    async with serve(route_everything(app)) as http:
        assert (await http.get("/double/4?plus=1")).json() == {"number": 4, "double": 9}
        assert (await http.get("/double/4?plus=10")).status_code == 422
        assert (await http.get("/double/x")).status_code == 422
        missing = await http.get("/missing")
        assert missing.status_code == 404
        assert missing.json()["error"]["message"] == "nothing here"
        put = (await http.put("/mine/z", json={"geometry": {}})).json()

    assert put["versions"] == [1, 2]
    assert put["seen"]["depth_m"] == 3
    assert put["deep"] == 1


async def test_newest_rows_come_first_with_the_number_of_all_that_match(
    app: App, serve: Serve
) -> None:
    async with serve(route_everything(app)) as http:
        for items in range(7):
            sent = await http.post("/send", json={**ROW, "items": items})
            assert sent.json()["accepted"] == 1
        first = (await http.get("/newest", params={"from": "2026-01-01T00:00:00Z"})).json()
        second = (await http.get("/newest", params={"before": first["next"]})).json()
        odd = (await http.get("/newest", params={"where": "items % 2 = 1", "limit": 9})).json()
        await http.post("/send", json={**ROW, "items": 9})
        more = (await http.get("/newest", params={"where": "items % 2 = 1", "limit": 1})).json()

    assert (first["rows"], first["total"]) == ([6, 5], 7)
    assert first["since"] == "2026-01-01T00:00:00+00:00"
    assert second["rows"] == [4, 3]
    assert (odd["rows"], odd["total"], odd["next"]) == ([5, 3, 1], 3, None)
    assert (more["rows"], more["total"]) == ([9], 4)


async def test_a_route_to_a_topic_reads_aliases_and_shapes_the_answer(
    app: App, serve: Serve
) -> None:
    row = {"order": "a", "time": "2026-01-01T00:00:00Z", "price": 7, "items": 1}
    async with serve(route_everything(app)) as http:
        answer = await http.post("/orders", json=row, headers={"idempotency-key": "k"})
        again = await http.post("/orders", json=row, headers={"idempotency-key": "k"})
        mixed = await http.post("/orders", json=[{**row, "items": "x"}, row])
        path = await http.post("/orders/web", json=ROW)
        plain = await http.post("/topics/orders", json=row)
        page = (await http.get("/topics/orders")).json()

    assert answer.status_code == 202
    assert answer.json() == {"status": "accepted", "order": "a", "rejected": 0}
    assert again.content == answer.content
    assert mixed.json() == {"status": "accepted", "order": "a", "rejected": 1}
    assert path.json()["accepted"] == 1
    assert plain.json()["ignored"] == ["price"]
    assert [order["euro"] for order in page["rows"]] == [7.0, 7.0, 2.5, None]


async def test_tables_are_read_by_path(app: App, serve: Serve, engine: Engine) -> None:
    engine.change(("a/b", 1, "upsert"), ("c", 2, "upsert"))
    async with serve(route_everything(app)) as http:
        last = await http.get("/last/c")
        none = await http.get("/last/x")
        seen = await http.get("/seen/x")

    assert last.json()["items"] == 2
    assert none.status_code == 404
    assert seen.json() == {"order": "x", "seen": False}


async def test_control_tables_are_changed_by_path(app: App, serve: Serve) -> None:
    async with serve(route_everything(app)) as http:
        created = await http.post("/zones", json={"id": "z", "depth_m": 1})
        put = await http.put("/zones/z", json={"zone_id": "z"}, headers={"if-match": '"1"'})
        patch = await http.patch("/zones/z", json={"kind": "port"})
        late = await http.delete("/zones/z", headers={"if-match": '"1"'})
        read = await http.get("/zones/z")
        everything = await http.get("/zones")
        gone = await http.delete("/zones/z")

    assert (created.status_code, created.json()["version"]) == (201, 1)
    assert put.json() == {"path": {"zone_id": "z"}, "version": 2}
    assert patch.headers["etag"] == '"3"'
    assert late.status_code == 412
    assert read.json()["version"] == 3
    assert [row["kind"] for row in everything.json()] == ["port"]
    assert (gone.status_code, gone.json()["version"]) == (200, None)


async def test_a_socket_sends_frames_of_its_rows_and_answers_commands(
    app: App, run: Run, engine: Engine
) -> None:
    async def command(data: Data, message: Any, path: dict[str, str]) -> Any:
        if message == "boom":
            raise NotFoundError("no such thing")
        return {"echo": message, "path": path, "known": data.get("latest", path["order"])["items"]}  # type: ignore[index] # it is there

    app.socket(
        "/ws/orders/{order}",
        table="latest",
        where='"order" = {order}',
        frame=lambda kind, row: {kind: row.get("items")} if kind != "delete" else None,
        command=command,
    )
    engine.change(("it's", 1, "upsert"), ("b", 2, "upsert"))
    async with run(app) as live, live.socket("/ws/orders/it's") as socket:
        snapshot = await told(socket)
        engine.change(("b", 3, "upsert"))
        engine.change(("it's", 4, "upsert"))
        row = await told(socket)
        await ask(socket, say="hello")
        answer = await told(socket)
        await socket.send('"boom"')
        error = await told(socket)
        await socket.send("{")
        malformed = await told(socket)

    assert snapshot == {"snapshot": 1}
    assert row == {"upsert": 4}
    assert answer == {"echo": {"say": "hello"}, "path": {"order": "it's"}, "known": 4}
    assert (error["op"], error["message"]) == ("error", "no such thing")
    assert malformed["op"] == "error"


async def test_a_path_parameter_may_be_a_number(app: App, run: Run) -> None:
    app.socket("/ws/items/{items}", topic="orders", where="items = {items}", snapshot=False)
    async with run(app) as live, live.socket("/ws/items/3") as socket:
        await ask(socket, nothing=1)
        for items in (2, 3):
            await live.http.post("/topics/orders", json={**ROW, "items": items})
        frame = await told(socket)

    assert (frame["type"], frame["data"]["items"]) == ("row", 3)


async def test_declared_metrics_are_counted_under_bounded_labels(app: App, run: Run) -> None:
    app.metric("shop_orders_total", "counter", ("order",), from_="orders", known={"order": ["a"]})
    app.metric("shop_euro", "histogram", from_="orders", value="euro", buckets=(1, 5))
    app.metric("shop_items_total", "counter", from_="orders", value="items")
    app.metric("shop_known", "gauge", from_="table:latest")
    app.metric("shop_rows_total", "counter", ("outcome",), from_="headrace_ingest_rows_total")
    async with run(app) as live, live.socket() as socket:
        await ask(socket, op="subscribe", id="s", topic="orders", snapshot=False)
        await told(socket)
        rows = [{**ROW, "order": name, "items": 2, "euro": 2.5} for name in ("a", "b", "c")]
        await live.http.post("/topics/orders", json=[*rows, {"items": "x"}])
        await told(socket)
        text = (await live.http.get("/metrics")).text

    lines = set(text.splitlines())
    assert {
        'shop_orders_total{order="a"} 1.0',
        'shop_orders_total{order="other"} 2.0',
        'shop_euro_bucket{le="1.0"} 0.0',
        'shop_euro_bucket{le="5.0"} 3.0',
        'shop_euro_bucket{le="+Inf"} 3.0',
        "shop_euro_sum 7.5",
        "shop_items_total 6.0",
        "shop_known 0.0",
        'shop_rows_total{outcome="accepted"} 3.0',
        'shop_rows_total{outcome="rejected"} 1.0',
        'headrace_ingest_rows_total{outcome="accepted",topic="orders"} 3.0',
    } <= lines


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        (lambda app: app.route("POST", "/x", to="nothing"), "no input topic"),
        (lambda app: app.route("GET", "/x/{a}/{b}", table="latest"), "path parameters"),
        (lambda app: app.route("GET", "/x", table="nothing"), "no table"),
        (lambda app: app.route("GET", "/topics/x", table="latest"), "gateway's own"),
        (lambda app: app.route("GET", "x", table="latest"), "no path"),
        (lambda app: app.route("POST", "/x", to="orders", table="latest"), "names"),
        (lambda app: app.socket("/ws/x"), "socket /ws/x needs"),
        (lambda app: app.socket("/ws/x", table="nothing"), "follows no table"),
        (lambda app: app.metric("m", "histogram", from_="orders"), "buckets"),
        (lambda app: app.metric("m", "counter", ("nope",), from_="orders"), "no column"),
        (lambda app: app.metric("m", "gauge", from_="table:nope"), "observes no table"),
        (lambda app: app.view.chart("v", y="x"), "view .v. needs"),
    ],
)
def test_declarations_that_cannot_work_are_refused(
    app: App, log: Log, declare: Any, reason: str
) -> None:
    def serve() -> None:
        declare(app)
        create_gateway(app, log)

    with pytest.raises((ConfigError, NotFoundError), match=reason):
        serve()


async def test_the_documentation_names_every_route(app: App, serve: Serve) -> None:
    async with serve(route_everything(app)) as http:
        spec = (await http.get("/openapi.json")).json()

    paths = spec["paths"]
    assert {"/double/{number}", "/orders", "/orders/{source}", "/zones/{zone_id}"} <= set(paths)
    body = paths["/topics/orders"]["post"]["requestBody"]["content"]
    assert set(body) == {
        "application/json",
        "application/x-ndjson",
        "application/vnd.apache.arrow.stream",
    }
    row = spec["components"]["schemas"]["orders"]
    assert row["required"] == ["order", "time"]
    assert "price" in spec["components"]["schemas"]["orders via /orders"]["properties"]
    for status in ("202", "413", "415", "422", "429", "507"):
        assert status in paths["/topics/orders"]["post"]["responses"]
    assert pl.DataFrame(body["application/json"]["examples"]["rows"]["value"]).height == 2
