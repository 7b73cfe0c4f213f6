"""A table holds, per key, the row with the newest event time."""

from collections.abc import Callable

import polars as pl

from headrace.core.log import DELETE, OP, UPSERT
from headrace.core.time import TIME_DTYPE, duration
from headrace.operators.table import Table
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "j": pl.Int64(), "x": pl.Float64()})


def latest(
    *key: str, delete: Callable[[dict[str, object]], bool] = lambda _: False
) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        plain = rows.drop("__position")
        held: dict[tuple[object, ...], dict[str, object]] = {}
        for row in plain.iter_rows(named=True):
            identity = tuple(row[name] for name in key)
            if delete(row):
                gone = {name: row[name] for name in (*key, "__event_time")}
                held[identity] = {**gone, OP: DELETE}
            else:
                held[identity] = {**row, OP: UPSERT}
        schema = {**plain.schema, OP: pl.String()}
        return {"main": pl.DataFrame(list(held.values()), schema=schema)}

    return by_hand


CASES = [
    Case(Table(key=("k",)), (InputSpec(SCHEMA),), latest("k")),
    Case(Table(key=("k", "j")), (InputSpec(SCHEMA),), latest("k", "j"), "two keys"),
    Case(
        Table(key=("k",), delete=pl.col("x") > 100),
        (InputSpec(SCHEMA),),
        # To Polars NaN is larger than any number.
        latest("k", delete=lambda row: isinstance(row["x"], float) and not row["x"] <= 100),
        "delete",
    ),
    Case(
        Table(key=("k",), ttl=duration("5s")),
        (InputSpec(SCHEMA),),
        name="time to live",
    ),
]
