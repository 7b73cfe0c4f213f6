"""Each row looks its key up in a dict."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE
from headrace.features.static import Static, static
from headrace.operators.enrich import Enrich
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "user": pl.String(), "site": pl.Int64(), "x": pl.Float64()})
COLUMNS = {"user": st.sampled_from(["a", "b", "c", None]), "site": st.sampled_from([1, 2, None])}
SECOND = 1_000_000
START = 1_767_225_600 * SECOND

TABLE: dict[tuple[str, int], tuple[float | None, str, int | None]] = {
    ("a", 1): (0.5, "old", START - 100 * SECOND),
    ("a", 2): (None, "new", START + 5 * SECOND),
    ("b", 1): (2.0, "never", None),
}


def source() -> Static:
    rows = [(*key, rate, word, at) for key, (rate, word, at) in TABLE.items()]
    frame = pl.DataFrame(
        rows,
        schema={"name": pl.String, "site": pl.Int64, "rate": pl.Float64, "w": pl.String, "at": int},
        orient="row",
    )
    timed = frame.with_columns(pl.col("at").cast(TIME_DTYPE))
    return static(timed, key=("name", "site"), updated="at")


def answer(row: dict[str, Any], max_age: int | None) -> tuple[float | None, str | None, str]:
    hit = TABLE.get((row["user"], row["site"]))
    if hit is None:
        return -1.0, None, "missing"
    rate, word, at = hit
    if max_age is not None and (at is None or row[EVENT_TIME] - at > max_age):
        return -1.0, None, "stale"
    return -1.0 if rate is None else rate, word, "source"


def case(name: str, max_age: int | None) -> Case:
    def oracle(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        told = [answer(row, max_age) for row in rows.to_dicts()]
        added = pl.DataFrame(
            told,
            schema={"rate": pl.Float64, "w": pl.String, "features_from": pl.String},
            orient="row",
        )
        return {"main": rows.drop("__position").hstack(added.get_columns())}

    operator = Enrich(
        source=source(),
        on={"user": "name", "site": "site"},
        default={"rate": -1},
        max_age=None if max_age is None else f"{max_age}us",
        timeout="10s",
    )
    return Case(operator, (InputSpec(SCHEMA, COLUMNS),), oracle, name)


CASES = [case("any age", None), case("young", 8 * SECOND)]
