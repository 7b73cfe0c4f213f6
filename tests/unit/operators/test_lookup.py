from typing import Any

import polars as pl
import pytest

from headrace.core.errors import PlanError
from headrace.core.log import OP
from headrace.operators.lookup import Lookup
from headrace.operators.lookup_event import LookupEvent
from tests.unit.operators.drive import Drive, timed

ROWS = pl.Schema({"k": pl.String(), "t": pl.Int64(), "x": pl.Int64()})
TABLE = pl.Schema({"id": pl.String(), "x": pl.Int64(), "word": pl.String()})


def rows(*given: tuple[str | None, int], start: int = 0) -> pl.DataFrame:
    made = [(k, t, start + place) for place, (k, t) in enumerate(given)]
    return timed(pl.DataFrame(made, schema=ROWS, orient="row"), start=start)


def changes(*given: tuple[str | None, int, str, str]) -> pl.DataFrame:
    frame = pl.DataFrame(list(given), schema={**TABLE, OP: pl.String()}, orient="row")
    return timed(frame.with_columns(t=0)).drop("t")


def versions(*given: tuple[str | None, int, str, int], start: int = 0) -> pl.DataFrame:
    frame = pl.DataFrame(list(given), schema={**TABLE, "t": pl.Int64()}, orient="row")
    return timed(frame, start=start).drop("t")


def now(**parameters: Any) -> Drive:
    return Drive(Lookup(**{"on": {"k": "id"}, "key": "id", **parameters}), ROWS, TABLE, reopen=True)


def event(**parameters: Any) -> Drive:
    lookup = LookupEvent(**{"on": {"k": "id"}, "key": "id", **parameters})
    return Drive(lookup, ROWS, TABLE, reopen=True)


def words(run: Drive) -> list[str | None]:
    return [row["word"] for row in run.take()]


def test_a_row_sees_the_table_as_it_is_when_it_comes() -> None:
    run = now()
    run.step(rows(("a", 1)))
    run.step(changes(("a", 7, "one", "upsert"), ("b", 8, "two", "upsert")), port=1)
    run.step(rows(("a", 1), ("c", 1), (None, 1), start=1))
    assert run.take() == [
        {"k": "a", "t": 1, "x": 0, "x_right": None, "word": None},
        {"k": "a", "t": 1, "x": 1, "x_right": 7, "word": "one"},
        {"k": "c", "t": 1, "x": 2, "x_right": None, "word": None},
        {"k": None, "t": 1, "x": 3, "x_right": None, "word": None},
    ]
    run.step(changes(("a", 7, "new", "upsert"), ("b", 0, "", "delete")), port=1)
    run.step(rows(("b", 1), ("a", 1), start=4))
    assert words(run) == [None, "new"]


def test_of_changes_to_a_key_in_one_step_the_last_counts() -> None:
    run = now()
    run.step(changes(("a", 1, "one", "upsert"), ("a", 0, "", "delete")), port=1)
    run.step(changes(("b", 0, "", "delete"), ("b", 1, "two", "upsert")), port=1)
    assert words(run.step(rows(("a", 1), ("b", 1)))) == [None, "two"]


def test_a_table_made_in_the_same_step_is_seen_as_it_was_before_it() -> None:
    run = now(lagging=True)
    for word, seen in (("one", None), ("two", "one")):
        list(run.task.process(changes(("a", 1, word, "upsert")), 1))
        assert words(run.step(rows(("a", 1)))) == [seen]
    assert words(run.step(rows(("a", 1)))) == ["two"]


def test_many_hits_come_in_the_order_of_the_table_s_key() -> None:
    run = now(on={"x": "x"}, many=True, how="inner")
    table = [("c", 1, "third"), ("a", 1, "first"), ("b", 9, "other")]
    run.step(changes(*[(*row, "upsert") for row in table]), port=1)
    run.step(rows(("k", 1), ("l", 1)))
    assert [(row["k"], row["id"]) for row in run.take()] == [("l", "a"), ("l", "c")]


@pytest.mark.parametrize(("how", "left"), [("semi", ["a", "a"]), ("anti", ["b", None])])
def test_rows_are_kept_by_whether_they_are_in_the_table(how: str, left: list[str | None]) -> None:
    run = now(how=how).step(changes(("a", 1, "one", "upsert"), (None, 1, "", "upsert")), port=1)
    run.step(rows(("a", 1), ("b", 1), ("a", 1), (None, 1)))
    assert run.rows().columns == ["k", "t", "x"]
    assert [row["k"] for row in run.take()] == left


def test_as_of_event_time_a_row_sees_the_newest_version_not_after_it() -> None:
    run = event()
    run.step(versions(("a", 1, "ten", 10), ("a", 2, "twenty", 20), start=100), port=1)
    run.step(rows(("a", 9), ("a", 10), ("a", 19), ("a", 20), ("a", 30)), watermark=25)
    assert words(run) == [None, "ten", "ten", "twenty"]
    run.step(versions(("a", 3, "thirty", 30), start=102), watermark=31, port=1)
    assert words(run) == ["thirty"]
    run.step(rows(("a", 40), start=5), watermark=41)
    assert words(run) == ["thirty"]


def test_what_comes_behind_the_watermark_is_late_on_its_side() -> None:
    run = event().step(rows(("a", 10)), watermark=20)
    run.step(rows(("a", 19), start=1)).step(versions(("a", 1, "late", 19), start=100), port=1)
    assert [row["t"] for row in run.take("late")] == [19]
    assert [row["word"] for row in run.take("late_right")] == ["late"]


def test_versions_end_by_deletion_and_by_age_and_leave_the_state() -> None:
    run = event(delete=pl.col("x") == 0, valid_for="10s")
    run.step(versions(("a", 1, "one", 0), ("b", 1, "b", 1), ("a", 0, "gone", 5), start=100), port=1)
    run.step(rows(("a", 4), ("a", 5), ("b", 11), ("b", 12)), watermark=13)
    assert words(run) == ["one", None, "b", None]
    assert run.tables.keyed("rows").rows == 0


def test_a_lookup_by_less_than_the_key_is_refused_with_what_would_do() -> None:
    with pytest.raises(PlanError, match="several rows") as refused:
        now(on={"x": "x"})
    assert "many=True" in refused.value.hint
    with pytest.raises(PlanError, match="several rows") as refused:
        event(on={"x": "x"})
    assert 'as_of="now"' in refused.value.hint


def test_columns_that_are_missing_or_differ_in_type_are_refused() -> None:
    with pytest.raises(PlanError, match="nowhere"):
        now(on={"nowhere": "id"})
    with pytest.raises(PlanError, match="'x' is Int64"):
        now(on={"x": "id"})
    with pytest.raises(PlanError, match="key"):
        now(key=("id", "key"), on={"k": "id", "x": "key"})
