"""Rules in a running application: changed between steps, and records that do not fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import ConfigError, PlanError
from headrace.stream.ruled import Ruled

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
UTC_TIME = pl.Datetime("us", "UTC")
COLUMNS = pl.Schema({"auv": pl.String(), "time": UTC_TIME, "depth_m": pl.Float64()})


def application(**parameters: Any) -> tuple[hr.App, Ruled]:
    app = hr.App("dives")
    dives = app.topic("dives", COLUMNS, time="time")
    table = app.control_table("rules", hr.Rule, key="rule_id")
    ruled = dives.rules(table, by="auv", **parameters)
    app.output("violations", ruled)
    app.output("cleared", ruled.cleared)
    app.output("absent", ruled.absent)
    app.output("overtaken", ruled.late)
    return app, ruled


def dives(*depths: float | None) -> pl.DataFrame:
    times = [NOON + timedelta(seconds=second) for second in range(len(depths))]
    rows = {"auv": ["a"] * len(depths), "time": times, "depth_m": depths}
    return pl.DataFrame(rows, schema=COLUMNS)


def changes(*given: tuple[int, dict[str, Any]]) -> pl.DataFrame:
    """Make changes of rules that are there before the row of that second."""
    frame = hr.Rule.frame([{"rule_id": "deep", **rule} for _, rule in given])
    at = [NOON + timedelta(seconds=second) for second, _ in given]
    return frame.with_columns(pl.Series("_at", at, dtype=UTC_TIME))


@pytest.mark.parametrize("batch_rows", [1, 2, 1000])
def test_a_rule_changed_while_rows_come_loses_none_and_names_its_versions(batch_rows: int) -> None:
    app, _ = application()
    rules = changes((0, {"condition": "depth_m > 100"}), (5, {"condition": "depth_m > 50"}))

    outputs = hr.testing.run(
        app, {"dives": dives(*[75.0, 150.0] * 5), "rules": rules}, batch_rows=batch_rows
    )

    seconds = (outputs["violations"]["time"] - NOON).dt.total_seconds().to_list()
    assert seconds == [1, 3, 5, 6, 7, 8, 9]
    assert outputs["violations"]["rule_version"].to_list() == [1, 1, 2, 2, 2, 2, 2]
    assert outputs["cleared"]["rule_version"].to_list() == [1, 1]


def test_a_record_that_does_not_fit_is_a_dead_letter_and_stops_nothing() -> None:
    app, _ = application()
    rules = changes(
        (0, {"condition": "depth_m > 100"}),
        (2, {"condition": "depth_m > 50 AND speed > 1"}),
        (2, {"rule_id": "other", "condition": "depth_m > 0"}),
    )

    outputs = hr.testing.run(app, {"dives": dives(150.0, 75.0, 150.0), "rules": rules})

    assert outputs["violations"].select("rule_id", "rule_version").rows() == [
        ("deep", 1),
        ("deep", 1),
        ("other", 3),
    ]
    (letter,) = outputs["dives.dead"]["reason"].to_list()
    assert "no column 'speed' at character 18" in letter


def test_absent_values_and_overtaken_rows_have_ports() -> None:
    app, _ = application()
    rows = dives(150.0, None, 150.0)
    late = pl.concat([rows, rows[:1]])

    outputs = hr.testing.run(
        app, {"dives": late, "rules": changes((0, {"condition": "depth_m > 100"}))}
    )

    assert outputs["absent"].select("key", "metrics", "rules").rows() == [("a", ["depth_m"], 1)]
    assert outputs["overtaken"].equals(rows[:1])


def test_routes_are_declared_once_and_can_be_left_out() -> None:
    app, ruled = application()
    table = hr.ControlTable(app, app.plan().control_tables[0])
    ruled.select("auv", "time", "depth_m").rules(table, by="auv")
    without, _ = application(routes=False)

    assert [route.path for route in app.routes].count("/rules/test") == 1
    assert not without.routes


def test_an_application_that_has_its_own_route_is_told() -> None:
    app, _ = application()

    with pytest.raises(ConfigError, match="POST /rules is declared twice"):
        app.route("POST", "/rules", control_table="rules")


def test_a_table_with_other_columns_is_refused() -> None:
    app = hr.App("dives")
    rows = app.topic("dives", COLUMNS, time="time")
    table = app.control_table("rules", {"rule_id": pl.String}, key="rule_id")

    with pytest.raises(PlanError, match="has no name, condition"):
        rows.rules(table, by="auv")
