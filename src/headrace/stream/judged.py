"""How good predictions turned out to be, once their labels are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.time import Duration, positive_duration
from headrace.operators.aggregates import count, mean
from headrace.operators.assigners import tumbling
from headrace.operators.columns import column_names
from headrace.operators.predict_task import FALLBACK, MODEL_NAME, MODEL_VERSION

if TYPE_CHECKING:
    from headrace.operators.aggregates.aggregate import Aggregate
    from headrace.stream.handle import Columns
    from headrace.stream.stream import Stream

Task = Literal["class", "probability", "number"]

_LEAST: Final = 1e-15
_LABEL: Final = "__label"
_TOLD: Final = "__told"


def evaluate(  # noqa: PLR0913 - the words of the contract
    predictions: Stream,
    labels: Stream,
    *,
    on: Columns | Mapping[str, str],
    within: Duration,
    label: str,
    prediction: str = "prediction",
    task: Task | None = None,
    every: Duration = "1h",
    by: Columns | None = None,
    name: str | None = None,
) -> Stream:
    """Compare predictions with labels that come later, per window, model and version.

    A label belongs to the predictions of its key that lie up to `within` before it. Columns of the
    result: `by`, `model_name`, `model_version`, `window_start`, `window_end`, `rows` (pairs), and

    - of `class`: `accuracy`;
    - of `probability` (that of true, the label is Boolean or 0 and 1): `accuracy` at one half,
      `log_loss` (natural logarithm, kept 1e-15 away from 0 and 1), `brier`, `roc_auc` (exact
      within the window; null without both classes);
    - of `number`: `mae`, `rmse`, `bias` (mean of prediction minus label).

    Windows are by the later of both times, which is the label's where it comes later. Rows that no
    model scored (their fallback was a default or null) do not count, nor do null labels. A shadow
    is compared by a call of its own, with `predictions.shadow`.

    Args:
        predictions: What `stream.predict` gave.
        labels: The stream that brings labels.
        on: Key columns of both; {column of predictions: column of labels} where names differ.
        within: How long after a prediction its label may come.
        label: Column of `labels`.
        prediction: Column of `predictions`.
        task: What is predicted; by default `probability` for a Boolean label and a number,
            `number` for a label that is a float, `class` otherwise.
        every: Length of a window.
        by: Further columns of the predictions to keep apart.
        name: Identity of the join's state.

    Raises:
        PlanError: A column is missing, or the task does not suit it.

    State: the predictions and labels of `within`, and of open windows sums; for `roc_auc` their
    labels and predictions.

    Example:
        >>> import headrace as hr
        >>> app = hr.App("doc")
        >>> utc = pl.Datetime("us", "UTC")
        >>> rides = app.topic("rides", {"id": pl.Int64, "time": utc, "km": pl.Float64}, time="time")
        >>> paid = app.topic("paid", {"id": pl.Int64, "time": utc, "euro": pl.Float64}, time="time")
        >>> told = rides.predict(hr.model.sklearn("fare.pkl"), features=["km"])
        >>> evaluate(told, paid, on="id", within="1d", label="euro").schema.names()[4:]
        ['rows', 'mae', 'rmse', 'bias']
    """
    kind = task or _task(predictions, prediction, labels, label)
    kept = (*column_names(by), MODEL_NAME, MODEL_VERSION)
    renamed = labels.with_columns(pl.col(label).alias(_LABEL))
    keys = tuple(on.values()) if isinstance(on, Mapping) else column_names(on)
    shown = () if labels.time is None else (labels.time.column,)
    sent = renamed.select(*dict.fromkeys((*keys, *shown)), _LABEL)
    scored = predictions.filter(
        pl.col(MODEL_VERSION).is_not_null() & pl.col(prediction).is_not_null()
    )
    pairs = scored.join(sent, on=on, within=("0s", within), name=name).filter(
        pl.col(_LABEL).is_not_null()
    )
    windows = pairs.with_columns(pl.col(prediction).alias(_TOLD)).window(
        tumbling(positive_duration(every, "every")), by=list(kept)
    )
    judged = windows.agg(rows=count(), **_METRICS[kind])
    return judged.with_columns(rmse=pl.col("rmse").sqrt()) if kind == "number" else judged


def roc_auc(label: pl.Expr, share: pl.Expr) -> pl.Expr:
    """Return the share of pairs of a true and a false row in which the true one has the higher
    probability, equal ones counting half (J. A. Hanley and B. J. McNeil, "The meaning and use of
    the area under a receiver operating characteristic (ROC) curve", 1982); null without both.

    Args:
        label: Boolean, no nulls.
        share: Probability of true, no nulls.
    """
    true = label.sum().cast(pl.Float64)
    false = (~label).sum().cast(pl.Float64)
    ranks = share.rank("average").filter(label).sum()
    area = (ranks - true * (true + 1) / 2) / (true * false)
    return pl.when(true * false > 0).then(area)


def _metrics() -> dict[Task, dict[str, Aggregate | pl.Expr]]:
    right, told = pl.col(_LABEL), pl.col(_TOLD)
    is_true = right.cast(pl.Boolean)
    share = told.cast(pl.Float64).clip(_LEAST, 1 - _LEAST)
    loss = -pl.when(is_true).then(share.log()).otherwise((1 - share).log())
    hit = ((told >= 0.5) == is_true).cast(pl.Float64)  # noqa: PLR2004 - as likely as not
    error = told.cast(pl.Float64) - right.cast(pl.Float64)
    return {
        "class": {"accuracy": mean((right == told).cast(pl.Float64))},
        "probability": {
            "accuracy": mean(hit),
            "log_loss": mean(loss),
            "brier": mean((told.cast(pl.Float64) - is_true.cast(pl.Float64)) ** 2),
            "roc_auc": roc_auc(is_true, told),
        },
        "number": {"mae": mean(error.abs()), "rmse": mean(error**2), "bias": mean(error)},
    }


_METRICS: Final = _metrics()


def _task(predictions: Stream, prediction: str, labels: Stream, label: str) -> Task:
    for stream, column in ((predictions, prediction), (predictions, FALLBACK), (labels, label)):
        if column not in stream.schema:
            raise PlanError(
                f"evaluate: there is no column {column!r}",
                hint=f"there are {', '.join(stream.schema)}",
            )
    told, right = predictions.schema[prediction], labels.schema[label]
    if right == pl.Boolean and told.is_float():
        return "probability"
    return "number" if right.is_float() and told.is_numeric() else "class"
