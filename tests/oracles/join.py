"""The interval join as a loop over all pairs of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, micros
from headrace.operators.join import How, Join
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


def beside(left: Row | None, right: Row | None) -> Row:
    ours = left or {"time": None, "k": right["key"] if right else None, "x": None}
    theirs = right or {"time": None, "x": None, "y": None}
    times = [row[EVENT_TIME] for row in (left, right) if row is not None]
    named = {"time_right": theirs["time"], "x_right": theirs["x"], "y": theirs["y"]}
    return {**{name: ours[name] for name in LEFT}, **named, EVENT_TIME: max(times)}


def by_hand(
    how: How, low: int, high: int, where: Callable[[Row], bool], *, keyed: bool
) -> Callable[[pl.DataFrame, pl.DataFrame], dict[str, pl.DataFrame]]:
    def oracle(left: pl.DataFrame, right: pl.DataFrame) -> dict[str, pl.DataFrame]:
        lefts, rights = left.to_dicts(), right.to_dicts()
        pairs = [
            (i, j)
            for i, a in enumerate(lefts)
            for j, b in enumerate(rights)
            if (not keyed or equal(a["k"], b["key"]))
            and low <= b[EVENT_TIME] - a[EVENT_TIME] <= high
            and where(beside(a, b))
        ]
        matched = {i for i, _ in pairs}
        alone = [a for i, a in enumerate(lefts) if i not in matched]
        if how == "anti":
            return {"main": frame(alone, left)}
        if how == "semi":
            first = {
                i: min(max(lefts[i][EVENT_TIME], rights[j][EVENT_TIME]) for m, j in pairs if m == i)
                for i in matched
            }
            return {"main": frame([{**lefts[i], EVENT_TIME: t} for i, t in first.items()], left)}
        rows = [beside(lefts[i], rights[j]) for i, j in pairs]
        if how in ("left", "outer"):
            rows += [beside(a, None) for a in alone]
        if how in ("right", "outer"):
            met = {j for _, j in pairs}
            rows += [beside(None, b) for j, b in enumerate(rights) if j not in met]
        schema = Join(on=on(keyed=keyed), within=("0s", "0s")).output_schema(LEFT, RIGHT)["main"]
        return {"main": pl.DataFrame(rows, schema={**schema, EVENT_TIME: pl.Int64()})}

    return oracle


def frame(rows: list[Row], like: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=like.schema).drop(POSITION)


def on(*, keyed: bool) -> Any:
    return {"k": "key"} if keyed else None


def case(how: How, low: str, high: str, *, keyed: bool = True, where: bool = False) -> Case:
    condition = pl.col("x_right") >= pl.col("x") if where else None

    def holds(row: Row) -> bool:
        known = row["x"] is not None and row["x_right"] is not None
        return not where or (known and row["x_right"] >= row["x"])

    return Case(
        Join(on=on(keyed=keyed), within=(low, high), how=how, where=condition),
        (
            InputSpec(LEFT, {"k": KEYS}, max_rows=12),
            InputSpec(RIGHT, {"key": KEYS}, delay="5s", key=("key",), max_rows=12),
        ),
        by_hand(how, micros(low), micros(high), holds, keyed=keyed),
        name=f"{how} from {low} to {high}",
    )


CASES = [
    case("inner", "-5s", "0s"),
    case("outer", "-1s", "5s", where=True),
    case("left", "2s", "11s"),
    case("semi", "-1s", "5s"),
    case("anti", "-6s", "-1s"),
]
