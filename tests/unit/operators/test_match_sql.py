"""MATCH_RECOGNIZE: what it finds, and where it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.errors import PlanError

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"symbol": pl.String(), "time": pl.Datetime("us", "UTC"), "price": pl.Float64()})


def application() -> tuple[hr.App, hr.Stream]:
    app = hr.App("sql")
    return app, app.topic("ticks", SCHEMA, time="time")


def found(
    sql: str, prices: list[float | None], seconds: list[int] | None = None
) -> list[dict[str, Any]]:
    """Return the matches over prices that come one a second."""
    app, ticks = application()
    app.output("found", hr.match_recognize(sql, {"ticks": ticks}))
    times = [START + timedelta(seconds=s) for s in seconds or range(len(prices))]
    rows = pl.DataFrame({"symbol": "s", "time": times, "price": prices}, SCHEMA)
    return testing.run(app, {"ticks": rows})["found"].drop("event_time", strict=False).to_dicts()


def query(body: str, select: str = "*") -> str:
    source = f"ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY time {body}) AS m"
    return f"SELECT {select} FROM {source}"  # noqa: S608 - nothing runs it


def test_a_fall_and_a_rise() -> None:
    body = """
        MEASURES top.price AS highest, LAST(down.price) AS lowest,
            up.price - FIRST(down.price) AS d, COUNT(down.price) AS falls,
            COUNT(*) AS n, MATCH_ROWTIME() AS seen
        ONE ROW PER MATCH AFTER MATCH SKIP TO LAST up
        PATTERN (top down+ up)
        DEFINE down AS price < LAST(down.price, 1)
                OR (LAST(down.price, 1) IS NULL AND price < top.price),
            up AS up.price > LAST(down.price)"""
    got = found(query(body), [5.0, 9.0, 7.0, 4.0, 6.0, 5.0, 8.0])
    assert [list(row.values()) for row in got] == [
        ["s", 9.0, 4.0, -1.0, 2, 4, at(4), at(1), at(4)],
        ["s", 6.0, 5.0, 3.0, 1, 3, at(6), at(4), at(6)],
    ]
    assert list(got[0])[-2:] == ["match_start", "match_end"]


def at(second: int) -> datetime:
    return START + timedelta(seconds=second)


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ("AVG(a.price) < 10", 3),
        ("SUM(price) <= 12", 2),
        ("COUNT(a.price) < 4", 3),
        ("COUNT(*) < 3", 2),
        ("MAX(a.price) < 14", 2),
        ("MIN(a.price) > 3", 4),
        ("price > 3 AND (FIRST(a.price, 1) IS NULL OR FIRST(price, 1) = 8)", 4),
        ("a.price BETWEEN 4 AND 15", 3),
        ("COUNT(a.*) < 3", 2),
    ],
)
def test_the_row_under_test_is_one_of_those_that_its_definition_speaks_of(
    condition: str, taken: int
) -> None:
    body = f"MEASURES COUNT(a.price) AS n PATTERN (a+ b) DEFINE a AS {condition}"
    assert found(query(body), [4.0, 8.0, 15.0, 20.0, 1.0])[0]["n"] == taken


@pytest.mark.parametrize(
    ("pattern", "rows"),
    [
        ("low{2} high", [2, 3, 4]),
        ("low* high", [0, 1, 2, 3, 4]),
        ("low+ other", [0, 1, 2, 3, 4]),
        ("low{2,} high", [0, 1, 2, 3, 4]),
        ("low{1,3}? high", [1, 2, 3, 4]),
        ("low? high", [3, 4]),
        ("low+?", [0]),
        ("other{,2}? high", [2, 3, 4]),
    ],
)
def test_quantifiers(pattern: str, rows: list[int]) -> None:
    known = {"low": "low AS price < 4", "high": "high AS price >= 4"}
    define = ", ".join(text for name, text in known.items() if name in pattern)
    body = f"MEASURES FIRST(price) AS f, LAST(price) AS l PATTERN ({pattern}) DEFINE {define}"
    got = found(query(body, "f, l"), [0.0, 1.0, 2.0, 3.0, 4.0])
    assert (got[0]["f"], got[0]["l"]) == (rows[0], rows[-1])


def test_skip_and_within() -> None:
    body = "MEASURES a.price AS p, b.price AS q {} PATTERN (a b) {}"
    for skip, starts in (("", [1.0, 3.0]), ("AFTER MATCH SKIP TO NEXT ROW", [1.0, 2.0, 3.0])):
        got = found(query(body.format(skip, "")), [1.0, 2.0, 3.0, 4.0])
        assert [row["p"] for row in got] == starts
    within = query(body.format("", "WITHIN INTERVAL '1' SECOND"))
    assert [row["p"] for row in found(within, [1.0, 2.0, 3.0], [0, 5, 6])] == [2.0]


def test_columns_are_selected_and_renamed() -> None:
    got = found(query("MEASURES a.price AS p PATTERN (a)", "m.p AS price, symbol"), [1.0])
    assert got == [{"price": 1.0, "symbol": "s"}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM ticks", "no MATCH_RECOGNIZE"),
        ("SELECT FROM WHERE", "cannot be read"),
        (query("PATTERN (a)").replace("ticks", "trades"), "no table 'trades'"),
        (query("PATTERN (a)") + " WHERE x = 1", "line 1, column"),
        (query("PATTERN (a b+)"), "'B' ends PATTERN and is greedy"),
        (query("PATTERN (a | b)"), r"'\|' is not understood in PATTERN, line 1, column 83"),
        (query("PATTERN (a b a)"), "two steps are called A"),
        (query("PATTERN (a) DEFINE b AS price > 1"), "'B' is defined, but not in PATTERN"),
        (query("PATTERN (a) DEFINE a AS PREV(price) > 1"), r"PREV.*line 1, column"),
        (query("PATTERN (a) DEFINE a AS cost > 1"), "no column 'cost'"),
        (query("MEASURES SUM(a.price + b.price) AS s PATTERN (a b)"), "rows of 2 variables"),
        (query("MEASURES z.price AS s PATTERN (a)"), "no variable 'z'"),
        (query("ALL ROWS PER MATCH PATTERN (a)"), "ALL ROWS PER MATCH"),
        (query("AFTER MATCH SKIP TO LAST z PATTERN (a)"), "'z' is not in PATTERN"),
        (query("PATTERN (a) WITHIN INTERVAL '1' MONTH"), "'MONTH' is not understood"),
        (query("PATTERN (a)").replace("ORDER BY time", "ORDER BY time DESC"), "must ascend"),
        (query("PATTERN (a)").replace("BY time", "BY price"), "is not the order of"),
        (query("PATTERN (a)", "cost"), "'cost' is none of"),
    ],
)
def test_what_is_not_of_the_subset_is_refused(sql: str, message: str) -> None:
    _, ticks = application()
    with pytest.raises(PlanError, match=message):
        hr.match_recognize(sql, {"ticks": ticks})
