"""A model's process: what it refuses it says, and when it is stopped it is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import polars as pl
import pytest

from headrace.bench.tree_model import Trees
from headrace.models.description import Treelite
from headrace.models.process import DiedError, HungError, ModelProcess, RefusedError
from headrace.models.spec import LoadSpec


@pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process")
def test_a_process_refuses_answers_and_is_killed_when_it_stands_still(tmp_path: Path) -> None:
    trees = Trees.random(2, 2, 2)
    path = trees.write_treelite(tmp_path / "m.tl")
    model = Treelite(name="m", source=str(path))
    one, two = pl.Schema({"x": pl.Float64()}), pl.Schema({"x": pl.Float64(), "y": pl.Float64()})
    rows = pl.DataFrame({"x": [0.5, None], "y": [0.1, 2.0]})
    # More than a pipe holds, so that even handing it over would wait for ever.
    many = pl.DataFrame({"x": [0.5], "y": [0.1]})[[0] * 100_000]
    process = ModelProcess()
    try:
        with pytest.raises(RefusedError, match="takes 2 features, 1 are given"):
            process.load(LoadSpec.of(model, one), 120)
        loaded = process.load(LoadSpec.of(model, two), 120)
        answer = process.predict(rows, 60)
        with pytest.raises(RefusedError):
            process.predict(rows.select("x"), 60)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(HungError):
            process.predict(many, 0.3)
        with pytest.raises((DiedError, HungError)):
            process.predict(rows, 1)
    finally:
        process.kill()

    assert loaded.memory_bytes > 10_000_000
    assert answer["prediction"].to_list() == trees.predict(rows.to_numpy()).tolist()
