"""A function over frames gives what it gives over the whole."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.map_batches import MapBatches
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Int64()})
RETURNS = pl.Schema({"k": pl.String(), "square": pl.Int64()})


def squares(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("k", (pl.col("x") ** 2).cast(pl.Int64).alias("square"))


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    answer = [
        (k, None if x is None else x * x, moment)
        for k, x, moment in rows.select("k", "x", "__event_time").iter_rows()
    ]
    schema = {**RETURNS, "__event_time": pl.Int64()}
    return {"main": pl.DataFrame(answer, schema=schema, orient="row")}


CASES = [Case(MapBatches(fn=squares, returns=RETURNS), (InputSpec(SCHEMA),), by_hand)]
