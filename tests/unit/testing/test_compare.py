"""Two answers are the same bag of rows, or the difference is told."""

from __future__ import annotations

import math

import polars as pl

from headrace.testing.compare import Tolerance, difference


def test_order_of_rows_and_columns_does_not_matter() -> None:
    left = pl.DataFrame({"k": ["a", None, "b"], "x": [1.0, math.nan, None]})
    right = left.reverse().select("x", "k")

    assert difference(left, right) is None


def test_floats_may_differ_in_the_last_bits_only() -> None:
    left = pl.DataFrame({"x": [0.1 + 0.2, 1e6]})

    assert difference(left, pl.DataFrame({"x": [0.3, 1e6]})) is None
    assert difference(left, pl.DataFrame({"x": [0.3, 1e6 + 1]})) is not None
    assert difference(left, pl.DataFrame({"x": [0.31, 1e6]}), Tolerance(0.1)) is None


def test_rows_that_rounding_sorts_apart_still_find_each_other() -> None:
    below, above = math.nextafter(1.0000005, 0), math.nextafter(1.0000005, 2)
    left = pl.DataFrame({"x": [below, above], "n": [1, 2]})
    right = pl.DataFrame({"x": [above, below], "n": [1, 2]})

    assert difference(left, right) is None


def test_a_repeated_row_counts() -> None:
    once, twice = pl.DataFrame({"k": ["a", "b"]}), pl.DataFrame({"k": ["a", "a"]})

    found = difference(once, twice)

    assert found is not None
    assert "('b',)" in found


def test_lists_and_structs_are_compared_by_their_parts() -> None:
    left = pl.DataFrame({"l": [[1.0, None]], "s": [{"a": 0.1 + 0.2}]})

    assert difference(left, pl.DataFrame({"l": [[1.0, None]], "s": [{"a": 0.3}]})) is None
    assert difference(left, pl.DataFrame({"l": [[1.0]], "s": [{"a": 0.3}]})) is not None


def test_other_dtypes_are_a_difference() -> None:
    found = difference(pl.DataFrame({"x": [1]}), pl.DataFrame({"x": [1.0]}))

    assert found is not None
    assert "columns differ" in found
