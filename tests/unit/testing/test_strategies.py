"""What the strategies draw is what the laws speak of."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.errors import SchemaError
from headrace.core.time import BEGINNING, EVENT_TIME, POSITION, TIME_DTYPE
from headrace.operators.filter import Filter
from headrace.operators.union import Union
from headrace.testing.case import UNIQUE, Case, InputSpec
from headrace.testing.strategies import arrival, arrivals, cuts, rows, values, whole_inputs

SCHEMA = pl.Schema({"time": TIME_DTYPE, "id": pl.Int64(), "k": pl.String()})
SPEC = InputSpec(SCHEMA, {"id": UNIQUE}, delay="3s")
CASE = Case(Filter(predicate=pl.col("id") >= 0), (SPEC,))


@given(rows(SPEC))
def test_rows_ascend_in_event_time_and_are_numbered(frame: pl.DataFrame) -> None:
    assert frame[EVENT_TIME].is_sorted()
    assert frame["time"].to_physical().equals(frame[EVENT_TIME], check_names=False)
    assert frame["id"].to_list() == list(range(frame.height))


@given(st.data())
def test_arrivals_stay_within_the_delay_and_keep_ties(data: st.DataObject) -> None:
    frame = data.draw(rows(SPEC))
    arrived = data.draw(arrival(frame, 0, SPEC.delay_us))

    behind = arrived[EVENT_TIME].cum_max() - arrived[EVENT_TIME]
    ties = arrived.group_by(EVENT_TIME, maintain_order=True).agg("id")["id"].to_list()

    assert (behind <= SPEC.delay_us).all()
    assert all(ids == sorted(ids) for ids in ties)
    assert arrived[POSITION].to_list() == list(range(frame.height))
    assert arrived.sort("id").drop(POSITION).equals(frame)


@given(st.data())
def test_steps_hold_every_row_once_and_never_go_back(data: st.DataObject) -> None:
    arrived = data.draw(arrivals(CASE, data.draw(whole_inputs(CASE)), beyond=4))
    steps = data.draw(cuts(CASE, arrived))

    frames = [step.frames[0] for step in steps if 0 in step.frames]
    clocks, watermarks = [s.clock for s in steps], [s.watermark for s in steps]

    assert pl.concat([arrived[0].clear(), *frames]).equals(arrived[0])
    assert all(frame.height for frame in frames)
    assert clocks == sorted(clocks)
    assert watermarks == sorted(watermarks)
    for step in steps:
        assert step.watermark == BEGINNING or step.watermark <= step.clock - SPEC.delay_us


def test_the_watermark_waits_for_the_slowest_input() -> None:
    case = Case(Union(), (InputSpec(SCHEMA, min_rows=1), InputSpec(SCHEMA, max_rows=0)))

    @given(st.data())
    def holds(data: st.DataObject) -> None:
        arrived = data.draw(arrivals(case, data.draw(whole_inputs(case))))
        for step in data.draw(cuts(case, arrived)):
            assert step.watermark == BEGINNING

    holds()


@pytest.mark.parametrize(
    "dtype",
    [
        pl.String(),
        pl.Int8(),
        pl.UInt64(),
        pl.Float32(),
        pl.Boolean(),
        pl.Date(),
        pl.Time(),
        pl.Duration("ms"),
        pl.Datetime("ns"),
        pl.Datetime("us", "UTC"),
        pl.Enum(["a", "b"]),
        pl.Binary(),
        pl.List(pl.Int64()),
        pl.Struct({"a": pl.List(pl.String()), "b": pl.Float64()}),
        pl.Decimal(10, 2),
    ],
    ids=str,
)
def test_every_common_type_has_values(dtype: pl.DataType) -> None:
    @given(st.lists(values(dtype), max_size=5))
    def holds(drawn: list[object]) -> None:
        assert pl.Series(drawn, dtype=dtype).len() == len(drawn)

    holds()


def test_a_type_without_values_is_told() -> None:
    with pytest.raises(SchemaError, match="no default strategy"):
        values(pl.Object())
