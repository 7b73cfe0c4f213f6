from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace.connect import handlers
from headrace.connect.handlers import CONNECT_SLOT, HandlerSink
from headrace.core.errors import AuthError
from headrace.core.log import Append, Commit, Reader, TopicSpec, Writer
from headrace.log import MemoryLog
from headrace.testing import TestClock

SCHEMA = pl.Schema({"time": pl.Datetime("us", "UTC"), "value": pl.Int64()})


class Bench:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.input = self.log.writer("gateway-0", 0)
        self.input.create(TopicSpec("rows", SCHEMA))
        self.writer: Writer = self.log.writer("connect-app", CONNECT_SLOT)
        self.reader: Reader = self.log.reader()

    def put(self, *values: int) -> None:
        frame = pl.DataFrame({"time": [0] * len(values), "value": list(values)}).cast(
            {"time": pl.Datetime("us", "UTC")}
        )
        self.input.commit([Commit([Append("rows", 0, frame, frame.height)])])

    def sink(self, fn: Callable[..., Any], **options: Any) -> HandlerSink:
        app = hr.App("app")
        rows = app.topic("rows", SCHEMA, time="time")
        app.on(rows, fn, name="sink", **options)
        return HandlerSink(app.handlers[0], self.reader, self.writer, TestClock())

    def dead(self) -> pl.DataFrame:
        frames = [
            batch.frame
            for at, info in self.reader.partitions(["sink.dead"]).items()
            if info.end
            for batch in self.reader.read(at, 0, 1000, 1 << 20)
        ]
        return pl.concat(frames) if frames else pl.DataFrame()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(handlers, "LONGEST_PAUSE_S", 0.0)
    monkeypatch.setattr(handlers, "FIRST_PAUSE_S", 0.0)
    made = Bench()
    yield made
    made.reader.close()
    made.writer.close()
    made.input.close()


def drain(sink: HandlerSink) -> None:
    async def turns() -> None:
        while await sink.turn():
            pass

    asyncio.run(turns())


def test_a_function_gets_every_row_once_in_order(bench: Bench) -> None:
    seen: list[int] = []
    bench.put(1, 2, 3)
    bench.put(4, 5)

    drain(bench.sink(lambda frame: seen.extend(frame["value"]), batch=2))

    assert seen == [1, 2, 3, 4, 5]


def test_an_async_function_is_awaited(bench: Bench) -> None:
    seen: list[int] = []

    async def take(frame: pl.DataFrame) -> None:
        await asyncio.sleep(0)
        seen.extend(frame["value"])

    bench.put(1, 2)
    drain(bench.sink(take))

    assert seen == [1, 2]


def test_the_cursor_survives_a_restart(bench: Bench) -> None:
    seen: list[int] = []
    bench.put(1, 2)
    drain(bench.sink(lambda frame: seen.extend(frame["value"])))
    bench.put(3)

    drain(bench.sink(lambda frame: seen.extend(frame["value"])))

    assert seen == [1, 2, 3]


def test_what_raises_is_tried_again(bench: Bench) -> None:
    calls: list[int] = []

    def take(frame: pl.DataFrame) -> None:
        calls.append(frame.height)
        if len(calls) < 3:
            raise RuntimeError("not yet")

    bench.put(1)
    drain(bench.sink(take))

    assert calls == [1, 1, 1]
    assert bench.dead().is_empty()


def test_what_keeps_raising_becomes_dead_letters_and_the_rest_goes_on(bench: Bench) -> None:
    seen: list[int] = []

    def take(frame: pl.DataFrame) -> None:
        if 2 in frame["value"].to_list():
            raise RuntimeError("no twos")
        seen.extend(frame["value"])

    bench.put(1, 2, 3)
    drain(bench.sink(take, batch=1, attempts=2))

    assert seen == [1, 3]
    letters = bench.dead()
    assert letters["reason"].to_list() == ["RuntimeError: no twos"]
    assert letters["offset"].to_list() == [1]


def test_an_error_that_cannot_pass_is_not_tried_again(bench: Bench) -> None:
    calls: list[int] = []

    def take(frame: pl.DataFrame) -> None:
        calls.append(frame.height)
        raise AuthError("wrong password")

    bench.put(1)
    drain(bench.sink(take))

    assert calls == [1]
    assert bench.dead().height == 1
