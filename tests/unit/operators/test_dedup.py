from typing import Literal

import numpy as np
import polars as pl
import pytest

from headrace.core.errors import PlanError
from headrace.operators.dedup import Dedup
from tests.unit.operators.drive import Drive, cut, timed

SCHEMA = pl.Schema({"k": pl.String, "t": pl.Int64, "n": pl.Int64})


def rows(*given: tuple[str | None, int], start: int = 0) -> pl.DataFrame:
    frame = pl.DataFrame(list(given), schema={"k": pl.String, "t": pl.Int64}, orient="row")
    numbered = frame.with_columns(pl.int_range(start, start + frame.height).alias("n"))
    return timed(numbered, start=start)


def numbers(run: Drive, port: str = "main") -> list[int]:
    return [row["n"] for row in run.take(port)]


def test_the_first_in_event_time_is_kept_however_rows_arrive() -> None:
    run = Drive(Dedup(by="k", within="10s"), SCHEMA)
    run.step(rows(("a", 5), ("b", 6), ("a", 3), ("a", 13), ("a", 14)), watermark=5)
    assert numbers(run) == [2]
    run.step(watermark=20)
    assert numbers(run) == [1, 4]
    assert run.frame()["__event_time"].is_sorted()


def test_rows_as_they_come_are_kept_at_once() -> None:
    run = Drive(Dedup(by="k", within="10s", order="arrival"), SCHEMA)
    run.step(rows(("a", 5), ("b", 6), ("a", 3), (None, 7), (None, 8)))
    assert numbers(run) == [0, 1, 3]
    run.step(rows(("a", 15), ("a", 16), ("b", 17), start=5))
    assert numbers(run) == [6, 7]
    run.step(rows(("a", 2), ("a", 6), start=8))
    assert (numbers(run), numbers(run, "late")) == ([], [8])


def test_a_row_too_old_to_be_known_is_late_and_state_is_forgotten() -> None:
    run = Drive(Dedup(by="k", within="10s", order="arrival"), SCHEMA)
    run.step(rows(("a", 5), ("b", 29)), watermark=30)
    assert numbers(run) == [0, 1]
    run.step(rows(("a", 5), ("c", 21), start=2), watermark=40)
    assert (numbers(run), numbers(run, "late")) == ([3], [2])
    run.step(rows(("d", 60), start=4))
    assert set(run.tables.keyed("kept").frame()["k"]) == {"b", "c", "d"}


def test_rows_before_the_watermark_are_late_in_event_order() -> None:
    run = Drive(Dedup(by="k", within="10s"), SCHEMA)
    run.step(rows(("a", 5)), watermark=10)
    run.step(rows(("b", 9), ("c", 10), start=1), watermark=30)
    assert (numbers(run), numbers(run, "late")) == ([0, 2], [1])
    assert set(run.tables.keyed("kept").frame()["k"]) == set()


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize("order", ["event", "arrival"])
def test_any_cut_keeps_what_a_loop_over_rows_keeps(
    order: Literal["event", "arrival"], *, reopen: bool
) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        times = np.sort(rng.integers(-60, 60, 80)) + rng.integers(-5, 6, 80)
        keys = [("a", "b", None)[n] for n in rng.integers(0, 3, 80)]
        frame = rows(*zip(keys, times.tolist(), strict=True))
        ordered = frame.sort("t", maintain_order=True) if order == "event" else frame
        kept: dict[str | None, int] = {}
        want = []
        for key, t, n in ordered.select("k", "t", "n").rows():
            if key not in kept or t > kept[key] + 7:
                kept[key] = t
                want.append(n)
        run = Drive(Dedup(by="k", within="7s", order=order), SCHEMA, reopen=reopen)
        seen = -(10**6)
        for piece in cut(frame, rng.integers(0, 80, 10).tolist()):
            seen = max(seen, *piece["t"])
            run.step(piece, watermark=seen - 11)
        assert numbers(run.finish()) == want


def test_a_long_path_of_kept_rows_of_one_key_is_found() -> None:
    frame = rows(*(("a", t) for t in range(3000)))
    run = Drive(Dedup(by="k", within="1s", order="arrival"), SCHEMA).step(frame)
    assert numbers(run) == list(range(0, 3000, 2))


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(PlanError, match="nope"):
        Dedup(by="nope").output_schema(SCHEMA)
