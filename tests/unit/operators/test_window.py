import itertools
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from headrace.core.errors import PlanError
from headrace.operators import aggregates as agg
from headrace.operators.assigners import Assigner, Sliced, cumulate, sliding, tumbling
from headrace.operators.window import Window
from tests.unit.operators.drive import SECOND, Drive, at, cut, timed

SCHEMA = pl.Schema({"k": pl.String, "t": pl.Int64, "v": pl.Float64})
SUMS = (("n", agg.count()), ("total", agg.sum("v")), ("mean", agg.mean("v")))


def rows(*given: tuple[str | None, int, float | None], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(list(given), schema=SCHEMA, orient="row"), start=start)


def window(assigner: Assigner, **more: Any) -> Window:
    return Window(assigner=assigner, **{"by": "k", "aggregates": SUMS, **more})


def test_a_tumbling_window_closes_when_the_watermark_reaches_its_end() -> None:
    run = Drive(window(tumbling("10s")), SCHEMA)
    run.step(rows(("a", 1, 1.0), ("b", 2, 2.0), ("a", 9, 3.0)), watermark=9.999999)
    assert run.take() == []
    run.step(watermark=10)
    assert run.frame()["__event_time"].to_list() == [10 * SECOND - 1] * 2
    assert run.take() == [
        {"k": "a", "window_start": at(0), "window_end": at(10), "n": 2, "total": 4.0, "mean": 2.0},
        {"k": "b", "window_start": at(0), "window_end": at(10), "n": 1, "total": 2.0, "mean": 2.0},
    ]
    assert run.finish().take() == []


def test_a_row_before_the_watermark_is_taken_while_its_window_is_open() -> None:
    run = Drive(window(tumbling("10s")), SCHEMA)
    run.step(rows(("a", 8, 1.0)), watermark=8)
    run.step(rows(("a", 1, 1.0), ("a", 12, 1.0)), watermark=12)
    run.step(rows(("a", 9, 1.0)))
    assert [row["n"] for row in run.take()] == [2]
    assert [row["t"] for row in run.take("late")] == [9]


def test_times_before_the_epoch_fall_into_the_window_below() -> None:
    run = Drive(window(tumbling("10s")), SCHEMA).step(rows(("a", -1, 1.0), ("a", -10, 1.0)))
    (only,) = run.finish().take()
    assert (only["window_start"], only["window_end"], only["n"]) == (at(-10), at(0), 2)


def test_weeks_begin_on_monday_and_offsets_shift_the_grid() -> None:
    friday = 1_700_222_400  # 2023-11-17 12:00 UTC
    weeks = Drive(window(tumbling("7d")), SCHEMA).step(rows(("a", friday, 1.0))).finish().take()
    assert weeks[0]["window_start"].strftime("%A %H:%M") == "Monday 00:00"
    shifted = Drive(window(tumbling("1d", offset="6h")), SCHEMA).step(rows(("a", friday, 1.0)))
    assert shifted.finish().take()[0]["window_start"].hour == 6


def test_equal_keys_make_one_group_be_they_nan_minus_zero_or_null() -> None:
    schema = pl.Schema({"k": pl.Float64, "t": pl.Int64, "v": pl.Float64})
    keys = [float("nan"), -0.0, None, 0.0, float("nan"), None]
    frame = pl.DataFrame({"k": keys, "t": [1] * 6, "v": [1.0] * 6}, schema=schema)
    for bounds in ([], [2, 4]):
        run = Drive(window(tumbling("10s"), lateness="5s"), schema)
        for piece in cut(timed(frame), bounds):
            run.step(piece)
        run.step(watermark=10)
        counts = {str(row["k"]): row["n"] for row in run.take()}
        assert counts == {"nan": 2, "0.0": 2, "None": 2}
        run.step(timed(frame[:1]))
        assert [(row["n"], row["revision"]) for row in run.take()] == [(3, 1)]


def test_no_key_makes_one_group() -> None:
    run = Drive(window(tumbling("10s"), by=None), SCHEMA)
    run.step(rows(("a", 1, 1.0), ("b", 2, 2.0)))
    assert [row["n"] for row in run.finish().take()] == [2]


