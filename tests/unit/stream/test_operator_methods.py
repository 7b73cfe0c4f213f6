"""The stream's methods, run through an application."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.errors import PlanError

START = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = pl.Schema({"k": pl.String(), "time": pl.Datetime("us", "UTC"), "v": pl.Float64()})
ROWS = pl.DataFrame(
    {
        "k": ["a", "b"] * 100,
        "time": [START + timedelta(seconds=n * 3 - n % 3) for n in range(200)],
        "v": [float(n % 10) for n in range(200)],
    },
    schema=COLUMNS,
)
CUTS: list[dict[str, Any]] = [{}, {"batch_rows": 7}, {"batch_rows": 50, "seed": 3}]


def application() -> tuple[hr.App, hr.Stream]:
    app = hr.App("methods")
    return app, app.topic("rows", schema=COLUMNS, time="time", key="k", delay="5s")


@pytest.mark.parametrize("cuts", CUTS)
def test_windows_chained_into_longer_ones_count_every_row(cuts: dict[str, Any]) -> None:
    app, rows = application()
    minutes = rows.window(hr.tumbling("1m"), by="k").agg(n=hr.count())
    app.output("five", minutes.window(hr.tumbling("5m"), by="k").agg(n=hr.sum("n")))
    app.output("direct", rows.window(hr.tumbling("5m"), by="k").agg(n=hr.count()))
    app.output("late", minutes.late)
    outputs = testing.run(app, {"rows": ROWS}, **cuts)
    assert outputs["five"].rows() == outputs["direct"].rows()
    assert outputs["five"]["n"].sum() == ROWS.height
    assert outputs["late"].height == 0


@pytest.mark.parametrize("cuts", CUTS)
def test_a_table_over_forever_holds_each_key_s_sum(cuts: dict[str, Any]) -> None:
    app, rows = application()
    app.table("seen", rows.window(hr.forever(), by="k", emit="update").agg(n=hr.count()), key="k")
    seen = testing.run(app, {"rows": ROWS}, **cuts)["seen"]
    assert seen.select("k", "window_start", "n", "is_final").sort("k").rows() == [
        ("a", START, 100, True),
        ("b", START + timedelta(seconds=2), 100, True),
    ]


@pytest.mark.parametrize("cuts", CUTS)
def test_rows_split_and_united_deduplicated_rolled_and_ordered(cuts: dict[str, Any]) -> None:
    app, rows = application()
    high, low = rows.split(pl.col("v") >= 5)
    app.output("both", high.union(low).in_order())
    app.output("once", rows.dedup("k", within="10m"))
    app.output("rolled", rows.rolling(rows=2, by="k").agg(total=hr.sum("v")))
    app.output("sessions", rows.window(hr.session("30s"), by="k").agg(n=hr.count()))
    outputs = testing.run(app, {"rows": ROWS}, **cuts)
    ordered = ROWS.sort("time", maintain_order=True)
    assert outputs["both"].equals(ordered)
    assert outputs["once"].rows() == ordered[[0, 1]].rows()
    sums = ordered.select(
        (pl.col("v") + pl.col("v").shift(1, fill_value=0.0)).over("k").alias("total")
    )
    assert outputs["rolled"]["total"].to_list() == sums["total"].to_list()
    assert outputs["sessions"]["n"].to_list() == [100, 100]


@pytest.mark.parametrize("cuts", CUTS)
def test_windows_without_rows_are_filled_and_never_late_downstream(cuts: dict[str, Any]) -> None:
    app, rows = application()
    sparse = rows.filter(pl.col("v") == 0, pl.col("k") == "a")
    counts = sparse.window(hr.tumbling("10s"), by="k").agg(n=hr.count())
    filled = counts.fill(every="10s", by="k", value="null", max_gap="1m")
    minutes = filled.window(hr.tumbling("1m"), by="k").agg(windows=hr.count(), found=hr.count("n"))
    app.output("filled", filled)
    app.output("minutes", minutes)
    app.output("late", minutes.late)

    outputs = testing.run(app, {"rows": ROWS}, **cuts)

    steps = outputs["filled"]["window_end"].sort().diff().drop_nulls()
    assert set(steps) == {timedelta(seconds=10)}
    assert outputs["minutes"]["windows"].to_list()[1:-1] == [6] * (outputs["minutes"].height - 2)
    assert outputs["minutes"]["found"].sum() == sparse_windows()
    assert outputs["late"].height == 0


def sparse_windows() -> int:
    """Return how many ten seconds hold a row of the filtered stream."""
    sparse = ROWS.filter(pl.col("v") == 0, pl.col("k") == "a")
    return sparse["time"].dt.truncate("10s").n_unique()


def test_what_looks_at_other_rows_is_refused_where_it_is_written() -> None:
    _, rows = application()
    with pytest.raises(PlanError, match=r"use rolling\(\), window\(\) or join_asof\(\)"):
        rows.with_columns(share=pl.col("v") / pl.col("v").sum())
