from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from headrace.alerts import channels
from headrace.alerts.channel import Channel, Connection
from headrace.alerts.notification import DELIVERIES, Answer, Notification
from headrace.alerts.secrets import Secrets
from headrace.connect import delivery
from headrace.connect.delivery import DeliverySink
from headrace.connect.handlers import CONNECT_SLOT
from headrace.core.errors import StorageFullError
from headrace.core.log import Append, Appended, Commit, Reader, TopicSpec, Writer
from headrace.log import MemoryLog
from headrace.stream.sinks import Delivery
from headrace.testing import TestClock
from tests.unit.alerts.samples import SCHEMA, row
from tests.unit.alerts.servers import Reply, http_server

DELIVERED = Answer("delivered", 200)
FAILED = Answer("failed", 503, "503 away")
REFUSED = Answer("refused", 404, "404 no such hook")


class Scripted(Channel):
    """A channel whose answers a test decides: by id, in order, the last one for ever."""

    kind = "scripted"

    def secrets(self) -> tuple[str, ...]:
        return ()

    def open(self, secrets: Secrets, *, allow_private: bool = False) -> Connection:
        raise NotImplementedError


class Receiver:
    """Notes what it is given; holds back what a test holds."""

    def __init__(self, answers: dict[str, list[Answer]] | None = None) -> None:
        self.answers = answers or {}
        self.given: list[str] = []
        self.came = asyncio.Event()
        self.held: dict[str, asyncio.Event] = {}
        self.most_at_once = 0
        self.under_way = 0

    def hold(self, *ids: str) -> None:
        self.held |= {one: asyncio.Event() for one in ids}

    async def deliver(self, notification: Notification) -> Answer:
        self.given.append(notification.id)
        self.came.set()
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            if notification.id in self.held:
                await self.held[notification.id].wait()
        finally:
            self.under_way -= 1
        script = self.answers.get(notification.id, [DELIVERED])
        return script.pop(0) if len(script) > 1 else script[0]

    async def close(self) -> None:
        """Nothing to close."""


class Bench:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.clock = TestClock()
        self.secrets = Secrets({"KEY": "s3cr3t"}, environment={})
        self.engine: Writer = self.log.writer("engine-app", 16)
        self.engine.create(TopicSpec("notifications", SCHEMA))
        self.writer: Writer = self.log.writer("connect-app", CONNECT_SLOT)
        self.reader: Reader = self.log.reader()

    def put(self, *rows: dict[str, Any]) -> None:
        frame = pl.DataFrame(list(rows), SCHEMA)
        (partition,) = [at.partition for at in self.reader.partitions(["notifications"])]
        self.engine.commit([Commit([Append("notifications", partition, frame, frame.height)])])

    def sink(self, receiver: Connection, **options: Any) -> DeliverySink:
        channel = Scripted(name=options.pop("name", "webhook"), **options)
        return DeliverySink(
            Delivery("notifications", channel),
            receiver,
            self.reader,
            self.writer,
            self.clock,
            self.secrets,
        )

    def rows(self, topic: str) -> list[dict[str, Any]]:
        frames = [
            batch.frame
            for at, info in self.reader.partitions([topic]).items()
            if info.end
            for batch in self.reader.read(at, 0, 10_000, 1 << 30)
        ]
        return pl.concat(frames).to_dicts() if frames else []

    def outcomes(self) -> list[tuple[str, int, str]]:
        return [
            (one["notification_id"], one["attempt"], one["outcome"])
            for one in self.rows(DELIVERIES)
        ]

    def cursor(self, name: str = "webhook") -> int:
        (value,) = self.writer.scan(f"cursor/channel.{name}/").values()
        return int(json.loads(value)[1])

    def remembered(self) -> int:
        return len(self.writer.scan("delivery/"))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.reader.close()
    made.writer.close()
    made.engine.close()


async def until(sink: DeliverySink, done: Callable[[], bool]) -> float | None:
    """Take turns whenever the sink is woken until something holds; return the last pause."""
    async with asyncio.timeout(10):
        while True:
            sink.wake.clear()
            pause = sink.turn()
            if done():
                return pause
            await sink.wake.wait()


async def settle(sink: DeliverySink) -> float | None:
    """Take turns until no attempt is under way."""
    sink.turn()
    return await until(sink, lambda: not sink._tasks)  # noqa: SLF001 - what "settled" means


async def test_every_notification_of_the_channel_is_delivered_once(bench: Bench) -> None:
    receiver = Receiver()
    sink = bench.sink(receiver)
    bench.put(row("a"), row("b", channel="email"), row("c"))

    await settle(sink)

    assert receiver.given == ["deep/a/1", "deep/c/1"]
    assert bench.outcomes() == [("deep/a/1", 1, "delivered"), ("deep/c/1", 1, "delivered")]
    assert (bench.cursor(), bench.remembered(), sink.waiting) == (3, 0, 0)
    assert sink.counts == {"delivered": 2}


