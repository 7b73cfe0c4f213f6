import json
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from headrace.core.errors import FencedError, StorageFullError, ThrottledError
from headrace.core.log import Appended, Commit, Log, PartitionInfo, Space, TopicPartition
from headrace.core.settings import GatewaySettings
from headrace.gateway.app import create_gateway
from headrace.gateway.intake import Checked
from headrace.gateway.limits import Limits, engine_positions
from headrace.gateway.overflow import Room
from headrace.log import MemoryLog
from headrace.log.memory import MemoryWriter
from headrace.stream.app import App
from tests.unit.gateway.conftest import Engine, Run

ROW = {"order": "a", "time": "2026-01-01T00:00:00Z", "euro": 2.5, "items": 1}


def info(end: int, *, start: int = 0, size: int = 1000) -> PartitionInfo:
    return PartitionInfo("orders", 0, "gateway-0", "x", start, end, size)


def test_a_topic_is_refused_while_its_slowest_engine_is_far_behind() -> None:
    limits = Limits(max_rows=100, max_bytes=1 << 30)
    at = TopicPartition("orders", 0)
    limits.update([info(150)], {at: 60}, {})
    limits.check("orders")

    limits.update([info(150)], {at: 40}, {"orders": 10.0})
    with pytest.raises(ThrottledError) as refused:
        limits.check("orders")
    assert limits.backlog("orders").rows == 110
    assert refused.value.retry_after == pytest.approx(2.0)


def test_bytes_count_too() -> None:
    limits = Limits(max_rows=10**9, max_bytes=400)
    limits.update([info(100, size=1000)], {TopicPartition("orders", 0): 50}, {})

    with pytest.raises(ThrottledError):
        limits.check("orders")


def test_without_a_reader_there_is_no_backlog() -> None:
    limits = Limits(max_rows=1)
    limits.update([info(10**9)], {}, {})

    limits.check("orders")


def test_a_topic_at_its_size_limit_and_a_low_disk_refuse_rows() -> None:
    limits = Limits()
    limits.update([], {}, {}, blocked=frozenset({"orders"}))
    with pytest.raises(ThrottledError):
        limits.check("orders")
    limits.check("others")

    limits.update([], {}, {}, low=True)
    with pytest.raises(StorageFullError):
        limits.check("others")


def test_the_slowest_of_several_engines_counts() -> None:
    statuses: dict[str, dict[str, Any]] = {
        "engine-a": {"positions": {"orders/0": 5, "a/b/64": 7}},
        "engine-b": {"positions": {"orders/0": 3}},
        "gateway-0": {},
    }

    assert engine_positions(statuses) == {("orders", 0): 3, ("a/b", 64): 7}


async def test_behind_means_429_with_retry_after_and_then_goes_on(
    app: App, run: Run, engine: Engine
) -> None:
    settings = GatewaySettings(backlog_rows=5)
    async with run(app, settings=settings) as live:
        core = live.gateway.core
        engine.publish(state="running", positions={"orders/0": 0})
        await live.http.post("/topics/orders", json=[ROW] * 10)
        writer = core.committer._writer  # noqa: SLF001 - looks at once instead of in half a second
        core._look(writer)  # noqa: SLF001 - as above
        refused = await live.http.post("/topics/orders", json=ROW)
        engine.publish(state="running", positions={"orders/0": 10})
        core._look(writer)  # noqa: SLF001 - as above
        taken = await live.http.post("/topics/orders", json=ROW)

    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "HR303"
    assert taken.status_code == 202


class FullWriter:
    """A writer whose disk may be full, or whose file another process took over."""

    def __init__(self, writer: MemoryWriter) -> None:
        self._writer = writer
        self.error: Exception | None = None
        self.low = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def commit(self, commits: Sequence[Commit]) -> list[list[Appended]]:
        if self.error is not None:
            raise self.error
        return self._writer.commit(commits)

    def space(self) -> Space:
        return Space(1 if self.low else 100, 10, 0)


class FullLog(MemoryLog):
    """A log whose gateway gets a `FullWriter`."""

    made: FullWriter

    def writer(self, owner: str, slot: int = 0) -> Any:
        writer = super().writer(owner, slot)
        if owner != "gateway-0":
            return writer
        self.made = FullWriter(writer)
        return self.made


@pytest.fixture
def log() -> Log:
    return FullLog()


async def test_a_full_disk_means_507_and_nothing_is_half_written(
    app: App, run: Run, log: FullLog
) -> None:
    async with run(app) as live:
        log.made.error = StorageFullError("no space left on /very/secret/path")
        full = await live.http.post("/topics/orders", json=ROW, headers={"idempotency-key": "k"})
        zone = await live.http.post("/control/zones", json={"zone_id": "a"})
        log.made.error = None
        again = await live.http.post("/topics/orders", json=ROW, headers={"idempotency-key": "k"})
        zone_again = await live.http.post("/control/zones", json={"zone_id": "a"})
        page = (await live.http.get("/topics/orders")).json()

    assert full.status_code == zone.status_code == 507
    assert "secret" not in full.text
    assert again.status_code == 202
    assert again.json()["offsets"] == [{"partition": 0, "from": 0, "to": 1}]
    assert zone_again.json()["version"] == 1
    assert len(page["rows"]) == 1


