"""How far a value is from an exponentially weighted mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from headrace.operators.detectors import tails
from headrace.operators.detectors.detector import TINY, Detector, Floats, Judged, Known, Share
from headrace.operators.key_runs import Ints


class Ewma(Detector):
    """EWMA: the distance from an exponentially weighted mean, in weighted deviations.

    T. Finch, Incremental calculation of weighted mean and variance (2009); the first
    1 / `weight` values weigh the same, so that the beginning is forgotten.

    Attributes:
        weight: Weight of the newest value.

    State: 3 numbers per key. Cost: O(1) per row.
    """

    kind: ClassVar[str] = "ewma"
    reasons: ClassVar[tuple[str, ...]] = ("weighted mean",)
    weight: Share = 0.02

    def layout(self) -> Mapping[str, int]:
        """Return mean, variance and count."""
        return self._moments.layout()

    @property
    def _moments(self) -> tails.Moments:
        return tails.Moments("value", self.weight)

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:  # noqa: ARG002 - by rows
        """Compare with the mean of the values before, then learn the value."""
        moments = self._moments
        mean = moments.mean(known).copy()
        spread = tails.deviation(moments.variance(known))
        floor = 1e-9 * np.abs(mean) + TINY
        surprise = tails.normal((values - mean) / np.maximum(spread, floor))
        judged = moments.count(known) >= max(self.warmup, 2)
        moments.learn(known, values)
        surprise = np.where(judged, surprise, 0.0)
        return Judged(surprise, np.zeros(mean.size, np.bool_), mean, spread)
