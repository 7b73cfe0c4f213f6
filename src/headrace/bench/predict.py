"""`predict`: a model of 100 boosted trees on batches of 1 000 rows, its process hop included."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.bench.contenders import Say
from headrace.bench.result import Result, quantiles
from headrace.bench.tree_model import Trees
from headrace.core.errors import BugError
from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE
from headrace.models.cache import CACHE
from headrace.models.description import Model
from headrace.models.make import onnx, treelite
from headrace.operators.predict import Predict
from headrace.state.tables import StateTables

TREES: Final = 100
DEPTH: Final = 6
FEATURES: Final = 20
BATCH_ROWS: Final = 1_000
BATCHES: Final = 1_000
QUICK_BATCHES: Final = 50
WARM_BATCHES: Final = 10
TARGET_P95_MS: Final = 10.0

NAMES: Final = tuple(f"f{number}" for number in range(FEATURES))
Floats = npt.NDArray[np.float64]


def run(say: Say, *, quick: bool = False) -> Result:
    """Time the step that predicts; compare every prediction with trees walked in NumPy.

    Raises:
        BugError: A prediction differs, or a row got none.
        MissingExtraError: The extra `models` is not installed.
    """
    batches = QUICK_BATCHES if quick else BATCHES
    trees = Trees.random(TREES, DEPTH, FEATURES)
    rows = _rows(batches)
    expected = trees.predict(rows)
    with tempfile.TemporaryDirectory() as folder:
        in_onnx = trees.write_onnx(Path(folder) / "trees.onnx")
        in_treelite = trees.write_treelite(Path(folder) / "trees.tl")
        # ONNX adds up in single precision.
        ours = _measure("predict", onnx(in_onnx), rows, expected, 1e-5)
        say(str(ours))
        others = [
            _measure(
                "predict, onnx in-process", onnx(in_onnx, isolated=False), rows, expected, 1e-5
            ),
            _measure("predict, treelite", treelite(in_treelite), rows, expected, 1e-12),
            _direct("onnxruntime alone", _onnxruntime(in_onnx), rows, expected, 1e-5),
            _direct("treelite alone", _treelite(in_treelite), rows, expected, 1e-12),
        ]
        CACHE.clear()
    p95 = ours.p95_ms or 0.0
    return Result(
        bench=ours.bench,
        rows_per_s=ours.rows_per_s,
        p50_ms=ours.p50_ms,
        p95_ms=ours.p95_ms,
        p99_ms=ours.p99_ms,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        checked=True,
        target=f"p95 < {TARGET_P95_MS:g} ms per batch of {BATCH_ROWS:,} rows",
        met=p95 < TARGET_P95_MS,
        detail=(
            f"{TREES} trees of depth {DEPTH} over {FEATURES} features in ONNX, one thread, in a "
            f"process of its own; {batches:,} batches of {BATCH_ROWS:,} rows, from the rows to the "
            "rows with predictions; every prediction compared with trees walked in NumPy"
        ),
        parts=tuple(others),
    )


def _rows(batches: int) -> Floats:
    """Return features that are exact in single precision."""
    chance = np.random.default_rng(5)
    return (
        chance.normal(size=(batches * BATCH_ROWS, FEATURES)).astype(np.float32).astype(np.float64)
    )


def _measure(bench: str, model: Model, rows: Floats, expected: Floats, tolerance: float) -> Result:
    """Time the operator's task, from a frame to the frame that leaves."""
    schema = pl.Schema({"time": TIME_DTYPE, **dict.fromkeys(NAMES, pl.Float64())})
    operator = Predict(model=model, features=tuple((name, name) for name in NAMES))
    operator.output_schema(schema)
    task = operator.open(StateTables(operator.tables(schema)), schema)

    def ask(batch: Floats, first: int) -> Callable[[], Floats]:
        frame = _frame(batch, first)

        def answer() -> Floats:
            ((_, told),) = task.process(frame, 0)
            if told["fallback"].null_count() < told.height:
                raise BugError(f"{bench}: {told['fallback'].drop_nulls()[0]}")
            return told["prediction"].to_numpy()

        return answer

    return _timed(bench, ask, rows, expected, tolerance)


def _frame(batch: Floats, first: int) -> pl.DataFrame:
    number = np.arange(first, first + len(batch))
    columns = [pl.Series(name, batch[:, at]) for at, name in enumerate(NAMES)]
    hidden = [pl.Series(EVENT_TIME, number), pl.Series(POSITION, number)]
    return pl.DataFrame([pl.Series("time", number).cast(TIME_DTYPE), *columns, *hidden])


def _direct(
    bench: str, predict: Callable[[Floats], Any], rows: Floats, expected: Floats, tolerance: float
) -> Result:
    """Time a library that is given its matrix ready to use: what the rest of ours costs."""

    def ask(batch: Floats, first: int) -> Callable[[], Floats]:  # noqa: ARG001 - as above
        return lambda: np.asarray(predict(batch), dtype=np.float64).reshape(-1)

    return _timed(bench, ask, rows, expected, tolerance)


def _onnxruntime(path: Path) -> Callable[[Floats], Any]:
    import onnxruntime as ort  # type: ignore[import-untyped]  # it has no types

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"rows": batch.astype(np.float32)})[0]


def _treelite(path: Path) -> Callable[[Floats], Any]:
    import treelite as library

    model = library.Model.deserialize(str(path))
    return lambda batch: library.gtil.predict(model, batch, nthread=1)


def _timed(
    bench: str,
    ask: Callable[[Floats, int], Callable[[], Floats]],
    rows: Floats,
    expected: Floats,
    tolerance: float,
) -> Result:
    took = []
    for number, first in enumerate(range(0, len(rows), BATCH_ROWS)):
        answer = ask(rows[first : first + BATCH_ROWS], first)
        began = time.perf_counter_ns()
        got = answer()
        took.append(time.perf_counter_ns() - began)
        right = expected[first : first + BATCH_ROWS]
        if not np.allclose(got, right, rtol=tolerance, atol=tolerance):
            worst = np.abs(got - right).max()
            raise BugError(f"{bench}: batch {number} is off by up to {worst}")
    measured = took[WARM_BATCHES:]
    spread = quantiles(measured)
    return Result(
        bench=bench,
        rows_per_s=BATCH_ROWS * len(measured) / (sum(measured) / 1e9),
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        checked=True,
        detail=f"batches of {BATCH_ROWS:,} rows, one thread, every prediction compared",
    )
