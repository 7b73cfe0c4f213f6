from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from headrace.core.errors import PlanError
from headrace.operators import aggregates as agg
from headrace.operators.rolling import Rolling
from tests.unit.operators.drive import Drive, cut, timed

SCHEMA = pl.Schema({"k": pl.String, "t": pl.Int64, "v": pl.Float64})
AGGREGATES = (
    ("n", agg.count()),
    ("present", agg.count("v")),
    ("total", agg.sum("v")),
    ("mean", agg.mean("v")),
    ("spread", agg.std("v")),
    ("low", agg.min("v")),
    ("middle", agg.median("v")),
    ("different", agg.n_unique("v")),
    ("newest", agg.last("v")),
    ("second", agg.nth("v", 1)),
    ("values", agg.collect("v")),
    ("top", agg.top_k(2, by="v")),
    ("big", agg.sum("v", where=pl.col("v") > 4)),
    ("range", pl.col("v").max() - pl.col("v").min()),
)


def rows(*given: tuple[str | None, int, float | None], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(list(given), schema=SCHEMA, orient="row"), start=start)


def rolling(**more: Any) -> Rolling:
    return Rolling(**{"by": "k", "over": "10s", "aggregates": AGGREGATES, **more})


def answers(values: list[float | None]) -> tuple[Any, ...]:
    """Say what the aggregates of these values are, in order."""
    present = [value for value in values if value is not None]
    big = [value for value in present if value > 4]
    if not present:
        return (len(values), 0, *[None] * 5, 0, *[None] * 6)
    return (
        len(values),
        len(present),
        sum(present),
        pytest.approx(np.mean(present)),
        pytest.approx(np.std(present, ddof=1)) if len(present) > 1 else None,
        min(present),
        pytest.approx(np.median(present)),
        len(set(present)),
        present[-1],
        present[1] if len(present) > 1 else None,
        present,
        sorted(present, reverse=True)[:2],
        sum(big) if big else None,
        max(present) - min(present),
    )


def test_a_row_covers_the_rows_less_than_over_before_it_and_equal_times_in_their_order() -> None:
    run = Drive(rolling(), SCHEMA)
    run.step(rows(("a", 0, 1.0), ("a", 5, 2.0), ("a", 5, 4.0), ("b", 6, 8.0), ("a", 10, 16.0)))
    result = run.finish().rows()
    assert result["n"].to_list() == [1, 2, 3, 1, 3]
    assert result["total"].to_list() == [1.0, 3.0, 7.0, 8.0, 22.0]
    assert result.columns[:3] == ["k", "t", "v"]


def test_arrival_order_answers_at_once_and_sends_older_rows_to_late() -> None:
    run = Drive(rolling(order="arrival"), SCHEMA)
    run.step(rows(("a", 5, 1.0), ("b", 3, 1.0), ("a", 4, 2.0), ("a", 5, 4.0)))
    assert [(row["k"], row["total"]) for row in run.take()] == [("a", 1.0), ("b", 1.0), ("a", 5.0)]
    assert [row["v"] for row in run.take("late")] == [2.0]
    run.step(rows(("a", 4, 9.0), ("a", 6, 1.0)))
    assert [row["total"] for row in run.take()] == [6.0]
    assert [row["v"] for row in run.take("late")] == [9.0]


def test_event_order_waits_for_the_watermark() -> None:
    run = Drive(rolling(), SCHEMA)
    run.step(rows(("a", 5, 1.0), ("a", 3, 2.0)), watermark=5)
    assert [row["t"] for row in run.take()] == [3]
    run.step(rows(("a", 4, 7.0), ("a", 6, 4.0)), watermark=7)
    assert [(row["t"], row["total"]) for row in run.take()] == [(5, 3.0), (6, 7.0)]
    assert [row["t"] for row in run.take("late")] == [4]


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize("order", ["event", "arrival"])
@pytest.mark.parametrize(
    "cover", [{"over": "7s"}, {"over": None, "rows": 3}, {"over": None, "rows": 1}]
)
@pytest.mark.parametrize("by", ["k", None])
def test_any_cut_gives_what_a_loop_over_rows_gives(
    by: str | None,
    cover: dict[str, Any],
    order: Literal["event", "arrival"],
    *,
    reopen: bool,
) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        times = np.sort(rng.integers(-30, 30, 50))
        arrival = np.arange(50)
        if order == "event":
            arrival = np.argsort(times + rng.integers(0, 5, 50), kind="stable")
        keys = [("a", "b", None)[n] for n in rng.integers(0, 3, 50)]
        values = [float(n) if n else None for n in rng.integers(0, 9, 50)]
        frame = rows(*zip(keys, times.tolist(), values, strict=True))
        want = []
        given = frame.select("k", "t", "v").rows()
        for place, (key, t, v) in enumerate(given):
            mine = [row for row in given[: place + 1] if by is None or row[0] == key]
            if "rows" in cover:
                mine = mine[-cover["rows"] :]
            else:
                mine = [row for row in mine if row[1] > t - 7]
            want.append((key, t, v, *answers([row[2] for row in mine])))
        run = Drive(rolling(by=by, order=order, **cover), SCHEMA, reopen=reopen)
        seen = -(10**6)
        for piece in cut(frame[arrival], rng.integers(0, 50, 8).tolist()):
            seen = max(seen, *piece["t"])
            run.step(piece, watermark=seen - 5)
        assert run.finish().rows().rows() == want


