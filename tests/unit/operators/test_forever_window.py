from typing import Any

import numpy as np
import polars as pl
import pytest

from headrace.core.errors import PlanError
from headrace.operators import aggregates as agg
from headrace.operators.assigners import forever
from headrace.operators.window import Window
from tests.unit.operators.drive import SECOND, Drive, at, cut, timed

SCHEMA = pl.Schema({"k": pl.String, "t": pl.Int64, "v": pl.Float64})
AGGREGATES = (
    ("n", agg.count()),
    ("total", agg.sum("v")),
    ("last", agg.last("v")),
    ("different", agg.n_unique("v")),
    ("values", agg.collect("v")),
    ("middle", agg.median("v", error=1e-4)),
    ("best", agg.top_k(2, by="v", columns="t")),
)


def rows(*given: tuple[str | None, int, float | None], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(list(given), schema=SCHEMA, orient="row"), start=start)


def grown(**more: Any) -> Window:
    given = {"assigner": forever(forget="100s"), "by": "k", "emit": "update", **more}
    return Window(**{"aggregates": AGGREGATES, **given})


def test_changed_keys_are_given_once_per_step_and_final_at_the_end() -> None:
    run = Drive(grown(), SCHEMA)
    run.step(rows(("a", 3, 1.0), ("b", 4, 2.0), ("a", 5, 3.0)), watermark=5)
    got = [(row["k"], row["window_start"], row["window_end"], row["n"]) for row in run.take()]
    assert got == [("a", at(3), None, 2), ("b", at(4), None, 1)]
    run.step(rows(("b", 2, 4.0)), watermark=6)
    (late_but_taken,) = run.take()
    assert (late_but_taken["window_start"], late_but_taken["values"]) == (at(2), [4.0, 2.0])
    assert not late_but_taken["is_final"]
    assert [(row["k"], row["n"], row["is_final"]) for row in run.finish().take()] == [
        ("a", 2, True),
        ("b", 2, True),
    ]


def test_event_time_never_falls_behind_the_watermark() -> None:
    run = Drive(grown(), SCHEMA).step(rows(("a", 50, 1.0)), watermark=50)
    run.step(rows(("b", 10, 1.0)))
    assert run.frame()["__event_time"].to_list() == [50 * SECOND, 50 * SECOND]


def test_a_silent_key_is_final_and_forgotten_and_begins_anew() -> None:
    run = Drive(grown(), SCHEMA).step(rows(("a", 0, 1.0), ("b", 50, 1.0)), watermark=50)
    run.take()
    run.step(watermark=100)
    assert run.take() == []
    run.step(watermark=100.5)
    assert [(row["k"], row["is_final"]) for row in run.take()] == [("a", True)]
    run.step(rows(("a", 120, 5.0), ("b", 151, 7.0), ("c", 0, 1.0)))
    assert [(row["k"], row["values"], row["is_final"]) for row in run.take()] == [
        ("b", [1.0], True),
        ("a", [5.0], False),
        ("b", [7.0], False),
    ]
    assert [row["k"] for row in run.take("late")] == ["c"]


def test_a_silence_inside_a_batch_ends_the_window_too() -> None:
    want = [("a", 2, True), ("a", 1, True), ("a", 1, True)]
    frame = rows(("a", 0, 1.0), ("a", 90, 1.0), ("a", 191, 1.0), ("a", 400, 1.0))
    for bounds in ([], [1], [2], [3], [1, 2, 3]):
        run = Drive(grown(), SCHEMA)
        for piece in cut(frame, bounds):
            run.step(piece, watermark=piece["t"].to_list()[0])
        finals = [row for row in run.finish().take() if row["is_final"]]
        assert [(row["k"], row["n"], row["is_final"]) for row in finals] == want


def test_every_waits_for_the_clock() -> None:
    run = Drive(grown(every="2s"), SCHEMA)
    run.step(rows(("a", 1, 1.0)), clock=11, watermark=1)
    run.step(rows(("a", 2, 1.0)), clock=11.5, watermark=2)
    assert run.take() == []
    run.step(clock=12)
    assert [row["n"] for row in run.take()] == [2]
    assert run.finish().take()[0]["is_final"]


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize("by", ["k", None])
def test_any_cut_and_order_gives_the_same_final_rows(by: str | None, *, reopen: bool) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        times = np.sort(rng.integers(-40, 40, 60))
        keys = [("a", "b", None)[n] if by else None for n in rng.integers(0, 3, 60)]
        values = [float(n) if n else None for n in rng.integers(0, 9, 60)]
        frame = rows(*zip(keys, times.tolist(), values, strict=True))
        run = Drive(grown(by=by), SCHEMA, reopen=reopen)
        arrival = np.argsort(times + rng.integers(0, 10, 60), kind="stable")
        for piece in cut(frame[arrival], rng.integers(0, 60, 9).tolist()):
            run.step(piece, watermark=max(piece["t"]) - 10)
        finals = run.finish().rows().filter("is_final")
        want = []
        for key in sorted(set(keys), key=lambda k: (k is not None, k)):
            mine = frame.filter(pl.col("k").eq_missing(pl.lit(key)))
            present = mine["v"].drop_nulls()
            best = mine.drop_nulls("v").sort("v", descending=True, maintain_order=True)["t"]
            want.append(
                (
                    *((key,) if by else ()),
                    at(mine["t"][0]),
                    None,
                    mine.height,
                    present.sum(),
                    present[-1],
                    present.n_unique(),
                    present.to_list(),
                    pytest.approx(present.median(), rel=1e-4),
                    best.to_list()[:2],
                    True,
                )
            )
        assert finals.rows() == want


def test_forever_needs_updates() -> None:
    with pytest.raises(PlanError, match='emit="update"'):
        grown(emit="close")
    with pytest.raises(PlanError, match="no lateness"):
        grown(lateness="5s")
