"""Patterns, rule by rule: rows are letters, one a second, and matches the places of their rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import PlanError
from headrace.operators.match import Match
from headrace.operators.patterns.pattern import Pattern, Step
from tests.unit.operators.drive import Drive, at, timed

SCHEMA = pl.Schema({"k": pl.String(), "t": pl.Float64(), "c": pl.String(), "n": pl.Int64()})
A, B, C, N = (pl.col("c") == letter for letter in "abcn")
begin = hr.Pattern.begin


def rows(letters: str, times: list[float] | None = None, key: str = "k") -> pl.DataFrame:
    """Rows of one key: a letter each, a second apart, numbered."""
    count = len(letters)
    frame = pl.DataFrame(
        {
            "k": [key] * count,
            "t": [float(t) for t in (times or range(count))],
            "c": list(letters),
            "n": range(count),
        },
        schema=SCHEMA,
    )
    return timed(frame)


def match(pattern: Pattern, **more: Any) -> Match:
    parameters = {"by": ("k",), "measures": (("rows", hr.matched().collect("n")),), **more}
    return Match(pattern=pattern, **parameters)


def found(
    pattern: Pattern, letters: str, times: list[float] | None = None, **more: Any
) -> list[list[int]]:
    """Return the rows of each match, in the order of the output."""
    run = Drive(match(pattern, **more), SCHEMA).step(rows(letters, times)).finish()
    matches: list[list[int]] = run.rows()["rows"].to_list()
    return matches


# -- how a row follows -----------------------------------------------------------------------


def test_next_takes_the_row_right_after() -> None:
    assert found(begin("a", A).next("b", B), "abaxb") == [[0, 1]]


def test_followed_by_takes_the_next_row_that_satisfies_it_and_no_later_one() -> None:
    assert found(begin("a", A).followed_by("b", B), "axbb") == [[0, 2]]


def test_followed_by_any_takes_each_later_row_that_satisfies_it() -> None:
    assert found(begin("a", A).followed_by_any("b", B), "axbb") == [[0, 2], [0, 3]]


def test_a_step_without_condition_takes_any_row() -> None:
    assert found(begin("a", A).next("b"), "xaxa") == [[1, 2]]


def test_rows_of_equal_time_follow_one_another_by_position() -> None:
    assert found(begin("a", A).next("b", B), "bab", [5, 5, 5]) == [[1, 2]]


def test_a_null_condition_takes_nothing() -> None:
    frame = rows("ab").with_columns(c=pl.Series([None, "b"]))
    run = Drive(match(begin("a", A).next("b", B)), SCHEMA).step(frame).finish()
    assert run.rows().is_empty()


# -- how often -------------------------------------------------------------------------------


def test_times_counts_rows_and_relaxed_ones_skip_what_does_not_satisfy() -> None:
    assert found(begin("a", A, times=2), "axaa") == [[0, 2], [2, 3]]


def test_strict_rows_of_a_step_have_nothing_between_them() -> None:
    assert found(begin("a", A, times=2, contiguity="strict"), "axaa") == [[2, 3]]


def test_any_rows_of_a_step_make_every_combination() -> None:
    got = found(begin("a", A, times=2, contiguity="any").next("b", B), "aaab")
    assert got == [[0, 2, 3], [1, 2, 3]]
    assert len(found(begin("a", A, times=2, contiguity="any"), "aaaa")) == 6


def test_an_open_end_gives_each_number_of_rows() -> None:
    assert found(begin("a", A, times=(1, None)), "axa") == [[0], [0, 2], [2]]
    assert found(begin("a", A, times=(2, None)), "aaa") == [[0, 1], [0, 1, 2], [1, 2]]


def test_fewest_and_most_bound_the_number() -> None:
    assert found(begin("a", A, times=(1, 2)).next("b", B), "aaab") == [[1, 2, 3], [2, 3]]


def test_an_optional_step_may_take_nothing() -> None:
    pattern = begin("a", A).next("b", B, optional=True).next("c", C)
    assert found(pattern, "abcac") == [[0, 1, 2], [3, 4]]
    assert found(pattern, "abxc") == []


def test_an_optional_first_step_and_last_step_may_take_nothing() -> None:
    assert found(begin("a", A, optional=True).next("b", B), "ab") == [[0, 1], [1]]
    assert found(begin("a", A).next("b", B, optional=True), "ab") == [[0], [0, 1]]


def test_from_none_is_optional() -> None:
    zero, optional = ({"times": (0, 2)}, {"times": (1, 2), "optional": True})
    patterns = [begin("a", A).followed_by("b", B, **more) for more in (zero, optional)]
    assert patterns[0] == patterns[1]
    assert found(patterns[0], "abb") == [[0], [0, 1], [0, 1, 2]]


def test_greedy_keeps_a_row_from_the_following_step() -> None:
    either = A | B
    lazy = begin("a", A).followed_by("x", either, times=(1, None)).followed_by("b", B)
    greedy = begin("a", A).followed_by("x", either, times=(1, None), greedy=True)
    assert found(lazy, "aab") == [[0, 1, 2]]
    assert found(greedy.followed_by("b", B), "aab") == []
    assert found(greedy.followed_by("c", C), "aabc") == [[0, 1, 2, 3], [1, 2, 3]]
    assert found(lazy.followed_by("c", C), "aabbc", skip="past_last") == [[0, 1, 2, 4]]


def test_a_greedy_step_that_has_all_its_rows_keeps_nothing_back() -> None:
    pattern = begin("a", A, times=(1, 2), greedy=True).next("x", A | B)
    assert found(pattern, "aaab") == [[0, 1, 2], [1, 2, 3], [2, 3]]


def test_until_ends_a_step_and_is_not_taken_by_it() -> None:
    pattern = begin("a", A | B, times=(1, None), until=B).followed_by("b", B)
    assert found(pattern, "aab") == [[0, 2], [0, 1, 2], [1, 2]]
    assert found(begin("a", A, times=(1, None), until=B), "aba") == [[0], [2]]


# -- groups ----------------------------------------------------------------------------------


def test_a_group_repeats_its_steps() -> None:
    group = begin("a", A).next("b", B)
    assert found(begin(group, times=2), "abxab") == [[0, 1, 3, 4]]
    assert found(begin(group, times=2, contiguity="strict"), "abxabab") == [[3, 4, 5, 6]]
    assert found(begin("c", C).next(group, optional=True).next("n", N), "cabncn") == [
        [0, 1, 2, 3],
        [4, 5],
    ]


def test_the_steps_of_a_group_collect_over_all_repetitions() -> None:
    pattern = begin(begin("a", A).next("b", B), times=(1, None)).next("c", C)
    measures = (("a", hr.matched("a").collect("n")), ("b", hr.matched("b").last("n", 1)))
    run = Drive(match(pattern, skip="past_last", measures=measures), SCHEMA)
    result = run.step(rows("ababc")).finish().rows()
    assert result.select("a", "b").rows() == [([0, 2], 1)]


def test_the_same_rows_in_the_same_steps_are_one_match() -> None:
    twofold = begin(begin("a", A, times=(1, 2)), times=(1, 2)).next("b", B)
    assert found(twofold, "aab") == [[0, 1, 2], [1, 2]]


def test_all_of_takes_a_row_for_each_condition_in_any_order() -> None:
    both = begin("c", C).followed_by(hr.all_of(a=A, b=B))
    assert found(both, "cxbba") == [[0, 2, 4]]
    assert found(both, "cab") == found(both, "cba") == [[0, 1, 2]]
    assert found(begin("c", C).next(hr.all_of(a=A, b=B), contiguity="strict"), "cbacbxa") == [
        [0, 1, 2]
    ]
    assert (
        found(begin(hr.all_of(a=A, x=A | B)).next("n", N), "abnaan")
        == [[0, 1, 2]] + [[3, 4, 5]] * 2
    )
    assert len(found(begin(hr.all_of(a=A, b=B), times=2), "abba")) == 1


def test_any_of_takes_the_next_row_that_satisfies_one_condition_and_names_it() -> None:
    pattern = begin("c", C).followed_by(hr.any_of(a=A, b=B)).next("n", N)
    measures = (("a", hr.matched("a").first("n")), ("b", hr.matched("b").first("n")))
    run = Drive(match(pattern, measures=measures), SCHEMA).step(rows("cxancbn")).finish()
    assert [(row["a"], row["b"]) for row in run.take()] == [(2, None), (None, 5)]
    assert found(begin("c", C).followed_by(hr.any_of(a=A, b=B)), "cab") == [[0, 1]]


# -- absence ---------------------------------------------------------------------------------


def test_not_next_looks_at_the_row_right_after_only() -> None:
    pattern = begin("a", A).not_next("n", N).followed_by("b", B)
    assert found(pattern, "anb") == []
    assert found(pattern, "axnb") == [[0, 3]]


def test_not_followed_by_in_the_middle_lasts_until_the_next_step_takes_its_row() -> None:
    pattern = begin("a", A).not_followed_by("n", N).followed_by("b", B)
    assert found(pattern, "axb") == [[0, 2]]
    assert found(pattern, "axnb") == []
    assert found(begin("a", A).not_followed_by("n", B).followed_by("b", B), "ab") == []


def test_a_timed_absence_in_the_middle_holds_back_the_next_step() -> None:
    pattern = begin("a", A).not_followed_by("n", N, within="2s").followed_by("b", B)
    assert found(pattern, "abbbb") == [[0, 3]]
    assert found(pattern, "axnbb") == []
    assert found(pattern, "axxnb") == [[0, 4]]


def test_a_timed_absence_at_the_end_completes_at_its_deadline() -> None:
    operator = match(begin("a", A).not_followed_by("n", N, within="2s"))
    run = Drive(operator, SCHEMA).step(rows("axa", [0, 2, 3]), watermark=2)
    assert run.take() == []
    run.step(watermark=2.000001)
    assert [(row["match_end"], row["rows"]) for row in run.take()] == [(at(2), [0])]
    run.step(rows("n", [5]), watermark=9)
    assert run.take() == []


def test_an_absence_without_its_own_time_lasts_as_long_as_the_pattern() -> None:
    pattern = begin("a", A).followed_by("b", B).not_followed_by("n", N).within("3s")
    run = Drive(match(pattern), SCHEMA).step(rows("abx")).finish()
    assert [(row["match_end"], row["rows"]) for row in run.take()] == [(at(3), [0, 1])]
    assert found(pattern, "abxn") == []
    assert found(pattern, "abxxn") == [[0, 1]]


def test_silence_is_noticed_without_a_row_of_that_key() -> None:
    run = Drive(match(begin("a", A).not_followed_by("n", N, within="2s")), SCHEMA)
    run.step(rows("a"), watermark=0).step(rows("x", [9], key="other"), watermark=9)
    assert [row["k"] for row in run.take()] == ["k"]


# -- time ------------------------------------------------------------------------------------


def test_within_includes_its_bound() -> None:
    pattern = begin("a", A).followed_by("b", B).within("2s")
    assert found(pattern, "ab", [0, 2]) == [[0, 1]]
    assert found(pattern, "ab", [0, 2.000001]) == []


def test_the_within_of_a_step_counts_from_the_row_before_the_step() -> None:
    pattern = begin("a", A).followed_by("b", B, times=2, within="2s")
    assert found(pattern, "abb", [0, 1, 2]) == [[0, 1, 2]]
    assert found(pattern, "abb", [0, 1, 3]) == []


def test_rows_are_matched_in_event_order_and_late_ones_leave_by_late() -> None:
    run = Drive(match(begin("a", A).next("b", B)), SCHEMA)
    run.step(rows("ba", [2, 1]), watermark=5)
    assert [row["match_end"] for row in run.take()] == [at(2)]
    run.step(rows("ab", [3, 6]), watermark=9)
    assert run.take() == []
    assert [row["t"] for row in run.take("late")] == [3.0]


def test_partial_matches_are_forgotten_when_their_time_is_over() -> None:
    pattern = begin("a", A).followed_by("b", B).within("2s")
    for operator in (match(pattern), match(pattern, skip="past_last")):
        run = Drive(operator, SCHEMA).step(rows("a"), watermark=1)
        assert run.tables.row_counts()["open"] == 1
        run.step(rows("x", [9], key="other"), watermark=9).step(rows("a", [9.5], "z"), watermark=10)
        assert run.tables.keyed("open").frame()["k"].to_list() == ["z"]
    silent = Drive(match(begin("a", A).followed_by("b", B), forget="2s"), SCHEMA)
    silent.step(rows("ab", [0, 3])).finish()
    assert silent.take() == []


def test_rows_that_satisfy_nothing_do_not_wait_unless_they_can_break_a_match() -> None:
    for pattern, waiting in (
        (begin("a", A).followed_by("b", B), 1),
        (begin("a", A).next("b", B), 3),
        (begin("a", A).not_next("n", N).followed_by("b", B), 3),
    ):
        run = Drive(match(pattern), SCHEMA).step(rows("xxa"))
        assert run.tables.row_counts()["waiting"] == waiting


# -- what matches rule out -------------------------------------------------------------------

RUN = "aabb"
FEW = begin("a", A, times=(1, None)).followed_by("b", B)


@pytest.mark.parametrize(
    ("skip", "expected"),
    [
        ("none", [[0, 2], [0, 1, 2], [1, 2]]),
        ("past_last", [[0, 2]]),
        ("to_next", [[0, 2], [1, 2]]),
        (("to_first", "b"), [[0, 2]]),
        (("to_last", "a"), [[0, 2], [0, 1, 2], [1, 2]]),
    ],
)
def test_skip(skip: Any, expected: list[list[int]]) -> None:
    assert sorted(found(FEW, RUN, skip=skip)) == sorted(expected)


def test_matches_wait_until_no_earlier_partial_match_is_left() -> None:
    pattern = begin("a", A).followed_by("b", pl.col("n") > hr.matched("a").last("n") + 2)
    operator = match(pattern.within("9s"), skip="past_last")
    frame = rows("aax").with_columns(n=pl.Series([10, 0, 5]))
    run = Drive(operator, SCHEMA).step(frame, watermark=9)
    assert run.take() == []
    run.step(watermark=9.000001)
    assert [row["rows"] for row in run.take()] == [[0, 5]]


def test_results_lie_behind_the_watermark_where_they_wait_or_end_in_absence() -> None:
    pattern = begin("a", A).followed_by("b", B).within("9s")
    assert match(pattern).hold() == timedelta(0)
    assert match(pattern, skip="to_next").hold() == timedelta(seconds=9)
    assert match(pattern.not_followed_by("n", N)).hold() == timedelta(seconds=9)


def test_without_overlap_a_match_begins_only_when_none_is_open() -> None:
    both = begin("a", A).followed_by("b", B)
    alone = begin("a", A, overlap=False).followed_by("b", B)
    assert found(both, "aabab") == [[0, 2], [1, 2], [3, 4]]
    assert found(alone, "aabab") == [[0, 2], [3, 4]]


# -- what was matched ------------------------------------------------------------------------


def test_a_condition_sees_the_rows_taken_before_the_row_under_test() -> None:
    rising = pl.col("n") > hr.matched("up").last("n")
    pattern = begin("a", A).followed_by("up", (C & rising) | (hr.matched("up").count() == 0))
    assert found(pattern, "ax") == [[0, 1]]
    many = begin("up", rising | (hr.matched().count() == 0), times=3)
    frame = rows("xxxx").with_columns(n=pl.Series([5, 3, 7, 9]))
    run = Drive(match(many), SCHEMA).step(frame).finish()
    assert [row["rows"] for row in run.take()] == [[5, 7, 9], [3, 7, 9]]


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        (pl.col("n") > hr.matched("a").sum("n"), [2]),
        (pl.col("n") * 2 > hr.matched("a").avg("n") + 5, [4]),
        (B & (hr.matched("a").max("n") == 1) & (hr.matched("a").min("n") == 0), [2]),
        (B & (hr.matched("a").first("n", 1) == 1), [2]),
        (B & (hr.matched("a").last("n", 2) == 0), []),
        (B & (hr.matched("z").first("n") == 0), []),
        (B & (hr.matched("a").collect("n").list.len() == 2), [2]),
        (B & (hr.matched("a").count(pl.when(pl.col("n") > 0).then(1)) == 1), [2]),
    ],
)
def test_each_function_of_rows_taken(condition: pl.Expr, taken: list[int]) -> None:
    pattern = begin("a", A, times=2).followed_by("z", N, optional=True).followed_by("b", condition)
    frame = rows("aabbb").with_columns(n=pl.Series([0, 1, 2, 4, 9]))
    run = Drive(match(pattern), SCHEMA).step(frame).finish()
    assert [row["rows"] for row in run.take()] == [[0, 1, last] for last in taken]


def test_measures_combine_as_expressions() -> None:
    measures = (
        ("count", hr.matched("b").count()),
        ("none", hr.matched("b").sum("n")),
        ("list", hr.matched("b").collect("n")),
        ("span", hr.matched().last("t") - hr.matched().first("t")),
        ("mean", hr.matched("a").avg(pl.col("n") * 10) + 1),
        ("fixed", pl.lit("x")),
    )
    operator = match(begin("a", A, times=2).next("b", B, optional=True), measures=measures)
    result = Drive(operator, SCHEMA).step(rows("aa")).finish().take()
    assert [list(row.values())[1:] for row in result] == [
        [at(0), at(1), 0, None, [], 1.0, 6.0, "x"]
    ]


def test_matches_leave_by_completion_then_start_then_assignment() -> None:
    pattern = begin("a", A, times=(1, None), contiguity="any").followed_by("b", B)
    expected = [[0, 1, 2, 3], [0, 1, 3], [0, 2, 3], [0, 3], [1, 2, 3], [1, 3], [2, 3]]
    got = found(pattern, "aaab")
    assert sorted(got) == sorted(expected)
    assert got == sorted(got, key=lambda one: (one[-1], one[0], one[:-1]))


def test_null_keys_are_a_group_and_without_by_all_rows_are_one() -> None:
    frame = pl.concat([rows("a", [0], key="x"), rows("b", [1], key="y")])
    frame = timed(frame)
    for by, keys, expected in (
        ((), ["x", "y"], 1),
        (("k",), ["x", "y"], 0),
        (("k",), [None, None], 1),
    ):
        run = Drive(match(begin("a", A).next("b", B), by=by), SCHEMA)
        given = frame.with_columns(k=pl.Series(keys, dtype=pl.String))
        assert run.step(given).finish().rows().height == expected


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: begin("a", A).next("a", B), "two steps are called a"),
        (lambda: begin("a", A, times=0), "no number of rows"),
        (lambda: Step(verb="begin", name="a", times=cast("Any", "2")), "times=2 is no number"),
        (lambda: begin("a", A, times=cast("Any", (1, 2, 3))), r"times=\(1, 2, 3\) is no number"),
        (lambda: hr.matched().sum(A.map_elements(bool)), "no Python functions"),
        (lambda: begin("a", A, times=(3, 2)), r"times=\(3, 2\) is no number"),
        (lambda: begin("a", A, until=B), "until= ends a step of any length"),
        (lambda: begin(begin("a", A), A), "a group takes no condition"),
        (lambda: begin(begin("a", A).within("1s")), "a group cannot carry within"),
        (lambda: begin(begin("a", A, optional=True)), "every step of the group is optional"),
        (lambda: begin(begin("a", A).not_next("b")), "a group cannot begin or end"),
        (lambda: match(begin("a", A, optional=True)), "every step is optional"),
        (lambda: match(begin("a", A).not_next("b", B)), "not_next cannot end a pattern"),
        (lambda: match(begin("a", A).not_followed_by("b", B)), "for how long"),
        (
            lambda: match(begin("a", A).not_followed_by("b", B, within="2s").within("1s")),
            "lasts 2s, the pattern only 1s",
        ),
        (
            lambda: match(begin("a", optional=True).not_next("n", N).next("b")),
            "nothing can be absent before it",
        ),
        (lambda: match(begin("a", A), skip="last"), "none of the ways"),
        (lambda: match(begin("a", A), skip=("to_last", "b")), "which takes no rows"),
        (lambda: match(begin("a", A), measures=(("x", pl.col("n")),)), "of which row"),
        (lambda: begin("a", A).within("0s"), "longer than zero"),
        (hr.all_of, "all_of.* needs conditions"),
        (lambda: hr.any_of(a=A).next("b"), "any_of.* is one step"),
        (lambda: match(hr.all_of(a=A)), "all_of.* is a step of a pattern"),
    ],
)
def test_what_cannot_be_found_is_refused(make: Any, message: str) -> None:
    with pytest.raises(hr.HeadraceError, match=message):
        make()


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (match(begin("a", pl.col("n"))), "must be true or false"),
        (match(begin("a", pl.col("n") > pl.col("n").mean())), "not row-wise"),
        (match(begin("a", pl.col("nowhere") > 1)), "nowhere"),
        (match(begin("a", pl.col("n") > hr.matched("z").last("n"))), "no step 'z'"),
        (match(begin("a", A), measures=(("k", hr.matched().count()),)), "two columns"),
        (match(begin("a", A), measures=(("x", hr.matched().sum("c")),)), "needs a number"),
    ],
)
def test_what_does_not_fit_the_columns_is_refused(operator: Match, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        operator.output_schema(SCHEMA)


def test_measures_may_count_without_reading_any_column() -> None:
    counted = (("tries", hr.matched("a").count()), ("all", hr.matched().count()))
    operator = match(begin("a", A, times=2).followed_by("b", B), measures=counted)

    run = Drive(operator, SCHEMA).step(rows("axab")).finish()

    assert run.rows().select("tries", "all").rows() == [(2, 3)]
