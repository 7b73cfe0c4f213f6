"""Dropping columns leaves the others as they were, and event time too."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.project import Drop
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Float64()})

CASES = [
    Case(
        Drop(columns=("k",)),
        (InputSpec(SCHEMA),),
        lambda rows: {"main": rows.select("time", "x", "__event_time")},
    ),
    Case(
        Drop(columns=("time",)),
        (InputSpec(SCHEMA),),
        lambda rows: {"main": rows.select("k", "x", "__event_time")},
        "time",
    ),
]
