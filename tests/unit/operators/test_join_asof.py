"""What is particular to the join as of a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.errors import PlanError
from headrace.core.time import TIME_DTYPE
from headrace.operators.join_asof import JoinAsof, Strategy
from tests.unit.operators.drive import Drive, timed

LEFT = pl.Schema({"k": pl.String(), "t": pl.Int64()})
RIGHT = pl.Schema({"k": pl.String(), "t": pl.Int64(), "v": pl.Int64()})


def lefts(*rows: tuple[str | None, int], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(list(rows), schema=LEFT, orient="row"), start=start)


def rights(*rows: tuple[str | None, int, int], start: int = 1000) -> pl.DataFrame:
    return timed(pl.DataFrame(list(rows), schema=RIGHT, orient="row"), start=start)


def drive(strategy: Strategy = "backward", **more: Any) -> Drive:
    return Drive(JoinAsof(by="k", strategy=strategy, **more), LEFT, RIGHT, reopen=True)


def taken(run: Drive) -> list[tuple[int, int | None]]:
    return [(row["t"], row["v"]) for row in run.take()]


def test_the_last_row_at_or_before_is_taken_once_the_watermark_has_passed() -> None:
    run = drive().step(lefts(("a", 10), ("a", 8), ("b", 9)))
    run.step(rights(("a", 10, 1), ("a", 10, 2), ("a", 11, 3), ("b", 10, 4)), port=1, watermark=10)

    assert taken(run) == [(8, None), (9, None)]
    run.step(rights(("a", 10, 5), start=2000), port=1, watermark=11)
    assert taken(run) == [(10, 5)]
    assert run.operator.hold().total_seconds() == 0


def test_a_row_long_past_is_still_the_last_one() -> None:
    run = drive().step(rights(("a", 1, 1), ("a", 2, 2)), port=1, watermark=100)

    assert taken(run.step(lefts(("a", 100), ("b", 100))).step(watermark=101)) == [
        (100, 2),
        (100, None),
    ]
    assert run.tables.row_counts() == {"left": 0, "right": 0, "last": 1}


def test_a_tolerance_includes_its_end_and_state_is_forgotten_after_it() -> None:
    run = drive(tolerance="5s").step(rights(("a", 1, 1), ("b", 2, 2)), port=1)

    run.step(lefts(("a", 6), ("a", 7), ("b", 7)), watermark=8)
    assert taken(run) == [(6, 1), (7, None), (7, 2)]
    run.step(rights(("c", 8, 3)), port=1, watermark=14)
    assert run.tables.row_counts()["last"] == 0


def test_equal_times_can_be_left_out() -> None:
    run = drive(exact=False, how="inner").step(lefts(("a", 5), ("a", 6)))

    assert taken(run.step(rights(("a", 5, 1)), port=1).finish()) == [(6, 1)]


def test_a_row_after_is_waited_for_as_long_as_the_tolerance() -> None:
    run = drive("forward", tolerance="3s").step(lefts(("a", 5)))
    run.step(rights(("a", 9, 9), ("a", 8, 8), ("a", 8, 7)), port=1, watermark=8)

    assert not run.rows().height
    assert taken(run.step(watermark=8.000001)) == [(5, 8)]
    assert run.operator.hold().total_seconds() == 3


def test_of_equally_near_rows_the_last_is_taken() -> None:
    run = drive("nearest", tolerance="3s").step(lefts(("a", 5), ("a", 15), ("a", 25)))
    run.step(rights(("a", 4, 1), ("a", 6, 2), ("a", 6, 3), ("a", 14, 4), ("a", 17, 5)), port=1)

    assert taken(run.finish()) == [(5, 3), (15, 4), (25, None)]


def test_a_null_key_takes_nothing() -> None:
    run = drive().step(rights((None, 1, 1)), port=1).step(lefts((None, 2), ("a", 3)))

    assert taken(run.finish()) == [(2, None), (3, None)]


def test_rows_before_the_watermark_leave_by_the_port_of_their_side() -> None:
    run = drive().step(watermark=10).step(lefts(("a", 9))).step(rights(("a", 9, 1)), port=1)

    assert run.take("late") == [{"k": "a", "t": 9}]
    assert run.take("late_right") == [{"k": "a", "t": 9, "v": 1}]


@pytest.mark.parametrize("strategy", ["backward", "forward", "nearest"])
@pytest.mark.parametrize("colliding", [False, True])
def test_many_rows_in_many_steps_give_what_polars_gives(
    strategy: Strategy, monkeypatch: pytest.MonkeyPatch, *, colliding: bool
) -> None:
    if colliding:  # hashes only find candidates
        monkeypatch.setattr(
            pl.DataFrame,
            "hash_rows",
            lambda self, _: pl.repeat(1, self.height, dtype=pl.UInt64, eager=True),
        )
    rng = np.random.default_rng(5)
    frames = [
        timed(
            pl.DataFrame({"k": rng.integers(0, 20, 600), "t": np.sort(rng.integers(0, 400, 600))}),
            start=start,
        )
        for start in (0, 10_000)
    ]
    a, b = frames[0], frames[1].with_row_index("v")
    want = a.join_asof(b, on="t", by="k", strategy=strategy, tolerance=12, check_sortedness=False)
    schemas = [
        pl.Schema({n: frame.schema[n] for n in names}) for frame, names in ((a, "kt"), (b, "ktv"))
    ]

    run = Drive(JoinAsof(by="k", strategy=strategy, tolerance="12s"), *schemas)
    for start in range(0, 600, 60):
        run.step(a[start : start + 60])
        run.step(b[start : start + 60], port=1, watermark=min(f["t"][start + 59] for f in (a, b)))
        # What is ahead of the watermark, and what may still be taken.
        assert run.tables.row_counts()["right"] < 200

    found = run.finish().rows()
    assert found["v"].null_count() < 300
    assert found.select("k", "t", "v").equals(want.select("k", "t", "v"))


def test_what_does_not_fit_is_refused_where_it_is_written() -> None:
    with pytest.raises(PlanError, match="needs a tolerance"):
        JoinAsof(strategy="nearest")
    with pytest.raises(PlanError, match="between nothing and 100 years"):
        JoinAsof(tolerance="-1s")
    with pytest.raises(PlanError, match="nope"):
        JoinAsof(by="nope").output_schema(LEFT, RIGHT)


def test_each_dropoff_of_real_rides_has_its_driver_s_last_pickup(recorded: Path) -> None:
    rides = pl.read_ndjson(recorded / "streams" / "arroyo" / "cars.jsonl.gz").select(
        time=pl.col("timestamp").str.to_datetime(time_unit="us", time_zone="UTC").cast(TIME_DTYPE),
        driver="driver_id",
        what="event_type",
        place="location",
    )
    app = hr.App("rides")
    events = app.topic("rides", rides.schema, time="time", delay="1h")
    pickups, dropoffs = events.split(pl.col("what") == "pickup")
    from_to = dropoffs.join_asof(pickups, by="driver", tolerance="1h", how="inner")
    app.output("trips", from_to.select("driver", "time", "time_right", "place", "place_right"))
    app.output("late", from_to.late_right)
    ordered = rides.sort("time", maintain_order=True)
    is_pickup = pl.col("what") == "pickup"
    want = ordered.filter(~is_pickup).join_asof(
        ordered.filter(is_pickup), on="time", by="driver", tolerance="1h", coalesce=False
    )

    outputs = testing.run(app, {"rides": rides}, batch_rows=500)

    found = outputs["trips"]
    assert found.equals(want.drop_nulls("time_right").select(found.columns))
    assert found.height > 1000
    assert outputs["late"].is_empty()
