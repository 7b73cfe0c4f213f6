"""The Page-Hinkley test for a lasting shift of the mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np

from headrace.operators.detectors.detector import (
    Detector,
    Floats,
    Judged,
    Known,
    Positive,
)
from headrace.operators.detectors.reference import Reference
from headrace.operators.key_runs import Ints

_REFERENCE: Final = Reference("reference")


class PageHinkley(Detector):
    """Page-Hinkley: how far the sum of deviations has come from its extreme, each way.

    E. S. Page (1954), D. V. Hinkley, Inference about the change-point from cumulative sum tests
    (1971). Deviations are from the mean of all values since the last change, in their standard
    deviations, less `delta`. Where the distance passes `decision`, the level has changed: the
    row is a change and everything is learnt anew. The score of distance d is
    1 - exp(-2 `delta` d), the chance of a random walk with that drift to stay below d
    (D. Siegmund, Sequential Analysis, 1985, the exponential bound).

    Attributes:
        delta: Shift that is tolerated, in standard deviations.
        decision: Distance at which the level has changed.

    State: 7 numbers per key. Cost: O(1) per row.
    """

    kind: ClassVar[str] = "page_hinkley"
    reasons: ClassVar[tuple[str, ...]] = ("sum of deviations from the mean",)
    delta: Positive = 0.25
    decision: Positive = 20.0

    def layout(self) -> Mapping[str, int]:
        """Return the sums, their extremes and the moments."""
        return {"rise": 1, "least": 1, "fall": 1, "most": 1, **_REFERENCE.layout()}

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:  # noqa: ARG002 - by rows
        """Add to the sums, then learn the value."""
        ready = _REFERENCE.count(known) >= max(self.warmup, 2)
        mean, spread = _REFERENCE.normal(known)
        z = np.where(ready, (values - mean) / spread, 0.0)
        tolerated = np.where(ready, self.delta, 0.0)
        rise = known["rise"] + z - tolerated
        least = np.minimum(known["least"], rise)
        fall = known["fall"] + z + tolerated
        most = np.maximum(known["most"], fall)
        distance = np.maximum(rise - least, most - fall)
        change = distance > self.decision
        for name, value in (("rise", rise), ("least", least), ("fall", fall), ("most", most)):
            known[name][:] = np.where(change, 0.0, value)
        _REFERENCE.learn_where(known, values, np.ones(values.size, np.bool_), change)
        return Judged(2 * self.delta * distance, change, mean, spread)
