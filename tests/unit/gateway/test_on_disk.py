from pathlib import Path
from typing import Any

import polars as pl
import pytest

from headrace.core.log import Log
from headrace.log import SqliteLog
from headrace.stream.app import App
from tests.unit.gateway.conftest import Engine, Run, ask, told

ROW = {"order": "a", "time": "2026-01-01T00:00:00Z", "euro": 2.5, "items": 1}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return SqliteLog(tmp_path)


async def test_everything_answered_is_there_after_a_restart(app: App, run: Run) -> None:
    key = {"idempotency-key": "k"}
    async with run(app) as live:
        first = await live.http.post("/topics/orders", json=[ROW, {"items": "x"}], headers=key)
        await live.http.post("/control/zones", json={"zone_id": "z", "geometry": {"a": 1}})
    async with run(app) as live:
        again = await live.http.post("/topics/orders", json=[ROW, {"items": "x"}], headers=key)
        more = await live.http.post("/topics/orders", json=ROW)
        page = (await live.http.get("/topics/orders")).json()
        dead = (await live.http.get("/topics/orders.dead")).json()
        zone = (await live.http.get("/control/zones/z")).json()

    assert again.content == first.content
    assert more.json()["offsets"] == [{"partition": 0, "from": 1, "to": 2}]
    assert len(page["rows"]) == 2
    assert [letter["reason"] for letter in dead["rows"]] == ["items: Expected int | null, got str"]
    assert (zone["geometry"], zone["version"]) == ({"a": 1}, 1)


async def test_a_table_begins_from_its_snapshot_and_follows_the_changelog(
    app: App, run: Run, log: Log, tmp_path: Path
) -> None:
    engine = Engine(log)
    engine.change(("a", 1, "upsert"), ("b", 2, "upsert"))
    engine.change(("b", 3, "upsert"))
    folder = tmp_path / "engine-shop" / "tables"
    folder.mkdir(parents=True)
    columns = {name: dtype for name, dtype in engine.schema.items() if name != "__op"}
    snapshot = pl.DataFrame(
        [{"order": "old", "items": 9}, {"order": "b", "items": 2}], schema=columns
    )
    snapshot.write_ipc(folder / "latest.000000000000002.arrow")
    (folder / "latest.000000000000003.arrow").write_bytes(b"damaged")
    async with run(app) as live, live.socket() as socket:
        rows = (await live.http.get("/tables/latest")).json()
        await ask(socket, op="subscribe", id="t", table="latest")
        await told(socket)
        shown = await told(socket)
        engine.change(("old", None, "delete"))
        changes: dict[str, Any] = await told(socket)

    assert {row["order"]: row["items"] for row in rows["rows"]} == {"old": 9, "b": 3}
    assert (rows["seq"], shown["seq"], changes["seq"]) == (3, 3, 4)
    assert changes["deletes"] == ["old"]


async def test_rows_past_their_time_to_live_are_hidden_at_the_engines_clock(
    app: App, run: Run, log: Log
) -> None:
    engine = Engine(log)
    engine.change(("a", 1, "upsert"))
    async with run(app) as live:
        core = live.gateway.core
        engine.publish(clock="2026-01-01T00:59:59+00:00")
        core._look(core.committer._writer)  # noqa: SLF001 - looks at once
        fresh = await live.http.get("/tables/latest/a")
        engine.publish(clock="2026-01-01T01:00:01+00:00")
        core._look(core.committer._writer)  # noqa: SLF001 - looks at once
        old = await live.http.get("/tables/latest/a")
        rows = (await live.http.get("/tables/latest")).json()["rows"]

    assert fresh.status_code == 200
    assert old.status_code == 404
    assert rows == []
