"""Cumulative sums that find a lasting shift of the mean."""

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
    Rows,
)
from headrace.operators.detectors.reference import Reference
from headrace.operators.key_runs import Ints


class Cusum(Detector):
    """CUSUM: sums of what exceeds the mean by more than half the shift sought, each way.

    E. S. Page, Continuous inspection schemes (1954). Mean and deviation are those of the first
    `warmup` values. Where a sum passes `decision` the level has changed: the row is a change,
    and the reference is learnt anew from there. The score of sum S is 1 - 1 / ARL(S), by
    D. Siegmund's approximation of the average run length (Sequential Analysis, 1985):
    ARL = (exp(2kb) - 2kb - 1) / 4k² with k = `shift` / 2 and b = S + 1.166, both ways together.

    Attributes:
        shift: The shift to find soon, in standard deviations.
        decision: Sum, in standard deviations, at which the level has changed.

    State: 5 numbers per key. Cost: O(1) per row.
    """

    kind: ClassVar[str] = "cusum"
    reasons: ClassVar[tuple[str, ...]] = ("cumulative sum from the mean",)
    warmup: Rows = 100
    shift: Positive = 1.0
    decision: Positive = 8.0

    def layout(self) -> Mapping[str, int]:
        """Return the reference and both sums."""
        return {"up": 1, "down": 1, **_REFERENCE.layout()}

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:  # noqa: ARG002 - by rows
        """Add to the sums; learn while the reference is not complete."""
        up, down = known["up"], known["down"]
        ready = _REFERENCE.count(known) >= max(self.warmup, 2)
        mean, spread = _REFERENCE.normal(known)
        z = np.where(ready, (values - mean) / spread, 0.0)
        slack = self.shift / 2
        rise = np.where(ready, np.maximum(up + z - slack, 0.0), 0.0)
        fall = np.where(ready, np.maximum(down - z - slack, 0.0), 0.0)
        highest = np.maximum(rise, fall)
        surprise = np.where(ready & (highest > 0), _surprise(highest, slack), 0.0)
        change = highest > self.decision
        up[:] = np.where(change, 0.0, rise)
        down[:] = np.where(change, 0.0, fall)
        _REFERENCE.learn_where(known, values, ~ready, change)
        return Judged(surprise, change, mean, spread)


_REFERENCE: Final = Reference("reference")


def _surprise(total: Floats, slack: float) -> Floats:
    power = 2 * slack * (total + 1.166)
    # ln(e^p - p - 1), without overflow.
    log_run = power + np.log1p(-(power + 1) * np.exp(-power))
    answer: Floats = np.maximum(log_run - np.log(4 * slack * slack), 0.0)
    return answer
