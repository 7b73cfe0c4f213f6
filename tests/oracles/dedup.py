"""Dedup as a loop over rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, HIDDEN, POSITION, TIME_DTYPE
from headrace.operators.dedup import Dedup
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "j": pl.Float64(), "x": pl.Int64()})
COLUMNS = {"j": st.sampled_from([0.0, -0.0, float("nan"), None])}
SECOND = 1_000_000


def same(value: Any) -> Any:
    """Return what stands for equal keys: NaN is one key, and 0.0 is -0.0."""
    return "nan" if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN


def once(
    by: tuple[str, ...], within: int, order: Literal["event", "arrival"]
) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    """Keep a row unless one of its key was kept at most `within` before it."""

    def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        rows = rows.sort(POSITION) if order == "arrival" else rows
        kept: dict[tuple[Any, ...], int] = {}
        chosen = []
        for row in rows.iter_rows(named=True):
            key = tuple(same(row[name]) for name in by)
            if key not in kept or row[EVENT_TIME] > kept[key] + within:
                kept[key] = row[EVENT_TIME]
                chosen.append(row)
        answer = pl.DataFrame(chosen, schema=rows.schema)
        return {"main": answer.drop(HIDDEN).with_columns(answer[EVENT_TIME])}

    return by_hand


def case(
    by: tuple[str, ...], within_s: float, order: Literal["event", "arrival"] = "event"
) -> Case:
    within = round(within_s * SECOND)
    return Case(
        Dedup(by=by, within=f"{within}us", order=order),
        (InputSpec(SCHEMA, COLUMNS),),
        once(by, within, order),
        name=f"{order} by {' '.join(by)} within {within_s} s",
    )


CASES = [
    case(("k",), 3),
    case(("k", "j"), 1),
    case(("x",), 1000),
    case(("k",), 0.000001),
    case(("k",), 5, "arrival"),
    case(("j",), 1, "arrival"),
]
