"""A union holds the rows of all its inputs."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.union import Union
from headrace.testing.laws import Case, InputSpec

FIRST = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Int64()})
SECOND = pl.Schema({"x": pl.Int64(), "time": TIME_DTYPE, "k": pl.String()})


def by_hand(*inputs: pl.DataFrame) -> dict[str, pl.DataFrame]:
    columns = ["time", "k", "x", "__event_time"]
    return {"main": pl.concat([rows.select(columns) for rows in inputs])}


CASES = [
    Case(
        Union(),
        (InputSpec(FIRST), InputSpec(SECOND, delay="1s"), InputSpec(FIRST, delay="1m")),
        by_hand,
    )
]
