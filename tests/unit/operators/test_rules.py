"""The particulars of judging rows by rules; the laws and the oracle say the rest."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from headrace.core.errors import ConstraintError, DataError, PlanError
from headrace.core.log import OP
from headrace.core.schema import RowSchema
from headrace.operators.rulebook.rule import Rule
from headrace.operators.rules import FittingRules, Rules
from tests.unit.operators.drive import Drive, timed

FENCE = pl.Struct({"zone_id": pl.String, "event": pl.String})
ROWS = pl.Schema(
    {
        "v": pl.String(),
        "t": pl.Int64(),
        "x": pl.Float64(),
        "n": pl.Int64(),
        "fences": pl.List(FENCE),
    }
)
RECORDS = RowSchema.of(Rule).columns
DAY = 86_400


def rules(*given: dict[str, Any], version: int = 1, op: str = "upsert") -> pl.DataFrame:
    frame = Rule.frame([{"condition": "x > 200", **rule} for rule in given])
    changed = frame.with_columns(pl.lit(op).alias(OP), pl.lit(version, pl.Int64).alias("version"))
    return timed(changed.with_columns(t=0)).drop("t")


def rows(*given: tuple[Any, ...]) -> pl.DataFrame:
    """Make rows of (v, t, x), (v, t, x, n) or (v, t, x, n, fences)."""
    full = [(*one, *[None] * (len(ROWS) - len(one))) for one in given]
    return timed(pl.DataFrame(full, schema=ROWS, orient="row"))


def judging(*given: dict[str, Any], **parameters: Any) -> Drive:
    run = Drive(Rules(**{"by": "v", **parameters}), ROWS, RECORDS, reopen=True)
    return run.step(rules(*given), port=1)


def broken(run: Drive, port: str = "main") -> list[tuple[Any, ...]]:
    return [(row["t"], row["rule_id"], row["rule_version"]) for row in run.take(port)]


def test_a_rule_changed_between_steps_judges_from_the_next_row_and_names_its_version() -> None:
    run = judging({"rule_id": "deep"})

    run.step(rows(("a", 1, 250.0), ("a", 2, 150.0), ("a", 3, 250.0)))
    run.step(rules({"rule_id": "deep", "condition": "x > 100"}, version=2), port=1)
    run.step(rows(("a", 4, 150.0), ("a", 5, 50.0)))

    assert broken(run) == [(1, "deep", 1), (3, "deep", 1), (4, "deep", 2)]
    (first, second) = run.take("cleared")
    assert (first["rule_version"], first["reason"]) == (1, None)
    assert (second["rule_version"], second["value_after"]) == (2, 50.0)


def test_a_version_that_does_not_hold_any_more_says_so() -> None:
    run = judging({"rule_id": "deep"}).step(rows(("a", 1, 250.0)))

    run.step(rules({"rule_id": "deep", "condition": "x > 300"}, version=2), port=1)
    assert run.take("cleared") == []
    run.step(rows(("a", 2, 250.0)))

    (cleared,) = run.take("cleared")
    assert (cleared["rule_version"], cleared["reason"]) == (2, "version changed from 1")


@pytest.mark.parametrize(("op", "enabled"), [("delete", True), ("upsert", False)])
def test_a_rule_that_goes_clears_every_key_in_its_step(op: str, enabled: bool) -> None:
    run = judging({"rule_id": "deep"}, {"rule_id": "other", "condition": "x > 0"})
    run.step(rows(("b", 1, 250.0), ("a", 1, 250.0), ("c", 1, 150.0)))

    gone = rules({"rule_id": "deep", "enabled": enabled}, version=7, op=op)
    run.step(gone, clock=9, port=1)
    cleared = run.frame("cleared")
    run.step(rows(("a", 2, 250.0)))

    assert cleared.select("rule_id", "rule_version", "key", "is_back").rows() == [
        ("deep", 7, "a", True),
        ("deep", 7, "b", True),
    ]
    assert cleared["reason"].unique().to_list() == ["deleted" if op == "delete" else "disabled"]
    assert cleared["__event_time"].to_list() == [9_000_000] * 2
    assert broken(run)[-1] == (2, "other", 1)


def test_absent_metrics_neither_fire_nor_clear_and_are_counted() -> None:
    run = judging(
        {"rule_id": "deep"},
        {"rule_id": "not", "condition": "NOT x > 0"},
        {"rule_id": "either", "condition": "x > 0 OR n = 1"},
        {"rule_id": "null", "condition": "NOT NULL", "scope": {"n": 5}},
    )

    run.step(rows(("a", 1, 250.0, 0), ("a", 2, None, 0), ("a", 3, float("nan"), 1)))
    run.step(rows(("a", 4, 250.0, 0), ("a", 5, 10.0, None)))
    run.step(rows(("a", 6, 0.0, 5)))

    assert broken(run) == [
        (1, "deep", 1),
        (1, "either", 1),
        (3, "either", 1),
        (4, "deep", 1),
        (4, "either", 1),
        (5, "either", 1),
        (6, "not", 1),
    ]
    assert [row["rule_id"] for row in run.take("cleared")] == ["deep", "either"]
    found = [(row["metrics"], row["rules"]) for row in run.take("absent")]
    assert found == [(["x"], 3), (["x"], 2), ([], 1)]


def test_a_crossing_says_from_where_and_to_where() -> None:
    run = judging({"rule_id": "deep"}, forget="60s")

    run.step(rows(("a", 1, 250.0), ("a", 2, 100.0), ("a", 3, None), ("a", 4, 300.0)))
    run.step(rows(("a", 5, 310.0), ("a", 66, 320.0)))

    crossings = [(row["t"], row["value_before"], row["value_after"]) for row in run.take()]
    assert crossings == [(1, None, 250.0), (4, 100.0, 300.0), (5, 300.0, 310.0), (66, None, 320.0)]


def test_a_value_comes_back_past_the_hysteresis_before_it_is_back() -> None:
    run = judging({"rule_id": "low", "condition": "x < 40", "hysteresis": 5})

    run.step(rows(("a", 1, 30.0), ("a", 2, 42.0), ("a", 3, 44.9), ("a", 4, None)))
    run.step(rows(("a", 5, 43.0), ("a", 6, 45.0), ("a", 7, 90.0), ("a", 8, 39.0), ("a", 9, 90.0)))

    found = [(row["value_after"], row["is_back"]) for row in run.take("cleared")]
    assert found == [(42.0, False), (45.0, True), (90.0, True)]
    assert [row["direction"] for row in run.take()] == ["below", "below"]


def test_bands_grade_how_far_a_limit_is_broken() -> None:
    bands = [
        {"when": "x > 1000", "severity": "critical"},
        {"when": "x > 500", "severity": "high"},
        {"when": "x > 300", "severity": "warning"},
    ]
    run = judging({"rule_id": "deep", "severity": bands})

    run.step(rows(*[("a", t, x) for t, x in enumerate([250.0, 350.0, 550.0, 1050.0])]))

    assert [row["severity"] for row in run.take()] == ["info", "warning", "high", "critical"]


@pytest.mark.parametrize(
    ("seconds", "holds"),
    [
        (22 * 3600 - 1, False),
        (22 * 3600, True),
        (DAY - 1, True),
        (0, True),
        (6 * 3600, True),
        (6 * 3600 + 1, False),
    ],
)
def test_a_time_of_day_may_pass_midnight(seconds: int, holds: bool) -> None:
    run = judging({"rule_id": "night", "condition": "time_of_day() between '22:00' and '06:00'"})

    run.step(rows(("a", 5 * DAY + seconds, 1.0)))

    assert bool(run.take()) is holds


def test_conditions_nest_three_levels_deep() -> None:
    nested = [
        {
            "any": [
                {"metric": "x", "operator": "gte", "threshold": 500},
                {
                    "all": [
                        {"metric": "x", "operator": "gt", "threshold": 200},
                        {
                            "any": [
                                {"metric": "n", "operator": "eq", "threshold": 1},
                                {"metric": "n", "operator": "eq", "threshold": 2},
                            ]
                        },
                    ]
                },
            ]
        }
    ]
    run = judging({"rule_id": "r", "condition": None, "conditions": nested})

    run.step(rows(("a", 1, 300.0, 1), ("a", 2, 300.0, 3), ("a", 3, 500.0, 3), ("a", 4, 100.0, 2)))

    assert [row["t"] for row in run.take()] == [1, 3]


def test_numbers_are_equal_within_the_tolerance() -> None:
    near = [{"metric": "x", "operator": "eq", "threshold": 5}]
    wide = [{"metric": "x", "operator": "ne", "threshold": 5, "tolerance": 0.5}]
    run = judging(
        {"rule_id": "near", "condition": None, "conditions": near},
        {"rule_id": "wide", "condition": None, "conditions": wide},
    )

    run.step(rows(("a", 1, 5.0005), ("a", 2, 5.4), ("a", 3, 5.6)))

    assert broken(run) == [(1, "near", 1), (3, "wide", 1)]


def test_zones_are_those_that_a_row_is_in() -> None:
    run = judging({"rule_id": "z", "condition": "in_zone('harbour') AND x > 0"}, zones="fences")

    run.step(
        rows(
            ("a", 1, 1.0, 0, [{"zone_id": "harbour", "event": "inside"}]),
            ("a", 2, 1.0, 0, [{"zone_id": "harbour", "event": "exit"}]),
            ("a", 3, 1.0, 0, [{"zone_id": "bay", "event": "enter"}]),
            ("a", 4, 1.0, 0, []),
            ("a", 5, 1.0, 0, None),
        )
    )

    assert [row["t"] for row in run.take()] == [1]
    assert [row["metrics"] for row in run.take("absent")] == [["fences"]]


def test_a_window_covers_the_last_rows_of_its_key_only() -> None:
    run = judging({"rule_id": "w", "condition": "avg(x) over 1m > 100 AND count(*) over 1m >= 2"})

    run.step(rows(("a", 0, 300.0), ("b", 1, 300.0), ("a", 30, 0.0)))
    run.step(rows(("a", 59, 1.0), ("a", 60, 300.0)))

    found = [(row["key"], row["t"], row["metrics"][0]["value"]) for row in run.take()]
    assert found == [("a", 30, 150.0), ("a", 59, pytest.approx(301 / 3)), ("a", 60, 301 / 3)]


def test_texts_are_told_apart_whatever_their_letters() -> None:
    run = judging(
        {"rule_id": "greek", "condition": "v LIKE 'δ%'"},
        {"rule_id": "digit", "condition": "v LIKE '3%'"},
        {"rule_id": "window", "condition": "x - avg(x) over 5m > 1 AND count(v) over 50m > 1"},
    )

    run.step(rows(("δ1", 1, 1.0), ("31", 1, 1.0), ("δ1", 2, 9.0)))

    assert broken(run) == [(1, "greek", 1), (1, "digit", 1), (2, "greek", 1), (2, "window", 1)]


def test_scope_restricts_a_rule_to_some_values() -> None:
    run = judging({"rule_id": "deep", "scope": {"v": ["a", "b"], "n": 1}})

    run.step(rows(("a", 1, 250.0, 1), ("b", 2, 250.0, 2), ("c", 3, 250.0, 1)))

    assert broken(run) == [(1, "deep", 1)]


def test_a_message_is_filled_from_the_row() -> None:
    message = "{{{v}}} {x:.2f} m > {threshold}, was {n}: {value:.0f}; {key}/{rule_name}"
    run = judging({"rule_id": "deep", "name": "Deep", "message": message})

    run.step(rows(("a", 1, 1250.005, 3), ("a", 2, 200.5)))

    assert [row["message"] for row in run.take()] == [
        "{a} 1250.01 m > 200, was 3: 1250; a/Deep",
        "{a} 200.50 m > 200, was -: 201; a/Deep",
    ]


def test_a_key_that_fell_silent_is_cleared_a_day_after_it_is_forgotten() -> None:
    run = judging({"rule_id": "deep"}, forget="1h").step(rows(("a", 10, 250.0)))

    run.step(watermark=10 + 3600 + DAY)
    assert run.take("cleared") == []
    run.step(watermark=11 + 3600 + DAY)

    (cleared,) = run.take("cleared")
    assert (cleared["key"], cleared["reason"]) == ("a", "silent")
    assert run.task.wake().event_time is None


@pytest.mark.parametrize("order", ["arrival", "event"])
def test_the_end_of_the_input_is_no_silence(order: str) -> None:
    run = judging({"rule_id": "deep"}, order=order).step(rows(("a", 10, 250.0)))

    run.finish()

    assert len(run.take()) == 1
    assert run.take("cleared") == []
    assert run.task.wake().event_time is None


def test_rows_older_than_their_key_are_late_by_arrival() -> None:
    run = judging({"rule_id": "deep"}).step(rows(("a", 5, 250.0), ("a", 4, 250.0), ("b", 1, 250.0)))

    assert broken(run) == [(5, "deep", 1), (1, "deep", 1)]
    assert [row["t"] for row in run.take("late")] == [4]


def test_the_parts_of_a_key_do_not_run_together() -> None:
    run = Drive(Rules(by=("v", "n")), ROWS, RECORDS).step(rules({"rule_id": "deep"}), port=1)

    run.step(rows(("a/b", 1, 250.0, 1), (None, 1, 250.0, None)))

    assert [row["key"] for row in run.take()] == ["a%2Fb/1", "null/null"]


def test_a_record_that_does_not_fit_is_refused_and_the_version_before_stays() -> None:
    run = judging({"rule_id": "deep"})
    before = run.tables.snapshot()

    with pytest.raises(DataError, match=r"rule 'deep': condition: there is no column 'depth'"):
        run.step(rules({"rule_id": "deep", "condition": "depth > 1"}, version=2), port=1)
    run.tables.restore(before)
    run.step(rows(("a", 1, 250.0)))

    assert broken(run) == [(1, "deep", 1)]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            {"condition": "x > 1 AND depth > 2"},
            "condition: there is no column 'depth' at chara.* 11",
        ),
        ({"condition": "v > 3"}, "String and Int32 do not compare at character 1"),
        ({"condition": "x = 'a'"}, "'x' is a number, not 'a' at character 1"),
        ({"condition": "x >> 1"}, "at character 1|is unexpected"),
        ({"condition": "x IN (SELECT 1)"}, "is not allowed"),
        ({"condition": "n > 0 OR read_csv('f') > 1"}, r"READ_CSV.* at character 10 is not allowed"),
        ({"condition": "(" * 1000 + "x > 1" + ")" * 1000}, "is no SQL condition"),
        ({"condition": "x > " + "1+" * 60 + "1"}, "32 levels"),
        ({"condition": " OR ".join(f"x > {n}" for n in range(150))}, "400 parts"),
        ({"condition": "sum(x) > 1"}, "not allowed"),
        ({"condition": "avg(x) over 3d > 1"}, "not between 1s and 1d at character 1"),
        ({"condition": "avg(v) over 5m > 1"}, "'v' is text, no number at character 5"),
        ({"condition": "time_of_day() > '25:00'"}, "'25:00' is no time of day at character 17"),
        ({"condition": "in_zone('a')"}, "name no zones"),
        ({"condition": "x > 1 AND n > 2", "hysteresis": 1}, "hysteresis needs"),
        ({"message": "at {depth}"}, r"message: \{depth\} at character 4 is no column"),
        ({"message": "at {x!r}"}, "is no field"),
        ({"message": "at {v:.1f}"}, "v is no number"),
        ({"scope": {"w": 1}}, "scope.w is no column"),
        ({"scope": {"v": 1}}, "'v' is text"),
        ({"severity": [{"when": "y > 1", "severity": "high"}]}, r"severity\[0\].when: there is no"),
    ],
)
def test_what_does_not_fit_the_rows_is_refused_at_its_place(
    words: dict[str, Any], reason: str
) -> None:
    fitting = FittingRules(Rules(by="v"), ROWS)
    record = Rule.frame([{"rule_id": "r", "condition": "x > 1", **words}])

    with pytest.raises(ConstraintError, match=reason):
        fitting(record)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"metric": "y", "operator": "gt", "threshold": 1}, r"conditions\[1\]: there is no column"),
        ({"metric": "x", "operator": ">", "threshold": 1}, r"conditions\[1\].operator is '>'"),
        ({"metric": "x", "operator": "gt", "threshold": "a"}, "'x' is a number, not 'a'"),
        ({"metric": "x", "operator": "gt"}, r"conditions\[1\] has metric, operator"),
        ({"any": []}, r"conditions\[1\].any is no list"),
        ({"metric": "x", "operator": "eq", "threshold": 1, "tolerance": -1}, "tolerance is -1"),
    ],
)
def test_a_structured_list_is_refused_at_its_entry(item: dict[str, Any], reason: str) -> None:
    fitting = FittingRules(Rules(by="v"), ROWS)
    good = {"metric": "x", "operator": "gt", "threshold": 1}
    record = Rule.frame([{"rule_id": "r", "conditions": [good, item]}])

    with pytest.raises(ConstraintError, match=reason):
        fitting(record)


def test_a_list_nested_too_deep_is_refused() -> None:
    items: list[Any] = [{"metric": "x", "operator": "gt", "threshold": 1}]
    for _ in range(200):
        items = [{"any": items}]

    with pytest.raises(ConstraintError, match="32 levels"):
        FittingRules(Rules(by="v"), ROWS)(Rule.frame([{"rule_id": "r", "conditions": items}]))


@pytest.mark.parametrize(
    ("parameters", "columns", "reason"),
    [
        ({"by": "w"}, ROWS, "w"),
        ({"by": "fences"}, ROWS, "no key"),
        ({"zones": "x"}, ROWS, "no list of zones"),
        ({"forget": "0s"}, ROWS, "forget"),
        ({}, pl.Schema({**ROWS, "severity": pl.String()}), "severity would be there twice"),
    ],
)
def test_what_cannot_be_judged_is_refused_when_the_plan_is_made(
    parameters: dict[str, Any], columns: pl.Schema, reason: str
) -> None:
    with pytest.raises(PlanError, match=reason):
        Rules(**{"by": "v", **parameters}).output_schema(columns, RECORDS)


def test_a_table_of_something_else_is_refused() -> None:
    with pytest.raises(PlanError, match="has no condition"):
        Rules(by="v").output_schema(ROWS, pl.Schema({"rule_id": pl.String(), "name": pl.String()}))