def test_a_key_silent_for_long_begins_anew_wherever_the_cut_is() -> None:
    frame = rows(*(("a", t, 1.0) for t in (0, 10, 100, 101)))
    for bounds in ([], [1], [2], [3]):
        run = Drive(rolling(over=None, rows=3, forget="50s"), SCHEMA)
        for piece in cut(frame, bounds):
            run.step(piece, watermark=piece["t"].to_list()[-1])
        assert run.finish().rows()["n"].to_list() == [1, 2, 1, 2]


def test_state_holds_the_rows_still_covered_only() -> None:
    run = Drive(rolling(order="arrival", forget="20s"), SCHEMA)
    for t in range(100):
        run.step(rows(("a", t, 1.0)), watermark=t)
    assert run.tables.keyed("history").frame()["__rows___event_time"].list.len().to_list() == [10]
    run.step(rows(("b", 200, 1.0)), watermark=200)
    run.step(rows(("b", 201, 1.0)), watermark=201)
    assert run.tables.keyed("history").frame()["k"].to_list() == ["b"]


def test_times_centuries_apart_and_many_equal_ones_are_counted_right() -> None:
    times = [-(10**10), *[0] * 500, 4 * 10**9]
    frame = rows(*(("a", t, 1.0) for t in times))
    run = Drive(rolling(), SCHEMA).step(frame).finish()
    assert run.rows()["n"].to_list() == [1, *range(1, 501), 1]


def test_rolling_needs_one_measure_of_length() -> None:
    for wrong in ({"over": None}, {"over": "5s", "rows": 3}, {"over": None, "rows": 0}):
        with pytest.raises(PlanError, match="rolling"):
            rolling(**wrong)
    with pytest.raises(PlanError, match="exists already"):
        rolling(aggregates=(("v", agg.count()),)).output_schema(SCHEMA)


def after(over: str, following: str, *, reopen: bool = True) -> Drive:
    counted = (("n", agg.count()), ("all", agg.collect("v")))
    operator = rolling(over=over, following=following, aggregates=counted)
    return Drive(operator, SCHEMA, reopen=reopen)


def test_following_covers_both_sides_and_waits_for_what_comes() -> None:
    run = after("5s", "3s").step(rows(("a", 0, 0), ("a", 5, 5), ("a", 5, 6), ("a", 8, 8)))

    assert not run.step(watermark=3).take()
    run.step(watermark=4)
    assert [row["all"] for row in run.take()] == [[0.0]]
    run.step(rows(("a", 9, 9), ("a", 4, 4), ("b", 7, 7), start=9)).step(watermark=9)

    found = [(row["t"], row["all"]) for row in run.take()]
    assert found == [(4, [0.0, 4.0, 5.0, 6.0]), (5, [4, 5, 6, 8]), (5, [4, 5, 6, 8])]
    run.finish()
    assert [(row["t"], row["n"]) for row in run.take()] == [(7, 1), (8, 5), (9, 4)]


def test_a_row_that_waits_for_what_follows_is_not_late_before_the_watermark_passes_it() -> None:
    run = after("5s", "3s").step(watermark=10)

    run.step(rows(("a", 9, 1), ("a", 10, 2))).finish()

    assert [row["t"] for row in run.take("late")] == [9]
    assert [row["t"] for row in run.take()] == [10]


def test_following_keeps_only_what_rows_to_come_can_cover() -> None:
    run = Drive(rolling(over="2s", following="3s", forget="2s"), SCHEMA, reopen=True)

    for second in range(0, 60, 2):
        run.step(rows(("a", second, 1.0), start=second), watermark=second)

    assert run.tables.rows("waiting").rows == 2
    assert run.tables.keyed("history").frame()["__rows_v"].list.len().to_list() == [1]


@pytest.mark.parametrize("more", [{"over": None, "rows": 3}, {"order": "arrival"}])
def test_following_needs_a_span_and_rows_in_order(more: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="following= needs a length of time"):
        rolling(following="1s", **more)


def test_following_must_be_longer_than_nothing() -> None:
    with pytest.raises(PlanError, match="longer than nothing"):
        rolling(following="0s")
