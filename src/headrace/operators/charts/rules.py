"""Western Electric and Nelson rules over runs of samples.

Sources: Western Electric, Statistical Quality Control Handbook (1956), and L. S. Nelson,
Journal of Quality Technology 16 (1984), 237-239.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from headrace.operators.charts.constants import Floats
from headrace.operators.charts.samples import Drawn
from headrace.operators.key_runs import Bools, Ints

CLOSE: Final = 1e-9
"""Differences smaller than this, relative to the values, are rounding and not a signal."""

LOOK_BACK: Final = 15
"""Samples before a sample that a rule may look at."""


@dataclass(frozen=True)
class Points:
    """Samples in order, key after key.

    Attributes:
        statistic: What is drawn; NaN where a sample has none.
        z: Its distance from the centre line in standard errors.
        beyond: Whether it lies outside its control limits.
        place: Number of the sample within its key, from 0.
    """

    statistic: Floats
    z: Floats
    beyond: Bools
    place: Ints

    def side(self, sigmas: float) -> tuple[Bools, Bools]:
        """Return which points lie above the centre by more than that, and which below."""
        edge = sigmas * (1 + CLOSE)
        return self.z > edge, self.z < -edge

    def run(self, holds: Bools) -> Ints:
        """Return how many points in a row, up to this one, have the property."""
        at = np.arange(holds.size, dtype=np.int64)
        last_other = np.maximum.accumulate(np.where(holds, -1, at))
        return np.minimum(at - last_other, self.place + 1)

    def among(self, holds: Bools, last: int) -> Ints:
        """Return how many of the `last` points, this one among them, have the property."""
        total = np.concatenate(([0], np.cumsum(holds, dtype=np.int64)))
        at = np.arange(holds.size, dtype=np.int64)
        first = at - np.minimum(self.place, last - 1)
        counted: Ints = total[at + 1] - total[first]
        return counted

    def steps(self) -> Floats:
        """Return 1 where the statistic rises from the point before, -1 where it falls, else 0."""
        before = np.roll(self.statistic, 1)
        size = np.maximum(np.abs(before), np.abs(self.statistic))
        change = self.statistic - before
        moved = (np.abs(change) > CLOSE * size) & (self.place > 0)
        return np.where(moved, np.sign(change), 0.0)


def _beyond_limits(points: Points) -> Bools:
    return points.beyond


def _cluster(count: int, last: int, sigmas: float) -> Callable[[Points], Bools]:
    def rule(points: Points) -> Bools:
        found = np.zeros(points.z.size, dtype=np.bool_)
        for side in points.side(sigmas):
            found |= side & (points.among(side, last) >= count)
        return found

    return rule


def _one_side(length: int) -> Callable[[Points], Bools]:
    def rule(points: Points) -> Bools:
        above, below = points.side(0)
        return (points.run(above) >= length) | (points.run(below) >= length)

    return rule


def _trend(points: Points) -> Bools:
    steps = points.steps()
    return (points.run(steps > 0) >= 5) | (points.run(steps < 0) >= 5)  # noqa: PLR2004 - 6 points


def _alternating(points: Points) -> Bools:
    steps = points.steps()
    turns = (steps * np.roll(steps, 1) < 0) & (points.place > 1)
    return points.run(turns) >= 12  # noqa: PLR2004 - 14 points turn 12 times


def _hugging(points: Points) -> Bools:
    # 15 points within one standard error of the centre.
    within = np.abs(points.z) < 1 - CLOSE
    return points.run(within) >= 15  # noqa: PLR2004


def _avoiding(points: Points) -> Bools:
    # Eight points on either side, none within one standard error of the centre.
    above, below = points.side(1)
    return points.run(above | below) >= 8  # noqa: PLR2004


RULES: Final[dict[str, Callable[[Points], Bools]]] = {
    "we1": _beyond_limits,
    "we2": _cluster(2, 3, 2),
    "we3": _cluster(4, 5, 1),
    "we4": _one_side(8),
    "nelson1": _beyond_limits,
    "nelson2": _one_side(9),
    "nelson3": _trend,
    "nelson4": _alternating,
    "nelson5": _cluster(2, 3, 2),
    "nelson6": _cluster(4, 5, 1),
    "nelson7": _hugging,
    "nelson8": _avoiding,
}
"""By name: we1 and nelson1 beyond the limits · we2, nelson5 two of three beyond 2 standard errors
on one side · we3, nelson6 four of five beyond 1 · we4 eight, nelson2 nine in a row on one side ·
nelson3 six rising or falling · nelson4 fourteen alternating · nelson7 fifteen within 1 ·
nelson8 eight beyond 1 on either side."""


def judged(drawn: Drawn, place: Ints) -> Points:
    """Return the points that a chart drew, as the rules look at them.

    What differs by rounding alone does not differ: a statistic that far from its centre line or
    limit lies on it.
    """
    scale = CLOSE * np.maximum(np.abs(drawn.statistic), np.abs(drawn.center))
    distance = drawn.statistic - drawn.center
    distance = np.where(np.abs(distance) <= scale, 0.0, distance)
    error = np.where(drawn.error <= scale, 0.0, drawn.error)
    z = np.where((distance == 0) & (error == 0), 0.0, distance / error)
    slack = CLOSE * np.fmax(np.abs(drawn.statistic), np.fmax(np.abs(drawn.lcl), np.abs(drawn.ucl)))
    beyond = (drawn.statistic > drawn.ucl + slack) | (drawn.statistic < drawn.lcl - slack)
    return Points(drawn.statistic, z, beyond, place)
