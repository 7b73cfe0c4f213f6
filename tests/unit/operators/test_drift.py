"""Drift on real data, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import PlanError
from headrace.core.time import TIME_DTYPE
from headrace.operators.drift import Drift
from headrace.operators.histograms import buckets

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Float64(), "all": pl.List(int)})


def market(recorded: Path) -> pl.DataFrame:
    half_hours = pl.int_range(pl.len(), dtype=pl.Int64) * 1_800_000_000
    rows = pl.read_parquet(recorded / "analytics" / "elec2_first30000.parquet")
    return rows.with_columns(half_hours.cast(TIME_DTYPE).alias("time"))


def drift_of(rows: pl.DataFrame, features: list[str], **parameters: Any) -> pl.DataFrame:
    app = hr.App("drift")
    topic = app.topic("rows", rows.schema, time="time")
    app.output("drift", topic.drift(features, **parameters))
    return hr.testing.run(app, {"rows": rows}, seed=1)["drift"]


def exact_ks(now: np.ndarray[Any, Any], then: np.ndarray[Any, Any]) -> float:
    at = np.concatenate([now, then])
    shares = (np.searchsorted(np.sort(side), at, side="right") / side.size for side in (now, then))
    return float(np.abs(np.subtract(*shares)).max())


def test_the_month_in_which_a_market_opened_is_seen(recorded: Path) -> None:
    rows = market(recorded)

    told = drift_of(rows, ["vicprice", "nswdemand"], window="30d").filter(feature="vicprice")

    # Victoria's prices begin at row 17 760; before, the column holds one filled-in value.
    opened = rows["time"][17_760]
    before = told.filter(pl.col("window_end") <= opened)
    after = told.filter(pl.col("window_start") > opened)
    assert before["is_reference"].to_list() == [True] + [False] * (before.height - 1)
    assert before["psi"].drop_nulls().max() == 0
    assert after.height >= 8
    assert (after["psi"] > 1).all()
    assert (after["outside"] > 0.9).all()


def test_distances_of_real_values_are_those_of_the_values_up_to_a_bucket(recorded: Path) -> None:
    rows = market(recorded)
    reference, window = rows.head(1440), rows.slice(1440, 1440)

    told = drift_of(
        rows.head(2880), ["nswprice", "nswdemand"], window="30d", reference=reference
    ).filter(pl.col("window_start") == window["time"][0])

    for name, ks in told.select("feature", "ks").rows():
        now, then = window[name].to_numpy(), reference[name].to_numpy()
        counts = buckets(pl.Series("v", np.concatenate([now, then])), 0.01).value_counts()
        within_a_bucket = counts["count"].max() / now.size
        assert isinstance(within_a_bucket, float)
        assert ks == pytest.approx(exact_ks(now, then), abs=within_a_bucket)
        assert abs(ks - exact_ks(now, then)) < 0.02


def test_a_reference_given_or_first_is_the_same(recorded: Path) -> None:
    rows = market(recorded).head(4320)

    first = drift_of(rows, ["nswprice", "period"], window="30d").filter(~pl.col("is_reference"))
    given = drift_of(rows, ["nswprice", "period"], window="30d", reference=rows.head(1440))

    columns = ["window_start", "feature", "psi", "ks", "outside"]
    assert first.select(columns).equals(given.tail(4).select(columns))
    assert given["psi"].head(2).to_list() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"features": "all"}, "neither|of numbers"),
        ({"features": "gone"}, "gone"),
        ({"features": "x", "reference": (("y", (), ()),)}, "no feature 'x'"),
        ({"features": "x", "by": "missing"}, "missing"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(
    parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        Drift(every="1h", **parameters).output_schema(SCHEMA)
