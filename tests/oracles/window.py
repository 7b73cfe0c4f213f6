"""Windows, each filled by looking at every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import strategies as st

import headrace.operators.aggregates as agg
from headrace.core.time import TIME_DTYPE, duration, micros
from headrace.operators.assigners import (
    Assigner,
    Cumulate,
    Session,
    Sliced,
    cumulate,
    forever,
    session,
    sliding,
    tumbling,
)
from headrace.operators.window import Window
from headrace.testing.laws import UNIQUE, Case, InputSpec

SCHEMA = pl.Schema(
    {
        "time": TIME_DTYPE,
        "id": pl.Int64(),
        "k": pl.String(),
        "j": pl.Float64(),
        "x": pl.Float64(),
        "n": pl.Int32(),
    }
)
COLUMNS = {"id": UNIQUE, "j": st.sampled_from([0.0, -0.0, 1.0, float("nan"), None])}

Answer = tuple[Any, pl.Expr]
Spans = Callable[[list[int]], Iterator[tuple[int, int, int]]]
"""(event times of one key, ascending) to (row, window start, window end)."""

PLAIN: dict[str, Answer] = {
    "rows": (agg.count(), pl.len().cast(pl.Int64)),
    "values": (agg.count("x"), pl.col("x").count().cast(pl.Int64)),
    "high": (agg.count(where=pl.col("x") > 0), (pl.col("x") > 0).sum().cast(pl.Int64)),
    "total": (agg.sum("n"), pl.when(pl.col("n").count() > 0).then(pl.col("n").cast(int).sum())),
    "mean": (agg.mean("x"), pl.col("x").mean()),
    "low": (agg.min("x"), pl.col("x").min()),
    "top": (agg.max("n"), pl.col("n").max()),
}
ORDERED: dict[str, Answer] = {
    "first": (agg.first("x"), pl.col("x").drop_nulls().first()),
    "last": (agg.last("n"), pl.col("n").drop_nulls().last()),
    "second": (agg.nth("n", 1), pl.col("n").drop_nulls().get(1, null_on_oob=True)),
    "all": (
        agg.collect("n"),
        pl.when(pl.col("n").count() > 0).then(pl.col("n").drop_nulls().implode()),
    ),
    "largest": (
        agg.top_k(2, by="id", columns=("id", "n")),
        pl.struct("id", "n").sort_by("id", descending=True).head(2),
    ),
    "kinds": (agg.n_unique("n"), pl.col("n").drop_nulls().n_unique().cast(pl.Int64)),
}
SPREAD: dict[str, Answer] = {
    "var": (agg.var("n"), pl.col("n").cast(float).var()),
    "std": (agg.std("n", ddof=0), pl.col("n").cast(float).std(ddof=0)),
    "exact": (agg.as_aggregate(pl.col("n").median()), pl.col("n").median()),
    "range": (
        agg.as_aggregate(pl.col("n").max() - pl.col("n").min()),
        pl.col("n").max() - pl.col("n").min(),
    ),
}
SKETCHED: dict[str, Any] = {
    "p95": agg.quantile("x", 0.95),
    "middle": agg.median("x"),
    "p10": agg.quantile("x", 0.1, where=pl.col("n") > 0),
}


def sliced(assigner: Sliced) -> Spans:
    """Try every window near a row."""
    size, every = micros(assigner.size), micros(assigner.every)
    grown = isinstance(assigner, Cumulate)
    step = size if grown else every
    shift = micros(assigner.offset)

    def spans(times: list[int]) -> Iterator[tuple[int, int, int]]:
        for row, time in enumerate(times):
            newest = (time - shift) // step * step + shift
            for start in range(newest, newest - size, -step):
                lengths = range(every, size + 1, every) if grown else [size]
                yield from (
                    (row, start, start + length)
                    for length in lengths
                    if start <= time < start + length
                )

    return spans


def sessions(gap: timedelta) -> Spans:
    def spans(times: list[int]) -> Iterator[tuple[int, int, int]]:
        start = 0
        for row, time in enumerate(times):
            if row + 1 == len(times) or times[row + 1] - time > micros(gap):
                for member in range(start, row + 1):
                    yield member, times[start], time + micros(gap)
                start = row + 1

    return spans


def windows(
    spans: Spans,
    by: Sequence[str],
    answers: Mapping[str, pl.Expr],
    marks: Mapping[str, pl.Expr],
    moment: pl.Expr,
) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        parts: list[pl.DataFrame] = []
        keyed = rows.with_columns(pl.lit(0).alias("__all"))
        for group in keyed.partition_by([*by, "__all"], maintain_order=True):
            found = list(spans(group["__event_time"].to_list()))
            parts.append(
                group[[row for row, _, _ in found]].with_columns(
                    pl.Series("window_start", [low for _, low, _ in found], dtype=pl.Int64),
                    pl.Series("window_end", [high for _, _, high in found], dtype=pl.Int64),
                )
            )
        nothing = rows.clear().with_columns(
            pl.lit(None, pl.Int64).alias("window_start"), pl.lit(None, pl.Int64).alias("window_end")
        )
        spread = pl.concat([nothing, *parts], how="diagonal")
        filled = spread.group_by([*by, "window_start", "window_end"], maintain_order=True).agg(
            **answers
        )
        return {
            "main": filled.with_columns(**marks, __event_time=moment).with_columns(
                pl.col("window_start", "window_end").cast(TIME_DTYPE)
            )
        }

    return by_hand


def case(
    name: str,
    assigner: Assigner,
    answers: Mapping[str, Answer],
    *,
    by: tuple[str, ...] = ("k",),
    delay: str = "5s",
    shown: bool = False,
    **options: Any,
) -> Case:
    chosen = dict(answers)
    if shown:
        chosen["ids"] = (agg.collect("id"), pl.col("id"))
    operator = Window(
        assigner=assigner,
        by=by,
        aggregates=tuple((column, one) for column, (one, _) in chosen.items()),
        **options,
    )
    marks = {"is_final": pl.lit(value=True)} if options.get("emit") == "update" else {}
    is_session = isinstance(assigner, Session)
    moment = pl.col("window_end") if is_session else pl.col("window_end") - 1
    spans = sessions(assigner.gap) if isinstance(assigner, Session) else sliced(_sliced(assigner))
    oracle = windows(spans, by, {c: e for c, (_, e) in chosen.items()}, marks, moment)
    return Case(
        operator,
        (InputSpec(SCHEMA, COLUMNS, delay=delay),),
        oracle,
        name,
        ignore=("revision",),
        shown=(lambda outputs: outputs["main"]["ids"].explode().drop_nulls()) if shown else None,
    )


def _sliced(assigner: Assigner) -> Sliced:
    assert isinstance(assigner, Sliced)
    return assigner


def grown(name: str, answers: Mapping[str, Answer], by: tuple[str, ...], **options: Any) -> Case:
    """One window per key over all rows; its event time depends on when it was given."""

    def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        keyed = rows.with_columns(pl.lit(0).alias("__all"))
        filled = keyed.group_by(["__all", *by], maintain_order=True).agg(
            pl.col("__event_time").min().cast(TIME_DTYPE).alias("window_start"),
            pl.lit(None, TIME_DTYPE).alias("window_end"),
            **{column: expr for column, (_, expr) in answers.items()},
        )
        return {"main": filled.drop("__all").with_columns(is_final=pl.lit(value=True))}

    aggregates = tuple((column, one) for column, (one, _) in answers.items())
    operator = Window(assigner=forever(), by=by, aggregates=aggregates, emit="update", **options)
    return Case(operator, (InputSpec(SCHEMA, COLUMNS),), by_hand, name)


SLIDING = sliding("10s", every="4s")

CASES = [
    case("tumbling", tumbling("10s"), PLAIN),
    case("ordered answers", tumbling("10s", offset="3s"), ORDERED),
    case("spread", tumbling("20s"), SPREAD),
    case("no key", tumbling("10s"), PLAIN, by=()),
    case("two keys", tumbling("10s"), PLAIN, by=("k", "j")),
    case("sliding", SLIDING, {**PLAIN, "last": ORDERED["last"]}, shown=True),
    case("sliding exact", SLIDING, {"exact": SPREAD["exact"]}, shown=True),
    case("cumulate", cumulate("12s", every="4s", offset="1s"), PLAIN, shown=True),
    case("lateness", tumbling("10s"), PLAIN, lateness=duration("8s")),
    case("sliding lateness", SLIDING, PLAIN, lateness=duration("3s"), shown=True),
    case("updates", tumbling("10s"), PLAIN, emit="update"),
    case("paced updates", tumbling("10s"), PLAIN, emit="update", every=duration("2s")),
    case("sliding updates", SLIDING, PLAIN, emit="update", lateness=duration("3s"), shown=True),
    case("session", session("3s"), {**PLAIN, **ORDERED}, shown=True),
    case("session lateness", session("3s"), PLAIN, lateness=duration("4s"), shown=True),
    case("session no key", session("2s"), PLAIN, by=(), shown=True),
    grown("forever", {**PLAIN, **ORDERED}, ("k",)),
    grown("forever paced", {**PLAIN, **SPREAD}, ("k", "j"), every=duration("2s")),
    grown("forever no key", PLAIN, ()),
    Case(
        Window(assigner=tumbling("10s"), by=("k",), aggregates=tuple(SKETCHED.items())),
        (InputSpec(SCHEMA, COLUMNS),),
        name="sketches",
    ),
]
