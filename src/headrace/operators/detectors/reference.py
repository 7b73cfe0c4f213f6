"""Mean and deviation that some rows are learnt into and others are not."""

from __future__ import annotations

import numpy as np

from headrace.operators.detectors.detector import TINY, Floats, Known
from headrace.operators.detectors.tails import Moments, deviation
from headrace.operators.key_runs import Bools


class Reference(Moments):
    """Moments of chosen values: by default all weigh the same.

    Args:
        name: Prefix of its names in `Known`.
        weight: Least weight of the newest value.
    """

    def __init__(self, name: str, weight: float = 1e-9) -> None:
        super().__init__(name, weight)

    def normal(self, known: Known) -> tuple[Floats, Floats]:
        """Return copies of the mean and the sample standard deviation, which is never 0."""
        mean = self.mean(known).copy()
        n = np.maximum(self.count(known), 2)
        spread = deviation(self.variance(known) * n / (n - 1))
        return mean, np.maximum(spread, 1e-9 * np.abs(mean) + TINY)

    def learn_where(
        self, known: Known, values: Floats, chosen: Bools, begins: Bools | None = None
    ) -> None:
        """Learn the values that are chosen; where `begins`, forget all others first."""
        changed = chosen if begins is None else chosen | begins
        kept = {name: known[name].copy() for name in self.layout()}
        if begins is not None:
            for name in kept:
                np.copyto(known[name], 0.0, where=begins)
        self.learn(known, values)
        for name, before in kept.items():
            np.copyto(known[name], before, where=~changed)
