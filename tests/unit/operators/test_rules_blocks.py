"""Many rules over many rows: bits and blocks say what row by row is said."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from headrace.core.log import OP
from headrace.core.schema import RowSchema
from headrace.operators.rulebook import gates
from headrace.operators.rulebook.bits import counts, next_set, one_hot, pack, pairs, unpack
from headrace.operators.rulebook.rule import Rule
from headrace.operators.rules import Rules
from tests.unit.operators.drive import Drive, timed

ROWS = pl.Schema(
    {"v": pl.String(), "t": pl.Float64(), "x": pl.Float64(), "y": pl.Float64(), "n": pl.Int64()}
)
RECORDS = RowSchema.of(Rule).columns
LINES, COUNT = 7, 300


@pytest.fixture
def truth() -> np.ndarray:
    random = np.random.default_rng(3)
    return random.random((LINES, COUNT)) < np.linspace(0.0, 1.0, LINES)[:, None] ** 2


def test_packed_bits_are_what_was_packed(truth: np.ndarray) -> None:
    line, row = pairs(pack(truth))

    assert np.array_equal(unpack(pack(truth), COUNT), truth)
    assert np.array_equal(np.stack([line, row]), np.stack(np.nonzero(truth)))
    assert np.array_equal(one_hot(line, row, LINES, COUNT), pack(truth))
    assert np.array_equal(counts(pack(truth), COUNT), truth.sum(axis=0))


def test_the_next_set_bit_is_found_within_its_range(truth: np.ndarray) -> None:
    random = np.random.default_rng(4)
    line = random.integers(0, LINES, 2000)
    start, end = np.sort(random.integers(0, COUNT + 1, (2, 2000)), axis=0)

    found = next_set(pack(truth), line, start, end)

    expected = [
        next((row for row in range(a, b) if truth[number, row]), -1)
        for number, a, b in zip(line, start, end, strict=True)
    ]
    assert found.tolist() == expected


def many_rules(seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)

    def atom() -> str:
        column = random.choice(["x", "y", "n", "x + y"])
        return f"{column} {random.choice(['>', '<=', '<', '='])} {random.integers(-20, 20) / 8}"

    shapes = [
        "{}",
        "NOT {}",
        "{} AND {}",
        "{} OR NOT {}",
        "{} AND ({} OR v = 'a')",
        "NOT ({} AND {})",
    ]
    rules = []
    for number in range(120):
        shape = str(random.choice(shapes))
        text = shape.format(*(atom() for _ in range(shape.count("{}"))))
        scope = {"v": ["a", "c"]} if number % 5 == 0 else None
        hysteresis = 0.5 if shape == "{}" and "=" not in text else None
        rules.append(
            {"rule_id": f"r{number}", "condition": text, "scope": scope, "hysteresis": hysteresis}
        )
    return timed(
        Rule.frame(rules).with_columns(
            pl.lit("upsert").alias(OP), pl.lit(1, pl.Int64).alias("version"), pl.lit(0).alias("t")
        )
    ).drop("t")


def many_rows(seed: int, *, nulls: float) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    count = 150

    def absent(values: pl.Series) -> pl.Series:
        return values.scatter(np.flatnonzero(random.random(count) < nulls), None)

    columns = {
        "v": pl.Series(random.choice(["a", "b", "c"], count)),
        "t": pl.Series(np.arange(count, dtype=np.float64)),
        "x": absent(pl.Series(random.integers(-24, 24, count) / 8)),
        "y": absent(pl.Series(random.integers(-24, 24, count) / 8)),
        "n": absent(pl.Series(random.integers(-3, 3, count))),
    }
    return timed(pl.DataFrame(columns, schema=ROWS))


def judged(frames: list[pl.DataFrame]) -> dict[str, pl.DataFrame]:
    run = Drive(Rules(by="v"), ROWS, RECORDS).step(many_rules(1), port=1)
    for frame in frames:
        run.step(frame)
    return {port: run.frame(port) for port in ("main", "cleared", "absent")}


@pytest.mark.parametrize("nulls", [0.0, 0.2])
def test_blocks_of_64_rows_give_what_single_rows_give(
    monkeypatch: pytest.MonkeyPatch, nulls: float
) -> None:
    rows = many_rows(2, nulls=nulls)
    one_by_one = judged(list(rows.iter_slices(1)))

    together = judged([rows])
    monkeypatch.setattr(gates, "_BYTES_AT_ONCE", 1)
    monkeypatch.setattr(gates, "_MIN_WORDS", 1)
    in_blocks = judged([rows])

    for port, expected in one_by_one.items():
        assert expected.height >= 50 * (nulls > 0 or port != "absent")
        assert together[port].equals(expected), port
        assert in_blocks[port].equals(expected), port
