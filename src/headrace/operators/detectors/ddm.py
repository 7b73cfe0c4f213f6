"""The drift detection method for a stream of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from headrace.operators.detectors import tails
from headrace.operators.detectors.detector import Detector, Floats, Judged, Known, Positive
from headrace.operators.key_runs import Ints


class Ddm(Detector):
    """Drift detection method: has a model begun to err more often than at its best?

    J. Gama et al., Learning with drift detection (SBIA 2004). A value is a wrong (1) or right
    (0) prediction; values beyond are taken as 0 or 1. With p the share of errors since the last
    change and s = √(p (1 - p) / n), the least p + s is remembered; where p + s passes
    p_min + `drift` s_min the row is a change and counting begins anew. The score is the
    probability that a normal deviate is below (p + s - p_min) / s_min - 1: 0 standard errors
    above its best.

    Attributes:
        drift: Standard errors that the share of errors may rise.

    State: 4 numbers per key. Cost: O(1) per row.
    """

    kind: ClassVar[str] = "ddm"
    reasons: ClassVar[tuple[str, ...]] = ("least share of errors",)
    drift: Positive = 3.0

    def layout(self) -> Mapping[str, int]:
        """Return count, share and the best of share and error."""
        return {"count": 1, "share": 1, "best_share": 1, "best_error": 1}

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:  # noqa: ARG002 - by rows
        """Count the error, then compare."""
        wrong = np.clip(values, 0.0, 1.0)
        n = known["count"] + 1
        share = known["share"] + (wrong - known["share"]) / n
        error = np.sqrt(np.maximum(share * (1 - share), 0.0) / n)
        ready = n > max(self.warmup, 2)
        began = ready & (known["count"] <= max(self.warmup, 2))
        best_share = np.where(began, share, known["best_share"])
        best_error = np.where(began, error, known["best_error"])
        better = ready & (share + error < best_share + best_error)
        best_share = np.where(better, share, best_share)
        best_error = np.where(better, error, best_error)
        spread = np.maximum(best_error, 1 / np.maximum(n, 2) ** 2)
        rise = (share + error - best_share) / spread
        change = ready & (rise > self.drift)
        known["count"][:] = np.where(change, 0.0, n)
        known["share"][:] = np.where(change, 0.0, share)
        known["best_share"][:] = np.where(change, 0.0, best_share)
        known["best_error"][:] = np.where(change, 0.0, best_error)
        surprise = np.where(ready & (rise > 1), tails.above(rise - 1), 0.0)
        return Judged(surprise, change, best_share, best_error)
