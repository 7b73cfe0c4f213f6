"""The join as of a time as a search of all right rows for each left row."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, micros
from headrace.operators.join_asof import JoinAsof
from headrace.testing.laws import Case, InputSpec

LEFT = pl.Schema({"time": TIME_DTYPE, "k": pl.Float64(), "x": pl.Int64()})
RIGHT = pl.Schema({"time": TIME_DTYPE, "key": pl.Float64(), "x": pl.Int64(), "y": pl.String()})
KEYS = st.sampled_from([0.0, -0.0, float("nan"), None])
Row = dict[str, Any]


def equal(left: Any, right: Any) -> bool:
    """Return whether key values match: null never does, NaN is NaN."""
    if left is None or right is None:
        return False
    return bool(left == right or (left != left and right != right))  # noqa: PLR0124 - NaN


def chosen(operator: JoinAsof, left: Row, rights: list[Row]) -> Row | None:
    """Return the right row that a left row takes."""
    reach = micros(operator.tolerance or operator.forget)
    found = []
    for right in rights:
        ahead = right[EVENT_TIME] - left[EVENT_TIME]
        matches = all(equal(left[a], right[b]) for a, b in operator.by)
        if matches and abs(ahead) <= reach and (operator.exact or ahead):
            found.append((ahead, right))
    if operator.strategy == "backward":
        found = [(ahead, right) for ahead, right in found if ahead <= 0]
        return max(found, key=lambda one: (one[0], one[1][POSITION]))[1] if found else None
    if operator.strategy == "forward":
        found = [(ahead, right) for ahead, right in found if ahead >= 0]
        return min(found, key=lambda one: (one[0], one[1][POSITION]))[1] if found else None
    nearest = min((abs(ahead) for ahead, _ in found), default=None)
    near = [one for one in found if abs(one[0]) == nearest]
    return max(near, key=lambda one: (one[0], one[1][POSITION]))[1] if near else None


def case(**parameters: Any) -> Case:
    operator = JoinAsof(**parameters)
    schema = operator.output_schema(LEFT, RIGHT)["main"]
    theirs = {"time_right": "time", "key": "key", "x_right": "x", "y": "y"}
    shown = {new: old for new, old in theirs.items() if new in schema}

    def by_hand(left: pl.DataFrame, right: pl.DataFrame) -> dict[str, pl.DataFrame]:
        rows = []
        for row in left.to_dicts():
            taken = chosen(operator, row, right.to_dicts())
            if taken is not None or operator.how == "left":
                beside = {new: taken[old] if taken else None for new, old in shown.items()}
                rows.append({**{name: row[name] for name in [*LEFT, EVENT_TIME]}, **beside})
        return {"main": pl.DataFrame(rows, schema={**schema, EVENT_TIME: pl.Int64()})}

    return Case(
        operator,
        (
            InputSpec(LEFT, {"k": KEYS}, max_rows=12),
            InputSpec(RIGHT, {"key": KEYS}, delay="5s", key=("key",), max_rows=12),
        ),
        by_hand,
        name=operator.strategy if operator.by else f"{operator.strategy} of all",
    )


CASES = [
    case(by={"k": "key"}, tolerance="5s"),
    case(forget="11s", exact=False, how="inner"),
    case(by={"k": "key"}, tolerance="5s", strategy="forward", exact=False),
    case(by={"k": "key"}, tolerance="4999999us", strategy="nearest", how="inner"),
]
