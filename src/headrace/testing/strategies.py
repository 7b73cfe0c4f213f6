"""Hypothesis strategies: rows, the order they arrive in, and the steps they are cut into."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
import polars as pl
from hypothesis import strategies as st

from headrace.core.errors import SchemaError
from headrace.core.time import (
    BEGINNING,
    EVENT_TIME,
    POSITION,
    TIME_DTYPE,
    position,
    to_micros,
)
from headrace.testing.case import UNIQUE, Case, InputSpec
from headrace.testing.solo import Step

START: Final = to_micros(datetime(2026, 1, 1, tzinfo=UTC))
_MOST_CUTS: Final = 5


def values(dtype: pl.DataType, *, nulls: bool = True) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a column: few and repeated, edges among them."""
    plain = _plain_values(dtype)
    return st.one_of(plain, plain, plain, st.none()) if nulls else plain


def _milliseconds(most: int) -> st.SearchStrategy[timedelta]:
    return st.integers(0, most).map(lambda ms: timedelta(milliseconds=ms))


_FLOATS: Final = st.one_of(
    st.sampled_from([0.0, -0.0, 1.5, 1e-3, float("nan")]), *[st.floats(-1e3, 1e3, width=32)] * 3
)
_SIMPLE: Final[dict[type[pl.DataType], st.SearchStrategy[Any]]] = {
    pl.String: st.sampled_from(["a", "b", "c", "", "é"]),
    pl.Boolean: st.booleans(),
    pl.Float64: _FLOATS,
    pl.Float32: _FLOATS,
    pl.Date: st.dates(date(2025, 12, 30), date(2026, 1, 3)),
    pl.Time: st.sampled_from([time(0, 0), time(12, 30), time(23, 59, 59)]),
    pl.Duration: _milliseconds(10_000),
    pl.Binary: st.sampled_from([b"", b"a", b"\x00"]),
    pl.Decimal: st.integers(-500, 500).map(Decimal),
    pl.Null: st.none(),
}


def _plain_values(dtype: pl.DataType) -> st.SearchStrategy[Any]:
    if type(dtype) in _SIMPLE:
        return _SIMPLE[type(dtype)]
    if dtype.is_integer():
        return st.integers(0 if dtype.is_unsigned_integer() else -3, 5)
    match dtype:
        case pl.Datetime():
            start = datetime(2026, 1, 1, tzinfo=UTC if dtype.time_zone else None)
            return _milliseconds(100_000).map(lambda offset: start + offset)
        case pl.Enum():
            return st.sampled_from(dtype.categories.to_list())
        case pl.List():
            return st.lists(values(pl.Series(dtype=dtype.inner).dtype), max_size=3)
        case pl.Struct():
            fields = {f.name: values(pl.Series(dtype=f.dtype).dtype) for f in dtype.fields}
            return st.fixed_dictionaries(fields)
        case _:
            hint = "name one in InputSpec(columns=...)"
            raise SchemaError(f"no default strategy for {dtype}", hint=hint)


@st.composite
def rows(draw: st.DrawFn, spec: InputSpec) -> pl.DataFrame:
    """Draw rows of `spec` in event-time order, with `EVENT_TIME`."""
    count = draw(st.integers(spec.min_rows, spec.max_rows))
    gaps = draw(st.lists(spec.gap, min_size=count, max_size=count))
    times = START + np.cumsum(np.array(gaps, dtype=np.int64))
    columns = []
    for name, dtype in spec.schema.items():
        if name == spec.time:
            columns.append(pl.Series(name, times).cast(TIME_DTYPE).cast(dtype))
            continue
        strategy = spec.columns.get(name)
        if strategy is UNIQUE:
            columns.append(pl.Series(name, np.arange(count)).cast(dtype))
            continue
        chosen = values(dtype, nulls=name not in spec.no_nulls) if strategy is None else strategy
        drawn = draw(st.lists(chosen, min_size=count, max_size=count))
        columns.append(pl.Series(name, drawn, dtype=dtype))
    return pl.DataFrame([*columns, pl.Series(EVENT_TIME, times, dtype=pl.Int64)])


