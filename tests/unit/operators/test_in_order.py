import numpy as np
import polars as pl

from headrace.operators.in_order import InOrder
from tests.unit.operators.drive import Drive, timed

SCHEMA = pl.Schema({"t": pl.Int64()})


def rows(*times: int, start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame({"t": times}, schema=SCHEMA), start=start)


def test_rows_leave_in_order_strictly_below_the_watermark_and_older_ones_are_late() -> None:
    run = Drive(InOrder(), SCHEMA).step(rows(5, 3, 4, 9), watermark=5)
    assert [row["t"] for row in run.take()] == [3, 4]
    run.step(rows(4, 5, 6, start=4), watermark=9)
    assert run.frame()["__position"].to_list() == [0, 5, 6]
    assert [row["t"] for row in run.take("late")] == [4]
    assert run.task.wake().event_time == 9_000_001


def test_many_small_pieces_are_joined_and_none_is_lost() -> None:
    run = Drive(InOrder(), SCHEMA, reopen=True)
    times = np.random.default_rng(1).permutation(500).tolist()
    for number, t in enumerate(times):
        run.step(rows(t, start=number))
    run.step(watermark=100)
    assert len(run.tables.rows("waiting").pieces) <= 65
    assert run.finish().rows()["t"].to_list() == list(range(500))
