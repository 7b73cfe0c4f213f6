"""A recorded operator is not asked again in replay, but what its control port brought is kept."""

from __future__ import annotations

from pathlib import Path

import polars as pl

import headrace as hr
from headrace.bench.tree_model import Trees
from headrace.core.log import Append, Commit, TopicPartition, TopicSpec
from headrace.core.time import TIME_DTYPE
from headrace.log import MemoryLog
from headrace.models.counts import counted
from headrace.models.make import Version, treelite
from headrace.runners.embedded.engine import ENGINE_SLOT, Engine

COLUMNS = pl.Schema({"time": TIME_DTYPE, "x": pl.Float64()})


def application(path: Path) -> hr.App:
    app = hr.App("recorded")
    rows = app.topic("rows", COLUMNS, time="time")
    models = app.control_table("models", Version, key="name")
    model = treelite(path, name="kept", isolated=False)
    app.output("scored", rows.predict(model, ["x"], versions=models, swap_wait="30s"))
    return app


def asked() -> int:
    batches = [one for one in counted() if (one["what"], one["model"]) == ("batches", "kept")]
    return sum(one["count"] for one in batches)


def test_after_a_restart_the_version_that_was_brought_goes_on(tmp_path: Path) -> None:
    first = Trees.random(2, 2, 1, seed=1).write_treelite(tmp_path / "first.tl")
    second = Trees.random(2, 2, 1, seed=2).write_treelite(tmp_path / "second.tl")
    log = MemoryLog()
    writer = log.writer("gateway-0", 0)
    plan = application(first).plan()
    changes = pl.Schema({**plan.control_tables[0].schema.columns, "__op": pl.String()})
    writer.create(TopicSpec("rows", COLUMNS))
    writer.create(TopicSpec("models.changes", changes))
    row = {"name": "kept", "model_version": "2", "source": str(second), "__op": "upsert"}

    def put(topic: str, frame: pl.DataFrame) -> None:
        writer.commit([Commit([Append(topic, 0, frame, frame.height)])])

    def scored(engine: Engine) -> list[str]:
        while engine.step_once():
            pass
        at = TopicPartition("scored", ENGINE_SLOT * 64)
        batches = log.reader().read(at, 0, 100, 1 << 20)
        return [version for batch in batches for version in batch.frame["model_version"]]

    one = pl.DataFrame({"time": [0], "x": [0.5]}).cast({"time": TIME_DTYPE})
    engine = Engine(plan, log)
    engine.start()
    put("models.changes", pl.DataFrame([row], schema=changes))
    put("rows", one)
    before = scored(engine)
    engine.close()
    asked_before = asked()
    again = Engine(application(first).plan(), log)
    again.start()
    asked_in_replay = asked() - asked_before
    put("rows", one)
    after = scored(again)
    again.close()

    assert before == ["2"]
    assert asked_in_replay == 0
    assert after == ["2", "2"]
