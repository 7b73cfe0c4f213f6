"""Probabilities of the improbable, as logarithms: how surprising a value is.

A surprise is -ln p, where p is the probability of a value at least as strange.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from headrace.operators.detectors.detector import TINY, Floats, Known

# W. H. Press et al., Numerical Recipes in C, 2nd edition, section 6.2, erfcc: the complementary
# error function to 1.2e-7 of its size everywhere, here as a logarithm.
_ERFC: Final = (
    -1.26551223,
    1.00002368,
    0.37409196,
    0.09678418,
    -0.18628806,
    0.27886807,
    -1.13520398,
    1.48851587,
    -0.82215223,
    0.17087277,
)
_SQRT_2: Final = 1.4142135623730951
_FAR: Final = 1e100
_SHARES: Final = (0.005, 0.01, 0.02, 0.04)
_LEAST: Final = 1e-3
_EXCESS: Final = 0.5
_SPREAD: Final = 2.0
_UNSURE: Final = 10
_LN_2: Final = 0.6931471805599453


def normal(z: Floats) -> Floats:
    """Return the surprise of a normal deviate at least |z| from 0, either way."""
    x = np.minimum(np.abs(z), _FAR) / _SQRT_2
    t = 1 / (1 + 0.5 * x)
    power = np.full_like(x, _ERFC[-1])
    for coefficient in _ERFC[-2::-1]:
        power = power * t + coefficient
    answer: Floats = np.maximum(x * x - power - np.log(t), 0.0)
    return answer


def above(z: Floats) -> Floats:
    """Return the surprise of a normal deviate at least z."""
    either = normal(z)
    over = either + _LN_2
    under = -np.log1p(-0.5 * np.exp(-either))
    answer: Floats = np.where(z > 0, over, under)
    return answer


def student(t: Floats, freedom: Floats) -> Floats:
    """Return the surprise of Student's t at least |t| from 0, either way.

    D. L. Wallace, Bounds on normal approximations to Student's and the chi-square
    distributions (1959): the normal deviate with nearly the same tail.
    """
    v = np.maximum(freedom, 1.0)
    # log1p(t^2 / v) without the square's overflow.
    ratio = np.minimum(np.abs(t) / np.sqrt(v), 1e150)
    deviate = (8 * v + 1) / (8 * v + 3) * np.sqrt(v * np.log1p(ratio * ratio))
    return normal(deviate)


class HeavyTail:
    """Learns how strange measures usually are, and says how surprising a value of one is.

    A measure's logarithm is taken to have an exponential tail above a high quantile, that is,
    the measure a Pareto tail: the quantile is followed by stochastic approximation, and the mean
    excess over it is B. M. Hill's estimator (A simple general approach to inference about the
    tail of a distribution, 1975) with exponential forgetting. Where a tail begins nobody knows,
    so four answers are averaged: for 0.5, 1, 2 and 4 % of the values.

    The tail is first taken to begin at measures of 1, which ten values do not change.

    Args:
        name: Prefix of its names in `Known`.
        measures: How many measures there are. They are in deviations, or at least near 1.
    """

    def __init__(self, name: str, measures: int = 1) -> None:
        self._name = name
        self._measures = measures
        self._share = np.tile(_SHARES, measures)[:, None]
        self._beyond = -np.log(self._share)

    def layout(self) -> dict[str, int]:
        """Return the names and sizes of what is kept."""
        tails = self._measures * len(_SHARES)
        names = (f"{self._name}_{part}" for part in ("level", "excess", "spread"))
        return {**dict.fromkeys(names, tails), f"{self._name}_count": 1}

    def step(self, known: Known, measures: Floats) -> Floats:
        """Return the surprise of each measure, 0 below the quantiles, and learn it.

        Args:
            known: The keys' memory.
            measures: One row per measure, one column per key; none is negative.
        """
        level, excess, spread = (
            known[f"{self._name}_{part}"] for part in ("level", "excess", "spread")
        )
        count = known[f"{self._name}_count"]
        fresh = count == 0
        np.copyto(excess, _EXCESS, where=fresh)
        np.copyto(spread, _SPREAD, where=fresh)
        count += 1
        y = np.repeat(np.log(np.maximum(measures, _LEAST)), len(_SHARES), axis=0)
        over = y - level
        hit = over > 0
        surprise = np.where(hit, over / np.maximum(excess, 0.05) + self._beyond, 0.0)
        # What the first values give is no measure yet.
        learns = count > _UNSURE
        seen = np.maximum(count - _UNSURE, 1)
        pace = np.maximum(0.02, 2 / np.sqrt(seen)) * np.maximum(spread, 0.05)
        level += np.where(learns, pace * (hit - self._share), 0.0)
        drift = np.maximum(0.002, 1 / (seen + 1)) * (np.abs(over) - spread)
        spread += np.where(learns, drift, 0.0)
        # One enormous excess must not hide the next.
        capped = np.minimum(over, 3 * np.maximum(excess, 0.1))
        excess += np.where(hit & learns, 0.03 * (capped - excess), 0.0)
        surprise *= learns
        parts = surprise.reshape(self._measures, len(_SHARES), -1)
        total = parts[:, 0].copy()
        for number in range(1, len(_SHARES)):
            total += parts[:, number]
        return total / len(_SHARES)


class Moments:
    """Exponentially weighted mean and variance, exact while few values were seen.

    T. Finch, Incremental calculation of weighted mean and variance (2009).

    Args:
        name: Prefix of its names in `Known`.
        weight: Weight of the newest value; before 1 / `weight` values all weigh the same.
    """

    def __init__(self, name: str, weight: float) -> None:
        self._names = (f"{name}_mean", f"{name}_variance", f"{name}_count")
        self._weight = weight

    def layout(self) -> dict[str, int]:
        """Return the names and sizes of what is kept."""
        return dict.fromkeys(self._names, 1)

    def mean(self, known: Known) -> Floats:
        """Return the mean so far, 0 without values."""
        return known[self._names[0]]

    def variance(self, known: Known) -> Floats:
        """Return the variance so far."""
        return known[self._names[1]]

    def count(self, known: Known) -> Floats:
        """Return the number of values so far."""
        return known[self._names[2]]

    def size(self, known: Known) -> Floats:
        """Return the mean square: variance and squared mean."""
        mean = self.mean(known)
        answer: Floats = self.variance(known) + mean * mean
        return answer

    def learn(self, known: Known, values: Floats) -> None:
        """Take one value of each key."""
        mean, variance, count = (known[name] for name in self._names)
        count += 1
        share = np.maximum(self._weight, 1 / count)
        away = values - mean
        mean += share * away
        variance += share * ((1 - share) * away * away - variance)


def deviation(variance: Floats) -> Floats:
    """Return the standard deviation, never 0."""
    answer: Floats = np.sqrt(variance + TINY)
    return answer