def test_a_late_row_within_lateness_revises_its_window_once_per_step() -> None:
    run = Drive(window(tumbling("10s"), lateness="5s"), SCHEMA)
    run.step(rows(("a", 1, 1.0)), watermark=10)
    assert [(row["n"], row["revision"]) for row in run.take()] == [(1, 0)]
    run.step(rows(("a", 2, 1.0), ("a", 3, 1.0), ("b", 4, 1.0)), watermark=12)
    revised = [(row["k"], row["n"], row["revision"]) for row in run.take()]
    assert revised == [("a", 3, 1), ("b", 1, 0)]
    run.step(rows(("a", 5, 1.0)), watermark=15)
    assert [(row["n"], row["revision"]) for row in run.take()] == [(4, 2)]
    run.step(rows(("a", 6, 1.0)))
    assert run.take() == []
    assert [row["t"] for row in run.take("late")] == [6]
    assert run.finish().take() == []


def test_updates_give_each_changed_window_and_one_final_row() -> None:
    run = Drive(window(tumbling("10s"), emit="update", lateness="5s"), SCHEMA)
    run.step(rows(("a", 1, 1.0)), watermark=1)
    run.step(rows(("a", 2, 1.0), ("a", 11, 1.0)), watermark=11)
    seen = [(row["window_end"], row["n"], row["is_final"]) for row in run.take()]
    assert seen == [(at(10), 1, False), (at(10), 2, False), (at(20), 1, False)]
    run.step(watermark=14)
    assert run.take() == []
    run.step(rows(("a", 3, 1.0)), watermark=15)
    assert [(row["n"], row["is_final"]) for row in run.take()] == [(3, True)]
    assert [(row["n"], row["is_final"]) for row in run.finish().take()] == [(1, True)]


def test_updates_with_every_wait_for_the_clock() -> None:
    run = Drive(window(tumbling("10s"), emit="update", every="2s"), SCHEMA)
    run.step(rows(("a", 1, 1.0)), clock=100)
    run.step(rows(("a", 2, 1.0), ("b", 2, 1.0)), clock=101)
    assert run.take() == []
    assert run.task.wake().clock == 102 * SECOND
    run.step(clock=102)
    assert [(row["k"], row["n"]) for row in run.take()] == [("a", 2), ("b", 1)]
    run.step(rows(("a", 3, 1.0)), clock=102.5)
    run.step(clock=104, watermark=10)
    assert [(row["k"], row["n"], row["is_final"]) for row in run.take()] == [
        ("a", 3, False),
        ("a", 3, True),
        ("b", 1, True),
    ]
    assert run.task.wake() == (None, None)


def test_a_late_row_does_not_revive_a_window_that_ended_empty() -> None:
    run = Drive(window(sliding("10s", every="5s")), SCHEMA)
    run.step(watermark=10)
    run.step(rows(("a", 6, 1.0)))
    assert [row["window_end"] for row in run.finish().take()] == [at(15)]


