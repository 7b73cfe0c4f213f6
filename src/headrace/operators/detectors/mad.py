"""How far a value is from the median of those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import Field

from headrace.operators.detectors import tails
from headrace.operators.detectors.detector import TINY, Detector, Floats, Judged, Known
from headrace.operators.detectors.rings import Ring, sums
from headrace.operators.key_runs import Bools, Ints

_NORMAL_MAD: Final = 1.482602218505602
_NORMAL_MEAN: Final = 1.2533141373155


class Mad(Detector):
    """Robust z-score: the distance from the median in median absolute deviations.

    B. Iglewicz and D. C. Hoaglin, How to detect and handle outliers (1993): the deviation is
    1.4826 MAD, or 1.2533 mean absolute deviations where more than half of the values are equal.
    Up to half of the values may be anomalies without moving it far.

    Attributes:
        window: Values that are compared with.

    State: `window` numbers per key. Cost: O(`window` log `window`) per row.
    """

    kind: ClassVar[str] = "mad"
    reasons: ClassVar[tuple[str, ...]] = ("median of the last values",)
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
        n = np.minimum(ring.count(known), self.window).astype(np.int64)
        median = _medians(kept, there, n)
        away = np.abs(kept - median)
        spread = _NORMAL_MAD * _medians(away, there, n)
        mean = sums(np.where(there, away / np.maximum(n, 1), 0.0))
        spread = np.where(spread > 0, spread, _NORMAL_MEAN * mean)
        floor = 1e-9 * np.abs(median) + TINY
        surprise = tails.normal((values - median) / np.maximum(spread, floor))
        judged = n >= min(max(self.warmup, 2), self.window)
        ring.learn(known, values)
        surprise = np.where(judged, surprise, 0.0)
        return Judged(surprise, np.zeros(n.size, np.bool_), median, spread)


def _medians(values: Floats, there: Bools, n: Ints) -> Floats:
    """Return the median of the first `n` values of each column that are there."""
    ordered = np.sort(np.where(there, values, np.inf), axis=0)
    last, column = values.shape[0] - 1, np.arange(n.size)
    low = ordered[np.clip((n - 1) // 2, 0, last), column]
    high = ordered[np.clip(n // 2, 0, last), column]
    answer: Floats = np.where(n > 0, low / 2 + high / 2, 0.0)
    return answer
