"""What is particular to the interval join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.errors import PlanError
from headrace.core.time import EVENT_TIME, HIDDEN
from headrace.operators.join import How, Join
from tests.unit.operators.drive import SECOND, Drive, timed

LEFT = pl.Schema({"k": pl.String(), "t": pl.Int64()})
RIGHT = pl.Schema({"k": pl.String(), "t": pl.Int64(), "v": pl.Int64()})


def lefts(*rows: tuple[str | None, int], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(list(rows), schema=LEFT, orient="row"), start=start)


def rights(*rows: tuple[str | None, int, int], start: int = 1000) -> pl.DataFrame:
    return timed(pl.DataFrame(list(rows), schema=RIGHT, orient="row"), start=start)


def drive(how: How, low: str = "-5s", high: str = "5s", **more: Any) -> Drive:
    return Drive(Join(on="k", within=(low, high), how=how, **more), LEFT, RIGHT, reopen=True)


def seconds(run: Drive, port: str = "main") -> list[float]:
    return [time / SECOND for time in run.frame(port)[EVENT_TIME]]


def test_pairs_leave_at_once_with_the_time_of_the_later_row() -> None:
    run = drive("inner").step(lefts(("a", 10), ("b", 11))).step(rights(("a", 15, 1)), port=1)

    assert seconds(run) == [15]
    assert run.take() == [{"k": "a", "t": 10, "t_right": 15, "v": 1}]


def test_both_ends_of_the_bounds_are_included() -> None:
    run = drive("inner", "-2s", "3s").step(lefts(("a", 10)))

    run.step(rights(*(("a", t, t) for t in (7, 8, 13, 14))), port=1)

    assert [row["v"] for row in run.take()] == [8, 13]


def test_a_row_without_match_leaves_when_the_watermark_has_passed_its_last_chance() -> None:
    run = drive("outer", "-5s", "3s").step(lefts(("a", 10))).step(rights(("b", 10, 1)), port=1)

    assert not run.step(watermark=13).take()
    assert run.step(watermark=13.000001).take() == [{"k": "a", "t": 10, "t_right": None, "v": None}]
    assert not run.step(watermark=15).take()
    assert run.step(watermark=16).take() == [{"k": "b", "t": None, "t_right": 10, "v": 1}]
    assert run.operator.hold().total_seconds() == 5


def test_a_null_key_has_no_match_and_need_not_wait() -> None:
    run = drive("outer").step(lefts((None, 10))).step(rights((None, 10, 1)), port=1)

    assert [(row["t"], row["v"]) for row in run.take()] == [(10, None), (None, 1)]
    assert run.tables.rows("left").rows == 0


def test_a_condition_is_part_of_the_match() -> None:
    run = drive("left", where=pl.col("v") > pl.col("t"))
    run.step(lefts(("a", 10), ("b", 11))).step(rights(("a", 10, 10), ("b", 10, 12)), port=1)

    assert [(row["k"], row["v"]) for row in run.finish().take()] == [("b", 12), ("a", None)]


def test_a_semi_row_leaves_once_with_the_time_of_its_first_match() -> None:
    run = drive("semi").step(lefts(("a", 10), ("b", 11)))

    run.step(rights(("a", 14, 1), ("a", 13, 2), ("b", 9, 3)), port=1)
    assert seconds(run) == [11]
    run.step(watermark=13).step(rights(("a", 15, 4), ("b", 13, 5)), port=1, watermark=14)
    assert seconds(run) == [11, 13]
    run.step(rights(("a", 15, 6)), port=1).finish()
    assert run.rows()["k"].to_list() == ["b", "a"]


def test_rows_before_the_watermark_leave_by_the_port_of_their_side() -> None:
    run = drive("outer").step(lefts(("a", 10))).step(rights(("a", 10, 1)), port=1, watermark=12)

    run.step(lefts(("a", 11))).step(rights(("a", 11, 2), ("a", 12, 3)), port=1)

    assert run.take("late") == [{"k": "a", "t": 11}]
    assert run.take("late_right") == [{"k": "a", "t": 11, "v": 2}]
    assert [row["v"] for row in run.take()] == [1, 3]


@pytest.mark.parametrize("how", ["inner", "left", "right", "outer", "semi", "anti"])
def test_state_holds_the_stretch_that_can_still_match_and_no_more(how: How) -> None:
    run = drive(how, "-3s", "2s")
    for t in range(25):
        run.step(lefts(("a", t), ("b", t), start=2 * t))
        run.step(rights(("a", t, t), ("c", t, t), start=1000 + 2 * t), port=1, watermark=t)

    assert all(count <= 4 * 5 for count in run.tables.row_counts().values())
    run.finish()
    assert not any(run.tables.row_counts().values())


@pytest.mark.parametrize("how", ["inner", "left", "right", "outer", "semi", "anti"])
def test_many_rows_in_many_steps_give_what_one_query_gives(how: How) -> None:
    rng = np.random.default_rng(7)
    frames = []
    for name, start in (("l", 0), ("r", 10_000)):
        t = np.sort(rng.integers(0, 500, 2000))
        frame = pl.DataFrame({"k": rng.integers(0, 60, 2000), "t": t, name: np.arange(2000)})
        frames.append(timed(frame, start=start))
    a, b = frames
    pairs = a.join(b, on="k").filter((pl.col("t_right") - pl.col("t")).is_between(-9, 4))
    lone_a, lone_b = a.join(pairs, on="l", how="anti"), b.join(pairs, on="r", how="anti")
    want = {
        "inner": [pairs],
        "left": [pairs, lone_a],
        "right": [pairs, lone_b],
        "outer": [pairs, lone_a, lone_b],
        "semi": [a.join(pairs, on="l", how="semi")],
        "anti": [lone_a],
    }[how]

    run = Drive(
        Join(on="k", within=("-9s", "4s"), how=how), a.drop(HIDDEN).schema, b.drop(HIDDEN).schema
    )
    for start in range(0, 2000, 200):
        run.step(a[start : start + 200])
        run.step(b[start : start + 200], port=1, watermark=min(f["t"][start + 199] for f in frames))
    found = run.finish().rows()
    shown = [name for name in ("l", "r") if name in found.columns]
    expected = pl.concat(want, how="diagonal").select(shown)
    assert found.select(shown).sort(shown).equals(expected.sort(shown))
    assert found.height > 100


def test_what_does_not_fit_is_refused_where_it_is_written() -> None:
    with pytest.raises(PlanError, match="within goes from 5s to 1s"):
        Join(within=("5s", "1s"))
    numbers = pl.Schema({"k": pl.Int64(), "t": pl.Int64()})
    with pytest.raises(PlanError, match="cast one"):
        Join(on="k", within=("0s", "1s")).output_schema(LEFT, numbers)
    clashing = pl.Schema({**RIGHT, "t_right": pl.Int64()})
    with pytest.raises(PlanError, match="another suffix"):
        Join(on="k", within=("0s", "1s")).output_schema(LEFT, clashing)
    with pytest.raises(PlanError, match="nope"):
        Join(within=("0s", "1s"), where=pl.col("nope")).output_schema(LEFT, RIGHT)
    with pytest.raises(PlanError, match="cannot be a key"):
        Join(on="k", within=("0s", "1s")).output_schema(*[pl.Schema({"k": pl.List(pl.Int8)})] * 2)


def test_auctions_are_joined_to_their_sellers_and_bids_as_sql_does(recorded: Path) -> None:
    folder = recorded / "streams" / "nexmark"
    time = pl.col("date_time").str.to_datetime(time_unit="us", time_zone="UTC")
    app, inputs, streams = hr.App("auctions"), {}, {}
    for name in ("person", "auction", "bid"):
        rows = pl.read_csv(folder / f"{name}.csv").with_columns(time)
        inputs[name] = rows.drop("extra").sort("date_time", maintain_order=True)
        streams[name] = app.topic(name, inputs[name].schema, time="date_time")
    sellers = streams["person"].join(
        streams["auction"], on={"id": "seller"}, within=("-10s", "10s"), how="outer"
    )
    higher = streams["auction"].join(
        streams["bid"],
        on={"id": "auction"},
        within=("0s", "20s"),
        where=pl.col("price") > pl.col("initial_bid"),
    )
    app.output("sellers", sellers.select("id", "id_right"))
    app.output("bids", higher.select("id", "bidder", "price"))

    outputs = testing.run(app, inputs, batch_rows=7)

    sql = duckdb.connect()
    for name in inputs:
        sql.execute(f"create view {name} as from '{folder}/{name}.csv'")
    bids = sql.execute(
        "select a.id, bidder, price from auction a join bid b on a.id = b.auction and "
        "price > initial_bid and b.date_time - a.date_time between '0 s'::interval and "
        "'20 s'::interval order by all"
    ).fetchall()
    sold = sql.execute(
        "select coalesce(p.id, a.seller) as id, a.id as id_right from person p full join auction a "
        "on p.id = a.seller and abs(epoch_us(a.date_time) - epoch_us(p.date_time)) <= 10e6 "
        "order by all nulls last"
    ).fetchall()
    assert sorted(outputs["bids"].select("id", "bidder", "price").rows()) == bids
    shown = outputs["sellers"].select("id", "id_right")
    assert shown.sort("id", "id_right", nulls_last=True).rows() == sold
    assert min(len(bids), len(sold)) > 10