def expected(assigner: Sliced, frame: pl.DataFrame) -> dict[tuple[Any, ...], list[float]]:
    """Say by definition which values each window holds."""
    size, every = assigner.size.total_seconds(), assigner.every.total_seconds()
    offset = assigner.offset.total_seconds()
    found: dict[tuple[Any, ...], list[float]] = {}
    for key, t, value in frame.select("k", "t", "v").rows():
        for n in range(-100, 200):
            if assigner.kind == "cumulate":
                start = offset + (n * every) // size * size
                end = offset + n * every + every
            else:
                start = offset + n * every
                end = start + size
            if start <= t < end:
                found.setdefault((key, at(start), at(end)), []).append(value)
    return found


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize(
    "assigner",
    [
        tumbling("10s", offset="3s"),
        sliding("10s", every="5s"),
        sliding("10s", every="4s", offset="1s"),
        sliding("30s", every="10s"),
        cumulate("30s", every="10s"),
        cumulate("30s", every="10s", offset="-5s"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("emit", ["close", "update"])
def test_any_cut_gives_what_the_definition_says(
    assigner: Sliced, emit: Literal["close", "update"], *, reopen: bool
) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        times = np.sort(rng.integers(-40, 121, 60)).tolist()
        keys = [("a", "b", None)[n] for n in rng.integers(0, 3, 60)]
        values = rng.integers(1, 99, 60).astype(float).tolist()
        frame = rows(*zip(keys, times, values, strict=True))
        run = Drive(window(assigner, emit=emit), SCHEMA, reopen=reopen)
        for piece in cut(frame, rng.integers(0, 60, 8).tolist()):
            run.step(piece, watermark=piece["t"].to_list()[-1])
        result = run.finish().rows()
        if emit == "update":
            result = result.filter("is_final")
        got = {
            (row["k"], row["window_start"], row["window_end"]): (row["n"], row["total"])
            for row in result.to_dicts()
        }
        assert len(got) == result.height
        want = expected(assigner, frame)
        assert got == {key: (len(values), sum(values)) for key, values in want.items()}
        assert result["window_end"].is_sorted()


def test_many_pieces_are_compacted_and_give_the_same_windows() -> None:
    run = Drive(window(sliding("60s", every="1s")), SCHEMA)
    for n in range(300):
        run.step(rows(("a", n // 10, 1.0), ("b", n // 10, 1.0), start=2 * n))
    assert len(run.tables.rows("partials").pieces) <= 33
    assert run.tables.rows("partials").rows <= 2 * 30 + 2 * 33
    finals = run.finish().rows().filter(window_start=at(0)).select("k", "n").rows()
    assert finals == [("a", 300), ("b", 300)]


def test_input_that_never_came_ends_without_windows() -> None:
    for assigner in (tumbling("5s"), sliding("10s", every="5s")):
        for emit in ("close", "update"):
            assert Drive(window(assigner, emit=emit), SCHEMA).finish().take() == []


def test_windows_that_share_slices_fire_in_stretches_with_the_same_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = rows(*(("ab"[n % 2], n * 7 % 300, float(n)) for n in range(200)))
    assigner = sliding("60s", every="5s")
    for emit in ("close", "update"):
        whole = Drive(window(assigner, emit=emit), SCHEMA).step(frame).finish()
        monkeypatch.setattr("headrace.operators.sliced_window._MOST_ROWS", 500)
        cut_up = Drive(window(assigner, emit=emit), SCHEMA).step(frame).finish()
        monkeypatch.undo()
        assert cut_up.frame().equals(whole.frame())
        assert cut_up.rows().height > 100


def test_state_is_forgotten_when_no_window_needs_it() -> None:
    run = Drive(window(sliding("10s", every="5s"), lateness="5s"), SCHEMA)
    for n in range(100):
        run.step(rows(("a", n, 1.0)), watermark=n)
        assert run.tables.rows("partials").rows <= 25
        assert run.tables.keyed("given").rows <= 3


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: sliding("10m", every="1s"), "multiple of every"),
        (lambda: sliding("5s", every="10s"), "at least every"),
        (lambda: tumbling("0s"), "longer than zero"),
        (lambda: window(tumbling("5s"), every="1s"), 'emit="update"'),
    ],
)
def test_impossible_windows_are_refused_with_a_hint(make: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        make()


def test_columns_that_do_not_exist_or_clash_are_refused() -> None:
    with pytest.raises(PlanError, match="nope"):
        window(tumbling("5s"), by="nope").output_schema(SCHEMA)
    with pytest.raises(PlanError, match="exists already"):
        window(tumbling("5s"), aggregates=(("k", agg.count()),)).output_schema(SCHEMA)
    with pytest.raises(PlanError, match="nope"):
        window(tumbling("5s"), aggregates=(("n", agg.sum("nope")),)).output_schema(SCHEMA)
    with pytest.raises(PlanError, match="needs a number"):
        window(tumbling("5s"), aggregates=(("n", agg.mean("k")),)).output_schema(SCHEMA)


def test_a_window_reads_back_from_its_json() -> None:
    for assigner, emit in itertools.product(
        [tumbling("5s"), sliding("10s", every="5s"), cumulate("1d", every="1h")],
        ["close", "update"],
    ):
        one = window(assigner, emit=emit, aggregates=(("p", pl.col("v").sum() + 1),))
        again = Window(**one.model_dump(mode="json"))
        assert again.fingerprint() == one.fingerprint()
        assert again.output_schema(SCHEMA) == one.output_schema(SCHEMA)
