"""The detector that needs no tuning: several views of a series, one calibrated answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from headrace.operators.detectors.detector import TINY, Certainty, Detector, Floats, Judged, Known
from headrace.operators.detectors.detector import Rows as RowCount
from headrace.operators.detectors.page_hinkley import PageHinkley
from headrace.operators.detectors.peaks import Peaks
from headrace.operators.detectors.reference import Reference
from headrace.operators.detectors.rings import Ring
from headrace.operators.detectors.seasonal import slot_of
from headrace.operators.detectors.tails import HeavyTail, Moments
from headrace.operators.key_runs import Ints

_DAY: Final = 86_400_000_000
_HOURS: Final = 24
_WEEK_HOURS: Final = 168
_LEAP: Final = 12
_SEEN: Final = 4
_GRAIN: Final = 1e-2

_SCALE: Final = Moments("scale", 0.001)
_LOGS: Final = Moments("log", 0.002)
_STEPS: Final = Moments("step", 0.005)
_LEAPS: Final = Moments("leap", 0.003)
_ERRORS: Final = Reference("error", 0.003)
_RING: Final = Ring("value", _LEAP)
_TAIL: Final = HeavyTail("tail", measures=4)
_SHIFT: Final = PageHinkley(delta=0.5, decision=60.0, warmup=100)
_PEAKS: Final = Peaks()


@dataclass(frozen=True, slots=True)
class _View:
    """How strange a value is to one view, what it expected, and with which deviation."""

    measure: Floats
    expected: Floats
    spread: Floats


class Ensemble(Detector):
    """Four views of a value, each calibrated by its own past; the most surprising one counts.

    - *usual*: the distance from the mean of this hour of the week, or of this hour of the day
      while the week is new (UTC; exponentially weighted);
    - *before*: the distance from the last value;
    - *leap*: the distance from the value 12 rows ago;
    - *level*: the distance of the value's logarithm, measured in its deviation, from its mean.

    Each distance is in exponentially weighted standard deviations of its own. How surprising
    one is follows from the heavy tail of its past (`tails.HeavyTail`). The largest of the four
    surprises is then corrected for how long was looked, for as many rows show something
    strange by chance, and for how often something as strange was seen before; and what belongs
    together is one anomaly: only its first row and rows stranger than all before it score
    above 0.9 (`peaks.Peaks`).

    `is_change` is a Page-Hinkley test (shift of a half, decision 60 standard deviations).

    State: 511 numbers per key. Cost: O(1) per row.
    """

    kind: ClassVar[str] = "ensemble"
    reasons: ClassVar[tuple[str, ...]] = (
        "usual at this hour",
        "value before",
        "value 12 rows before",
        "usual level",
    )
    threshold: Certainty = 0.975
    warmup: RowCount = 100

    def layout(self) -> Mapping[str, int]:
        """Return what the views, their tails, the peaks and the test for a shift keep."""
        whole = {"day_mean": _HOURS, "day_count": _HOURS}
        whole |= {"week_mean": _WEEK_HOURS, "week_count": _WEEK_HOURS}
        for part in (_SCALE, _LOGS, _STEPS, _LEAPS, _ERRORS, _RING, _TAIL, _SHIFT, _PEAKS):
            whole |= part.layout()
        return whole

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:
        """Look at the value in all views, and combine them."""
        scale = np.sqrt(_SCALE.variance(known)) + 1e-9 * np.abs(values) + TINY
        grain = _GRAIN * scale
        grain = grain * grain + TINY
        views = (
            self._usual(known, values, times, grain),
            _distance(known, values, _RING.before(known, 1), _STEPS, grain),
            _distance(known, values, _RING.before(known, _LEAP), _LEAPS, grain),
            self._level(known, values, scale),
        )
        _SCALE.learn(known, values)
        _RING.learn(known, values)
        surprises = _TAIL.step(known, np.stack([view.measure for view in views]))
        reason = surprises.argmax(axis=0)
        at = (reason, np.arange(values.size))
        rows = _SCALE.count(known)
        judged = rows > self.warmup
        surprise = _PEAKS.step(known, np.where(judged, surprises[at], 0.0), rows)
        change = _SHIFT.step(known, values, times).change
        return Judged(
            surprise,
            change,
            np.stack([view.expected for view in views])[at],
            np.stack([view.spread for view in views])[at],
            reason,
        )

    def _usual(self, known: Known, values: Floats, times: Ints, grain: Floats) -> _View:
        keys = np.arange(values.size)
        hour = (slot_of(times, _DAY, _HOURS), keys)
        week_hour = (slot_of(times, 7 * _DAY, _WEEK_HOURS), keys)
        day, days = known["day_mean"][hour], known["day_count"][hour]
        week, weeks = known["week_mean"][week_hour], known["week_count"][week_hour]
        expected = np.where(weeks >= _SEEN, week, day)
        learnt = days >= _SEEN
        error = np.where(learnt, values - expected, 0.0)
        spread = np.sqrt(_ERRORS.size(known) + grain)
        _ERRORS.learn_where(known, error, learnt)
        known["day_count"][hour] = days + 1
        known["day_mean"][hour] = day + np.maximum(0.02, 1 / (days + 1)) * (values - day)
        known["week_count"][week_hour] = weeks + 1
        known["week_mean"][week_hour] = week + np.maximum(0.05, 1 / (weeks + 1)) * (values - week)
        return _View(np.abs(error) / spread, expected, spread)

    def _level(self, known: Known, values: Floats, scale: Floats) -> _View:
        logs = np.sign(values) * np.log1p(np.abs(values) / (0.1 * scale))
        away = np.abs(logs - _LOGS.mean(known)) / np.sqrt(_LOGS.variance(known) + 1e-4)
        _LOGS.learn(known, logs)
        return _View(away, _SCALE.mean(known).copy(), scale)


def _distance(
    known: Known, values: Floats, before: Floats, moments: Moments, grain: Floats
) -> _View:
    away = values - before
    spread = np.sqrt(moments.variance(known) + grain)
    moments.learn(known, away)
    return _View(np.abs(away) / spread, before, spread)