@st.composite
def arrival(
    draw: st.DrawFn, frame: pl.DataFrame, port: int, lag_us: int, *, shuffled: bool = True
) -> pl.DataFrame:
    """Draw an order of arrival in which no row is more than `lag_us` behind the latest one.

    A row arrives at its event time plus a lag. Rows of equal event time keep their order, by
    which ties are broken.
    """
    if not shuffled or lag_us == 0:
        return _placed(frame, port)
    count = frame.height
    edges = st.sampled_from([0, lag_us])
    lags = draw(st.lists(edges | st.integers(0, lag_us), min_size=count, max_size=count))
    arrived = (
        frame.with_columns(pl.Series("lag", lags, dtype=pl.Int64))
        .with_columns(pl.col("lag").sort().over(EVENT_TIME, mapping_strategy="group_to_rows"))
        .sort(pl.col(EVENT_TIME) + pl.col("lag"), maintain_order=True)
        .drop("lag")
    )
    return _placed(arrived, port)


def _placed(frame: pl.DataFrame, port: int) -> pl.DataFrame:
    places = np.arange(frame.height, dtype=np.int64) + position(port, 0)
    return frame.with_columns(pl.Series(POSITION, places))


@st.composite
def whole_inputs(draw: st.DrawFn, case: Case) -> tuple[pl.DataFrame, ...]:
    """Draw all rows of every input, each in event-time order."""
    return tuple(draw(rows(spec)) for spec in case.inputs)


@st.composite
def arrivals(
    draw: st.DrawFn,
    case: Case,
    inputs: Sequence[pl.DataFrame],
    *,
    beyond: int = 1,
    shuffled: bool = True,
) -> tuple[pl.DataFrame, ...]:
    """Draw an order of arrival for every data input; `beyond` times the delay is the most lag."""
    data = case.data_ports
    return tuple(
        draw(
            arrival(
                frame,
                port,
                spec.delay_us * beyond,
                shuffled=shuffled and port in data,
            )
        )
        for port, (spec, frame) in enumerate(zip(case.inputs, inputs, strict=True))
    )


@st.composite
def cuts(
    draw: st.DrawFn,
    case: Case,
    arrived: Sequence[pl.DataFrame],
    *,
    control_first: bool = True,
) -> list[Step]:
    """Draw how the rows of every input, in their order of arrival, are cut into steps.

    Args:
        draw: Given by hypothesis.
        case: Whose inputs they are.
        arrived: Rows by port, in order of arrival.
        control_first: Whether all control changes come in the first step.
    """
    longest = max((frame.height for frame in arrived), default=0)
    count = draw(
        st.sampled_from([1, longest, *range(2, _MOST_CUTS + 1)]) if longest else st.just(1)
    )
    bounds = []
    for port, frame in enumerate(arrived):
        if control_first and port not in case.data_ports:
            inner = [frame.height] * (count - 1)
        elif count == longest == frame.height:
            inner = list(range(1, longest))
        else:
            inner = sorted(
                draw(st.lists(st.integers(0, frame.height), min_size=count - 1, max_size=count - 1))
            )
        bounds.append([0, *inner, frame.height])
    pieces = [
        {
            port: frame.slice(bounds[port][number], bounds[port][number + 1] - bounds[port][number])
            for port, frame in enumerate(arrived)
        }
        for number in range(count)
    ]
    ahead = draw(st.sampled_from([0, 0, 1_000_000, 60_000_000]))
    return steps_of(case, pieces, ahead_us=ahead)


def steps_of(
    case: Case, pieces: Sequence[dict[int, pl.DataFrame]], *, ahead_us: int = 0
) -> list[Step]:
    """Give each piece its clock and watermark, as an engine with one partition per input does.

    Args:
        case: Whose inputs they are.
        pieces: Rows by port, step after step.
        ahead_us: How far the clock runs ahead of the latest event time.
    """
    fronts = dict.fromkeys(case.data_ports, BEGINNING)
    clock = START
    steps = []
    for piece in pieces:
        frames = {port: frame for port, frame in piece.items() if frame.height}
        for port in fronts:
            if port in frames:
                latest = frames[port][EVENT_TIME].max()
                if isinstance(latest, int):
                    fronts[port] = max(fronts[port], latest)
        clock = max([clock, *(front + ahead_us for front in fronts.values())])
        known = [
            front - case.inputs[port].delay_us
            for port, front in fronts.items()
            if front != BEGINNING
        ]
        watermark = min(known) if len(known) == len(fronts) and known else BEGINNING
        steps.append(Step(clock, watermark, frames))
    return steps
