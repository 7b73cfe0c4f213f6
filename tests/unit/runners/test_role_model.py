"""Outputs that the role model computes: an engine of their own, on the same topics."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import headrace as hr
from headrace.bench.tree_model import Trees
from headrace.core.log import Append, Commit, Reader, TopicPartition, TopicSpec
from headrace.core.time import TIME_DTYPE
from headrace.log import MemoryLog
from headrace.plan.graph import Plan
from headrace.runners.embedded.engine import ENGINE_SLOT, MODEL_SLOT, Engine

ROWS = pl.Schema({"time": TIME_DTYPE, "x": pl.Float64()})
MINUTE = 60_000_000


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    path = Trees.random(2, 2, 1).write_treelite(tmp_path / "m.tl")
    app = hr.App("shared")
    rows = app.topic("rows", ROWS, time="time")
    app.topic("unread", ROWS, time="time")
    told = rows.predict(hr.model.treelite(path, isolated=False), ["x"])
    scored = app.output("scored", told, role="model")
    app.output("copy", rows)
    app.output("per_minute", scored.window(hr.tumbling("1m")).agg(rows=hr.count()))
    return app.plan()


def frame(*minutes: int) -> pl.DataFrame:
    times = pl.Series("time", [minute * MINUTE for minute in minutes]).cast(TIME_DTYPE)
    return pl.DataFrame([times, pl.Series("x", [0.5] * len(minutes))])


def rows_of(reader: Reader, topic: str) -> int:
    return sum(info.end - info.start for info in reader.partitions([topic]).values())


def test_a_plan_is_divided_by_who_computes(plan: Plan) -> None:
    engine, model = plan.part("engine"), plan.part("model")

    assert plan.roles() == ("engine", "model")
    assert [output.name for output in engine.outputs] == ["copy", "per_minute"]
    assert "predict" not in {node.operator.kind for node in engine.nodes}
    assert [output.name for output in model.outputs] == ["scored"]
    assert [node.operator.kind for node in model.nodes] == ["predict"]
    assert [topic.name for topic in model.topics] == ["rows"]
    assert model.app == "shared.model"


def test_a_plan_without_such_outputs_is_one_part() -> None:
    app = hr.App("plain")
    app.output("copy", app.topic("rows", ROWS, time="time"))
    plan = app.plan()

    assert plan.roles() == ("engine",)
    assert plan.part("engine") is plan


def test_the_engine_goes_on_without_predictions_and_takes_them_when_they_come(plan: Plan) -> None:
    log = MemoryLog()
    writer, reader = log.writer("gateway-0", 0), log.reader()
    for topic in ("rows", "unread"):
        writer.create(TopicSpec(topic, ROWS))
    engine = Engine(plan.part("engine"), log)
    model = Engine(plan.part("model"), log, slot=MODEL_SLOT)
    engine.start()
    model.start()

    def step(one: Engine) -> None:
        while one.step_once():
            pass

    def put(*minutes: int) -> None:
        rows = frame(*minutes)
        writer.commit([Commit([Append("rows", 0, rows, rows.height)])])

    put(0, 0, 1)
    put(2, 5)
    step(engine)
    alone = rows_of(reader, "copy"), rows_of(reader, "scored"), rows_of(reader, "per_minute")
    step(model)
    step(engine)
    put(9)
    step(model)
    step(engine)
    at = TopicPartition("per_minute", ENGINE_SLOT * 64)
    found = pl.concat([batch.frame for batch in reader.read(at, 0, 100, 1 << 20)])
    engine.close()
    model.close()

    assert alone == (5, 0, 0)
    assert found["rows"].to_list() == [2, 1, 1, 1]
    assert {at.partition for at in reader.partitions(["scored"])} == {MODEL_SLOT * 64}
