"""Ready-made gates: what passes, what does not, and what their windows say."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import PlanError
from headrace.core.time import TIME_DTYPE

SCHEMA = pl.Schema(
    {"time": TIME_DTYPE, "k": pl.String(), "id": pl.String(), "x": pl.Float64(), "n": pl.Int64()}
)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def rows(*given: dict[str, Any]) -> pl.DataFrame:
    made = [{**row, "time": NOON + timedelta(seconds=row.get("time", 0))} for row in given]
    return pl.DataFrame(made, schema=SCHEMA, orient="row")


def judged(gate: Any, frame: pl.DataFrame, delay: str = "0s") -> dict[str, pl.DataFrame]:
    app = hr.App("gates")
    checked = app.topic("rows", SCHEMA, time="time", delay=delay).check("gate", gate, every="1h")
    app.output("good", checked)
    app.output("bad", checked.quarantine)
    app.output("quality", checked.results)
    app.output("late", checked.late)
    return dict(hr.testing.run(app, {"rows": frame}, batch_rows=1))


@pytest.mark.parametrize(
    ("gate", "good"),
    [
        (hr.quality.present("x", "id"), [1.0, math.nan, math.inf, -5.0]),
        (hr.quality.finite("x"), [1.0, -5.0]),
        (hr.quality.in_range("x", 0), [1.0, math.inf]),
        (hr.quality.in_range("x", high=2), [1.0, -5.0]),
        (hr.quality.in_range("x", -5, 1), [1.0, -5.0]),
        (hr.quality.one_of("id", ["a1", "b2"]), [1.0, math.nan, None]),
        (hr.quality.matches("id", "[a-c][0-9]"), [1.0, math.nan, math.inf, None]),
    ],
)
def test_conditions_on_one_row(gate: pl.Expr, good: list[float | None]) -> None:
    ids = ["a1", "b2", "c3", "d44", "a1"]
    values = [1.0, math.nan, math.inf, -5.0, None]
    frame = rows(*({"id": one, "x": x} for one, x in zip(ids, values, strict=True)))

    outputs = judged(gate, frame)

    assert repr(outputs["good"]["x"].to_list()) == repr(good)
    assert outputs["good"].height + outputs["bad"].height == 5


def test_a_repeated_id_does_not_pass_within_its_time() -> None:
    frame = rows(
        {"time": 0, "id": "a"},
        {"time": 0, "id": "a"},
        {"time": 5, "id": None},
        {"time": 6, "id": None},
        {"time": 10, "id": "b"},
        {"time": 9, "id": "a"},
        {"time": 19, "id": "a"},
    )

    outputs = judged(hr.quality.unique("id", within="10s"), frame, delay="5s")

    seconds = outputs["good"]["time"].dt.second().to_list()
    assert seconds == [0, 5, 6, 10, 19]
    assert outputs["bad"].columns == frame.columns
    assert outputs["bad"]["time"].dt.second().to_list() == [0, 9]
    assert outputs["quality"].select("check", "rows", "failed").rows() == [("gate", 7, 2)]


@pytest.mark.parametrize(
    ("parameters", "bad"),
    [({}, [1, 3]), ({"strict": True}, [2, 1, 3]), ({"falling": True}, [5])],
)
def test_values_that_go_back_do_not_pass(parameters: dict[str, bool], bad: list[int]) -> None:
    values = [2, 2, None, 5, 1]
    frame = rows(
        *({"time": at, "k": "a", "n": n} for at, n in enumerate(values)),
        {"time": 6, "k": "b", "n": 4},
        {"time": 7, "k": "b", "n": 3},
    )
    if parameters.get("falling"):
        frame = rows({"time": 0, "k": "a", "n": 4}, {"time": 1, "k": "a", "n": 5})

    outputs = judged(hr.quality.monotone("n", by="k", **parameters), frame)

    assert outputs["bad"]["n"].to_list() == bad


def test_a_gap_is_told_by_the_row_after_it() -> None:
    frame = rows(*({"time": at, "k": key} for at, key in [(0, "a"), (5, "b"), (9, "a"), (20, "a")]))

    outputs = judged(hr.quality.steady("10s", by="k"), frame)

    assert outputs["bad"]["time"].dt.second().to_list() == [20]
    assert outputs["bad"].columns == frame.columns


def test_rows_too_late_for_a_gate_that_remembers_leave_by_late() -> None:
    frame = rows({"time": 20, "id": "a"}, {"time": 0, "id": "b"})

    outputs = judged(hr.quality.unique("id", within="10s"), frame)

    assert outputs["late"]["id"].to_list() == ["b"]
    assert outputs["good"]["id"].to_list() == ["a"]


def test_windows_are_judged_by_what_they_say() -> None:
    app = hr.App("gates")
    readings = app.topic("rows", SCHEMA, time="time", delay="5s")
    windows = readings.window(hr.tumbling("10s")).agg(
        missing=hr.quality.missing_rate("x"),
        nan=hr.quality.missing_rate("x", nan=True),
        outside=hr.quality.outside_rate("x", 0, 10),
        repeated=hr.quality.duplicate_rate("id"),
        rising=hr.quality.is_monotone("n"),
        gap=hr.quality.longest_gap("time"),
    )
    checked = windows.check("complete", (pl.col("missing") <= 0.25) & pl.col("rising"), every="1h")
    app.output("windows", windows)
    app.output("bad", checked.quarantine)
    app.output("quality", checked.results)
    frame = rows(
        {"time": 0, "x": 1.0, "id": "a", "n": 1},
        {"time": 4, "x": None, "id": "b", "n": 3},
        {"time": 3, "x": math.nan, "id": "a", "n": 2},
        {"time": 9, "x": 11.0, "id": None, "n": None},
        {"time": 12, "x": None, "id": "a", "n": 2},
        {"time": 13, "x": 5.0, "id": "b", "n": 1},
    )

    outputs = hr.testing.run(app, {"rows": frame}, seed=5)

    told = outputs["windows"].drop("window_start", "window_end").rows()
    assert told == [
        (0.25, 0.5, pytest.approx(2 / 3), pytest.approx(1 / 3), True, timedelta(seconds=5)),
        (0.5, 0.5, 0.0, 0.0, False, timedelta(seconds=1)),
    ]
    assert outputs["bad"]["missing"].to_list() == [0.5]
    assert outputs["quality"].select("check", "rows", "failed").rows() == [("complete", 2, 1)]


def test_a_gate_without_column_or_bound_is_refused() -> None:
    with pytest.raises(PlanError, match="needs a column"):
        hr.quality.present()
    with pytest.raises(PlanError, match="needs a bound"):
        hr.quality.in_range("x")
