from contextlib import AsyncExitStack
from typing import Any

import httpx2
from fastapi import FastAPI

from headrace.core.log import Log
from headrace.core.settings import GatewaySettings
from headrace.gateway.app import create_gateway
from headrace.stream.app import App
from headrace.stream.data import Data
from tests.unit.gateway.conftest import Run


def with_routes(app: App) -> App:
    app.route("POST", "/zones", control_table="zones")

    @app.route("PUT", "/mine/{zone_id}")
    async def mine(zone_id: str, data: Data) -> dict[str, Any]:
        made = await data.put("zones", {"zone_id": zone_id}, if_version=0)
        changed = await data.patch("zones", zone_id, {"depth_m": 2}, if_version=made.version)
        replaced = await data.put("zones", {"zone_id": zone_id, "kind": "port"})
        await data.delete("zones", zone_id, if_version=replaced.version)
        return {"versions": [made.version, changed.version, replaced.version]}

    return app


async def second_gateway(app: App, log: Log, stack: AsyncExitStack) -> httpx2.AsyncClient:
    gateway: FastAPI = create_gateway(app, log, slot=1, settings=GatewaySettings())
    await stack.enter_async_context(gateway.router.lifespan_context(gateway))
    transport = httpx2.ASGITransport(app=gateway)
    client = httpx2.AsyncClient(transport=transport, base_url="http://second")
    return await stack.enter_async_context(client)


async def test_another_gateway_passes_changes_on_to_the_first(app: App, run: Run, log: Log) -> None:
    app = with_routes(app)
    async with run(app) as live, AsyncExitStack() as stack:
        second = await second_gateway(app, log, stack)
        created = await second.post("/control/zones", json={"zone_id": "a"})
        patched = await second.patch(
            "/control/zones/a", json={"kind": "port"}, headers={"if-match": created.headers["etag"]}
        )
        late = await second.delete("/control/zones/a", headers={"if-match": '"1"'})
        declared = await second.post("/zones", json={"zone_id": "b"})
        mine = await second.put("/mine/x")
        conflict = await second.post("/zones", json={"zone_id": "b"})
        first = (await live.http.get("/control/zones")).json()["rows"]
        rows = await second.post("/topics/orders", json=[])

    assert (created.status_code, patched.json()["version"], late.status_code) == (201, 2, 412)
    assert declared.status_code == 201
    assert mine.json() == {"versions": [1, 2, 3]}
    assert conflict.status_code == 409
    assert [(row["zone_id"], row["version"]) for row in first] == [("a", 2), ("b", 1)]
    assert rows.status_code == 202


async def test_two_gateways_write_partitions_of_their_own(app: App, run: Run, log: Log) -> None:
    row = {"order": "a", "time": "2026-01-01T00:00:00Z"}
    async with run(app) as live, AsyncExitStack() as stack:
        second = await second_gateway(app, log, stack)
        one = (await live.http.post("/topics/orders", json=row)).json()
        two = (await second.post("/topics/orders", json=row)).json()
        page = (await second.get("/topics/orders")).json()

    assert [answer["offsets"][0]["partition"] for answer in (one, two)] == [0, 64]
    assert len(page["rows"]) == 2


async def test_without_the_first_gateway_the_answer_says_so(app: App, log: Log) -> None:
    async with AsyncExitStack() as stack:
        second = await second_gateway(app, log, stack)
        answer = await second.post("/control/zones", json={"zone_id": "a"})

    assert answer.status_code == 503
    assert "slot 0" in answer.json()["error"]["message"]
