"""Lookups in control tables and in tables that the application keeps."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.errors import PlanError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
UTC_TIME = pl.Datetime("us", "UTC")
SALES = pl.Schema({"sku": pl.String(), "time": UTC_TIME, "pieces": pl.Int64()})
PRICES = pl.Schema({"sku": pl.String(), "time": UTC_TIME, "euro": pl.Float64()})


def at(*seconds: int) -> list[datetime]:
    return [NOON + timedelta(seconds=second) for second in seconds]


def sales(*seconds: int) -> pl.DataFrame:
    columns = {"sku": "a", "time": at(*seconds), "pieces": 1}
    return pl.DataFrame(columns, schema=SALES)


def prices(**euro_by_second: float) -> pl.DataFrame:
    seconds = [int(name[1:]) for name in euro_by_second]
    columns = {"sku": "a", "time": at(*seconds), "euro": list(euro_by_second.values())}
    return pl.DataFrame(columns, schema=PRICES)


def application() -> tuple[hr.App, hr.Stream]:
    app = hr.App("shop")
    return app, app.topic("sales", schema=SALES, time="time", delay="5s")


def kept(app: hr.App, **options: Any) -> hr.AppTable:
    rows = app.topic("prices", schema=PRICES, time="time", delay="5s")
    return app.table("current", rows, key="sku", **options)


def test_a_change_of_a_control_table_counts_from_its_step_on() -> None:
    app, rows = application()
    table = app.control_table("prices", {"sku": pl.String, "euro": pl.Float64}, key="sku")
    app.output("priced", rows.lookup(table, on="sku"))
    changes = pl.DataFrame(
        {
            "sku": ["a"] * 3,
            "euro": [1.0, 2.0, 0.0],
            "_op": ["upsert", "upsert", "delete"],
            "_at": at(0, 20, 40),
        }
    )

    outputs = testing.run(app, {"sales": sales(10, 19, 21, 50), "prices": changes})

    assert outputs["priced"].columns == ["sku", "time", "pieces", "euro"]
    assert outputs["priced"]["euro"].to_list() == [1.0, 1.0, 2.0, None]


def test_a_table_of_the_application_is_seen_as_of_the_step_before() -> None:
    app, rows = application()
    app.output("priced", rows.lookup(kept(app), on="sku"))

    inputs = {"sales": sales(1, 11, 12), "prices": prices(_0=1.0, _10=2.0)}
    one_by_one = testing.run(app, inputs, batch_rows=1)["priced"]
    at_once = testing.run(app, inputs)["priced"]

    assert one_by_one["euro"].to_list() == [1.0, 2.0, 2.0]
    assert at_once["euro"].to_list() == [None] * 3


def test_a_key_that_the_table_let_go_is_not_found_any_more() -> None:
    app, rows = application()
    table = kept(app, ttl="1m", delete=pl.col("euro") == 0)
    app.output("known", rows.lookup(table, on="sku", how="semi"))

    inputs = {"sales": sales(5, 15, 25, 300, 301), "prices": prices(_0=1.0, _10=0.0, _20=3.0)}
    outputs = testing.run(app, inputs, batch_rows=1)

    # The step of 300 s finds the row too old, which counts from the next one on.
    assert outputs["known"]["time"].to_list() == at(5, 25, 300)


@pytest.mark.parametrize("cuts", [{}, {"batch_rows": 1}, {"batch_rows": 3, "seed": 1}])
def test_as_of_event_time_every_cut_gives_the_price_of_the_moment(cuts: dict[str, Any]) -> None:
    app, rows = application()
    table = kept(app, ttl="1m", delete=pl.col("euro") == 0)
    priced = rows.lookup(table, on="sku", as_of="event")
    app.output("priced", priced)
    app.output("late", priced.late)
    app.output("late_prices", priced.late_right)
    app.output("minutes", priced.window(hr.tumbling("1m")).agg(euro=hr.sum("euro")))

    bought = sales(4, 3, 9, 10, 21, 29, 30, 91)
    inputs = {"sales": bought, "prices": prices(_0=1.0, _20=2.0, _10=0.0, _30=3.0)}
    outputs = testing.run(app, inputs, **cuts)

    assert outputs["priced"]["time"].is_sorted()
    assert outputs["priced"]["euro"].to_list() == [1.0, 1.0, 1.0, None, 2.0, 2.0, 3.0, None]
    assert outputs["minutes"]["euro"].to_list() == [10.0, None]
    assert outputs["late"].height == 0
    assert outputs["late_prices"].height == 0
    assert outputs["late_prices"].columns == ["sku", "time", "euro"]


def test_what_a_lookup_cannot_do_is_refused_with_what_would() -> None:
    app, rows = application()
    control = app.control_table("limits", {"sku": pl.String}, key="sku")
    with pytest.raises(PlanError, match="no event time") as refused:
        rows.lookup(control, on="sku", as_of="event")
    assert "app.table" in refused.value.hint
    with pytest.raises(PlanError, match="one row at most") as refused:
        rows.lookup(kept(app), on="sku", as_of="event", many=True)
    assert "many=True" in refused.value.hint
