"""Fill as a loop over the rows of each key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, micros
from headrace.operators.fill import Fill
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema(
    {
        "time": TIME_DTYPE,
        "k": pl.String(),
        "j": pl.Float64(),
        "x": pl.Float64(),
        "n": pl.Int32(),
        "word": pl.String(),
    }
)
COLUMNS = {"j": st.sampled_from([0.0, -0.0, float("nan"), None])}


def same(value: Any) -> Any:
    """Return what stands for equal keys: NaN is one key, and 0.0 is -0.0."""
    return "nan" if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN


def between(low: float | None, high: float | None, share: float) -> float | None:
    return None if low is None or high is None else low + (high - low) * share


def added(fill: Fill, before: dict[str, Any], row: dict[str, Any], at: int) -> dict[str, Any]:
    """Return the row that is missing at `at`."""
    made: dict[str, Any] = dict.fromkeys(row)
    share = (at - before[EVENT_TIME]) / (row[EVENT_TIME] - before[EVENT_TIME])
    if fill.value == "last":
        made.update(before)
    if fill.value == "linear":
        for name in ("j", "x"):
            made[name] = between(before[name], row[name], share)
        whole = between(before["n"], row["n"], share)
        made["n"] = None if whole is None else round(whole)
    made.update({name: before[name] for name in fill.by})
    return {**made, "time": at, EVENT_TIME: at, "is_filled": True}


def by_hand(fill: Fill) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    every, longest = micros(fill.every), micros(fill.longest)

    def oracle(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        known: dict[tuple[Any, ...], dict[str, Any]] = {}
        answer = []
        for row in rows.with_columns(pl.col("time").to_physical()).to_dicts():
            key = tuple(same(row[name]) for name in fill.by)
            before = known.get(key)
            if before is not None and row[EVENT_TIME] - before[EVENT_TIME] <= longest:
                at = before[EVENT_TIME] + every
                while at < row[EVENT_TIME]:
                    answer.append(added(fill, before, row, at))
                    at += every
            known[key] = row
            answer.append({**row, "is_filled": False})
        schema = {**rows.schema, "time": pl.Int64(), "is_filled": pl.Boolean()}
        frame = pl.DataFrame(answer, schema=schema, orient="row")
        return {"main": frame.drop(POSITION).with_columns(pl.col("time").cast(TIME_DTYPE))}

    return oracle


def case(name: str, **parameters: Any) -> Case:
    fill = Fill(time="time", **parameters)
    return Case(fill, (InputSpec(SCHEMA, COLUMNS),), by_hand(fill), name)


CASES = [
    case("null", by="k", every="2s", max_gap="10s"),
    case("last", by=("k", "j"), every="1s", value="last", max_gap="20s"),
    case("linear", every="1500ms", value="linear"),
]
