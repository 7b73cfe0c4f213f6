"""Drift from the values themselves, in fractions: no buckets, no sums that follow one another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE, micros
from headrace.operators.drift import Drift, histograms
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema(
    {
        "time": TIME_DTYPE,
        "k": pl.Float64(),
        "x": pl.Float64(),
        "word": pl.String(),
        "b": pl.Boolean(),
    }
)
COLUMNS = {
    "k": st.sampled_from([0.0, -0.0, float("nan"), None]),
    "x": st.sampled_from([0.0, -0.0, 1.0, 2.5, 40.0, -3.0, math.inf, math.nan, None]),
    "word": st.sampled_from(["red", "green", "blue", None]),
}
REFERENCE = pl.DataFrame(
    {
        "x": [0.0, 1.0, 1.0, 2.5, 2.5, 2.5, None, 7.0],
        "word": ["red", "red", "green", None, "red", "red", "green", "red"],
        "b": [True, False, True, True, None, True, True, True],
    }
)
Values = Sequence[Any]


def known(values: Values) -> list[Any]:
    return [v for v in values if v is not None and not (isinstance(v, float) and math.isnan(v))]


def below(values: Values, bound: Any) -> Fraction:
    return Fraction(sum(v <= bound for v in values), len(values))


def psi(now: Values, then: Values, bin_of: Callable[[Any], Any]) -> float:
    total = 0.0
    for one in {bin_of(v) for v in (*now, *then)}:
        p, q = (max(sum(bin_of(v) == one for v in side) / len(side), 1e-4) for side in (now, then))
        total += (p - q) * math.log(p / q)
    return total


def apart(now: Values, then: Values, bins: int, *, is_number: bool) -> dict[str, float | None]:
    if not now or not then:
        return dict.fromkeys(("psi", "ks", "outside"))
    if not is_number:
        strays = sum(v not in then for v in now)
        return {"psi": psi(now, then, lambda v: v), "ks": None, "outside": strays / len(now)}

    def bin_of(value: Any) -> int:
        return min(max(math.ceil(below(then, value) * bins) - 1, 0), bins - 1)

    distance = max(abs(below(now, v) - below(then, v)) for v in (*now, *then))
    strays = sum(not min(then) <= v <= max(then) for v in now)
    return {"psi": psi(now, then, bin_of), "ks": float(distance), "outside": strays / len(now)}


def key_of(drift: Drift, row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(None if row[n] is None else row[n] + 0.0) for n in drift.by)


def by_hand(drift: Drift, reference: pl.DataFrame | None) -> Callable[..., dict[str, pl.DataFrame]]:
    every, forget = micros(drift.every), micros(drift.forget)

    def oracle(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        windows: dict[tuple[int, tuple[str, ...]], list[dict[str, Any]]] = {}
        for row in rows.to_dicts():
            start = row[EVENT_TIME] // every * every
            windows.setdefault((start, key_of(drift, row)), []).append(row)
        held: dict[tuple[str, ...], tuple[int, list[dict[str, Any]]]] = {}
        told = []
        for (start, key), now in sorted(windows.items(), key=lambda one: one[0]):
            if reference is not None:
                then, fresh = reference.to_dicts(), False
            else:
                last, then = held.get(key, (None, now))
                fresh = last is None or (bool(drift.by) and start - last > forget)
                then = now if fresh else then
                held[key] = (start + every, then)
            for name in drift.features:
                mine = known([row[name] for row in now])
                theirs = known([row[name] for row in then])
                is_number = SCHEMA[name].is_numeric()
                measures = apart(mine, theirs, drift.bins, is_number=is_number)
                told.append(
                    {
                        **{n: now[0][n] for n in drift.by},
                        "window_start": start,
                        "window_end": start + every,
                        "feature": name,
                        "rows": len(now),
                        "missing": 1 - len(mine) / len(now),
                        **({} if fresh else measures),
                        "is_reference": fresh,
                        EVENT_TIME: start + every - 1,
                    }
                )
        schema = {**drift.output_schema(SCHEMA)["main"], EVENT_TIME: pl.Int64()}
        times = {name: pl.Int64() for name in ("window_start", "window_end")}
        frame = pl.DataFrame(told, schema={**schema, **times}, orient="row")
        return {"main": frame.with_columns(pl.col(*times).cast(TIME_DTYPE))}

    return oracle


def case(name: str, reference: pl.DataFrame | None, **parameters: Any) -> Case:
    given = () if reference is None else histograms(reference, parameters["features"], 0.01)
    drift = Drift(reference=given, **parameters)
    return Case(drift, (InputSpec(SCHEMA, COLUMNS),), by_hand(drift, reference), name)


CASES = [
    case("given", REFERENCE, features=("x", "word", "b"), every="5s", bins=4),
    case("first", None, features=("x", "word"), every="4s", by="k", bins=3, forget="10s"),
    case("first of all", None, features=("b", "x"), every="10s"),
]
