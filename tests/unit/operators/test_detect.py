"""What each detector is for, on series whose answer is known."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import HeadraceError, PlanError
from headrace.core.time import TIME_DTYPE
from headrace.operators.detect import Detect
from headrace.operators.detectors import DETECTORS, tails
from headrace.operators.detectors.detector import Detector
from tests.unit.operators.drive import Drive, timed

SCHEMA = pl.Schema({"t": pl.Float64(), "k": pl.String(), "x": pl.Float64()})
ALL = [made() for _, made in sorted(DETECTORS.items())]
NAMES = sorted(DETECTORS)


def judged(
    detector: Detector, values: Any, every: float = 300.0, keys: Any = None, **parameters: Any
) -> pl.DataFrame:
    """Return what is said of values that come every so many seconds."""
    x = pl.Series("x", values, dtype=pl.Float64)
    t = pl.Series("t", np.arange(len(x)) * every)
    k = pl.Series("k", keys if keys is not None else ["a"] * len(x), dtype=pl.String)
    drive = Drive(Detect(detector=detector, value="x", by="k", **parameters), SCHEMA)
    return drive.step(timed(pl.DataFrame([t, k, x]))).finish().rows()


def noise(rows: int, seed: int = 5) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(0.0, 1.0, rows)


def changes(rows: pl.DataFrame) -> list[int]:
    return rows["is_change"].arg_true().to_list()


def test_the_normal_tail_is_that_of_the_error_function() -> None:
    z = np.array([0.0, 0.5, 1.0, 1.96, 3.0, 5.0, 8.0, 25.0])

    exact = [-math.log(math.erfc(one / math.sqrt(2))) for one in z.tolist()]
    np.testing.assert_allclose(tails.normal(z), exact, rtol=1e-6, atol=2e-7)
    np.testing.assert_allclose(tails.normal(-z), tails.normal(z))


def test_the_one_sided_tail_is_half_of_the_other_and_the_rest_below() -> None:
    surprise = tails.above(np.array([-2.0, 0.0, 2.0]))

    np.testing.assert_allclose(np.exp(-surprise), [0.977249868, 0.5, 0.022750132], rtol=1e-6)


def test_tails_far_below_the_smallest_number_are_told_apart() -> None:
    near, far = tails.normal(np.array([100.0, 101.0]))

    assert 5000 < near < far


def test_students_tail_is_that_of_tables() -> None:
    # Two-sided 5 % and 0.1 % points for 1, 5, 10, 30 degrees of freedom.
    freedom = np.array([5.0, 10.0, 30.0, 5.0, 10.0, 30.0])
    t = np.array([2.571, 2.228, 2.042, 6.869, 4.587, 3.646])

    p = np.exp(-tails.student(t, freedom))
    np.testing.assert_allclose(p, [0.05, 0.05, 0.05, 0.001, 0.001, 0.001], rtol=0.1)


@pytest.mark.parametrize("detector", ALL, ids=NAMES)
def test_every_detector_scores_every_row_between_0_and_1(detector: Detector) -> None:
    values = noise(800).tolist()
    values[700:700] = [None, math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0, 1e-320]
    rows = judged(detector, values)

    score = rows["anomaly_score"]
    assert rows.height == len(values)
    assert score.null_count() == 0
    assert score.is_between(0, 1).all()
    assert score[700:704].to_list() == [0, 0, 0, 0]
    assert score[: detector.warmup].sum() == 0


@pytest.mark.parametrize("detector", ALL, ids=NAMES)
def test_every_detector_keeps_keys_apart(detector: Detector) -> None:
    first, second = noise(300), 3.0 + 10.0 * noise(300, seed=6)
    mixed = np.stack([first, second], axis=1).reshape(-1)
    rows = judged(detector, mixed, every=150.0, keys=["a", "b"] * 300)

    for key, values in (("a", first), ("b", second)):
        alone = judged(detector, values, every=300.0)
        together = rows.filter(k=key)
        np.testing.assert_allclose(
            together["anomaly_score"], alone["anomaly_score"], rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("detector", ALL, ids=NAMES)
def test_every_detector_takes_a_series_that_never_moves(detector: Detector) -> None:
    rows = judged(detector, [7.0] * 700)

    assert rows["is_anomaly"].sum() == 0
    assert rows["is_change"].sum() == 0


@pytest.mark.parametrize(
    "detector",
    [
        hr.detector.zscore(),
        hr.detector.mad(),
        hr.detector.ewma(),
        hr.detector.spectral_residual(),
        hr.detector.ensemble(),
    ],
    ids=lambda one: one.kind,
)
def test_a_spike_of_twenty_deviations_is_found_at_its_row(detector: Detector) -> None:
    values = noise(1000)
    values[900] = 20.0
    rows = judged(detector, values)

    assert rows["is_anomaly"][900]
    assert rows["anomaly_score"].arg_max() == 900
    assert rows["is_anomaly"].sum() <= 15


def test_half_space_trees_find_a_rare_place_and_rare_company() -> None:
    # The values are usual, but not one after the other.
    values = np.tile([0.0, 1.0, 2.0, 1.0], 400) + 0.01 * noise(1600)
    values[1400:1404] = [2.0, 0.0, 2.0, 0.0]
    rows = judged(hr.detector.half_space_trees(), values)

    assert rows["is_anomaly"][1400:1405].any()
    assert rows["is_anomaly"][600:1400].sum() <= 8


def test_zscore_gives_false_alarms_as_often_as_its_threshold_says() -> None:
    keys = [f"k{number}" for number in range(100)] * 100
    rows = judged(hr.detector.zscore(threshold=0.99), noise(10_000), keys=keys)

    # Of the 100 rows of a key 30 are learnt first.
    assert rows["is_anomaly"].sum() / 7000 == pytest.approx(0.01, abs=0.004)


def test_mad_is_not_moved_by_a_third_of_anomalies() -> None:
    values = noise(400)
    values[::3] = 50.0
    values[399] = 8.0
    robust = judged(hr.detector.mad(), values)
    plain = judged(hr.detector.zscore(), values)

    assert robust["is_anomaly"][399]
    assert not plain["is_anomaly"][399]


def test_ewma_weighs_the_first_values_alike() -> None:
    rows = judged(hr.detector.ewma(warmup=4), [1.0, 2.0, 3.0, 4.0, 9.0])

    # The mean of 1 to 4 is 2.5 and their variance 1.25.
    z = 6.5 / math.sqrt(1.25)
    assert rows["anomaly_score"][4] == pytest.approx(1 - math.erfc(z / math.sqrt(2)), abs=1e-9)


def test_seasonal_learns_what_is_usual_at_each_hour_of_the_week() -> None:
    hours = np.arange(24 * 7 * 8)
    values = 10.0 * (hours % 24 == 9) + 50.0 * (hours % 168 == 30) + 0.1 * noise(hours.size)
    odd = 24 * 7 * 7 + 10
    values[odd] = 10.0
    rows = judged(hr.detector.seasonal(), values, every=3600.0)

    late = rows[24 * 7 * 4 :]
    assert late["is_anomaly"].arg_true().to_list() == [odd - 24 * 7 * 4]


def test_cusum_finds_a_shift_of_two_deviations_within_ten_rows_and_no_other() -> None:
    values = noise(400)
    values[200:] += 2.0
    found = changes(judged(hr.detector.cusum(), values))

    # The mean delay of this chart is about decision / (shift found - half the shift sought).
    assert len(found) == 1
    assert 200 <= found[0] <= 210


def test_cusum_scores_by_the_run_length_that_siegmund_gives() -> None:
    # A CUSUM with k = 1/2 and h = 5 gives a false alarm every 465 rows (two-sided).
    sd = math.sqrt(12.5 / 49)
    values = [0.0, 1.0] * 25 + [0.5 + 5.5 * sd]
    rows = judged(hr.detector.cusum(warmup=50), values)

    assert 1 / (1 - rows["anomaly_score"][50]) == pytest.approx(465, rel=0.02)


def test_page_hinkley_finds_a_shift_within_fifteen_rows_and_no_other() -> None:
    values = noise(600)
    values[300:] -= 3.0
    found = changes(judged(hr.detector.page_hinkley(), values))

    assert len(found) == 1
    assert 300 <= found[0] <= 315


def test_adwin_drops_the_older_part_at_a_change() -> None:
    values = noise(1000)
    values[500:] += 3.0
    rows = judged(hr.detector.adwin(), values)

    found = changes(rows)
    assert 500 <= found[0] <= 540
    text = rows["explanation"][found[0]]
    assert "mean of the older part" in text
    assert abs(float(text.split("against ")[1].split(" ")[0])) < 0.5


def test_adwin_takes_noise_for_no_change() -> None:
    assert changes(judged(hr.detector.adwin(), 1e6 + noise(5000))) == []


def test_ddm_finds_when_errors_become_frequent() -> None:
    row = np.arange(600)
    wrong = np.where(row < 400, row % 20 == 0, row % 2 == 0)
    found = changes(judged(hr.detector.ddm(), wrong.astype(np.float64)))

    # p + s is 0.05 + 0.011 at best; 3 s_min more takes about 14 errors in 28 rows.
    assert 415 <= found[0] <= 435


def test_bocpd_finds_a_shift_within_its_recent_rows_and_says_so_once() -> None:
    values = noise(500)
    values[300:] += 4.0
    rows = judged(hr.detector.bocpd(), values)

    assert len(changes(rows)) == 1
    assert 300 <= changes(rows)[0] <= 309
    assert rows["anomaly_score"][290] < 0.5


def test_the_ensemble_takes_what_belongs_together_for_one_anomaly() -> None:
    values = noise(1500)
    values[1000:1060] += 30.0
    rows = judged(hr.detector.ensemble(), values)

    found = rows["is_anomaly"].arg_true().to_list()
    assert 1000 in found
    assert rows["is_anomaly"][1000:1150].sum() <= 4
    assert (rows["anomaly_score"][1001:1060] <= 0.9).sum() > 50


def test_the_ensemble_says_what_it_compared_with() -> None:
    hours = np.arange(24 * 7 * 8)
    values = 100.0 * (hours % 24 >= 9) + noise(hours.size)
    values[24 * 7 * 7 + 12 : 24 * 7 * 7 + 14] = 0.0
    rows = judged(hr.detector.ensemble(), values, every=3600.0)

    text = rows["explanation"][24 * 7 * 7 + 12]
    assert "usual at this hour" in text


def test_a_key_that_was_silent_begins_anew() -> None:
    schema = SCHEMA
    rows = pl.DataFrame({"t": [*map(float, range(30)), 500.0, 501.0], "k": "a"}).with_columns(
        x=pl.Series([*([1.0, 2.0] * 15), 90.0, 91.0])
    )
    operator = Detect(detector=hr.detector.ewma(warmup=5), value="x", by="k", forget="60s")
    drive = Drive(operator, schema).step(timed(rows.select(schema.names()))).finish()

    assert drive.rows()["anomaly_score"][-2:].to_list() == [0.0, 0.0]


@pytest.mark.parametrize("order", ["event", "arrival"])
def test_keys_long_silent_leave_the_state(order: Any) -> None:
    operator = Detect(detector=hr.detector.ewma(), value="x", by="k", forget="60s", order=order)
    drive = Drive(operator, SCHEMA)
    for number in range(20):
        rows = pl.DataFrame({"t": [number * 100.0], "k": [f"k{number}"], "x": [1.0]})
        drive.step(timed(rows, start=number), watermark=number * 100.0)

    assert drive.tables.keyed("known").rows <= 3


def test_by_arrival_a_row_older_than_its_keys_latest_is_late() -> None:
    rows = pl.DataFrame({"t": [1.0, 5.0, 3.0, 4.0], "k": ["a", "a", "a", "b"], "x": 1.0})
    operator = Detect(detector=hr.detector.ewma(), value="x", by="k", order="arrival")
    drive = Drive(operator, SCHEMA).step(timed(rows))

    assert drive.rows("late")["t"].to_list() == [3.0]
    assert drive.rows()["t"].to_list() == [1.0, 5.0, 4.0]


def test_a_plan_that_cannot_be_is_refused() -> None:
    detect = Detect(detector=hr.detector.ewma(), value="x")
    with pytest.raises(PlanError, match="no column 'x'"):
        detect.output_schema(pl.Schema({"time": TIME_DTYPE}))
    with pytest.raises(PlanError, match="judges numbers"):
        detect.output_schema(pl.Schema({"x": pl.String()}))
    with pytest.raises(PlanError, match="columns that detect adds"):
        detect.output_schema(pl.Schema({"x": pl.Int64(), "is_change": pl.Boolean()}))
    with pytest.raises(PlanError, match="not a detector"):
        Detect(detector="magic", value="x")
    with pytest.raises(PlanError, match="one column"):
        Detect(detector=hr.detector.ewma(), value=["x", "y"])
    with pytest.raises(HeadraceError, match="threshold"):
        hr.detector.ewma(threshold=1.0)


@pytest.mark.parametrize("detector", ALL, ids=NAMES)
def test_a_detector_is_read_again_from_a_stored_plan(detector: Detector) -> None:
    detect = Detect(detector=detector, value="x")

    assert Detect.model_validate(detect.model_dump(mode="json")).detector == detector
