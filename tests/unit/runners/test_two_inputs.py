"""What the engine owes to operators with more than one data input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.log import Append, Commit, TopicSpec
from headrace.log import MemoryLog
from headrace.plan.graph import DEAD, DEAD_SCHEMA
from headrace.runners.embedded.engine import Engine
from headrace.testing import TestClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SCHEMA = pl.Schema({"k": pl.String(), "time": pl.Datetime("us", "UTC"), "n": pl.Int64()})


def rows_at(*seconds: float, key: str = "a") -> pl.DataFrame:
    times = [NOON + timedelta(seconds=second) for second in seconds]
    return pl.DataFrame({"k": key, "time": times, "n": range(len(times))}, schema=SCHEMA)


def two_topics() -> tuple[hr.App, hr.Stream, hr.Stream]:
    app = hr.App("two")
    left, right = (
        app.topic(name, SCHEMA, time="time", idle_after="10s") for name in ("left", "right")
    )
    return app, left, right


def engine_over(app: hr.App, clock: TestClock) -> tuple[Engine, Any, MemoryLog]:
    log = MemoryLog()
    writer = log.writer("gateway-0", 0)
    for topic in app.plan().topics:
        writer.create(TopicSpec(topic.name, topic.schema.columns))
        writer.create(TopicSpec(topic.name + DEAD, DEAD_SCHEMA))
    engine = Engine(app.plan(), log, clock=clock)
    engine.start()
    return engine, writer, log


def count(log: MemoryLog, topic: str) -> int:
    reader = log.reader()
    try:
        return sum(info.end for info in reader.partitions([topic]).values())
    finally:
        reader.close()


@pytest.mark.parametrize("filtered", [False, True])
def test_an_input_that_is_idle_and_never_had_a_row_holds_nothing_back(*, filtered: bool) -> None:
    app, left, right = two_topics()
    right = right.filter(pl.col("n") >= 0) if filtered else right
    app.output("lonely", left.join(right, on="k", within=("0s", "1s"), how="anti"))
    clock = TestClock(NOON)
    engine, writer, log = engine_over(app, clock)

    writer.commit([Commit([Append("left", 0, rows_at(0), 1)])])
    while engine.step_once():
        pass
    before = count(log, "lonely")
    clock.advance(timedelta(seconds=30))
    while engine.step_once():
        pass

    assert (before, count(log, "lonely")) == (0, 1)
    engine.close()


def test_rows_of_the_right_side_that_raise_are_dead_letters_of_their_own_topic() -> None:
    app, left, right = two_topics()
    number = pl.col("k_right").str.to_integer() > 0
    app.output("pairs", left.join(right, within=("-1s", "1s"), where=number))
    texts = pl.concat([rows_at(0.5, key="1"), rows_at(0.6, key="x")])

    outputs = testing.run(app, {"left": rows_at(0), "right": texts}, batch_rows=1)

    assert outputs["pairs"]["k_right"].to_list() == ["1"]
    assert outputs["right.dead"]["topic"].to_list() == ["right"]
    assert outputs.get("left.dead") is None


@pytest.mark.parametrize("how", ["inner", "left", "right", "outer", "semi", "anti"])
def test_what_a_join_gives_is_never_late_in_the_next_window(how: Any) -> None:
    app, left, right = two_topics()
    joined = left.join(right, on="k", within=("-3s", "2s"), how=how)
    app.output("joined", joined)
    counted = joined.window(hr.tumbling("1s")).agg(n=hr.count())
    app.output("counted", counted)
    app.output("late", counted.late)
    seconds = [0.4 * n for n in range(50)]

    outputs = testing.run(
        app, {"left": rows_at(*seconds), "right": rows_at(*seconds[20:35])}, batch_rows=4, seed=1
    )

    assert outputs["late"].height == 0
    assert outputs["counted"]["n"].sum() == outputs["joined"].height > 0


def test_the_time_column_is_known_where_one_side_is_always_the_later() -> None:
    _, left, right = two_topics()

    def shown(low: str, high: str, how: Any) -> str | None:
        time = left.join(right, on="k", within=(low, high), how=how).time
        return None if time is None else time.column

    assert shown("-5s", "0s", "left") == shown("-5s", "0s", "semi") == "time"
    assert shown("0s", "5s", "inner") == "time_right"
    assert shown("0s", "5s", "left") is shown("-1s", "1s", "inner") is None
    assert shown("-1s", "1s", "anti") == "time"


def test_late_rows_of_each_side_keep_their_columns_and_time() -> None:
    _, left, right = two_topics()
    joined = left.join(right.rename({"time": "at"}), on="k", within=("0s", "1s"))

    assert joined.late.schema == SCHEMA
    assert joined.late_right.schema.names() == ["k", "at", "n"]
    assert joined.late_right.time is not None
    assert joined.late_right.time.column == "at"
