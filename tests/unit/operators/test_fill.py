from typing import Any

import polars as pl
import pytest

from headrace.core.errors import HeadraceError
from headrace.core.time import EVENT_TIME, TIME_DTYPE
from headrace.operators.fill import Fill
from tests.unit.operators.drive import SECOND, Drive, at, timed

SCHEMA = pl.Schema({"k": pl.String, "t": pl.Int64, "v": pl.Float64, "n": pl.Int64})


def rows(*given: tuple[str | None, int, float | None, int | None], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(list(given), schema=SCHEMA, orient="row"), start=start)


def drive(**parameters: Any) -> Drive:
    return Drive(Fill(**{"every": "1s", "by": "k", **parameters}), SCHEMA, reopen=True)


def seconds(run: Drive) -> list[tuple[float, bool]]:
    frame = run.frame()
    return list(zip((frame[EVENT_TIME] / SECOND).to_list(), frame["is_filled"], strict=True))


def test_a_gap_is_filled_when_the_row_that_ends_it_leaves() -> None:
    run = drive()
    run.step(rows(("a", 0, 1.0, 1), ("b", 0, 2.0, 2)), watermark=3)
    assert [row["is_filled"] for row in run.take()] == [False, False]
    run.step(rows(("a", 3, 4.0, 4), start=2), watermark=3.5)
    empty = {"t": None, "v": None, "n": None, "is_filled": True}
    assert run.take() == [
        {"k": "a", **empty},
        {"k": "a", **empty},
        {"k": "a", "t": 3, "v": 4.0, "n": 4, "is_filled": False},
    ]
    assert run.finish().take() == []


def test_places_follow_from_the_row_before_the_gap() -> None:
    run = drive(every="10s").step(rows(("a", 3, None, None), ("a", 26, None, None)))
    run.finish()
    assert seconds(run) == [(3, False), (13, True), (23, True), (26, False)]


def test_rows_at_the_pace_or_faster_and_gaps_too_long_stay() -> None:
    run = drive(max_gap="4s")
    moments = [0, 1, 1, 2, 6, 11]
    run.step(rows(*[("a", t, None, None) for t in moments])).finish()
    assert [t for t, is_filled in seconds(run) if is_filled] == [3, 4, 5]


def test_numbers_lie_on_the_line_and_what_is_no_number_is_empty() -> None:
    run = drive(value="linear").step(rows(("a", 0, 1.0, 1), ("a", 4, 3.0, 2))).finish()
    filled = run.rows().filter("is_filled")
    assert filled["v"].to_list() == [1.5, 2.0, 2.5]
    assert filled["n"].to_list() == [1, 2, 2]
    assert filled["k"].to_list() == ["a"] * 3
    run = drive(value="linear").step(rows(("a", 0, 1.0, None), ("a", 2, None, 2))).finish()
    assert run.rows().filter("is_filled").select("v", "n").rows() == [(None, None)]


def test_the_row_before_is_repeated_over_steps_at_the_time_of_the_place() -> None:
    schema = pl.Schema({"k": pl.String(), "end": TIME_DTYPE, "v": pl.Float64()})
    fill = Fill(every="10s", by="k", value="last", time="end", shift_us=-1)
    run = Drive(fill, schema, reopen=True)
    for position, end in enumerate((10, 40)):
        row = pl.DataFrame({"k": None, "end": at(end), "v": end / 10}, schema=schema)
        hidden = pl.Series(EVENT_TIME, [end * SECOND - 1]), pl.Series("__position", [position])
        run.step(row.with_columns(*hidden), watermark=end)
    assert run.rows().rows() == [
        (None, at(10), 1.0, False),
        (None, at(20), 1.0, True),
        (None, at(30), 1.0, True),
        (None, at(40), 4.0, False),
    ]


def test_a_key_is_forgotten_when_its_next_row_ends_no_gap_to_fill() -> None:
    run = drive(max_gap="5s")
    run.step(rows(("a", 0, 1.0, 1), ("b", 4, 1.0, 1)), watermark=5)
    run.step(rows(("c", 7, 1.0, 1), start=2), watermark=8)
    assert set(run.tables.keyed("last").frame()["k"]) == {"b", "c"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"every": "0s"}, "longer than zero"),
        ({"max_gap": "500ms"}, "no missing rows"),
        ({"max_gap": "7d"}, "more than 100000 rows"),
        ({"time": "v"}, "'v' cannot show"),
        ({"by": "who"}, "who"),
    ],
)
def test_what_cannot_be_filled_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadraceError, match=message) as refused:
        drive(**parameters)
    assert refused.value.hint or parameters == {"every": "0s"}


def test_a_stream_that_is_filled_already_is_refused() -> None:
    with pytest.raises(HeadraceError, match="is_filled"):
        Drive(Fill(every="1s"), pl.Schema({"is_filled": pl.Boolean}))
