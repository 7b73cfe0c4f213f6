"""`voxel`: points of a scanning laser into a voxel grid, in memory, compared with NumPy."""

from __future__ import annotations

import resource
from statistics import median

import numpy as np
import polars as pl

import headrace as hr
from headrace.bench.contenders import Say
from headrace.bench.result import Result, quantiles
from headrace.bench.stepped import STEP_ROWS, stepped
from headrace.core.errors import BugError
from headrace.core.time import TIME_DTYPE

POINTS = 10_000_000
QUICK_POINTS = 1_000_000
ROUNDS = 3
TARGET_ROWS_PER_S = 5_000_000
BOX_MM = (0.0, 0.0, 0.0, 100.0, 100.0, 20.0)
EDGE_MM = 0.5
STEP_MM = 0.01
HATCH_MM = 0.1
LAYER_MM = 0.5
LINES_A_LAYER = 400
TIME_US = 1_700_000_000_000_000
INDICES = ("ix", "iy", "iz")
STATISTICS = ("mean", "variance", "min", "max")


def points(rows: int, seed: int = 3) -> pl.DataFrame:
    """Return what a melt-pool sensor sees at 100 kHz: lines there and back, a hatch apart, layer
    on layer; temperatures with noise, in kelvin.
    """
    random = np.random.default_rng(seed)
    number = np.arange(rows)
    along = number * STEP_MM
    line = np.floor(along / BOX_MM[3]).astype(np.int64)
    place = along - line * BOX_MM[3]
    return pl.DataFrame(
        {
            "time": pl.Series(TIME_US + number * 10).cast(TIME_DTYPE),
            "x": np.where(line % 2 == 0, place, BOX_MM[3] - place),
            "y": line % LINES_A_LAYER * HATCH_MM,
            "z": line // LINES_A_LAYER * LAYER_MM,
            "kelvin": random.normal(1900.0, 40.0, rows),
        }
    )


def application() -> hr.App:
    """Return the app: changed voxels, as soon as the points are there."""
    app = hr.App("bench-voxel")
    columns = dict.fromkeys(("x", "y", "z", "kelvin"), pl.Float64)
    stream = app.topic("points", {"time": TIME_DTYPE, **columns}, time="time")
    grid = stream.voxel_grid(BOX_MM, EDGE_MM, value="kelvin", order="arrival")
    app.output("voxels", grid)
    return app


def answer(frame: pl.DataFrame) -> pl.DataFrame:
    """Return count, mean, variance, least and greatest of every voxel, by NumPy over all points."""
    shape = [round((BOX_MM[axis + 3] - BOX_MM[axis]) / EDGE_MM) for axis in range(3)]
    where = [
        np.minimum(np.floor(frame[name].to_numpy() / EDGE_MM).astype(np.int64), size - 1)
        for name, size in zip("xyz", shape, strict=True)
    ]
    flat = np.ravel_multi_index((where[0], where[1], where[2]), (shape[0], shape[1], shape[2]))
    order = np.argsort(flat, kind="stable")
    held = flat[order]
    starts = np.flatnonzero(np.diff(held, prepend=-1))
    values = frame["kelvin"].to_numpy()[order]
    count = np.diff(starts, append=held.size)
    mean = np.add.reduceat(values, starts) / count
    squares = np.add.reduceat((values - np.repeat(mean, count)) ** 2, starts)
    columns = np.unravel_index(held[starts], (shape[0], shape[1], shape[2]))
    indices = {name: column.astype(np.int32) for name, column in zip(INDICES, columns, strict=True)}
    return pl.DataFrame(
        {
            **indices,
            "count": count.astype(np.int64),
            "mean": mean,
            "variance": squares / np.maximum(count - 1, 1),
            "min": np.minimum.reduceat(values, starts),
            "max": np.maximum.reduceat(values, starts),
        }
    ).sort(INDICES)


def run(say: Say, *, quick: bool = False) -> Result:
    """Step the engine over points; compare every voxel with `answer`.

    Raises:
        BugError: A voxel is missing, or differs.
    """
    rows, rounds = (QUICK_POINTS, 1) if quick else (POINTS, ROUNDS)
    frame = points(rows)
    app = application()
    expected = answer(frame)
    batches = [{"points": batch} for batch in frame.iter_slices(STEP_ROWS)]
    made = []
    for number in range(rounds):
        made.append(stepped(app, batches, "voxels"))
        _compare(_last(made[-1].output), expected)
        say(f"round {number + 1}: {rows / made[-1].seconds:,.0f} points/s")
    speed = rows / median(one.seconds for one in made)
    spread = quantiles([step for one in made for step in one.steps_ns])
    return Result(
        bench="voxel",
        rows_per_s=speed,
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        cpu_s_per_million_rows=median(one.cpu_s for one in made) / rows * 1e6,
        checked=True,
        target=f"≥ {TARGET_ROWS_PER_S:,} points/s",
        met=speed >= TARGET_ROWS_PER_S,
        detail=(
            f"{rows:,} points along scan lines, {expected.height:,} voxels equal to NumPy's; ms "
            f"are per step of {STEP_ROWS:,} points; median of {rounds}"
        ),
    )


def _last(changes: pl.DataFrame) -> pl.DataFrame:
    """Return what each voxel was last said to be."""
    newest = changes.unique(INDICES, keep="last", maintain_order=True)
    return newest.select(*INDICES, "count", *STATISTICS).sort(INDICES)


def _compare(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    exact = [*INDICES, "count", "min", "max"]
    if not found.select(exact).equals(expected.select(exact)):
        raise BugError(f"voxel_grid gave {found.height} voxels, NumPy {expected.height}")
    for name in ("mean", "variance"):
        ours = found[name].fill_null(0.0).to_numpy()
        if not np.allclose(ours, expected[name].to_numpy(), rtol=1e-9):
            raise BugError(f"voxel_grid and NumPy differ in {name}")