async def test_a_low_disk_refuses_rows_before_it_is_full(app: App, run: Run, log: FullLog) -> None:
    async with run(app) as live:
        log.made.low = True
        live.gateway.core._look(log.made)  # noqa: SLF001 - as it would in half a second
        low = await live.http.post("/topics/orders", json=ROW)
        read = await live.http.get("/topics/orders")
        health = (await live.http.get("/health")).json()

    assert low.status_code == 507
    assert read.status_code == 200
    assert health["status"] == "degraded"


async def test_a_gateway_whose_file_was_taken_over_ends(app: App, log: FullLog, run: Run) -> None:
    async with run(app) as live:
        log.made.error = FencedError("another process owns the file")
        lost = await live.http.post("/topics/orders", json=ROW)
        after = await live.http.post("/topics/orders", json=ROW)
        alive = await live.http.get("/health/live")

    assert lost.status_code == after.status_code == 503
    assert alive.status_code == 503
    assert isinstance(live.gateway.core.failure, FencedError)


def overflowing(policy: Any, max_rows: int = 100) -> Room:
    app = App("shop")
    app.topic(
        "orders",
        {"order": pl.String, "time": pl.Datetime},
        time="time",
        overflow=policy,
        max_rows=max_rows,
    )
    return Room({topic.name: topic for topic in app.plan().topics})


def rows(count: int) -> tuple[pl.DataFrame, list[Checked]]:
    half = count // 2
    results = [Checked(accepted=half, start=0), Checked(accepted=count - half, start=half)]
    return pl.DataFrame({"n": range(count)}), results


def test_drop_newest_takes_rows_until_there_is_no_room() -> None:
    room = overflowing("drop_newest")
    room.waiting("orders", 94)
    frame, results = rows(10)

    assert room.admit("orders", frame, results)["n"].to_list() == [0, 1, 2, 3, 4, 5]
    assert [(r.start, r.accepted, r.dropped) for r in results] == [(0, 5, 0), (5, 1, 4)]
    assert room.admit("orders", *rows(10)).height == 0
    assert room.dropped == {("orders", "drop_newest"): 14}


def test_drop_random_and_sample_thin_out_before_the_limit() -> None:
    for policy in ("drop_random", "sample"):
        room = overflowing(policy, max_rows=10_000)
        room.waiting("orders", 4_000)
        assert room.admit("orders", *rows(100)).height == 100
        room.waiting("orders", 7_500)
        kept = room.admit("orders", *rows(1000)).height
        assert 400 <= kept <= 600
        room.waiting("orders", 10_000)
        assert room.admit("orders", *rows(100)).height == 0


def test_a_sample_keeps_every_kth_row_across_requests() -> None:
    room = overflowing("sample", max_rows=10_000)
    kept = []
    for request in range(4):
        room.waiting("orders", 8_000)
        frame, results = rows(5)
        kept += [5 * request + n for n in room.admit("orders", frame, results)["n"].to_list()]

    assert kept == list(range(0, 20, 2))


def test_block_drops_nothing() -> None:
    room = overflowing("block", max_rows=1)
    room.waiting("orders", 10**9)

    assert room.admit("orders", *rows(10)).height == 10


async def test_dropped_rows_are_answered_and_counted(run: Run) -> None:
    app = App("shop")
    schema = {"order": pl.String, "time": pl.Datetime}
    app.topic("orders", schema, time="time", overflow="drop_newest", max_rows=3)
    rows_sent = [{"order": str(n), "time": "2026-01-01T00:00:00Z"} for n in range(5)]
    async with run(app) as live:
        answer = (await live.http.post("/topics/orders", json=rows_sent)).json()
        text = (await live.http.get("/metrics")).text
        stats = (await live.http.get("/stats")).json()

    assert (answer["accepted"], answer["rejected"], answer["dropped"]) == (3, 0, 2)
    assert 'headrace_dropped_rows_total{policy="drop_newest",topic="orders"} 2.0' in text
    assert stats["dropped"] == 2


async def test_health_tells_an_engine_that_stands_still_from_a_quiet_one(
    app: App, run: Run, engine: Engine
) -> None:
    async with run(app) as live:
        core = live.gateway.core
        quiet = {"role": "engine", "state": "running", "step": 3, "pid": 1, "started": "x"}
        engine.publish(**quiet, published=core.status()["published"], unread=0)
        core._look(core.committer._writer)  # noqa: SLF001 - looks at once
        well = (await live.http.get("/health")).json()
        engine.publish(
            **quiet,
            published=core.status()["published"],
            unread=7,
            last_step="2020-01-01T00:00:00+00:00",
        )
        core._look(core.committer._writer)  # noqa: SLF001 - looks at once
        stuck = (await live.http.get("/health")).json()

    assert well["checks"]["engine"]["status"] == "healthy"
    assert stuck["status"] == stuck["checks"]["engine"]["status"] == "unhealthy"
    assert json.dumps(stuck).count("7 rows wait") == 1


def test_a_gateway_of_a_log_that_is_served_already_does_not_start(app: App, log: Log) -> None:
    assert create_gateway(app, log).core.failure is None
