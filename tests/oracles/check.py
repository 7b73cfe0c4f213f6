"""Every row leaves by main or quarantine, and is told in outcomes."""

import math

import polars as pl

from headrace.core.time import EVENT_TIME, TIME_DTYPE
from headrace.operators.check import Check
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "passed": pl.Float64(), "x": pl.Int64()})


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    plain = rows.drop("__position")
    # NaN is the greatest of all numbers.
    passed = [
        value is not None and x is not None and (math.isnan(value) or value > x)
        for value, x in plain.select("passed", "x").rows()
    ]
    told = {"check": ["gate"] * len(passed), "passed": passed, EVENT_TIME: plain[EVENT_TIME]}
    schema = {"check": pl.String, "passed": pl.Boolean, EVENT_TIME: pl.Int64}
    return {
        "main": plain[[row for row, yes in enumerate(passed) if yes]],
        "quarantine": plain[[row for row, yes in enumerate(passed) if not yes]],
        "outcomes": pl.DataFrame(told, schema=schema),
    }


POSITIVE = pl.col("passed") > pl.col("x")


def without_x(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    outputs = by_hand(rows)
    return {port: frame.drop("x", strict=False) for port, frame in outputs.items()}


CASES = [
    Case(Check(gate="gate", predicate=POSITIVE, action="alert"), (InputSpec(SCHEMA),), by_hand),
    Case(
        Check(gate="gate", predicate=POSITIVE, without="x"),
        (InputSpec(SCHEMA),),
        without_x,
        name="without",
    ),
]
