"""Each element of a list makes a row; no element makes a row of null."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.explode import Explode
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.List(pl.Int64())})


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    answer = [
        (time, k, x, moment)
        for time, k, elements, moment in rows.select("time", "k", "x", "__event_time").iter_rows()
        for x in (elements or [None])
    ]
    schema = {"time": TIME_DTYPE, "k": pl.String(), "x": pl.Int64(), "__event_time": pl.Int64()}
    return {"main": pl.DataFrame(answer, schema=schema, orient="row")}


CASES = [Case(Explode(columns=("x",)), (InputSpec(SCHEMA),), by_hand)]
