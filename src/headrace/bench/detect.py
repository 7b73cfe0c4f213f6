"""`detect`: the default ensemble over 1 000 keys, in memory, compared with each key alone."""

from __future__ import annotations

import resource
import time
from statistics import median
from typing import Final

import numpy as np
import polars as pl

import headrace as hr
from headrace.bench.contenders import Say
from headrace.bench.geofence import BATCH_ROWS
from headrace.bench.result import Result, quantiles
from headrace.core.errors import BugError
from headrace.core.log import PARTITIONS_PER_SLOT, Append, Commit, Reader, TopicPartition, TopicSpec
from headrace.core.time import TIME_DTYPE
from headrace.log import MemoryLog
from headrace.operators.detectors.detector import Detector, Floats
from headrace.runners.embedded.engine import ENGINE_SLOT, Engine

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
    """Step the engine over rows that are in the log; compare ten keys with themselves alone.

    Raises:
        BugError: A row is missing, or a score differs.
    """
    rows, rounds = (QUICK_ROWS, 1) if quick else (ROWS, ROUNDS)
    detector = hr.detector.ensemble()
    frame = measurements(rows)
    app = application(detector)
    seconds, cpu, steps_ns, found = [], [], [], []
    for number in range(rounds):
        log = MemoryLog()
        _fill(log, app, frame)
        engine = Engine(app.plan(), log)
        engine.start()
        began, cpu_began = time.perf_counter(), time.process_time()
        while True:
            step_began = time.perf_counter_ns()
            if not engine.step_once():
                break
            steps_ns.append(time.perf_counter_ns() - step_began)
        engine.finish()
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - cpu_began)
        found.append(_scores(log.reader()))
        engine.close()
        say(f"round {number + 1}: {rows / seconds[-1]:,.0f} rows/s")
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    names = [f"s{number}" for number in range(0, KEYS, KEYS // CHECKED_KEYS)]
    expected = {name: alone(detector, frame.filter(sensor=name)) for name in names}
    for scores in found:
        if scores.height != rows:
            raise BugError(f"{scores.height} of {rows} rows were scored")
        for name, right in expected.items():
            got = scores.filter(sensor=name)["anomaly_score"].to_numpy()
            if got.size != right.size or np.abs(got - right).max() > TOLERANCE:
                raise BugError(f"the scores of {name} differ from those of the key alone")
    spread = quantiles(steps_ns)
    flagged = found[0]["is_anomaly"].sum()
    return Result(
        bench="detect",
        rows_per_s=rows / median(seconds),
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        peak_rss_mb=peak_rss_mb,
        cpu_s_per_million_rows=median(cpu) / rows * 1e6,
        checked=True,
        detail=(
            f"default ensemble, {rows:,} rows of {KEYS:,} keys, {flagged:,} anomalies; every row "
            f"scored once, the scores of {CHECKED_KEYS} keys equal to those of the key alone; ms "
            f"are per step of {BATCH_ROWS:,} rows; median of {rounds}"
        ),
    )


def _fill(log: MemoryLog, app: hr.App, frame: pl.DataFrame) -> None:
    topic = app.plan().topics[0]
    writer = log.writer("gateway-0")
    writer.create(TopicSpec(topic.name, topic.schema.columns))
    for batch in frame.iter_slices(BATCH_ROWS):
        append = Append(topic.name, 0, batch, batch.height, arrival_us=time.time_ns() // 1_000)
        writer.commit([Commit(appends=[append])])


def _scores(reader: Reader) -> pl.DataFrame:
    at = TopicPartition("scores", ENGINE_SLOT * PARTITIONS_PER_SLOT)
    end = reader.partitions(["scores"])[at].end
    batches, offset = [], 0
    while offset < end:
        for batch in reader.read(at, offset, end - offset, 1 << 40):
            batches.append(batch.frame)
            offset = batch.end
    return pl.concat(batches).select("sensor", "anomaly_score", "is_anomaly")
