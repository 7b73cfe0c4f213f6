"""What is particular to the window join."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import duckdb
import numpy as np
import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.errors import PlanError
from headrace.core.time import EVENT_TIME
from headrace.operators.assigners import Sliced, cumulate, forever, session, sliding, tumbling
from headrace.operators.join import How
from headrace.operators.window_join import WindowJoin
from tests.unit.operators.drive import SECOND, Drive, at, timed

LEFT = pl.Schema({"k": pl.String(), "t": pl.Int64()})
RIGHT = pl.Schema({"k": pl.String(), "t": pl.Int64(), "v": pl.Int64()})


def lefts(*rows: tuple[str | None, int]) -> pl.DataFrame:
    return timed(pl.DataFrame(list(rows), schema=LEFT, orient="row"))


def rights(*rows: tuple[str | None, int, int]) -> pl.DataFrame:
    return timed(pl.DataFrame(list(rows), schema=RIGHT, orient="row"), start=1000)


def drive(how: How = "inner", assigner: Sliced | None = None, **more: Any) -> Drive:
    chosen = assigner or tumbling("10s")
    return Drive(WindowJoin(assigner=chosen, on="k", how=how, **more), LEFT, RIGHT, reopen=True)


def test_pairs_of_a_window_leave_when_it_ends() -> None:
    run = drive().step(lefts(("a", 1), ("b", 9))).step(rights(("a", 9, 5), ("b", 10, 6)), port=1)

    assert not run.step(watermark=9.999).take()
    run.step(watermark=10)
    assert run.frame()[EVENT_TIME].to_list() == [10 * SECOND - 1]
    window = {"window_start": at(0), "window_end": at(10)}
    assert run.take() == [{"k": "a", "t": 1, "t_right": 9, "v": 5, **window}]


def test_a_row_is_late_when_all_its_windows_have_ended() -> None:
    run = drive("outer", sliding("10s", every="5s")).step(watermark=10)

    run.step(lefts(("a", 4), ("a", 6))).step(rights(("a", 4, 1)), port=1).finish()

    assert run.take("late") == [{"k": "a", "t": 4}]
    assert run.take("late_right") == [{"k": "a", "t": 4, "v": 1}]
    assert [(row["t"], row["window_end"]) for row in run.take()] == [(6, at(15))]


def test_a_pair_leaves_once_for_each_window_that_holds_both() -> None:
    run = drive(assigner=sliding("10s", every="5s"))

    run.step(lefts(("a", 6))).step(rights(("a", 8, 1), ("a", 11, 2)), port=1).finish()

    ends = [(row["v"], row["window_end"]) for row in run.take()]
    assert ends == [(1, at(10)), (1, at(15)), (2, at(15))]


def test_rows_are_forgotten_when_their_last_window_has_ended() -> None:
    run = drive("outer", sliding("10s", every="5s"))

    run.step(lefts(("a", 6))).step(rights(("a", 4, 1)), port=1).step(watermark=10)
    assert [run.tables.rows(side).rows for side in ("left", "right")] == [1, 0]
    run.step(watermark=15)

    assert [run.tables.rows(side).rows for side in ("left", "right")] == [0, 0]
    assert run.task.wake().event_time is None


@pytest.mark.parametrize("how", get_args(How))
@pytest.mark.parametrize(
    "assigner", [tumbling("7s", offset="2s"), sliding("9s", every="2s"), cumulate("8s", every="2s")]
)
def test_answers_equal_those_of_duckdb(how: How, assigner: Sliced, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    left, right = (
        timed(
            pl.DataFrame(
                {
                    "k": [("a", "b", "c", None)[key] for key in random.integers(0, 4, 60)],
                    "t": random.integers(0, 60, 60),
                    "v": random.integers(0, 9, 60),
                }
            ),
            start=start,
        )
        for start in (0, 1000)
    )
    left = left.rename({"v": "u"})
    run = Drive(
        WindowJoin(assigner=assigner, on="k", how=how, where=pl.col("u") <= pl.col("v")),
        left.drop("^__.*$").schema,
        right.drop("^__.*$").schema,
        reopen=True,
    )
    for begin in range(0, 60, 15):
        now = pl.col("t").is_between(begin, begin + 14)
        run.step(left.filter(now)).step(right.filter(now), port=1).step(watermark=begin + 15)
    run.finish()

    ends = [step for step in range(1, 80) if _is_end(assigner, step)]
    grid = pl.DataFrame({"e": ends, "s": [_start(assigner, end) for end in ends]})
    for name, rows in {"left": left, "right": right, "grid": grid}.items():
        rows.write_parquet(tmp_path / f"{name}.parquet")
    kind = {"outer": "full"}.get(how, how)
    columns = "l.k, l.t, l.u" if how in ("semi", "anti") else "coalesce(l.k, r.k), l.t, u, r.t, v"
    window = "l.s, l.e" if how in ("semi", "anti") else "coalesce(l.s, r.s), coalesce(l.e, r.e)"
    expected = duckdb.sql(
        f"""with grid as (from "{tmp_path}/grid.parquet"),
            l as (select * from "{tmp_path}/left.parquet" join grid on t >= s and t < e),
            r as (select * from "{tmp_path}/right.parquet" join grid on t >= s and t < e)
        select {columns}, {window} from l {kind} join r
        on l.k = r.k and l.s = r.s and l.e = r.e and u <= v"""  # noqa: S608 - fixed words
    )
    assert expected is not None
    got = run.rows().with_columns(pl.col("window_start", "window_end").dt.epoch("s")).rows()
    assert sorted(got, key=repr) == sorted(expected.fetchall(), key=repr)
    assert got


def _start(assigner: Sliced, end: int) -> int:
    return int(pl.select(assigner.start(pl.lit(end * SECOND))).item()) // SECOND


def _is_end(assigner: Sliced, second: int) -> bool:
    return assigner.end_after(second * SECOND - 1) == second * SECOND


def test_a_window_of_many_pairs_is_given_in_portions() -> None:
    run = drive("outer", where=pl.col("t_right") == pl.col("v"))
    left, right = (
        timed(pl.DataFrame({"k": ["a"] * 2100, "t": [t] * 2100}), start=start)
        for t, start in ((1, 0), (2, 5000))
    )
    one = pl.DataFrame({"v": [2] + [0] * 2099})

    run.step(left).step(right.with_columns(one["v"]), port=1).step(watermark=10)

    assert run.rows().height == 2100 + 2099
    assert run.rows()["v"].value_counts().sort("v").rows() == [(0, 2099), (2, 2100)]
    assert run.frame()["__position"].to_list() == list(range(2100 + 2099))


@pytest.mark.parametrize(
    ("assigner", "hint"), [(session("5s"), r"union\(\)"), (forever(), r"tumbling\(\)")]
)
def test_windows_without_a_common_end_are_refused(assigner: Any, hint: str) -> None:
    with pytest.raises(PlanError, match="cannot be joined") as refused:
        WindowJoin(assigner=assigner, on="k")
    assert refused.match(hint)


def test_columns_that_the_window_adds_must_not_be_there() -> None:
    ended = pl.Schema({**LEFT, "window_end": pl.Int64()})

    with pytest.raises(PlanError, match="adds 'window_end'"):
        WindowJoin(assigner=tumbling("1s"), on="k").output_schema(ended, RIGHT)


def test_join_takes_bounds_or_a_window() -> None:
    app = hr.App("doc")
    rows = app.topic("rows", {"k": pl.String, "time": pl.Datetime("us", "UTC")}, time="time")

    with pytest.raises(PlanError, match="within= or window="):
        rows.join(rows, on="k")
    with pytest.raises(PlanError, match="within= or window="):
        rows.join(rows, on="k", within=("0s", "1s"), window=hr.tumbling("1s"))


def test_joined_windows_can_be_windowed_again() -> None:
    app = hr.App("doc")
    schema = {"k": pl.String, "time": pl.Datetime("us", "UTC")}
    a, b = (app.topic(name, schema, time="time") for name in "ab")
    pairs = a.join(b, on="k", window=hr.tumbling("5s"))
    app.output("pairs", pairs.window(hr.tumbling("10s"), by="k").agg(pairs=hr.count()))
    app.output("late", pairs.late)
    app.output("late_right", pairs.late_right)
    rows = pl.DataFrame({"k": ["a"] * 4, "time": [1, 6, 7, 12]}).with_columns(
        (pl.col("time") * SECOND).cast(pl.Datetime("us", "UTC"))
    )

    out = testing.run(app, {"a": rows, "b": rows})

    assert out["pairs"]["pairs"].to_list() == [5, 1]
    assert out["late"].is_empty()
