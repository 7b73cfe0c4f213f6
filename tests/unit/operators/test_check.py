from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.errors import CheckFailedError, HeadraceError, PlanError
from headrace.operators.check import Check
from tests.unit.operators.drive import Drive, timed

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COLUMNS = pl.Schema({"k": pl.String(), "time": pl.Datetime("us", "UTC"), "v": pl.Float64()})


def given(*rows: tuple[int, float | None]) -> pl.DataFrame:
    made = [("a", NOON + timedelta(seconds=second), value) for second, value in rows]
    return pl.DataFrame(made, schema=COLUMNS, orient="row")


def application() -> tuple[hr.App, hr.Stream]:
    app = hr.App("quality")
    return app, app.topic("rows", schema=COLUMNS, time="time", delay="10s")


@pytest.mark.parametrize("cuts", [{}, {"batch_rows": 1}])
def test_a_gate_parts_rows_and_counts_them_over_event_time(cuts: dict[str, Any]) -> None:
    app, rows = application()
    present = rows.check("present", pl.col("v").is_not_null(), every="30s")
    positive = present.check("positive", pl.col("v") > 0, every="30s", action="alert")
    app.output("good", positive)
    app.output("bad", present.quarantine.union(positive.quarantine))
    app.output("quality", present.results.union(positive.results))
    app.output("alerts", positive.alerts)
    app.output("silent", present.alerts)

    inputs = given((0, 1.0), (5, None), (29, -1.0), (30, 2.0), (31, None))
    outputs = testing.run(app, {"rows": inputs}, **cuts)

    assert outputs["good"]["v"].to_list() == [1.0, 2.0]
    assert sorted(outputs["bad"]["time"].dt.second().to_list()) == [5, 29, 31]
    counts = outputs["quality"].sort("window_start", "check").select("check", "rows", "failed")
    assert counts.rows() == [
        ("positive", 2, 1),
        ("present", 3, 1),
        ("positive", 1, 0),
        ("present", 2, 1),
    ]
    assert outputs["alerts"].select("check", "window_end", "failed").rows() == [
        ("positive", NOON + timedelta(seconds=30), 1)
    ]
    assert outputs["silent"].height == 0


def test_a_gate_after_a_window_judges_windows() -> None:
    app, rows = application()
    minutes = rows.window(hr.tumbling("1m"), by="k").agg(
        rows=hr.count(), missing=hr.count(where=pl.col("v").is_null()), kinds=hr.n_unique("v")
    )
    app.output("odd", minutes.check("missing", pl.col("missing") * 2 < pl.col("rows")).quarantine)
    app.output("same", minutes.check("unique", pl.col("kinds") == pl.col("rows")).quarantine)

    inputs = given((0, 1.0), (1, None), (60, 1.0), (61, 1.0), (120, 1.0), (121, 2.0))
    outputs = testing.run(app, {"rows": inputs})

    assert outputs["odd"]["window_start"].to_list() == [NOON]
    assert outputs["same"]["window_start"].dt.minute().to_list() == [0, 1]


def test_a_row_that_fails_stops_the_engine_before_its_step() -> None:
    schema = pl.Schema({"t": pl.Int64()})
    run = Drive(Check(gate="young", predicate=pl.col("t") < 3, action="stop"), schema)
    run.step(timed(pl.DataFrame({"t": [1, 2]})))
    assert [row["t"] for row in run.take()] == [1, 2]
    with pytest.raises(CheckFailedError, match=r"'young': 1 of 2 rows .* 1970-01-01T00:00:03"):
        run.step(timed(pl.DataFrame({"t": [1, 3]})))

    app, rows = application()
    app.output("good", rows.check("positive", pl.col("v") > 0, action="stop"))
    with pytest.raises(HeadraceError, match="check 'positive': 1 of 3 rows fail it"):
        testing.run(app, {"rows": given((0, 1.0), (1, -1.0), (2, 1.0))})


def test_a_gate_needs_a_name_and_a_condition_on_one_row() -> None:
    _, rows = application()
    with pytest.raises(PlanError, match="true or false"):
        rows.check("v", pl.col("v"))
    with pytest.raises(PlanError, match="row-wise"):
        rows.check("v", pl.col("v") > pl.col("v").mean())
    with pytest.raises(HeadraceError, match="gate"):
        rows.check("", pl.col("v") > 0)
    with pytest.raises(HeadraceError, match="longer than zero"):
        rows.check("v", pl.col("v") > 0, every="0s")
