"""The voxel grid by hand: points by key in event-time order, runs cut at silences, NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE, micros
from headrace.operators.voxel_grid import VoxelGrid
from headrace.testing.laws import UNIQUE, Case, InputSpec

SCHEMA = pl.Schema(
    {
        "id": pl.Int64(),
        "time": TIME_DTYPE,
        "k": pl.Float64(),
        "x": pl.Float64(),
        "y": pl.Float64(),
        "z": pl.Float64(),
        "v": pl.Float64(),
    }
)
BOX = (-1.0, 0.0, 0.0, 12.0, 9.5, 0.6)
SIZE = (1.0, 1.0, 0.2)
SHAPE = (13, 10, 3)
ODD: list[float | None] = [None, math.nan, math.inf]
ALONG: dict[str, list[float | None]] = {
    "x": [-1.0, -0.5, 7.0, 7.999, 11.5, 12.0, 12.0001, *ODD],
    "y": [0.0, 7.5, 8.0, 9.5, -0.0, -1e-9],
    "z": [0.0, 0.1, 0.2, 0.6, 0.6000001],
}
POINTS = InputSpec(
    SCHEMA,
    columns={
        "id": UNIQUE,
        "k": st.sampled_from([0.0, -0.0, 1.0, math.nan, None]),
        **{axis: st.sampled_from(values) for axis, values in ALONG.items()},
        "v": st.one_of(st.floats(1e6, 1e6 + 10), st.sampled_from([0.0, -0.0, -5.0, *ODD])),
    },
    max_rows=30,
)
Row = dict[str, Any]


def voxel(row: Row) -> tuple[int, ...] | str:
    """Return the voxel of a point, or why it has none."""
    where = [row[axis] for axis in "xyz"]
    if any(value is None or not math.isfinite(value) for value in where):
        return "no coordinates"
    for value, low, high in zip(where, BOX[:3], BOX[3:], strict=True):
        if not low <= value <= high:
            return "outside"
    if row["v"] is None or not math.isfinite(row["v"]):
        return "no value"
    return tuple(
        min(math.floor((value - low) / edge), count - 1)
        for value, low, edge, count in zip(where, BOX[:3], SIZE, SHAPE, strict=True)
    )


def plain(key: float | None) -> float | str | None:
    return "nan" if key is not None and math.isnan(key) else key


def by_hand(forget: timedelta, *, keyed: bool, aggregate: str) -> Callable[..., Any]:
    def oracle(rows: pl.DataFrame, *_: pl.DataFrame) -> dict[str, pl.DataFrame]:
        points = rows.to_dicts()
        outside = [
            {**{name: row[name] for name in (*SCHEMA, EVENT_TIME)}, "reason": found}
            for row in points
            if isinstance(found := voxel(row), str)
        ]
        keys: dict[Any, list[Row]] = {}
        for row in points:
            if not isinstance(voxel(row), str):
                keys.setdefault(plain(row["k"]) if keyed else None, []).append(row)
        watermark = max((row[EVENT_TIME] for row in points), default=0) - POINTS.delay_us
        given: list[Row] = []
        for key, taken in keys.items():
            silences = [
                number
                for number in range(1, len(taken))
                if taken[number][EVENT_TIME] - taken[number - 1][EVENT_TIME] > micros(forget)
            ]
            edges = [0, *silences, len(taken)]
            last: dict[Any, Row] = {}
            for start, end in itertools.pairwise(edges):
                cells: dict[Any, list[Row]] = {}
                for row in taken[start:end]:
                    cells.setdefault(voxel(row), []).append(row)
                over = taken[end - 1][EVENT_TIME] + micros(forget)
                is_over = end < len(taken) or over < watermark
                for cell, hits in cells.items():
                    last[cell] = shown(cell, [] if is_over else hits, aggregate, over)
            number = math.nan if key == "nan" else key
            given += [{"k": number, **row} for row in last.values()]
        operator = grid(forget, keyed=keyed, aggregate=aggregate)
        schemas = operator.output_schema(SCHEMA)
        answer = pl.DataFrame(
            [{name: row[name] for name in (*schemas["main"], EVENT_TIME)} for row in given],
            schema={**schemas["main"], EVENT_TIME: pl.Int64()},
        )
        lost = pl.DataFrame(outside, schema={**schemas["outside"], EVENT_TIME: pl.Int64()})
        return {"main": answer, "outside": lost}

    return oracle


def shown(cell: Any, hits: list[Row], aggregate: str, over: int) -> Row:
    ix, iy, iz = cell
    values = np.array([row["v"] for row in hits])
    told: Row = {
        "count": len(hits),
        "mean": values.mean() if hits else None,
        "variance": values.var(ddof=1) if len(hits) > 1 else None,
        "min": values.min() if hits else None,
        "max": values.max() if hits else None,
        "last": values[-1] if hits else None,
    }
    told["value"] = told[aggregate]
    time = hits[-1][EVENT_TIME] if hits else over
    return {"ix": ix, "iy": iy, "iz": iz, **told, EVENT_TIME: time}


def grid(forget: timedelta, *, keyed: bool, aggregate: str, **more: Any) -> VoxelGrid:
    return VoxelGrid(
        bbox=BOX,
        resolution=SIZE,
        value="v",
        by="k" if keyed else None,
        aggregate=aggregate,
        forget=forget,
        **more,
    )


CONTROL = InputSpec(
    pl.Schema({"k": pl.Float64(), "action": pl.String(), "__op": pl.String()}),
    columns={
        "k": st.sampled_from([0.0, 1.0, math.nan, None]),
        "action": st.sampled_from(["snapshot", "reset", None]),
        "__op": st.sampled_from(["upsert", "upsert", "upsert", "delete"]),
    },
    max_rows=6,
)


def case(name: str, seconds: float, *, keyed: bool, aggregate: str = "mean") -> Case:
    forget = timedelta(seconds=seconds)
    operator = grid(forget, keyed=keyed, aggregate=aggregate)
    oracle = by_hand(forget, keyed=keyed, aggregate=aggregate)
    inputs = (POINTS, CONTROL) if keyed else (POINTS,)
    return Case(operator, inputs, oracle, name=name)


CASES = [
    case("keys with silences", 3, keyed=True),
    case("one grid", 3600, keyed=False, aggregate="count"),
    Case(
        grid(timedelta(seconds=3), keyed=True, aggregate="last", order="arrival"),
        (POINTS, CONTROL),
        name="arrival",
    ),
]
