"""Fields of a struct stand in its place."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.unnest import Unnest
from headrace.testing.laws import Case, InputSpec

POINT = pl.Struct({"lon": pl.Float64(), "lat": pl.Float64()})
SCHEMA = pl.Schema({"time": TIME_DTYPE, "at": POINT, "k": pl.String()})


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    answer = [
        (time, *((None, None) if at is None else (at["lon"], at["lat"])), k, moment)
        for time, at, k, moment in rows.select("time", "at", "k", "__event_time").iter_rows()
    ]
    schema = {
        "time": TIME_DTYPE,
        "lon": pl.Float64(),
        "lat": pl.Float64(),
        "k": pl.String(),
        "__event_time": pl.Int64(),
    }
    return {"main": pl.DataFrame(answer, schema=schema, orient="row")}


CASES = [Case(Unnest(columns=("at",)), (InputSpec(SCHEMA),), by_hand)]
