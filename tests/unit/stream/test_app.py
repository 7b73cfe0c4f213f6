from __future__ import annotations

import json
from collections.abc import Callable

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import ConfigError, HeadraceError, PlanError, SchemaError
from headrace.plan.check import check, findings
from headrace.plan.explain import explain_mermaid, explain_text

SCHEMA = {"key": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64}


def declare() -> tuple[hr.App, hr.Stream]:
    app = hr.App("shop")
    return app, app.topic("rows", SCHEMA, time="time", key="key")


MISTAKES: dict[str, tuple[Callable[[hr.App, hr.Stream], object], str]] = {
    "unknown column in filter": (lambda _, rows: rows.filter(pl.col("valeu") > 1), "valeu"),
    "unknown column in select": (lambda _, rows: rows.select("nothing"), "nothing"),
    "unknown column in drop": (lambda _, rows: rows.drop("nothing"), "nothing"),
    "unknown column in rename": (lambda _, rows: rows.rename({"nothing": "x"}), "nothing"),
    "a filter that is no condition": (
        lambda _, rows: rows.filter(pl.col("value")),
        "true or false",
    ),
    "types that do not fit": (lambda _, rows: rows.with_columns(x=pl.col("key") - 1), "HR101"),
    "an expression over other rows": (
        lambda _, rows: rows.with_columns(x=pl.col("value") - pl.col("value").mean()),
        "row",
    ),
    "a union of other columns": (lambda _, rows: rows.union(rows.drop("value")), "HR101"),
    "unknown key of a window": (
        lambda _, rows: rows.window(hr.tumbling("5m"), by="nokey").agg(n=hr.count()),
        "nokey",
    ),
    "a sum of text": (lambda _, rows: rows.window(hr.tumbling("5m")).agg(n=hr.sum("key")), "HR101"),
    "no aggregate": (lambda _, rows: rows.window(hr.tumbling("5m")).agg(), "aggregate"),
    "a window of no length": (lambda _, rows: rows.window(hr.tumbling("0s")), "longer than zero"),
    "a size that is no duration": (
        lambda _, rows: rows.window(hr.tumbling("soon")),
        "not a duration",
    ),
    "too many slices": (
        lambda _, rows: rows.window(hr.sliding("10h", every="1s")).agg(n=hr.count()),
        "512",
    ),
    "unknown key of dedup": (lambda _, rows: rows.dedup("nokey", within="1h"), "nokey"),
    "a time that is none": (lambda _, rows: rows.with_time("value"), "event time"),
    "a list that is none": (lambda _, rows: rows.explode("value"), "HR101"),
    "a name used twice": (lambda app, rows: app.output("rows", rows), "declared twice"),
    "an ending that is ours": (lambda app, rows: app.output("a.changes", rows), "cannot name"),
    "a name with a slash": (lambda app, rows: app.output("a/b", rows), "cannot name"),
    "unknown key of a table": (lambda app, rows: app.table("t", rows, key="nokey"), "nokey"),
    "unknown time column": (lambda app, _: app.topic("t", SCHEMA, time="when"), "when"),
    "a time column of numbers": (
        lambda app, _: app.topic("t", SCHEMA, time="value"),
        "time column",
    ),
    "an id without its time": (
        lambda app, _: app.topic("t", SCHEMA, time="time", id="key"),
        "id_within",
    ),
    "overflow without a bound": (
        lambda app, _: app.topic("t", SCHEMA, time="time", overflow="sample"),
        "max_rows",
    ),
    "a reserved name": (lambda app, _: app.topic("t", {"__x": pl.Int64}, time="__x"), "reserved"),
    "unknown key of a control table": (
        lambda app, _: app.control_table("c", SCHEMA, key="nokey"),
        "nokey",
    ),
    "a form for rows with two keys": (
        lambda app, _: app.view.records(
            "c", control_table=app.control_table("c", SCHEMA, key=("key", "value"))
        ),
        "several columns",
    ),
    "a view of a topic and a table": (
        lambda app, _: app.view.table("c", topic="a", table="b"),
        "topic= or table=",
    ),
    "a batch of none": (lambda app, rows: app.on(rows, print, batch=0), "at least 1"),
    "another application's stream": (
        lambda _, rows: hr.App("other").output("x", rows),
        "another application",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_before_anything_runs(name: str) -> None:
    mistake, said = MISTAKES[name]
    app, rows = declare()

    with pytest.raises((HeadraceError, ValueError), match=said):
        mistake(app, rows)


def test_a_mistake_names_the_columns_there_are() -> None:
    _, rows = declare()

    with pytest.raises(PlanError, match="key, time, value"):
        rows.filter(pl.col("valeu") > 1)


def test_two_uses_of_one_step_are_one_node() -> None:
    app, rows = declare()
    app.output("a", rows.filter(pl.col("value") > 1))
    app.output("b", rows.filter(pl.col("value") > 1).select("key"))

    assert [node.operator.kind for node in app.plan().nodes] == ["filter", "select"]


def test_streams_nobody_uses_are_not_run() -> None:
    app, rows = declare()
    rows.filter(pl.col("value") > 1)
    app.output("a", rows)

    assert app.plan().nodes == ()


def test_one_name_for_two_steps_is_refused() -> None:
    _, rows = declare()
    rows.filter(pl.col("value") > 1, name="high")

    with pytest.raises(PlanError, match="two different steps"):
        rows.filter(pl.col("value") > 2, name="high")


def test_an_unnamed_step_is_identified_by_parameters_and_lineage() -> None:
    _, rows = declare()
    one = rows.filter(pl.col("value") > 1).select("key").ref.node
    two = rows.filter(pl.col("value") > 2).select("key").ref.node

    assert one != two


def test_an_output_without_its_time_column_gets_one() -> None:
    app, rows = declare()
    app.output("kept", rows.select("key", "time"))
    app.output("dropped", rows.select("key"))
    app.output("recomputed", rows.with_columns(time=pl.col("time").dt.truncate("1h")))
    app.output("renamed", rows.rename({"time": "at"}))
    app.output("windows", rows.window(hr.tumbling("5m")).agg(n=hr.count()))

    times = {output.name: (output.time, output.time_shift_us) for output in app.plan().outputs}
    assert times == {
        "kept": ("time", 0),
        "dropped": ("event_time", 0),
        "recomputed": ("event_time", 0),
        "renamed": ("at", 0),
        "windows": ("window_end", -1),
    }


def test_late_rows_have_the_columns_and_time_of_the_input() -> None:
    _, rows = declare()
    windows = rows.window(hr.tumbling("5m")).agg(n=hr.count())

    assert windows.late.schema == rows.schema
    assert windows.late.time == rows.time
    assert rows.late.schema == rows.schema


def test_a_plan_is_data_whose_fingerprint_follows_its_answers() -> None:
    def plan_json(limit: float) -> str:
        app, rows = declare()
        app.output("a", rows.filter(pl.col("value") > limit))
        plan = app.plan()
        assert "filter" in explain_text(plan)
        assert explain_mermaid(plan).startswith("flowchart")
        return plan.fingerprint() + json.dumps(plan.to_json())

    assert plan_json(1.0) == plan_json(1.0)
    assert plan_json(1.0)[:16] != plan_json(2.0)[:16]


def test_what_only_the_whole_shows_is_said_too() -> None:
    app = hr.App("shop")
    rows = app.topic("rows", SCHEMA, time="time", partitions=4)
    app.topic("idle", SCHEMA, time="time")
    app.output("once", rows.dedup("key", within="1h", order="arrival"), key="key")

    said = [str(finding) for finding in check(app.plan())]

    assert any("4 partitions of rows" in text for text in said)
    assert any("topic idle: nothing reads it" in text for text in said)


def test_a_key_that_is_no_column_stops_the_plan() -> None:
    app, rows = declare()
    app.output("a", rows.select("value"), key="key")

    with pytest.raises(PlanError, match=r"output a: its key key is no column"):
        app.plan()


def test_an_application_without_topics_says_how_to_begin() -> None:
    with pytest.raises(PlanError, match=r"app\.topic"):
        hr.App("empty").plan()
    with pytest.raises(ConfigError):
        hr.App("two words")
    with pytest.raises(SchemaError):
        hr.App("x").topic("t", {}, time="time")


def test_rows_of_a_repeated_id_are_taken_once() -> None:
    app = hr.App("shop")
    rows = app.topic("rows", SCHEMA, time="time", id="key", id_within="1h")
    app.output("once", rows)
    frame = pl.DataFrame({"key": ["a", "b", "a"], "time": [0, 1, 2], "value": [1.0, 2.0, 3.0]})

    result = hr.testing.run(app, {"rows": frame.cast({"time": pl.Datetime("us", "UTC")})})

    assert result["once"]["value"].to_list() == [1.0, 2.0]


def test_findings_of_a_sound_plan_are_empty() -> None:
    app, rows = declare()
    app.output("a", rows)

    assert findings(app.plan()) == []
