"""Detectors as loops over the rows of one key, in Python's own arithmetic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE
from headrace.operators import detectors
from headrace.operators.detect import Detect
from headrace.operators.detectors.cusum import Cusum
from headrace.operators.detectors.detector import Detector
from headrace.operators.detectors.seasonal import Seasonal
from headrace.operators.detectors.zscore import ZScore
from headrace.testing.laws import Case, InputSpec

SECOND = 1_000_000
SCHEMA = pl.Schema(
    {"time": TIME_DTYPE, "k": pl.String(), "j": pl.Float64(), "x": pl.Float64(), "n": pl.Int32()}
)
COLUMNS = {
    "k": st.sampled_from(["a", "b", None]),
    "j": st.sampled_from([0.0, -0.0, math.nan, None]),
    "x": st.sampled_from([-2.5, 0.0, 0.25, 0.5, 1.0, 1.5, 40.0, None, math.nan, math.inf]),
    "n": st.sampled_from([-3, 0, 1, 2, 90, None]),
}
Series = Iterator[tuple[int, float]]


class Said(NamedTuple):
    """A tail's probability, whether the level changed, and what was expected how surely."""

    tail: float = 1.0
    change: bool = False
    expected: float = 0.0
    spread: float = 0.0
    reason: int = 0


def same(value: Any) -> Any:
    """Return what stands for equal keys: NaN is one key, and 0.0 is -0.0."""
    return "nan" if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN


def zscore(detector: ZScore, series: Series) -> Iterator[Said]:
    seen: list[float] = []
    for _, value in series:
        kept = seen[-detector.window :]
        if len(seen) < detector.warmup:
            yield Said()
        else:
            n = len(kept)
            mean = statistics.fmean(kept)
            spread = statistics.stdev(kept) * math.sqrt(1 + 1 / n)
            t = abs(value - mean) / max(spread, 1e-9 * abs(mean) + 1e-300)
            v = n - 1
            deviate = (8 * v + 1) / (8 * v + 3) * math.sqrt(v * math.log1p(min(t * t / v, 1e300)))
            yield Said(math.erfc(deviate / math.sqrt(2)), False, mean, spread)
        seen.append(value)


def cusum(detector: Cusum, series: Series) -> Iterator[Said]:
    reference: list[float] = []
    up = down = 0.0
    for _, value in series:
        if len(reference) < detector.warmup:
            reference.append(value)
            yield Said()
            continue
        mean = statistics.fmean(reference)
        spread = max(statistics.stdev(reference), 1e-9 * abs(mean) + 1e-300)
        z = (value - mean) / spread
        k = detector.shift / 2
        up, down = max(0.0, up + z - k), max(0.0, down - z - k)
        total = max(up, down)
        b = total + 1.166
        run = math.inf if 2 * k * b > 700 else (math.exp(2 * k * b) - 2 * k * b - 1) / (4 * k * k)
        change = total > detector.decision
        yield Said(min(1.0, 1 / run) if total > 0 else 1.0, change, mean, spread)
        if change:
            up = down = 0.0
            reference = [value]