async def test_the_row_of_an_attempt_says_what_happened(bench: Bench) -> None:
    receiver = Receiver({"deep/a/1": [Answer("failed", 503, "bad key s3cr3t")]})
    sink = bench.sink(receiver)
    bench.secrets.reveal("KEY")  # as a channel does when it opens
    bench.put(row("a"))

    await settle(sink)

    (attempt,) = bench.rows(DELIVERIES)
    assert attempt == {
        "notification_id": "deep/a/1",
        "channel": "webhook",
        "attempt": 1,
        "outcome": "failed",
        "status": 503,
        "reason": "bad key ***",
        "at": attempt["at"],
        "duration_ms": 0.0,
    }
    assert attempt["at"].isoformat() == "2026-01-01T00:00:00+00:00"


async def test_what_fails_is_tried_again_after_a_growing_pause(bench: Bench) -> None:
    receiver = Receiver({"deep/a/1": [FAILED, FAILED, DELIVERED]})
    sink = bench.sink(receiver)
    bench.put(row("a"))

    first = await settle(sink)
    assert first is not None
    assert 0.5 <= first <= 1.0
    bench.clock.advance(timedelta(seconds=first))
    second = await settle(sink)
    assert second is not None
    assert 1.0 <= second <= 2.0
    bench.clock.advance(timedelta(seconds=second - 0.001))
    await settle(sink)
    assert len(receiver.given) == 2
    bench.clock.advance("1ms")
    await settle(sink)

    assert [outcome for *_, outcome in bench.outcomes()] == ["failed", "failed", "delivered"]
    assert [attempt for _, attempt, _ in bench.outcomes()] == [1, 2, 3]
    assert bench.cursor() == 1
    assert bench.rows("notifications.dead") == []


async def test_the_pause_that_was_asked_for_is_kept(bench: Bench) -> None:
    receiver = Receiver({"deep/a/1": [Answer("failed", 429, "slow down", 40.0), DELIVERED]})
    sink = bench.sink(receiver)
    bench.put(row("a"))

    pause = await settle(sink)

    assert pause == 40.0


async def test_a_clock_set_back_does_not_hold_a_notification_for_ever(bench: Bench) -> None:
    receiver = Receiver({"deep/a/1": [FAILED, DELIVERED]})
    sink = bench.sink(receiver, longest_pause="5m")
    bench.put(row("a"))
    await settle(sink)

    bench.clock.jump("-30d")
    pause = await settle(sink)

    assert pause is not None
    assert pause <= 300.0


async def test_what_is_refused_is_dead_at_once_with_its_reason(bench: Bench) -> None:
    sink = bench.sink(Receiver({"deep/a/1": [REFUSED]}))
    bench.put(row("a"), row("b"))

    await settle(sink)

    (letter,) = bench.rows("notifications.dead")
    assert letter["reason"] == "webhook: 404 no such hook"
    assert json.loads(letter["payload"])["notification_id"] == "deep/a/1"
    assert (letter["topic"], letter["offset"]) == ("notifications", 0)
    assert sorted(bench.outcomes()) == [("deep/a/1", 1, "dead"), ("deep/b/1", 1, "delivered")]
    assert bench.cursor() == 2


async def test_after_its_last_attempt_a_notification_is_dead(bench: Bench) -> None:
    sink = bench.sink(Receiver({"deep/a/1": [FAILED]}), attempts=3)
    bench.put(row("a"))

    for _ in range(3):
        await settle(sink)
        bench.clock.advance("10m")

    assert [outcome for *_, outcome in bench.outcomes()] == ["failed", "failed", "dead"]
    assert bench.rows("notifications.dead")[0]["reason"] == "webhook: 503 away (3 attempts)"
    assert (sink.waiting, bench.remembered()) == (0, 0)


async def test_a_connection_that_raises_is_a_failed_attempt(bench: Bench) -> None:
    class Broken(Receiver):
        async def deliver(self, notification: Notification) -> Answer:
            raise KeyError(notification.id)

    sink = bench.sink(Broken())
    bench.put(row("a"))

    await settle(sink)

    assert bench.rows(DELIVERIES)[0]["reason"] == "KeyError: 'deep/a/1'"


async def test_an_attempt_that_takes_too_long_is_ended(bench: Bench) -> None:
    receiver = Receiver()
    receiver.hold("deep/a/1")
    sink = bench.sink(receiver, timeout="50ms")
    bench.put(row("a"))

    await settle(sink)

    assert bench.rows(DELIVERIES)[0]["reason"] == "no answer within 50ms"
    assert receiver.under_way == 0


