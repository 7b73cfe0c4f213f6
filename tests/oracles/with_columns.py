"""Added columns are computed row by row; the others stay."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.project import WithColumns
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Int64()})


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    values = rows["x"].to_list()
    return {
        "main": rows.select("time", "k", "__event_time").with_columns(
            pl.Series("x", [-1 if x is None else x for x in values], dtype=pl.Int64),
            pl.Series("odd", [None if x is None else x % 2 == 1 for x in values], dtype=pl.Boolean),
        )
    }


CASES = [
    Case(
        WithColumns(columns=(pl.col("x").fill_null(-1), (pl.col("x") % 2 == 1).alias("odd"))),
        (InputSpec(SCHEMA),),
        by_hand,
    )
]
