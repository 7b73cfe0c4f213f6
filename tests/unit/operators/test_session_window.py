from typing import Any

import numpy as np
import polars as pl
import pytest

from headrace.core.errors import PlanError
from headrace.operators import aggregates as agg
from headrace.operators.assigners import session
from headrace.operators.window import Window
from tests.unit.operators.drive import SECOND, Drive, at, cut, timed

SCHEMA = pl.Schema({"k": pl.String, "t": pl.Int64, "v": pl.Float64})
AGGREGATES = (
    ("n", agg.count()),
    ("total", agg.sum("v")),
    ("different", agg.n_unique("v")),
    ("values", agg.collect("v")),
    ("first", agg.first("v")),
)


def rows(*given: tuple[str | None, int, float], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(list(given), schema=SCHEMA, orient="row"), start=start)


def sessions(**more: Any) -> Window:
    return Window(**{"assigner": session("10s"), "by": "k", "aggregates": AGGREGATES, **more})


def test_a_distance_equal_to_the_gap_still_joins_and_one_longer_does_not() -> None:
    run = Drive(sessions(), SCHEMA)
    run.step(rows(("a", 0, 1.0), ("a", 10, 2.0), ("a", 21, 3.0)), watermark=21)
    (first,) = run.take()
    assert (first["window_start"], first["window_end"], first["n"]) == (at(0), at(20), 2)
    (second,) = run.finish().take()
    assert (second["window_start"], second["window_end"], second["n"]) == (at(21), at(31), 1)


def test_a_session_closes_strictly_after_its_end() -> None:
    run = Drive(sessions(), SCHEMA).step(rows(("a", 0, 1.0)), watermark=10)
    assert run.take() == []
    run.step(rows(("a", 10, 2.0)), watermark=20)
    assert run.take() == []
    run.step(watermark=20.000001)
    assert run.frame()["__event_time"].to_list() == [20 * SECOND]
    assert [row["n"] for row in run.take()] == [2]


def test_a_row_may_join_two_sessions_into_one() -> None:
    run = Drive(sessions(), SCHEMA)
    run.step(rows(("a", 0, 1.0), ("a", 16, 2.0)))
    run.step(rows(("a", 8, 3.0), start=2))
    (one,) = run.finish().take()
    assert one["values"] == [1.0, 3.0, 2.0]
    assert (one["window_start"], one["window_end"], one["first"]) == (at(0), at(26), 1.0)


def test_a_late_row_is_taken_where_it_joins_an_open_session_only() -> None:
    run = Drive(sessions(), SCHEMA)
    run.step(rows(("a", 30, 1.0)), watermark=35)
    run.step(rows(("a", 21, 2.0), ("a", 12, 4.0), ("b", 21, 3.0), ("a", 1, 5.0)))
    assert [(row["k"], row["t"]) for row in run.take("late")] == [("b", 21), ("a", 1)]
    (one,) = run.finish().take()
    assert (one["k"], one["values"]) == ("a", [4.0, 2.0, 1.0])


def test_lateness_postpones_the_close() -> None:
    run = Drive(sessions(lateness="5s"), SCHEMA)
    run.step(rows(("a", 0, 1.0)), watermark=15)
    assert run.take() == []
    run.step(rows(("a", 1, 2.0)), watermark=15.5)
    assert run.take() == []
    run.step(watermark=16.1)
    assert [(row["n"], row["window_end"]) for row in run.take()] == [(2, at(11))]


def test_updates_of_sessions_are_refused() -> None:
    with pytest.raises(PlanError, match="merge as they grow"):
        sessions(emit="update")


def expected(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    found = []
    for key in frame["k"].unique(maintain_order=True):
        mine = frame.filter(pl.col("k").eq_missing(pl.lit(key))).sort("__event_time", "__position")
        group: list[tuple[int, float]] = []
        for t, v in [*mine.select("t", "v").rows(), (10**9, 0.0)]:
            if group and t - group[-1][0] > 10:
                span = (at(group[0][0]), at(group[-1][0] + 10))
                values = [value for _, value in group]
                counted = (len(values), sum(values), len(set(values)))
                found.append((key, *span, *counted, values, values[0]))
                group = []
            group.append((t, v))
    return sorted(found, key=str)


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize("by", ["k", None])
def test_any_cut_and_order_within_delay_gives_what_the_definition_says(
    by: str | None, *, reopen: bool
) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        times = np.sort(rng.integers(-200, 400, 70))
        arrival = np.argsort(times + rng.integers(0, 15, 70), kind="stable")
        keys = [("a", "b", None)[n] if by else None for n in rng.integers(0, 3, 70)]
        values = rng.integers(1, 9, 70).astype(float)
        frame = rows(*zip(keys, times.tolist(), values.tolist(), strict=True))
        run = Drive(sessions(by=by), SCHEMA, reopen=reopen)
        seen = -(10**6)
        for piece in cut(frame[arrival], rng.integers(0, 70, 12).tolist()):
            seen = max(seen, *piece["t"])
            run.step(piece, watermark=seen - 15)
        assert run.rows("late").height == 0
        result = run.finish().rows()
        got = [row if by else (None, *row) for row in result.rows()]
        assert sorted(got, key=str) == expected(frame)
        assert result["window_end"].is_sorted()


def test_many_pieces_are_merged() -> None:
    run = Drive(sessions(), SCHEMA)
    for n in range(200):
        run.step(rows(("a", n, 1.0), ("b", n, 2.0), start=2 * n))
    assert len(run.tables.rows("partials").pieces) <= 33
    assert [row["n"] for row in run.finish().take()] == [200, 200]