def seasonal(detector: Seasonal, series: Series) -> Iterator[Said]:
    means: dict[int, list[float]] = {}
    errors: list[float] = []
    period = detector.period.total_seconds() * SECOND
    for time, value in series:
        slot = int((time - 4 * 86_400 * SECOND) % period * detector.slots // period)
        mean, count = means.get(slot, [0.0, 0.0])
        said = Said()
        if count >= detector.seen:
            # Fewer than 1 / 0.003 errors all weigh the same.
            spread = math.sqrt(statistics.fmean(e * e for e in errors)) if errors else 0.0
            error = value - mean
            if len(errors) >= max(detector.warmup, 2):
                z = abs(error) / max(spread, 1e-9 * abs(mean) + 1e-300)
                said = Said(math.erfc(z / math.sqrt(2)), False, mean, spread)
            errors.append(error)
        means[slot] = [mean + max(detector.weight, 1 / (count + 1)) * (value - mean), count + 1]
        yield said


def alone(detector: Detector, series: Series) -> Iterator[Said]:
    """Run the detector on one key, a row at a time, in a memory of its own."""
    known = {
        name: np.zeros(1) if size == 1 else np.zeros((size, 1))
        for name, size in detector.layout().items()
    }
    for time, value in series:
        said = detector.step(known, np.array([value]), np.array([time]))
        tail = math.exp(-float(said.surprise[0]))
        reason = int(np.broadcast_to(said.reason, 1)[0])
        numbers = float(said.expected[0]), float(said.spread[0])
        yield Said(tail, bool(said.change[0]), *numbers, reason)


def by_hand(
    detect: Detect, judge: Callable[[Any, Series], Iterator[Said]]
) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    def oracle(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        order = POSITION if detect.order == "arrival" else EVENT_TIME
        keys: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        latest: dict[tuple[Any, ...], int] = {}
        answer = []
        for row in rows.sort(order, maintain_order=True).iter_rows(named=True):
            key = tuple(same(row[name]) for name in detect.by)
            if detect.order == "arrival" and row[EVENT_TIME] < latest.get(key, row[EVENT_TIME]):
                continue
            latest[key] = row[EVENT_TIME]
            keys.setdefault(key, []).append(row)
            answer.append(row)
        for own in keys.values():
            for life in lives(own, detect.forget.total_seconds() * SECOND):
                good = [row for row in life if math.isfinite(row[detect.value] or 0.0)]
                good = [row for row in good if row[detect.value] is not None]
                series = ((row[EVENT_TIME], float(row[detect.value])) for row in good)
                for row in life:
                    row["said"] = Said()
                for row, said in zip(good, judge(detect.detector, series), strict=True):
                    row["said"] = said
        shown = [
            {
                **row,
                "anomaly_score": 1 - row["said"].tail,
                "is_anomaly": 1 - row["said"].tail >= detect.detector.threshold,
                "is_change": row["said"].change,
            }
            for row in answer
        ]
        schema = {**rows.schema, "anomaly_score": pl.Float64(), "is_anomaly": pl.Boolean()}
        frame = pl.DataFrame(shown, schema={**schema, "is_change": pl.Boolean()}, orient="row")
        return {"main": frame.drop(POSITION)}

    return oracle


def lives(rows: list[dict[str, Any]], forget: float) -> Iterator[list[dict[str, Any]]]:
    """Cut a key's rows where it was silent for longer than `forget`."""
    life: list[dict[str, Any]] = []
    for row in rows:
        if life and row[EVENT_TIME] - life[-1][EVENT_TIME] > forget:
            yield life
            life = []
        life.append(row)
    if life:
        yield life


def case(
    name: str,
    detector: Detector,
    judge: Callable[[Any, Series], Iterator[Said]],
    **parameters: Any,
) -> Case:
    detect = Detect(detector=detector, **parameters)
    return Case(
        detect,
        (InputSpec(SCHEMA, COLUMNS),),
        by_hand(detect, judge),
        name,
        # It shows numbers, rounded, which may differ in the last digit.
        ignore=("explanation",),
        # The tail of the normal law is approximated to 1.2e-7 of its size.
        absolute=1e-6,
    )


CASES = [
    case("zscore", detectors.zscore(window=4, warmup=2), zscore, value="x", by="k"),
    case(
        "cusum by arrival",
        detectors.cusum(warmup=3, decision=4),
        cusum,
        value="x",
        by=("k", "j"),
        order="arrival",
        forget="15s",
    ),
    case(
        "seasonal",
        detectors.seasonal(period="4s", slots=2, seen=1, warmup=1),
        seasonal,
        value="n",
        forget="20s",
    ),
    case("ensemble", detectors.ensemble(warmup=2, threshold=0.7), alone, value="x", by="k"),
]
