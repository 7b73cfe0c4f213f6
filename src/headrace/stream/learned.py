"""Models that learn from the stream they predict: what they are given and what they leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.time import Duration, duration, positive_duration
from headrace.operators.aggregates import count, mean
from headrace.operators.assigners import tumbling
from headrace.operators.columns import column_names
from headrace.operators.joined_columns import LATE_RIGHT
from headrace.operators.learn import Learn
from headrace.operators.learning.learner import PREDICTION, PROBABILITY
from headrace.operators.learning.lessons import LABEL, SCORED, UNMATCHED
from headrace.stream.judged import roc_auc
from headrace.stream.stream import Stream

if TYPE_CHECKING:
    from headrace.operators.aggregates.aggregate import Aggregate
    from headrace.stream.handle import Columns

_LEAST = 1e-15


@dataclass(frozen=True, slots=True, eq=False)
class Online:
    """A learner that is taught by the stream it predicts, for `stream.predict`.

    Attributes:
        learner: A river classifier or regressor, or a pipeline that ends in one.
        label: Column of the label.
        labels: The stream that brings labels later; None where the rows bring them.
        id: Column of both streams that names a row.
        within: How long after its row a label may come.
        every: Length of the stretches that are predicted and taught at once; None takes single
            rows.
        forget: A key without rows for longer than this begins anew.
    """

    learner: Any
    label: str
    labels: Stream | None = None
    id: str | None = None
    within: Duration | None = None
    every: Duration | None = None
    forget: Duration = "30d"

    def predict(
        self, rows: Stream, *, features: Columns, by: Columns | None, name: str | None = None
    ) -> Learned:
        """Return `rows` with their predictions; see `hr.model.online`."""
        if (self.labels is None) != (self.id is None):
            raise PlanError(
                "labels= and id= go together: labels of another stream name their row",
                hint='e.g. labels=clicks, id="impression", within="1h"',
            )
        operator = Learn(
            learner=self.learner,
            features=column_names(features),
            label=self.label,
            by=column_names(by),
            id=self.id,
            within=None if self.within is None else duration(self.within),
            every=None if self.every is None else duration(self.every),
            forget=duration(self.forget),
            name=name,
        )
        others = () if self.labels is None else (self.labels,)
        main = rows.then(operator, *others, time=rows.time)
        rows.graph.times[main.ref.node] = rows.time
        if self.labels is not None:
            rows.graph.right_times[main.ref.node] = self.labels.time
        return Learned(main.graph, main.ref, main.schema, main.time)


@dataclass(frozen=True, slots=True)
class Learned(Stream):
    """Rows with the predictions of a model that learns from them."""

    @property
    def scored(self) -> Stream:
        """One row per label that was learnt, at its time: the key, `label`, and what had been
        predicted before it was known, `prediction` and `probability`.
        """
        return self._beside_rows(SCORED)

    @property
    def late_right(self) -> Stream:
        """Labels of another stream that came before the watermark."""
        return self._port(LATE_RIGHT)

    @property
    def unmatched(self) -> Stream:
        """Labels of another stream that taught nothing: they found no row, came more than
        `within` after it, or were null.
        """
        return self._beside_rows(UNMATCHED)

    def metrics(self, every: Duration = "1m", *, by: Columns | None = None) -> Stream:
        """Say how good the predictions of each `every` of event time were, by time of the label.

        Columns: `by`, `window_start`, `window_end`, `rows` (labels that were learnt), and of a
        classifier `accuracy` (a row that was not predicted counts as wrong), and where the label
        is Boolean `log_loss` (natural logarithm, probabilities kept 1e-15 away from 0 and 1) and
        `roc_auc` (exact; null without both classes). Of a regressor `mae` and `rmse`. Averages
        are over the rows that were predicted.

        Args:
            every: Length of a window.
            by: Key columns, of those of the model.

        Cost: sums, and for `roc_auc` label and probability of the rows of a window.
        """
        scored = self.scored
        right, wrong = pl.col(LABEL), pl.col(PREDICTION)
        if PROBABILITY not in scored.schema:
            error = right - wrong
            aggregates: dict[str, Aggregate | pl.Expr] = {"mae": mean(error.abs())}
            return (
                scored.window(tumbling(positive_duration(every, "every")), by=by)
                .agg(rows=count(), **aggregates, rmse=mean(error**2))
                .with_columns(rmse=pl.col("rmse").sqrt())
            )
        hit = (right == wrong).fill_null(value=False).cast(pl.Float64)
        aggregates = {"accuracy": mean(hit)}
        if scored.schema[LABEL] == pl.Boolean:
            share = pl.col(PROBABILITY).clip(_LEAST, 1 - _LEAST)
            loss = -pl.when(right).then(share.log()).otherwise((1 - share).log())
            aggregates |= {"log_loss": mean(loss), "roc_auc": _roc_auc()}
        return scored.window(tumbling(positive_duration(every, "every")), by=by).agg(
            rows=count(), **aggregates
        )

    def _beside_rows(self, port: str) -> Stream:
        stream = self._port(port)
        return Stream(stream.graph, stream.ref, stream.schema, None)


def _roc_auc() -> pl.Expr:
    known = pl.col(PROBABILITY).is_not_null()
    return roc_auc(pl.col(LABEL).filter(known), pl.col(PROBABILITY).filter(known))
