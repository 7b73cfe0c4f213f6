"""Control charts: published limits, and what is particular to their samples and phases."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import polars as pl
import pytest

from headrace.core.errors import ConfigError
from headrace.core.time import EVENT_TIME
from headrace.operators import charts
from headrace.operators.charts.chart import Chart
from headrace.operators.charts.constants import d2, exact_d2
from headrace.operators.control_chart import ControlChart
from headrace.testing.laws import Case, verify
from tests.oracles.control_chart import FURTHER
from tests.unit.operators.drive import SECOND, Drive, cut, timed

PUBLISHED: dict[str, tuple[Chart, str]] = {
    "pistonrings-xbar": (charts.xbar(subgroup="sample", size=5, phase1=25), "diameter"),
    "pistonrings-R": (charts.r(subgroup="sample", phase1="trial"), "diameter"),
    "viscosity-I": (charts.individuals(phase1="trial"), "viscosity"),
    "orangejuice-p": (charts.p(size="size", phase1="trial"), "D"),
    "circuit-c": (charts.c(phase1="trial"), "x"),
    "pcmanufact-u": (charts.u(size="size", phase1=20), "x"),
}
SCHEMA = pl.Schema({"k": pl.String, "t": pl.Float64, "x": pl.Float64})


def drawn(chart: Chart, frame: pl.DataFrame, *values: str) -> pl.DataFrame:
    """Return the chart of rows that come one per second, in three steps."""
    rows = timed(frame.with_columns(pl.int_range(frame.height).alias("second")), "second")
    plain = frame.with_columns(pl.int_range(frame.height).alias("second")).schema
    run = Drive(ControlChart(chart=chart, value=values), plain, reopen=True)
    for piece in cut(rows, [frame.height // 3, frame.height // 2]):
        run.step(piece, watermark=piece["second"][-1])
    return run.finish().rows()


def published(recorded: Path, name: str) -> tuple[dict[str, Any], pl.DataFrame]:
    folder = recorded / "additive" / "spc"
    cases = json.loads((folder / "expected_dev.json").read_text())["cases"]
    (case,) = [case for case in cases if case["id"] == name]
    return case, pl.read_csv(folder / case["data"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_limits_are_the_published_ones(recorded: Path, name: str) -> None:
    case, frame = published(recorded, name)
    chart, value = PUBLISHED[name]

    rows = drawn(chart, frame, value)

    for column in ("center", "sd", "lcl", "ucl"):
        assert rows[column].to_list() == pytest.approx([case[column]] * rows.height, rel=1e-5)
    assert rows.height == (frame.height if len(frame) < 100 else 40)


def test_the_limits_of_a_weighted_average_are_the_published_ones(recorded: Path) -> None:
    case, frame = published(recorded, "pistonrings-ewma")

    rows = drawn(charts.ewma(subgroup="sample", size=5, phase1=25), frame, "diameter")

    assert rows.select("center", "sd").row(0) == pytest.approx(
        (case["center"], case["sd"]), rel=1e-5
    )
    for number, limits in case["limits"].items():
        (row,) = rows.filter(number=int(number)).select("lcl", "ucl").rows()
        assert row == pytest.approx(limits, rel=1e-5)


def test_a_boiler_is_judged_by_eight_temperatures_at_once(recorded: Path) -> None:
    frame = pl.read_csv(recorded / "additive" / "spc" / "boiler.csv")

    rows = drawn(charts.t2(phase1=25), frame, *frame.columns)

    # T² of the rows that gave the covariance add up to (m - 1) p.
    assert rows["statistic"].sum() == pytest.approx(24 * 8)
    assert rows.filter(pl.col("statistic") >= 24**2 / 25).is_empty()
    outside = rows.filter(pl.col("statistic") > pl.col("ucl"))
    assert outside.height > 0
    assert (
        outside["number"].to_list()
        == rows.filter(pl.col("violations").list.len() > 0)["number"].to_list()
    )


def test_rings_of_the_second_phase_have_shifted(recorded: Path) -> None:
    _, frame = published(recorded, "pistonrings-xbar")
    chart = charts.xbar(size=5, phase1=25, rules="western_electric", capability=(73.95, 74.05))

    rows = drawn(chart, frame, "diameter")

    outside = rows.filter(pl.col("violations").list.contains("we1"))
    assert outside["number"].to_list() == [37, 38, 39]
    able = rows.select("cp", "cpl", "cpu", "cpk", "cpm").row(0)
    assert able == pytest.approx((1.703281, 1.743342, 1.663219, 1.663219, 1.691111), rel=1e-5)


def rows_of(*given: tuple[str | None, float, float | None], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(list(given), schema=SCHEMA, orient="row"), start=start)


def test_phase_one_leaves_together_when_it_ends() -> None:
    chart = charts.individuals(phase1=3)
    run = Drive(ControlChart(chart=chart, value="x", by="k"), SCHEMA)
    run.step(rows_of(("a", 1, 1.0), ("a", 2, 3.0), ("b", 2, 5.0)), watermark=3)
    assert run.take() == []
    run.step(rows_of(("a", 4, 2.0), ("a", 5, 9.0), start=3), watermark=6)

    found = run.frame()

    assert found.select("k", "phase").rows() == [("a", 1)] * 3 + [("a", 2)]
    assert (found[EVENT_TIME] // SECOND).to_list() == [4, 4, 4, 5]
    assert found["sd"].to_list() == pytest.approx([1.5 / 1.128] * 4)


def test_what_a_silent_key_left_unfinished_is_judged_once_and_then_begins_anew() -> None:
    chart = charts.xbar(size=2, phase1=2)
    run = Drive(ControlChart(chart=chart, value="x", by="k", forget="10s"), SCHEMA)
    run.step(rows_of(("a", 1, 1.0), ("a", 2, 3.0), ("a", 3, 4.0), ("b", 13, 0.0)), watermark=13)
    assert run.take() == []
    run.step(rows_of(("a", 13.5, 8.0), start=4), watermark=14)

    found = run.frame().select("k", "number", "n", "statistic", "phase", EVENT_TIME).rows()

    assert found == [("a", 1, 2, 2.0, 1, 13 * SECOND), ("a", 2, 1, 4.0, 1, 13 * SECOND)]
    assert run.tables.keyed("charts").frame()["k"].to_list() == ["b", "a"]


def test_a_chart_outlives_a_weekend() -> None:
    friday, monday = 0.0, 62 * 3600.0
    run = Drive(ControlChart(chart=charts.individuals(phase1=2), value="x", by="k"), SCHEMA)
    run.step(rows_of(("a", friday, 1.0), ("a", friday + 1, 2.0)), watermark=friday + 2)
    run.step(rows_of(("a", monday, 9.0), start=2), watermark=monday + 1)

    last = run.rows().row(-1, named=True)

    assert (last["number"], last["phase"], last["violations"][0]) == (3, 2, "we1")


def test_a_sample_without_values_is_shown_without_a_statistic() -> None:
    chart = charts.individuals(center=1, sigma=1)
    run = Drive(ControlChart(chart=chart, value="x"), SCHEMA)
    run.step(rows_of(("a", 1, None), ("a", 2, 5.0)), watermark=9)

    assert run.rows().select("n", "statistic", "violations").rows() == [
        (0, None, []),
        (1, 5.0, ["we1", "nelson1"]),
    ]


@pytest.mark.parametrize("kind", charts.CHARTS)
def test_values_that_overflow_are_null_and_stop_nothing(kind: str) -> None:
    given = {"size": 2} if kind in ("xbar", "r", "s", "p", "np", "u", "ewma") else {}
    rows = pl.DataFrame({"x": [1e308, -1e308, 1e308, 1e308, math.inf, 3.0, 1e-320, 0.0, 1.0, 2.0]})
    frame = rows.with_columns(y=pl.col("x").reverse())

    found = drawn(
        charts.CHARTS[kind](phase1=4, **given), frame, *(["x", "y"] if kind == "t2" else ["x"])
    )

    assert found.height in (5, 10)
    numbers = found.select("statistic", "center", "sd", "lcl", "ucl")
    assert all(numbers[name].drop_nulls().is_finite().all() for name in numbers.columns)


def test_a_sum_finds_a_shift_that_single_values_hide() -> None:
    values = [0.0, 0.5, -0.5, 0.0] * 5 + [1.0] * 12
    rows = pl.DataFrame({"x": values})

    single = drawn(charts.individuals(center=0, sigma=1, rules="we1"), rows, "x")
    sums = drawn(charts.cusum(center=0, sigma=1), rows, "x")

    assert single["violations"].list.len().sum() == 0
    assert sums.filter(pl.col("violations").list.len() > 0)["number"][0] == 20 + 11
    assert sums.select("statistic", "cusum_up", "cusum_down", "ucl").row(-1) == (6.0, 6.0, 0.0, 5.0)


def test_confidence_gives_the_quantiles_of_the_distribution_in_question() -> None:
    three = pl.DataFrame({"x": [1.0, 2.0, 4.0], "size": [50, 50, 50]})
    q = 0.95
    inside = NormalDist().inv_cdf(0.975)

    def limits(chart: Chart) -> tuple[float, float]:
        low, high = drawn(chart, three, "x").select("lcl", "ucl").row(0)
        return low, high

    mean = charts.xbar(size=3, center=0, sigma=2, confidence=q)
    assert limits(mean) == pytest.approx((-2 * inside / 3**0.5, 2 * inside / 3**0.5))
    # Of three values (n - 1) s² is exponential; the range of two is that of |N(0, √2)|.
    spread = (2 * (-math.log(0.975)) ** 0.5, 2 * (-math.log(0.025)) ** 0.5)
    assert limits(charts.s(size=3, sigma=2, confidence=q)) == pytest.approx(spread)
    moved = tuple(2 * 2**0.5 * NormalDist().inv_cdf((1 + p) / 2) for p in (0.025, 0.975))
    assert limits(charts.r(size=2, sigma=2, confidence=q)) == pytest.approx(moved)
    assert limits(charts.c(center=20, confidence=q)) == (12, 29)
    assert limits(charts.u(size="size", center=0.4, confidence=q)) == (12 / 50, 29 / 50)
    assert limits(charts.np(size=50, center=0.23, confidence=q)) == (6, 18)
    assert limits(charts.p(size=50, center=0.23, confidence=q)) == (6 / 50, 18 / 50)


def test_t2_of_samples_has_the_limits_of_both_phases() -> None:
    rows = pl.DataFrame({"x": [1.0, 2.0, 3.0, 5.0, 4.0, 1.5], "y": [0.0, 1.0, 0.5, 2.0, 3.0, 0.0]})

    found = drawn(charts.t2(size=2, phase1=2, confidence=0.9), rows, "x", "y")

    # p = 2, m = 2, n = 2: one degree of freedom, and F(2, 1) = ((1 - q)^-2 - 1) / 2.
    f = (0.1**-2 - 1) / 2
    assert found["ucl"].to_list() == pytest.approx([2 * 1 * 1 * f] * 2 + [2 * 3 * 1 * f])
    assert found["lcl"].to_list() == [0.0] * 3
    # Both samples of phase I lie as far from their mean; S is the mean of rank-one products.
    s_xx, s_xy, s_yy = (0.5 + 2.0) / 2, (0.5 + 1.5) / 2, (0.5 + 1.125) / 2
    x, y = 1.5 - 2.75, 0.5 - 0.875
    t2 = 2 * (x * x * s_yy - 2 * x * y * s_xy + y * y * s_xx) / (s_xx * s_yy - s_xy**2)
    assert found["statistic"].to_list()[:2] == pytest.approx([t2, t2])


def test_the_printed_d2_is_the_computed_one_rounded() -> None:
    assert [d2(n) for n in range(2, 26)] == [round(exact_d2(n), 3) for n in range(2, 26)]
    assert d2(26) == pytest.approx(3.9643, abs=5e-5)


NUMBERED = pl.Schema({"n": pl.Int64, "x": pl.Float64})
REFUSED: dict[str, Callable[[], object]] = {
    "samples of nothing said": lambda: charts.xbar(phase1=25),
    "samples of one": lambda: charts.xbar(size=1, phase1=25),
    "limits from nothing": lambda: charts.xbar(size=5),
    "an empty phase I": lambda: charts.xbar(size=5, phase1=0),
    "an unknown sigma": lambda: charts.xbar(size=5, center=1),
    "moving ranges of samples": lambda: charts.xbar(size=5, phase1=25, sigma="moving_range"),
    "a negative sigma": lambda: charts.xbar(size=5, phase1=25, sigma=-1.0),
    "individuals in samples": lambda: charts.individuals(size=5, phase1=25),
    "an unknown rule": lambda: charts.individuals(phase1=25, rules="wrong"),
    "impossible limits": lambda: charts.individuals(phase1=25, capability=(2, 1)),
    "two values": lambda: ControlChart(chart=charts.individuals(phase1=25), value=("x", "t")),
    "a phase of text": lambda: drawn(charts.individuals(phase1="k"), SCHEMA.to_frame(), "x"),
    "a value of text": lambda: drawn(charts.individuals(phase1=9), SCHEMA.to_frame(), "k"),
    "counts of nothing": lambda: charts.p(phase1=25),
    "a sigma of counts": lambda: charts.c(phase1=25, sigma=1.0),
    "a capability of counts": lambda: charts.c(phase1=25, capability=(0, 1)),
    "runs of averages": lambda: charts.ewma(phase1=25, rules="nelson"),
    "confidence of sums": lambda: charts.cusum(phase1=25, confidence=0.9),
    "a known covariance": lambda: charts.t2(phase1=25, center=1.0),
    "sigmas of T2": lambda: charts.t2(phase1=25, nsigmas=2),
    "one value": lambda: ControlChart(chart=charts.t2(phase1=25), value="x"),
    "too little for T2": lambda: ControlChart(chart=charts.t2(phase1=3), value=("x", "t")),
    "a key named n": lambda: ControlChart(
        chart=charts.individuals(phase1=9), value="x", by="n"
    ).output_schema(NUMBERED),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_chart_is_refused(what: str) -> None:
    with pytest.raises(ConfigError):
        REFUSED[what]()


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in FURTHER])
def test_every_chart_is_what_python_makes_by_hand(case: Case) -> None:
    verify(case, "oracle", shrink=False)


def test_a_chart_is_read_as_it_was_written() -> None:
    chart = charts.s(size=5, phase1=25, sigma="pooled", capability={"usl": 3}, rules="nelson3")
    operator = ControlChart(chart=chart, value="x")

    assert ControlChart(**operator.model_dump(mode="json")) == operator
