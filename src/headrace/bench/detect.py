"""`detect`: the default ensemble over 1 000 keys, in memory, compared with each key alone."""

from __future__ import annotations

import resource
from statistics import median
from typing import Final

import numpy as np
import polars as pl

import headrace as hr
from headrace.bench.contenders import Say
from headrace.bench.result import Result, quantiles
from headrace.bench.stepped import STEP_ROWS, stepped
from headrace.core.errors import BugError
from headrace.core.time import TIME_DTYPE
from headrace.operators.detectors.detector import Detector, Floats

KEYS: Final = 1_000
ROWS: Final = 1_000_000
QUICK_ROWS: Final = 200_000
ROUNDS: Final = 3
CHECKED_KEYS: Final = 10
EVERY_US: Final = 300_000_000
TIME_US: Final = 1_700_000_000_000_000
TOLERANCE: Final = 1e-9
SPIKES: Final = 1e-3


def measurements(rows: int, seed: int = 4) -> pl.DataFrame:
    """Return a value of each of `KEYS` sensors every 5 minutes: a day's wave, noise, spikes."""
    random = np.random.default_rng(seed)
    turns = -(-rows // KEYS)
    turn = np.arange(turns)[:, None]
    wave = 10 * np.sin(2 * np.pi * (turn / 288 + random.random(KEYS)))
    value = wave + random.normal(0.0, 1.0, (turns, KEYS))
    value += 50 * (random.random((turns, KEYS)) < SPIKES)
    names = pl.Series([f"s{number}" for number in range(KEYS)])
    sensor = np.tile(np.arange(KEYS), turns)[:rows]
    times = TIME_US + np.repeat(np.arange(turns), KEYS)[:rows] * EVERY_US
    return pl.DataFrame(
        {
            "sensor": names.gather(pl.Series(sensor)),
            "time": pl.Series(times).cast(TIME_DTYPE),
            "value": value.reshape(-1)[:rows],
        }
    )


def application(detector: Detector) -> hr.App:
    """Return the app: every row scored as soon as it is there."""
    app = hr.App("bench-detect")
    schema = {"sensor": pl.String, "time": TIME_DTYPE, "value": pl.Float64}
    rows = app.topic("rows", schema=schema, time="time")
    scored = rows.detect(detector, value="value", by="sensor", order="arrival")
    app.output("scores", scored)
    return app


def alone(detector: Detector, frame: pl.DataFrame) -> Floats:
    """Return the scores of one key's rows, a row at a time."""
    known = {
        name: np.zeros(1) if size == 1 else np.zeros((size, 1))
        for name, size in detector.layout().items()
    }
    values, times = frame["value"].to_numpy(), frame["time"].to_physical().to_numpy()
    said = [
        detector.step(known, values[row : row + 1], times[row : row + 1]).surprise[0]
        for row in range(frame.height)
    ]
    answer: Floats = -np.expm1(-np.array(said))
    return answer


def run(say: Say, *, quick: bool = False) -> Result:
    """Step the engine over rows; compare ten keys with themselves alone.

    Raises:
        BugError: A row is missing, or a score differs.
    """
    rows, rounds = (QUICK_ROWS, 1) if quick else (ROWS, ROUNDS)
    detector = hr.detector.ensemble()
    frame = measurements(rows)
    app = application(detector)
    batches = [{"rows": batch} for batch in frame.iter_slices(STEP_ROWS)]
    made = []
    for number in range(rounds):
        made.append(stepped(app, batches, "scores"))
        say(f"round {number + 1}: {rows / made[-1].seconds:,.0f} rows/s")
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    names = [f"s{number}" for number in range(0, KEYS, KEYS // CHECKED_KEYS)]
    expected = {name: alone(detector, frame.filter(sensor=name)) for name in names}
    for one in made:
        scores = one.output
        if scores.height != rows:
            raise BugError(f"{scores.height} of {rows} rows were scored")
        for name, right in expected.items():
            got = scores.filter(sensor=name)["anomaly_score"].to_numpy()
            if got.size != right.size or np.abs(got - right).max() > TOLERANCE:
                raise BugError(f"the scores of {name} differ from those of the key alone")
    spread = quantiles([step for one in made for step in one.steps_ns])
    flagged = made[0].output["is_anomaly"].sum()
    return Result(
        bench="detect",
        rows_per_s=rows / median(one.seconds for one in made),
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        peak_rss_mb=peak_rss_mb,
        cpu_s_per_million_rows=median(one.cpu_s for one in made) / rows * 1e6,
        checked=True,
        detail=(
            f"default ensemble, {rows:,} rows of {KEYS:,} keys, {flagged:,} anomalies; every row "
            f"scored once, the scores of {CHECKED_KEYS} keys equal to those of the key alone; ms "
            f"are per step of {STEP_ROWS:,} rows; median of {rounds}"
        ),
    )
