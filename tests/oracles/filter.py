"""A filter keeps the rows for which the condition is true."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.filter import Filter
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Int64()})


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    kept = [
        row
        for row in rows.drop("__position").iter_rows(named=True)
        if row["x"] is not None and row["x"] > 1 and row["k"] != "a" and row["k"] is not None
    ]
    return {"main": pl.DataFrame(kept, schema=rows.drop("__position").schema)}


CASES = [
    Case(
        Filter(predicate=(pl.col("x") > 1) & (pl.col("k") != "a")),
        (InputSpec(SCHEMA),),
        by_hand,
    )
]
