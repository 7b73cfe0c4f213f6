"""Selecting gives the expressions' values row by row."""

import polars as pl

from headrace.core.time import TIME_DTYPE, event_time
from headrace.operators.project import Select
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Float64()})


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    answer = [
        (None if x is None else x * 2 + 1, None if k is None else f"{k}!", when, moment)
        for x, k, when, moment in rows.select("x", "k", "time", "__event_time").iter_rows()
    ]
    schema = {"y": pl.Float64(), "k": pl.String(), "when": TIME_DTYPE, "__event_time": pl.Int64()}
    return {"main": pl.DataFrame(answer, schema=schema, orient="row")}


CASES = [
    Case(
        Select(
            columns=(
                (pl.col("x") * 2 + 1).alias("y"),
                pl.col("k") + "!",
                event_time().alias("when"),
            )
        ),
        (InputSpec(SCHEMA),),
        by_hand,
    )
]
