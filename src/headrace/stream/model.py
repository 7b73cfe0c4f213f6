"""What `stream.predict` takes, under the name `hr.model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.core.time import Duration
from headrace.models.make import (
    Version,
    mean,
    mlflow,
    onnx,
    sklearn,
    stacked,
    treelite,
    vote,
    weighted,
)
from headrace.stream.judged import evaluate
from headrace.stream.learned import Online

if TYPE_CHECKING:
    from headrace.stream.stream import Stream

__all__ = [
    "Version",
    "evaluate",
    "mean",
    "mlflow",
    "online",
    "onnx",
    "sklearn",
    "stacked",
    "treelite",
    "vote",
    "weighted",
]


def online(
    learner: Any,
    *,
    label: str,
    labels: Stream | None = None,
    id: str | None = None,  # noqa: A002 - the word of the contract
    within: Duration | None = None,
    every: Duration | None = None,
    forget: Duration = "30d",
) -> Online:
    """Describe a model that learns while it predicts.

    Each row is predicted first, by a model that does not know its label, and learnt then. The
    model begins untrained; its state is in the checkpoint.

    Args:
        learner: A classifier or regressor of river, or a pipeline that ends in one; with `seed=`
            where it draws random numbers. Install headrace[online].
        label: Column of the label: Boolean, integer or text for a classifier, a number for a
            regressor. Null where it is not known; such rows are only predicted.
        labels: A stream that brings the labels later, with the columns `label` and `id`.
        id: Column that names a row, in both streams.
        within: How long after its row a label may come.
        every: Predict and teach stretches of event time at once instead of single rows, which is
            several times as fast: rows are predicted by the model as it was before their
            stretch. For learners that take batches, and labels in the rows.
        forget: With `by`, a key without rows for longer than this (event time) begins anew.

    Raises:
        ConfigError: The learner is none of river's, or has no seed.
        PlanError: A column does not suit it.

    Example:
        >>> import headrace as hr
        >>> import polars as pl
        >>> from river import linear_model, preprocessing
        >>> app = hr.App("doc")
        >>> ads = app.topic(
        ...     "ads",
        ...     {"time": pl.Datetime("us", "UTC"), "rank": pl.Float64, "click": pl.Boolean},
        ...     time="time",
        ... )
        >>> learner = preprocessing.StandardScaler() | linear_model.LogisticRegression()
        >>> model = hr.model.online(learner, label="click")
        >>> ads.predict(model, features=["rank"]).schema.names()
        ['time', 'rank', 'click', 'prediction', 'probability']
    """
    return Online(learner, label, labels, id, within, every, forget)
