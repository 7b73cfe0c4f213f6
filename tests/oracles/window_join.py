"""The window join as a loop over all pairs of rows and all windows near them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE, micros
from headrace.operators.assigners import Cumulate, Sliced, sliding, tumbling
from headrace.operators.join import How
from headrace.operators.window_join import WindowJoin
from headrace.testing.laws import UNIQUE, Case, InputSpec

LEFT = pl.Schema({"time": TIME_DTYPE, "id": pl.Int64(), "k": pl.Float64(), "x": pl.Int64()})
RIGHT = pl.Schema({"time": TIME_DTYPE, "id": pl.String(), "key": pl.Float64(), "x": pl.Int64()})
KEYS = st.sampled_from([0.0, -0.0, float("nan"), None])
Row = dict[str, Any]


def windows(assigner: Sliced, time: int) -> list[tuple[int, int]]:
    """Return (start, end) of every window that holds `time`, by trying all that are near."""
    size, every, shift = (micros(d) for d in (assigner.size, assigner.every, assigner.offset))
    grown = isinstance(assigner, Cumulate)
    step = size if grown else every
    newest = (time - shift) // step * step + shift
    return [
        (start, start + length)
        for start in range(newest, newest - size, -step)
        for length in (range(every, size + 1, every) if grown else [size])
        if start <= time < start + length
    ]


def equal(left: Any, right: Any) -> bool:
    """Return whether key values match: null never does, NaN is NaN."""
    if left is None or right is None:
        return False
    return bool(left == right or (left != left and right != right))  # noqa: PLR0124 - NaN


def beside(left: Row | None, right: Row | None, *, keyed: bool) -> Row:
    ours = left or {**dict.fromkeys(LEFT), "k": right["key"] if right and keyed else None}
    theirs = right or dict.fromkeys(RIGHT)
    return {**ours, **{n if n == "key" else f"{n}_right": theirs[n] for n in RIGHT}}


def joined(how: How, lefts: list[Row], rights: list[Row], *, keyed: bool, where: bool) -> list[Row]:
    """Return what leaves of the rows of one window."""

    def matches(a: Row, b: Row) -> bool:
        same = not keyed or equal(a["k"], b["key"])
        return same and (not where or (None not in (a["x"], b["x"]) and b["x"] >= a["x"]))

    pairs = [(i, j) for i, a in enumerate(lefts) for j, b in enumerate(rights) if matches(a, b)]
    ours, theirs = {i for i, _ in pairs}, {j for _, j in pairs}
    shown: list[tuple[Row | None, Row | None]] = []
    if how not in ("semi", "anti"):
        shown += [(lefts[i], rights[j]) for i, j in pairs]
    if how == "semi":
        shown += [(a, None) for i, a in enumerate(lefts) if i in ours]
    if how in ("left", "outer", "anti"):
        shown += [(a, None) for i, a in enumerate(lefts) if i not in ours]
    if how in ("right", "outer"):
        shown += [(None, b) for j, b in enumerate(rights) if j not in theirs]
    return [beside(a, b, keyed=keyed) for a, b in shown]


def by_hand(
    assigner: Sliced, how: How, *, keyed: bool, where: bool
) -> Callable[[pl.DataFrame, pl.DataFrame], dict[str, pl.DataFrame]]:
    on = {"k": "key"} if keyed else None
    declared = WindowJoin(assigner=assigner, on=on, how=how).output_schema(LEFT, RIGHT)["main"]
    numbers = pl.Schema(dict.fromkeys(("window_start", "window_end", EVENT_TIME), pl.Int64()))

    def oracle(left: pl.DataFrame, right: pl.DataFrame) -> dict[str, pl.DataFrame]:
        inside: dict[tuple[int, int], tuple[list[Row], list[Row]]] = {}
        for side, rows in enumerate((left.to_dicts(), right.to_dicts())):
            for row in rows:
                for window in windows(assigner, row[EVENT_TIME]):
                    inside.setdefault(window, ([], []))[side].append(row)
        answer = [
            {**row, "window_start": start, "window_end": end, EVENT_TIME: end - 1}
            for (start, end), (lefts, rights) in inside.items()
            for row in joined(how, lefts, rights, keyed=keyed, where=where)
        ]
        frame = pl.DataFrame(
            [{name: row[name] for name in (*declared, EVENT_TIME)} for row in answer],
            schema={**declared, **numbers},
        )
        return {"main": frame.cast(dict.fromkeys(("window_start", "window_end"), TIME_DTYPE))}

    return oracle


def ids(outputs: Mapping[str, pl.DataFrame]) -> pl.Series:
    """Return the rows of both sides that `outer` shows; text names those of the right."""
    shown = outputs["main"].select("id", "id_right")
    values = [*shown["id"].drop_nulls(), *shown["id_right"].drop_nulls()]
    return pl.Series(values, dtype=pl.Object)


def case(assigner: Sliced, how: How, *, keyed: bool = True, where: bool = False) -> Case:
    condition = pl.col("x_right") >= pl.col("x") if where else None
    delayed = InputSpec(
        RIGHT,
        {"key": KEYS, "id": UNIQUE},
        delay="5s",
        key=("key",) if keyed else None,
        max_rows=12,
    )
    return Case(
        WindowJoin(assigner=assigner, on={"k": "key"} if keyed else None, how=how, where=condition),
        (InputSpec(LEFT, {"k": KEYS, "id": UNIQUE}, max_rows=12), delayed),
        by_hand(assigner, how, keyed=keyed, where=where),
        name=f"{how} {assigner.kind}",
        shown=None if assigner.whole else ids,
    )


CASES = [
    case(tumbling("10s"), "inner", where=True),
    case(tumbling("7s", offset="3s"), "left"),
    case(tumbling("10s"), "right", keyed=False),
    case(tumbling("10s"), "semi"),
    case(tumbling("4s"), "anti", where=True),
    case(sliding("10s", every="4s"), "outer", where=True),
]