async def test_one_that_is_slow_holds_up_no_other(bench: Bench) -> None:
    receiver = Receiver()
    receiver.hold("deep/slow/1")
    sink = bench.sink(receiver, concurrency=2)
    bench.put(row("slow"), *(row(f"k{n}") for n in range(20)))

    await until(sink, lambda: sink.waiting == 1)

    assert receiver.most_at_once == 2
    assert len(bench.outcomes()) == 20
    receiver.held["deep/slow/1"].set()
    await settle(sink)
    assert (bench.cursor(), bench.remembered()) == (21, 0)


async def test_one_that_waits_for_its_next_attempt_takes_no_place(bench: Bench) -> None:
    failing = {f"deep/f{n}/1": [FAILED] for n in range(5)}
    sink = bench.sink(Receiver(failing), concurrency=1)
    bench.put(*(row(f"f{n}") for n in range(5)), row("good"))

    await until(sink, lambda: sink.counts.total() == 6)

    assert sink.counts == {"failed": 5, "delivered": 1}


async def test_notifications_of_one_alert_leave_in_order(bench: Bench) -> None:
    receiver = Receiver({"deep/a/1": [FAILED, DELIVERED]})
    sink = bench.sink(receiver)
    bench.put(row("a", 1), row("a", 2), row("b", 1))

    await settle(sink)
    assert receiver.given == ["deep/a/1", "deep/b/1"]
    bench.clock.advance("10s")
    await settle(sink)

    assert receiver.given == ["deep/a/1", "deep/b/1", "deep/a/1", "deep/a/2"]


async def test_the_most_urgent_leaves_first(bench: Bench) -> None:
    receiver = Receiver()
    sink = bench.sink(receiver, concurrency=1)
    bench.put(
        row("i", severity="info"), row("w", severity="warning"), row("c", severity="critical")
    )

    await settle(sink)
    await until(sink, lambda: sink.waiting == 0)

    assert receiver.given == ["deep/c/1", "deep/w/1", "deep/i/1"]


async def test_a_restart_repeats_nothing_that_was_recorded(bench: Bench) -> None:
    receiver = Receiver({"deep/a/1": [FAILED, FAILED, DELIVERED]})
    first = bench.sink(receiver)
    bench.put(row("a"), row("b"))
    await settle(first)

    again = bench.sink(receiver)
    pause = await settle(again)
    assert receiver.given == ["deep/a/1", "deep/b/1"]
    assert pause is not None
    bench.clock.advance(timedelta(seconds=pause))
    await settle(again)
    bench.clock.advance("10s")
    last = bench.sink(receiver)
    await settle(last)

    assert receiver.given == ["deep/a/1", "deep/b/1", "deep/a/1", "deep/a/1"]
    assert [attempt for one, attempt, _ in bench.outcomes() if one == "deep/a/1"] == [1, 2, 3]
    assert (bench.cursor(), bench.remembered()) == (2, 0)


async def test_what_was_under_way_at_a_crash_is_repeated_under_its_key(bench: Bench) -> None:
    receiver = Receiver()
    receiver.hold("deep/a/1")
    first = bench.sink(receiver)
    bench.put(row("a"))
    first.turn()
    await asyncio.sleep(0)
    assert receiver.given == ["deep/a/1"]
    for task in first._tasks:  # noqa: SLF001 - the process dies here, before its commit
        task.cancel()

    receiver.held.clear()
    await settle(bench.sink(receiver))

    assert receiver.given == ["deep/a/1", "deep/a/1"]
    assert bench.outcomes() == [("deep/a/1", 1, "delivered")]


async def test_stopping_lets_what_is_under_way_end(bench: Bench) -> None:
    receiver = Receiver()
    receiver.hold("deep/a/1")
    sink, stop = bench.sink(receiver), asyncio.Event()
    bench.put(row("a"))
    running = asyncio.create_task(sink.run(stop))
    await asyncio.wait_for(receiver.came.wait(), 5)

    stop.set()
    sink.wake.set()
    receiver.held["deep/a/1"].set()
    await running

    assert bench.outcomes() == [("deep/a/1", 1, "delivered")]


async def test_stopping_does_not_wait_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "GRACE_S", 0.01)
    receiver = Receiver()
    receiver.hold("deep/a/1")
    sink = bench.sink(receiver)
    bench.put(row("a"))
    sink.turn()

    await sink.close()

    assert bench.outcomes() == []


