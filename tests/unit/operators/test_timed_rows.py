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
