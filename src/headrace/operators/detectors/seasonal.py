"""How far a value is from what is usual at this hour of the week."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from headrace.core.component import DurationField
from headrace.core.time import micros, positive_duration
from headrace.operators.detectors import tails
from headrace.operators.detectors.detector import (
    TINY,
    Detector,
    Floats,
    Judged,
    Known,
    Rows,
    Share,
)
from headrace.operators.detectors.reference import Reference
from headrace.operators.key_runs import Ints


class Seasonal(Detector):
    """Seasonal baseline: the distance from the mean of the same part of earlier periods.

    A period is cut into `slots` equal parts, by default the hours of a week (UTC). Each keeps
    an exponentially weighted mean; the deviation is that of all slots' errors. A slot is judged
    once it was seen `seen` times.

    Attributes:
        period: After this long things repeat.
        slots: Parts of a period.
        seen: Values of a slot that are learnt before one is judged.
        weight: Weight of a slot's newest value.

    State: 2 `slots` + 3 numbers per key. Cost: O(1) per row.
    """

    kind: ClassVar[str] = "seasonal"
    reasons: ClassVar[tuple[str, ...]] = ("usual at this time of the period",)
    period: DurationField = timedelta(weeks=1)
    slots: Annotated[int, Field(ge=2, le=10_000)] = 168
    seen: Rows = 3
    weight: Share = 0.05

    @model_validator(mode="after")
    def _check(self) -> Seasonal:
        positive_duration(self.period, "period")
        return self

    def layout(self) -> Mapping[str, int]:
        """Return mean and count of each slot, and the moments of the errors."""
        return {"mean": self.slots, "count": self.slots, **self._errors.layout()}

    @property
    def _errors(self) -> Reference:
        return Reference("error", 0.003)

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:
        """Compare with the slot's mean, then learn the value and its error."""
        slot = slot_of(times, micros(self.period), self.slots)
        at = (slot, np.arange(values.size))
        means, counts = known["mean"], known["count"]
        mean, count = means[at], counts[at]
        learnt = count >= self.seen
        error = np.where(learnt, values - mean, 0.0)
        errors = self._errors
        spread = tails.deviation(errors.size(known))
        surprise = tails.normal(error / np.maximum(spread, 1e-9 * np.abs(mean) + TINY))
        judged = learnt & (errors.count(known) >= max(self.warmup, 2))
        errors.learn_where(known, error, learnt)
        counts[at] = count + 1
        means[at] = mean + np.maximum(self.weight, 1 / (count + 1)) * (values - mean)
        surprise = np.where(judged, surprise, 0.0)
        return Judged(surprise, np.zeros(mean.size, np.bool_), mean, spread)


def slot_of(times: Ints, period: int, slots: int) -> Ints:
    """Return which of `slots` equal parts of a `period` (microseconds) each time is in.

    Periods begin on a Monday at midnight UTC where they are weeks.
    """
    monday = 4 * 86_400_000_000
    answer: Ints = (times - monday) % period * slots // period
    return answer
