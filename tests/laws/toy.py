"""A running sum per key that keeps every law, and copies of it that each break one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import polars as pl
from hypothesis import strategies as st

from headrace.core.protocols import LATE, MAIN, Operator, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import EVENT_TIME, TIME_DTYPE
from headrace.operators.event_order import EventOrderBuffer
from headrace.testing.laws import Case, InputSpec
from headrace.testing.solo import with_hidden

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Int64()})


class RunningSumTask(Task):
    """Rows wait for the watermark, then each gives the sum of its key so far."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.buffer = EventOrderBuffer(tables.rows("waiting"))
        self.sums = tables.keyed("sums")

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        late = self.buffer.add(frame, self.tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        due = self.buffer.release(watermark)
        if due is not None:
            yield MAIN, self.answer(due)

    def finish(self) -> Iterable[Out]:
        due = self.buffer.release_all()
        if due is not None:
            yield MAIN, self.answer(due)

    def wake(self) -> Wake:
        return self.buffer.wake()

    def answer(self, due: pl.DataFrame) -> pl.DataFrame:
        before = self.sums.lookup(due)["sum"].fill_null(0)
        answer = due.with_columns(
            (pl.col("x").fill_null(0).cum_sum().over("k") + before).alias("sum")
        )
        self.sums.upsert(answer.select("k", "sum"))
        return answer.drop("x")


class RunningSum(Operator):
    kind: ClassVar[str] = "running_sum"

    variant: str = "RunningSumTask"

    def outputs(self) -> tuple[str, ...]:
        return (MAIN, LATE)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        main = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "sum": pl.Int64()})
        return {MAIN: main, LATE: inputs[0]}

    def key_columns(self) -> tuple[str, ...]:
        return ("k",)

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        return (
            TableSpec("waiting", "rows", with_hidden(inputs[0].to_frame()).schema),
            TableSpec("sums", "keyed", pl.Schema({"k": pl.String, "sum": pl.Int64}), key=("k",)),
        )

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - one input
        return VARIANTS[self.variant](tables)


def running_sum(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    sums = frame.with_columns(pl.col("x").fill_null(0).cum_sum().over("k").alias("sum"))
    return {MAIN: sums.select("time", "k", "sum", EVENT_TIME)}


class ForgetsAtCuts(RunningSumTask):
    def answer(self, due: pl.DataFrame) -> pl.DataFrame:
        return due.with_columns(pl.col("x").fill_null(0).cum_sum().over("k").alias("sum")).drop("x")


class AnswersWrong(RunningSumTask):
    def answer(self, due: pl.DataFrame) -> pl.DataFrame:
        return super().answer(due).with_columns(pl.col("sum") % 4)


class FollowsArrival(RunningSumTask):
    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        yield MAIN, self.answer(frame)


class LosesLateRows(RunningSumTask):
    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        list(super().process(frame, port))
        return ()


class TakesLateRowsTwice(RunningSumTask):
    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        for name, late in super().process(frame, port):
            yield name, late
            yield MAIN, self.answer(late)


class KeepsStateOnSelf(RunningSumTask):
    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.seen: dict[Any, int] = {}

    def answer(self, due: pl.DataFrame) -> pl.DataFrame:
        sums = []
        for key, x in due.select("k", "x").iter_rows():
            self.seen[key] = self.seen.get(key, 0) + (x or 0)
            sums.append(self.seen[key])
        return due.with_columns(pl.Series("sum", sums, dtype=pl.Int64)).drop("x")


class MixesKeys(RunningSumTask):
    def answer(self, due: pl.DataFrame) -> pl.DataFrame:
        key = pl.lit("all").alias("k")
        return super().answer(due.with_columns(key)).with_columns(due["k"])


class CountsEmptyFrames(RunningSumTask):
    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        if frame.is_empty():
            self.sums.upsert(pl.DataFrame({"k": ["a"], "sum": [1]}))
        return super().process(frame, port)


class GivesOtherColumns(RunningSumTask):
    def answer(self, due: pl.DataFrame) -> pl.DataFrame:
        return super().answer(due).cast({"sum": pl.Int32})


class GivesOldEventTimes(RunningSumTask):
    def answer(self, due: pl.DataFrame) -> pl.DataFrame:
        return super().answer(due).with_columns(pl.col(EVENT_TIME) - 60_000_000)


class OrdersByPythonHash(RunningSumTask):
    def answer(self, due: pl.DataFrame) -> pl.DataFrame:
        answer = super().answer(due)
        keys = set(answer["k"])
        return pl.concat([answer.filter(pl.col("k").eq_missing(pl.lit(key))) for key in keys])


_PAIRS: list[tuple[type[RunningSumTask], str]] = [
    (ForgetsAtCuts, "cut"),
    (ForgetsAtCuts, "disorder"),
    (AnswersWrong, "oracle"),
    (FollowsArrival, "disorder"),
    (FollowsArrival, "oracle"),
    (LosesLateRows, "late"),
    (TakesLateRowsTwice, "late"),
    (KeepsStateOnSelf, "resume"),
    (MixesKeys, "shard"),
    (CountsEmptyFrames, "empty"),
    (GivesOtherColumns, "schema"),
    (GivesOldEventTimes, "hold"),
]
_TASKS: list[type[RunningSumTask]] = [RunningSumTask, OrdersByPythonHash]
VARIANTS = {task.__name__: task for task in _TASKS + [task for task, _ in _PAIRS]}


def case(task: type[RunningSumTask]) -> Case:
    # Gaps are listed, and pass the delay: what else is loaded must not decide whether time moves.
    gap = st.sampled_from([0, 0, 1, 999_999, 1_000_000, 2_500_001, 5_000_000, 11_000_000])
    inputs = (InputSpec(SCHEMA, delay="5s", gap=gap),)
    return Case(RunningSum(variant=task.__name__), inputs, running_sum, task.__name__)


SOUND = case(RunningSumTask)
UNSTABLE = case(OrdersByPythonHash)
MUTANTS = [(case(task), law) for task, law in _PAIRS]
CASES = [SOUND, UNSTABLE]
