"""How far a value is from the mean of those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from headrace.operators.detectors import tails
from headrace.operators.detectors.detector import TINY, Detector, Floats, Judged, Known
from headrace.operators.detectors.rings import Ring, sums
from headrace.operators.key_runs import Ints


class ZScore(Detector):
    """Rolling z-score: the distance from the mean of the last `window` values.

    The score is the probability that Student's t with n - 1 degrees of freedom is nearer to 0
    than (x - mean) / (s √(1 + 1/n)): exact for normal values (the prediction interval of
    G. J. Hahn, 1969).

    Attributes:
        window: Values that are compared with.

    State: `window` numbers per key. Cost: O(`window`) per row.
    """

    kind: ClassVar[str] = "zscore"
    reasons: ClassVar[tuple[str, ...]] = ("mean of the last values",)
    window: Annotated[int, Field(ge=3, le=10_000)] = 100

    def layout(self) -> Mapping[str, int]:
        """Return the ring of values."""
        return self._ring.layout()

    @property
    def _ring(self) -> Ring:
        return Ring("value", self.window)

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:  # noqa: ARG002 - by rows
        """Compare with the values before, then keep the value."""
        ring = self._ring
        kept, there = ring.kept(known)
        n = np.minimum(ring.count(known), self.window)
        some = np.maximum(n, 1)
        mean = sums(np.where(there, kept / some, 0.0))
        away = np.where(there, kept - mean, 0.0)
        variance = sums(away * away / np.maximum(n - 1, 1))
        spread = tails.deviation(variance * (1 + 1 / some))
        # Values that were all equal say nothing of how far the next may be but for rounding.
        floor = 1e-9 * np.abs(mean) + TINY
        surprise = tails.student((values - mean) / np.maximum(spread, floor), n - 1)
        judged = ring.count(known) >= max(self.warmup, 2)
        ring.learn(known, values)
        surprise = np.where(judged, surprise, 0.0)
        return Judged(surprise, np.zeros(n.size, np.bool_), mean, spread)
