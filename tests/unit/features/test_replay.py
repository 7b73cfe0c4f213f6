"""An engine that starts again takes what a source said from its journal."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest

import headrace as hr
from headrace.core.log import Append, Commit, TopicPartition, TopicSpec
from headrace.core.time import TIME_DTYPE
from headrace.log import MemoryLog
from headrace.runners.embedded.engine import ENGINE_SLOT, Engine
from tests.unit.features.servers import FeatureService

COLUMNS = pl.Schema({"time": TIME_DTYPE, "user": pl.String()})


@pytest.fixture
def service() -> FeatureService:
    return FeatureService()


@pytest.fixture
def url(service: FeatureService) -> Iterator[str]:
    with service.serve() as address:
        yield address


def test_a_source_is_not_asked_again_for_steps_that_are_replayed(
    service: FeatureService, url: str
) -> None:
    log = MemoryLog()
    writer = log.writer("gateway-0", 0)
    writer.create(TopicSpec("rows", COLUMNS))
    row = pl.DataFrame({"time": [0], "user": ["ann"]}).cast({"time": TIME_DTYPE})

    def engine() -> Engine:
        app = hr.App("recorded")
        source = hr.features.http(url=url, key="user", features={"visits": pl.Int64})
        app.output("known", app.topic("rows", COLUMNS, time="time").enrich(source, timeout="10s"))
        one = Engine(app.plan(), log)
        one.start()
        return one

    def known(one: Engine) -> list[int]:
        writer.commit([Commit([Append("rows", 0, row, row.height)])])
        while one.step_once():
            pass
        at = TopicPartition("known", ENGINE_SLOT * 64)
        batches = log.reader().read(at, 0, 100, 1 << 20)
        return [visits for batch in batches for visits in batch.frame["visits"]]

    service.rows = {"ann": {"visits": 1}}
    first = engine()
    before = known(first)
    first.close()
    service.rows = {"ann": {"visits": 2}}
    again = engine()
    asked_in_replay = len(service.asked) - 1
    after = known(again)
    again.close()

    assert before == [1]
    assert asked_in_replay == 0
    assert after == [1, 2]
