"""TimedRows against a search of all rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from headrace.core.protocols import TableSpec
from headrace.core.time import EVENT_TIME, POSITION
from headrace.operators import timed_rows
from headrace.operators.key_runs import Ints
from headrace.operators.timed_rows import Keys, TimedRows
from headrace.state.rows import Pieces

SCHEMA = pl.Schema({"k": pl.Float64, EVENT_TIME: pl.Int64, POSITION: pl.Int64})


def some(rng: np.random.Generator, count: int, around: int, start: int) -> pl.DataFrame:
    keys = rng.choice([0.0, -0.0, float("nan"), 1.0, 2.0, 3.0], count)
    times = rng.integers(around - 20, around + 20, count)
    return pl.DataFrame([keys, times, np.arange(start, start + count)], schema=SCHEMA)


def positions(found: list[tuple[Ints, pl.DataFrame]]) -> list[tuple[int, int]]:
    return [
        (int(number), row)
        for numbers, rows in found
        for number, row in zip(numbers, rows[POSITION], strict=True)
    ]


@pytest.mark.parametrize("portion", [3, 1 << 20])
def test_rows_are_found_by_key_and_time_while_they_come_and_go(
    portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_rows, "_PORTION", portion)
    rng = np.random.default_rng(3)
    table = Pieces(TableSpec("rows", "rows", SCHEMA))
    rows = TimedRows(table, ["k"])
    held = SCHEMA.to_frame()
    for step in range(20):
        fresh = some(rng, int(rng.integers(1, 30)), around=4 * step, start=100 * step)
        fresh = fresh.filter(pl.col(EVENT_TIME) >= 4 * step - 40)
        rows.add(fresh)
        held = pl.concat([held, fresh]).filter(pl.col(EVENT_TIME) >= 4 * step - 40)
        gone = rows.release(4 * step - 40)
        assert gone is None or gone[EVENT_TIME].is_sorted()
        asked = some(rng, 5, around=4 * step, start=0)
        middle = np.maximum(asked[EVENT_TIME].to_numpy(), 4 * step - 35)
        low, high = middle - 5, middle + 3
        want = (
            asked.with_row_index("n")
            .with_columns(pl.Series("low", low), pl.Series("high", high))
            .join(held.sort(EVENT_TIME, POSITION), on="k", maintain_order="left_right")
            .filter(pl.col(EVENT_TIME + "_right").is_between("low", "high"))
        )
        if step % 7 == 0:
            rows = TimedRows(table, ["k"])
        found = positions(list(rows.matches(Keys.of(asked, ["k"]), low, high)))
        assert found == want.select("n", POSITION + "_right").rows()
        assert table.rows == held.height
    assert len(table.pieces) < 12


def test_rows_no_longer_wanted_are_forgotten_by_halves() -> None:
    table = Pieces(TableSpec("rows", "rows", SCHEMA))
    rows = TimedRows(table, ["k"])
    rows.add(pl.DataFrame({"k": 1.0, EVENT_TIME: range(100), POSITION: range(100)}, schema=SCHEMA))

    rows.forget(50)
    assert (table.rows, rows.half()) == (100, 50)
    rows.forget(51)
    assert (table.rows, rows.oldest()) == (49, 51)
    rows.forget(1000)
    assert (table.rows, table.pieces) == (0, ())


def test_nothing_is_found_outside_the_times_there_are() -> None:
    rows = TimedRows(Pieces(TableSpec("rows", "rows", SCHEMA)), ["k"])
    rows.add(pl.DataFrame([[1.0, 1.0], [10, 20], [0, 1]], schema=SCHEMA))
    asked = pl.DataFrame([[1.0, 1.0], [0, 0], [0, 1]], schema=SCHEMA)
    keys = Keys.of(asked, ["k"])

    for low, high in ((0, 9), (21, 30), (11, 19)):
        bounds = np.array([low, low]), np.array([high, high])
        assert positions(list(rows.matches(keys, *bounds))) == []
        for edge in (rows.first(keys, *bounds), rows.last(keys, *bounds)):
            assert edge[0].size == 0
            assert edge[1].is_empty()
            assert edge[1].schema == SCHEMA
    bounds = np.array([20, 10]), np.array([30, 10])
    assert positions([rows.first(keys, *bounds)]) == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.Int64(), [-(2**63), -1, 0, 1, 2**63 - 1]),
        (pl.UInt64(), [0, 1, 2**63, 2**64 - 2, 2**64 - 1]),
        (pl.Int8(), [-128, -1, 0, 1, 127]),
    ],
)
def test_whole_numbers_are_told_apart(dtype: pl.DataType, values: list[int]) -> None:
    schema = pl.Schema({**SCHEMA, "k": dtype})
    rows = TimedRows(Pieces(TableSpec("rows", "rows", schema)), ["k"])
    for start in (0, 100):
        rows.add(pl.DataFrame([values, [5] * 5, range(start, start + 5)], schema=schema))
    keys = Keys.of(pl.DataFrame({"k": values}, schema={"k": dtype}), ["k"])

    found = positions(list(rows.matches(keys, np.full(5, 5), np.full(5, 5))))

    assert found == [(number, start + number) for number in range(5) for start in (0, 100)]
