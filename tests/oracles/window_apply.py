"""A function over windows, called on rows picked one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import polars as pl

from headrace.core.time import EVENT_TIME, HIDDEN, TIME_DTYPE, micros
from headrace.operators.assigners import Assigner, Session, Sliced, session, sliding, tumbling
from headrace.operators.window_apply import WindowApply
from headrace.testing.laws import UNIQUE, Case, InputSpec

SCHEMA = pl.Schema(
    {"time": TIME_DTYPE, "id": pl.Int64(), "k": pl.String(), "x": pl.Float64(), "n": pl.Int32()}
)
RETURNS = pl.Schema({"id": pl.Int64(), "place": pl.Int64(), "rows": pl.Int64()})


def numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Number the rows of a window."""
    return rows.select(
        "id",
        pl.int_range(pl.len(), dtype=pl.Int64).alias("place"),
        pl.lit(rows.height, pl.Int64).alias("rows"),
    )


def spans(assigner: Assigner, times: list[int]) -> list[tuple[int, int, list[int]]]:
    """Return (start, end, row numbers) of each window of one key."""
    if isinstance(assigner, Session):
        gap = micros(assigner.gap)
        groups: list[list[int]] = []
        for row, time in enumerate(times):
            if row == 0 or time - times[row - 1] > gap:
                groups.append([])
            groups[-1].append(row)
        return [(times[group[0]], times[group[-1]] + gap, group) for group in groups]
    assert isinstance(assigner, Sliced)
    size, every = micros(assigner.size), micros(assigner.every)
    low, high = min(times) // every * every - size, max(times)
    found = []
    for start in range(low, high + 1, every):
        rows = [row for row, time in enumerate(times) if start <= time < start + size]
        if rows:
            found.append((start, start + size, rows))
    return found


def by_hand(
    assigner: Assigner, by: tuple[str, ...]
) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    shift = 0 if isinstance(assigner, Session) else 1

    def answer(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        nothing = pl.Schema(
            {
                **{name: SCHEMA[name] for name in by},
                "window_start": TIME_DTYPE,
                "window_end": TIME_DTYPE,
                **RETURNS,
                EVENT_TIME: pl.Int64(),
            }
        )
        parts = [nothing.to_frame()]
        for group in rows.with_columns(pl.lit(0).alias("__all")).partition_by(
            [*by, "__all"], maintain_order=True
        ):
            for start, end, members in spans(assigner, group[EVENT_TIME].to_list()):
                result = numbered(group[members].drop(*HIDDEN, "__all"))
                parts.append(
                    result.with_columns(
                        *(pl.lit(group[name][0], SCHEMA[name]).alias(name) for name in by),
                        pl.lit(start, pl.Int64).cast(TIME_DTYPE).alias("window_start"),
                        pl.lit(end, pl.Int64).cast(TIME_DTYPE).alias("window_end"),
                        pl.lit(end - shift, pl.Int64).alias(EVENT_TIME),
                    ).select(nothing.names())
                )
        return {"main": pl.concat(parts)}

    return answer


def case(name: str, assigner: Assigner, by: tuple[str, ...] = ("k",)) -> Case:
    operator = WindowApply(assigner=assigner, by=by, fn=numbered, returns=RETURNS)
    spec = InputSpec(SCHEMA, {"id": UNIQUE})
    return Case(operator, (spec,), by_hand(assigner, by), name=name, shown=shown)


def shown(outputs: Mapping[str, pl.DataFrame]) -> pl.Series:
    """Say which rows some window took."""
    return outputs["main"]["id"].unique()


CASES = [
    case("tumbling", tumbling("5s")),
    case("sliding", sliding("4s", every="2s")),
    case("tumbling, no key", tumbling("5s"), ()),
    case("session", session(timedelta(seconds=2))),
]
