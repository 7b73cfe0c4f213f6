"""Renamed columns keep their values."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.project import Rename
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "a": pl.String(), "b": pl.Float64()})


def swapped(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {
        "main": rows.select("time", pl.col("b").alias("a"), pl.col("a").alias("b"), "__event_time")
    }


CASES = [Case(Rename(mapping={"a": "b", "b": "a"}), (InputSpec(SCHEMA),), swapped)]
