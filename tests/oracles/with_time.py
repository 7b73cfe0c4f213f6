"""Event time is another column's from here on."""

import polars as pl

from headrace.core.time import TIME_DTYPE, duration
from headrace.operators.with_time import WithTime
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "measured": pl.Datetime("ms"), "x": pl.Int64()})


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {
        "main": rows.select(
            "time", "measured", "x", pl.col("measured").dt.epoch("us").alias("__event_time")
        )
    }


CASES = [
    # Measured times lie in the first 100 s, as the rows' own do; with this delay none is late.
    Case(
        WithTime(column="measured", delay=duration("10m")),
        (InputSpec(SCHEMA, no_nulls=("measured",)),),
        by_hand,
    ),
]
