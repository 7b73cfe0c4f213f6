"""Rows in order are all rows."""

import polars as pl

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE
from headrace.operators.in_order import InOrder
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Float64()})


def everything(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {"main": rows.drop(POSITION).select(*SCHEMA, EVENT_TIME)}


CASES = [Case(InOrder(), (InputSpec(SCHEMA),), everything)]
