"""Bayesian online change point detection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import Field

from headrace.operators.detectors.detector import (
    Detector,
    Floats,
    Judged,
    Known,
    Positive,
    Rows,
    Share,
)
from headrace.operators.detectors.reference import Reference
from headrace.operators.detectors.rings import sums
from headrace.operators.key_runs import Ints

_REFERENCE: Final = Reference("prior")
_NEVER: Final = -1e300


class Bocpd(Detector):
    """Bayesian online change point detection: how long has the present level lasted?

    R. P. Adams and D. J. C. MacKay, Bayesian online changepoint detection (2007): the
    probability of every run length since the last change, with normal values of unknown mean
    and variance (the conjugate normal-gamma prior, so each run predicts by Student's t; K. P.
    Murphy, Conjugate Bayesian analysis of the Gaussian distribution, 2007). The prior's centre
    and scale are those of the first `warmup` values.

    The score is the probability that the level changed within the last `recent` values. The row
    at which it passes `threshold` is a change; there is no other before it has fallen below one
    half again.

    Attributes:
        hazard: Rows that a level lasts on average.
        recent: Rows within which a change is news.
        runs: Longest run length that is told from longer ones.

    State: 3 `runs` + 5 numbers per key. Cost: O(`runs`) per row.
    """

    kind: ClassVar[str] = "bocpd"
    reasons: ClassVar[tuple[str, ...]] = ("level of the longest likely run",)
    threshold: Share = 0.9
    hazard: Positive = 250.0
    recent: Rows = 10
    runs: Annotated[int, Field(ge=20, le=2000)] = 200

    def layout(self) -> Mapping[str, int]:
        """Return each run's weight, mean and scale, the prior, and whether a change is news."""
        runs = dict.fromkeys(("weight", "mean", "scale"), self.runs)
        return {**runs, "begun": 1, "news": 1, **_REFERENCE.layout()}

    @cached_property
    def _shape(self) -> Floats:
        # The prior counts as one value with one degree of freedom: shape (1 + r) / 2.
        return (1 + np.arange(self.runs, dtype=np.float64))[:, None] / 2

    @cached_property
    def _constant(self) -> Floats:
        shapes = self._shape[:, 0].tolist()
        return np.array(
            [math.lgamma(a + 0.5) - math.lgamma(a) - 0.5 * math.log(2 * math.pi) for a in shapes]
        )[:, None]

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:  # noqa: ARG002 - by rows
        """Update the probability of every run length."""
        ready = _REFERENCE.count(known) >= max(self.warmup, 2)
        center, spread = _REFERENCE.normal(known)
        x = np.where(ready, (values - center) / spread, 0.0)
        x = np.clip(x, -1e60, 1e60)
        weight, mean, scale = known["weight"], known["mean"], known["scale"]
        begins = known["begun"] == 0
        weight[0] = np.where(begins, 0.0, weight[0])
        weight[1:] = np.where(begins, _NEVER, weight[1:])
        mean[:] = np.where(begins, 0.0, mean)
        scale[:] = np.where(begins, 0.5, scale)
        expected = self._expected(weight, mean)
        updated = self._updated(weight, mean, scale, x)
        for name, value in zip(("weight", "mean", "scale"), updated, strict=True):
            np.copyto(known[name], value, where=ready)
        np.copyto(known["begun"], 1.0, where=ready)
        old = sums(np.exp(known["weight"][self.recent :]))
        young = sums(np.exp(known["weight"][: self.recent]))
        # Until a run can be old, there is nothing to have changed from.
        judged = ready & (_REFERENCE.count(known) >= max(self.warmup, 2) + 2 * self.recent)
        surprise = np.where(judged, -np.log(np.maximum(old / (old + young), 1e-300)), 0.0)
        alarm = surprise >= -math.log1p(-self.threshold)
        change = alarm & (known["news"] == 0)
        over = surprise < math.log(2)
        known["news"][:] = np.where(alarm, 1.0, np.where(over, 0.0, known["news"]))
        # Rows counted after the prior is complete do not change it.
        kept = {name: known[name].copy() for name in _REFERENCE.layout()}
        _REFERENCE.learn(known, values)
        for name in ("prior_mean", "prior_variance"):
            np.copyto(known[name], kept[name], where=ready)
        return Judged(np.maximum(surprise, 0.0), change, center + spread * expected, spread)

    def _expected(self, weight: Floats, mean: Floats) -> Floats:
        likely = weight.argmax(axis=0)
        answer: Floats = mean[likely, np.arange(likely.size)]
        return answer

    def _updated(
        self, weight: Floats, mean: Floats, scale: Floats, x: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Return log weights, means and scales after x: run r becomes r + 1, or ends."""
        strength = 2 * self._shape
        ratio = strength / (strength + 1)
        away = x - mean
        grown = scale + ratio * away * away / 2
        log_density = (
            self._constant
            + 0.5 * np.log(ratio)
            + self._shape * np.log(scale)
            - (self._shape + 0.5) * np.log(grown)
        )
        joint = weight + log_density
        top = joint.max(axis=0)
        whole = top + np.log(sums(np.exp(joint - top)))
        survived = joint - whole + math.log1p(-1 / self.hazard)
        begun = np.full(x.size, -math.log(self.hazard))
        # The last run length stands for all longer ones; the likelier of the two that meet there
        # gives its values.
        last, longer = survived[-2], survived[-1]
        longest = np.logaddexp(last, longer)
        moved = mean + away / (strength + 1)
        keeps = longer > last
        at_end = (np.where(keeps, one[-1], one[-2]) for one in (moved, grown))
        mean_end, scale_end = at_end
        # Of the longest run only as much is remembered as its length says.
        shrink = self._shape[-1] / (self._shape[-1] + 0.5)
        scale_end = np.where(keeps, scale_end * shrink, scale_end)
        first = np.zeros(x.size)
        return (
            np.concatenate([begun[None], survived[:-2], longest[None]]),
            np.concatenate([first[None], moved[:-2], mean_end[None]]),
            np.concatenate([first[None] + 0.5, grown[:-2], scale_end[None]]),
        )
