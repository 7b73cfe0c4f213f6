"""Lookup as of event time, each row judged by every row of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE, micros
from headrace.operators.lookup_event import LookupEvent
from headrace.testing.laws import Case, InputSpec

LEFT = pl.Schema({"time": TIME_DTYPE, "k": pl.Float64(), "i": pl.Int64(), "x": pl.Int64()})
RIGHT = pl.Schema({"id": pl.Float64(), "i": pl.Int64(), "x": pl.Int64(), "word": pl.String()})
KEYS = st.sampled_from([0.0, -0.0, 1.0, float("nan"), None])
BOTH = {"k": KEYS, "id": KEYS, "i": st.sampled_from([1, None])}


def same(value: Any) -> Any:
    """Return what stands for equal keys: NaN is one key, and 0.0 is -0.0."""
    return "nan" if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN


def seen(lookup: LookupEvent, row: dict[str, Any], table: pl.DataFrame) -> dict[str, Any] | None:
    """Return the table's row that `row` sees."""
    newest = None
    for held in table.to_dicts():
        fits = all(row[a] is not None and same(row[a]) == same(held[b]) for a, b in lookup.on)
        if fits and held[EVENT_TIME] <= row[EVENT_TIME]:
            newest = held
    if newest is None or (lookup.delete is not None and newest["x"] == 0):
        return None
    if lookup.valid_for is not None:
        is_old = row[EVENT_TIME] - newest[EVENT_TIME] > micros(lookup.valid_for)
        return None if is_old else newest
    return newest


def by_hand(
    lookup: LookupEvent,
) -> Callable[[pl.DataFrame, pl.DataFrame], dict[str, pl.DataFrame]]:
    named = [column for _, column in lookup.on]
    added = {n: f"{n}_right" if n in LEFT else n for n in RIGHT if n not in named}

    def oracle(rows: pl.DataFrame, table: pl.DataFrame) -> dict[str, pl.DataFrame]:
        made = []
        for row in rows.to_dicts():
            hit = seen(lookup, row, table)
            if lookup.how == "left" or (lookup.how == "inner" and hit is not None):
                made.append({**row, **{new: hit and hit[old] for old, new in added.items()}})
        new = {new: RIGHT[old] for old, new in added.items()}
        schema = {**LEFT, **new, EVENT_TIME: pl.Int64()}
        return {"main": pl.DataFrame([{n: row[n] for n in schema} for row in made], schema)}

    return oracle


def case(name: str, **parameters: Any) -> Case:
    lookup = LookupEvent(**parameters)
    inputs = InputSpec(LEFT, BOTH), InputSpec(RIGHT, BOTH, delay="5s", key=lookup.key)
    return Case(lookup, inputs, by_hand(lookup), name)


CASES = [
    case("left", on={"k": "id"}, key="id", delete=pl.col("x") == 0, valid_for="20s"),
    case("inner", on={"k": "id", "i": "i"}, key=("id", "i"), how="inner"),
]