async def test_a_full_disk_makes_nothing_be_told_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver({"deep/a/1": [FAILED, DELIVERED]})
    sink = bench.sink(receiver)
    commit = bench.writer.commit

    def full(commits: Sequence[Commit]) -> list[list[Appended]]:
        raise StorageFullError(f"no room for {len(commits)} commits")

    bench.put(row("a"), row("b"))
    monkeypatch.setattr(bench.writer, "commit", full)
    await settle(sink)
    bench.put(row("c"))
    assert sink.turn() == delivery.FULL_PAUSE_S
    assert receiver.given == ["deep/a/1", "deep/b/1"]
    assert bench.outcomes() == []

    monkeypatch.setattr(bench.writer, "commit", commit)
    bench.clock.advance("10s")
    await settle(sink)

    assert receiver.given == ["deep/a/1", "deep/b/1", "deep/a/1", "deep/c/1"]
    assert sorted(bench.outcomes()) == [
        ("deep/a/1", 1, "failed"),
        ("deep/a/1", 2, "delivered"),
        ("deep/b/1", 1, "delivered"),
        ("deep/c/1", 1, "delivered"),
    ]
    assert (bench.cursor(), bench.remembered()) == (3, 0)


async def test_no_more_than_a_window_is_held(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "WINDOW", 10)
    monkeypatch.setattr(delivery, "READ_ROWS", 5)
    receiver = Receiver()
    receiver.hold(*(f"deep/k{n}/1" for n in range(100)))
    sink = bench.sink(receiver)
    bench.put(*(row(f"k{n}") for n in range(100)))

    sink.turn()
    assert sink.waiting == 10
    for event in receiver.held.values():
        event.set()
    await until(sink, lambda: sink.counts["delivered"] == 100)

    assert bench.cursor() == 100


async def test_rows_of_other_channels_move_the_cursor_when_the_sink_rests(bench: Bench) -> None:
    sink = bench.sink(Receiver())
    bench.put(*(row(f"k{n}", channel="email") for n in range(5)))
    sink.turn()

    sink.rest()

    assert bench.cursor() == 5


async def test_a_topic_made_anew_is_read_from_its_beginning(bench: Bench) -> None:
    receiver = Receiver({"deep/a/1": [FAILED]})
    sink = bench.sink(receiver)
    bench.put(row("a"))
    await settle(sink)
    bench.engine.drop("notifications")
    bench.engine.create(TopicSpec("notifications", SCHEMA))
    bench.put(row("b"), row("c"))

    await settle(sink)

    assert receiver.given == ["deep/a/1", "deep/b/1", "deep/c/1"]
    assert (sink.waiting, bench.cursor()) == (0, 2)
    bench.sink(receiver)
    assert bench.remembered() == 0


async def test_channels_do_not_wait_for_each_other(bench: Bench) -> None:
    stuck, fast = Receiver(), Receiver()
    stuck.hold("deep/a/1")
    sinks = [bench.sink(stuck, name="stuck"), bench.sink(fast, name="fast")]
    bench.put(row("a", channel="stuck"), row("a", channel="fast"))

    for sink in sinks:
        sink.turn()
    await until(sinks[1], lambda: sinks[1].counts["delivered"] == 1)

    assert bench.cursor("fast") == 2
    assert stuck.under_way == 1
    await asyncio.gather(*cancelled(sinks[0]), return_exceptions=True)


def cancelled(sink: DeliverySink) -> Sequence[asyncio.Task[None]]:
    tasks = list(sink._tasks)  # noqa: SLF001 - the test ends what it began
    for task in tasks:
        task.cancel()
    return tasks


async def test_a_real_webhook_that_fails_hangs_and_throttles_is_told_in_the_end(
    bench: Bench,
) -> None:
    replies = (
        Reply(500),
        Reply(hang=True),
        Reply(429, (("Retry-After", "30"),)),
        Reply(200, cut=5),
        Reply(200),
    )
    async with http_server(*replies) as server:
        channel = channels.webhook(
            server.url, allow_private=True, timeout="2s", first_pause="100ms"
        )
        secrets = Secrets(environment={})
        sink = DeliverySink(
            Delivery("notifications", channel),
            channel.open(secrets),
            bench.reader,
            bench.writer,
            bench.clock,
            secrets,
        )
        bench.put(row("a", transition=4))
        pauses = []
        for _ in replies:
            pauses.append(await settle(sink))
            bench.clock.advance("5m")
        await sink.close()

    assert [one["status"] for one in bench.rows(DELIVERIES)] == [500, None, 429, None, 200]
    assert pauses[2] == 30.0
    keys = {received.headers["idempotency-key"] for received in server.received}
    assert keys == {"deep/a/4"}
    assert len(server.received) == 5
    assert bench.cursor() == 1
