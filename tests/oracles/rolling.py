"""Rolling answers, each from the rows that it covers, found by looking at every row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
from hypothesis import strategies as st

import headrace.operators.aggregates as agg
from headrace.core.time import EVENT_TIME, HIDDEN, POSITION, TIME_DTYPE
from headrace.operators.rolling import Rolling
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema(
    {
        "time": TIME_DTYPE,
        "k": pl.String(),
        "j": pl.Float64(),
        "x": pl.Float64(),
        "n": pl.Int32(),
    }
)
COLUMNS = {"j": st.sampled_from([0.0, -0.0, 1.0, float("nan"), None])}
SECOND = 1_000_000
X, N = pl.col("x"), pl.col("n")

ANSWERS: dict[str, tuple[Any, pl.Expr]] = {
    "rows": (agg.count(), pl.len().cast(pl.Int64)),
    "total": (agg.sum("n"), pl.when(N.count() > 0).then(N.cast(int).sum())),
    "mean": (agg.mean("x"), X.mean()),
    "low": (agg.min("x"), X.min()),
    "sd": (agg.std("n"), N.cast(float).std()),
    "newest": (agg.last("x"), X.drop_nulls().last()),
    "middle": (agg.median("n"), N.cast(float).median()),
    "kinds": (agg.n_unique("n"), N.drop_nulls().n_unique().cast(pl.Int64)),
    "high": (agg.count(where=X > 0), (X > 0).sum().cast(pl.Int64)),
    "all": (agg.collect("n"), pl.when(N.count() > 0).then(N.drop_nulls().implode())),
    "exact": (agg.as_aggregate(X.max() - X.min()), X.max() - X.min()),
}


def each_row(
    by: tuple[str, ...],
    answers: Mapping[str, pl.Expr],
    *,
    over: int | None = None,
    last: int | None = None,
    following: int | None = None,
    arrival: bool = False,
) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        ordered = rows.sort(POSITION) if arrival else rows
        parts = [rows.clear().with_columns(**{n: e.first() for n, e in answers.items()})]
        for group in ordered.with_columns(pl.lit(0).alias("__all")).partition_by(
            [*by, "__all"], maintain_order=True, include_key=True
        ):
            mine = group.drop("__all")
            for place in range(mine.height):
                covered = mine[: place + 1]
                if following is not None:
                    covered = mine.filter(pl.col(EVENT_TIME) <= mine[EVENT_TIME][place] + following)
                if over is not None:
                    covered = covered.filter(pl.col(EVENT_TIME) > mine[EVENT_TIME][place] - over)
                if last is not None:
                    covered = covered.tail(last)
                parts.append(mine[place].hstack(covered.select(**answers).get_columns()))
        answer = pl.concat(parts, how="vertical_relaxed")
        return {"main": answer.drop(HIDDEN).with_columns(answer[EVENT_TIME])}

    return by_hand


def case(name: str, by: tuple[str, ...], *, arrival: bool = False, **cover: int) -> Case:
    exprs = {name: expr for name, (_, expr) in ANSWERS.items()}
    aggregates = tuple((name, one) for name, (one, _) in ANSWERS.items())
    over = cover.get("over")
    operator = Rolling(
        by=by,
        aggregates=aggregates,
        over=None if over is None else f"{over}us",
        rows=cover.get("last"),
        following=f"{cover['following']}us" if "following" in cover else None,
        order="arrival" if arrival else "event",
    )
    # Rows that are late under arrival order are those older than their key's newest, which an
    # oracle over all rows would have to know; without delay none is.
    delay = "0s" if arrival else "10s"
    return Case(
        operator,
        (InputSpec(SCHEMA, COLUMNS, delay=delay),),
        each_row(by, exprs, arrival=arrival, **cover),
        name=name,
    )


CASES = [
    case("over 5 s", ("k",), over=5 * SECOND),
    case("over 1 us", ("k", "j"), over=1),
    case("over 1 min, no key", (), over=60 * SECOND),
    case("5 s and 7 s after", ("k",), over=5 * SECOND, following=7 * SECOND),
    case("2 s and 1 us after, no key", (), over=2 * SECOND, following=1),
    case("last 3", ("j",), last=3),
    case("last 1, no key", (), last=1),
    case("arrival over 5 s", ("k",), arrival=True, over=5 * SECOND),
    case("arrival last 4", ("k",), arrival=True, last=4),
]
