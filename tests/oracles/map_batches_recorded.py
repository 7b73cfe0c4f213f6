"""A function that is not pure still gives each row once; here it happens to be pure."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.map_batches import MapBatchesRecorded
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Int64()})


def first_column(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("k")


CASES = [
    Case(
        MapBatchesRecorded(fn=first_column, returns=pl.Schema({"k": pl.String()})),
        (InputSpec(SCHEMA),),
        lambda rows: {"main": rows.select("k", "__event_time")},
    )
]
