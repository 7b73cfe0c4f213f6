"""Metrics of predictions, against scikit-learn's own of the same pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn import metrics  # type: ignore[import-untyped]  # it has no types

import headrace as hr
from headrace.bench.tree_model import Trees
from headrace.core.errors import PlanError
from headrace.core.time import TIME_DTYPE

HOUR = 3_600_000_000
TREES = Trees.random(5, 3, 1, seed=4)
CHANCE = np.random.default_rng(7)
X = CHANCE.normal(size=200)
TOLD = TREES.predict(X.reshape(-1, 1))


def application(path: Path, dtype: pl.DataType, *, clip: bool) -> hr.App:
    app = hr.App("judging")
    rows = app.topic("rows", {"id": pl.Int64, "time": TIME_DTYPE, "x": pl.Float64}, time="time")
    labels = app.topic("labels", {"of": pl.Int64, "time": TIME_DTYPE, "y": dtype}, time="time")
    told: hr.Stream = rows.predict(hr.model.treelite(path, isolated=False), ["x"])
    if clip:
        told = told.with_columns(pl.col("prediction").clip(-0.4, 0.4) + 0.5)
    judged = hr.model.evaluate(told, labels, on={"id": "of"}, within="30m", label="y", every="1h")
    app.output("judged", judged)
    return app


def pairs(labels: pl.Series) -> dict[str, pl.DataFrame]:
    """A row every 36 s; its label 10 minutes later, or, for the last ten, an hour later."""
    at = np.arange(200) * 36_000_000
    later = at + np.where(np.arange(200) < 190, 600_000_000, HOUR)
    rows = pl.DataFrame({"id": range(200), "time": at, "x": X}).cast({"time": TIME_DTYPE})
    told = pl.DataFrame({"of": range(200), "time": later, "y": labels}).cast({"time": TIME_DTYPE})
    return {"rows": rows, "labels": told}


def windows() -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Which labels fall into which hour, of those that come in time."""
    hour = (np.arange(190) * 36_000_000 + 600_000_000) // HOUR
    return [np.flatnonzero(hour == number) for number in range(hour.max() + 1)]


def test_errors_of_numbers_are_those_of_scikit_learn(tmp_path: Path) -> None:
    app = application(TREES.write_treelite(tmp_path / "m.tl"), pl.Float64(), clip=False)
    right = TOLD + CHANCE.normal(0.1, 0.3, 200)

    got = hr.testing.run(app, pairs(pl.Series(right)))["judged"]

    assert got["rows"].to_list() == [len(one) for one in windows()]
    for row, at in zip(got.iter_rows(named=True), windows(), strict=True):
        assert row["mae"] == pytest.approx(metrics.mean_absolute_error(right[at], TOLD[at]))
        assert row["rmse"] == pytest.approx(metrics.root_mean_squared_error(right[at], TOLD[at]))
        assert row["bias"] == pytest.approx((TOLD[at] - right[at]).mean())
    assert got["model_name"].unique().to_list() == ["m"]


def test_metrics_of_probabilities_are_those_of_scikit_learn(tmp_path: Path) -> None:
    app = application(TREES.write_treelite(tmp_path / "m.tl"), pl.Boolean(), clip=True)
    share = TOLD.clip(-0.4, 0.4) + 0.5
    right = CHANCE.random(200) < share

    got = hr.testing.run(app, pairs(pl.Series(right)))["judged"]

    assert got["rows"].to_list() == [len(one) for one in windows()]
    for row, at in zip(got.iter_rows(named=True), windows(), strict=True):
        assert row["accuracy"] == pytest.approx(metrics.accuracy_score(right[at], share[at] >= 0.5))
        assert row["log_loss"] == pytest.approx(metrics.log_loss(right[at], share[at]))
        assert row["brier"] == pytest.approx(metrics.brier_score_loss(right[at], share[at]))
        assert row["roc_auc"] == pytest.approx(metrics.roc_auc_score(right[at], share[at]))


def test_a_label_that_is_not_there_is_refused(tmp_path: Path) -> None:
    app = hr.App("wrong")
    rows = app.topic("rows", {"id": pl.Int64, "time": TIME_DTYPE, "x": pl.Float64}, time="time")
    path = TREES.write_treelite(tmp_path / "m.tl")
    told = rows.predict(hr.model.treelite(path, isolated=False), ["x"])

    with pytest.raises(PlanError, match="no column 'y'"):
        hr.model.evaluate(told, rows, on="id", within="1h", label="y")
