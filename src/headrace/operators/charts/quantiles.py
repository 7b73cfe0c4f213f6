"""Quantiles for probability limits, by bisection of their distribution functions.

Incomplete gamma and beta functions are those of Abramowitz and Stegun, 6.5 and 26.5: a series
or a continued fraction, to double precision. Each answer is remembered, since limits ask for the
same few again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import ceil, exp, inf, lgamma, log, log1p, sqrt
from typing import Final

_TINY: Final = 1e-300
_CLOSE: Final = 1e-16
_TERMS: Final = 100_000
_FUZZ: Final = 1e-13


@lru_cache(maxsize=4096)
def chi_square(q: float, freedom: float) -> float:
    """Return the `q` quantile of chi-square with `freedom` degrees of freedom.

    Example:
        >>> round(chi_square(0.95, 3), 6)
        7.814728
    """
    top = freedom + 40 * sqrt(2 * freedom) + 80
    return _bisect(lambda x: _gamma(freedom / 2, x / 2), q, top)


@lru_cache(maxsize=4096)
def beta(q: float, a: float, b: float) -> float:
    """Return the `q` quantile of the beta distribution.

    Example:
        >>> round(beta(0.95, 2, 5), 6)
        0.581803
    """
    return _bisect(lambda x: _beta(x, a, b), q, 1.0)


def f_ratio(q: float, above: float, below: float) -> float:
    """Return the `q` quantile of F with `above` and `below` degrees of freedom.

    Example:
        >>> round(f_ratio(0.95, 3, 10), 6)
        3.708265
    """
    # From the other tail, so that quantiles near one keep their digits.
    share = beta(1 - q, below / 2, above / 2)
    return below * (1 - share) / (above * share) if share else inf


@lru_cache(maxsize=4096)
def binomial(q: float, n: int, p: float) -> int:
    """Return the least k with P(X <= k) >= `q` of `n` trials that succeed with `p`.

    Example:
        >>> binomial(0.975, 50, 0.23)
        18
    """
    return _least(lambda k: 1.0 if k >= n else _beta(1 - p, n - k, k + 1), q, n)


@lru_cache(maxsize=4096)
def poisson(q: float, mean: float) -> int:
    """Return the least k with P(X <= k) >= `q` of a Poisson variable.

    Example:
        >>> poisson(0.975, 20.0)
        29
    """
    top = ceil(mean + 40 * sqrt(mean) + 80)
    return _least(lambda k: 1 - _gamma(k + 1, mean), q, top)


def _least(cdf: Callable[[int], float], q: float, top: int) -> int:
    low, high = 0, top
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cdf(middle) >= q - _FUZZ else (middle + 1, high)
    return low


def _bisect(cdf: Callable[[float], float], q: float, top: float) -> float:
    low, high = 0.0, top
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if cdf(middle) < q else (low, middle)
    return (low + high) / 2


def _gamma(a: float, x: float) -> float:
    """Return the regularised lower incomplete gamma function."""
    if x <= 0:
        return 0.0
    front = exp(a * log(x) - x - lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = a
        while abs(term) > abs(total) * _CLOSE:
            n += 1
            term *= x / n
            total += term
        return total * front
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    fraction = d
    for i in range(1, _TERMS):
        step = -i * (i - a)
        b += 2
        d = 1 / _not_zero(step * d + b)
        c = _not_zero(b + step / c)
        fraction *= d * c
        if abs(d * c - 1) < _CLOSE:
            break
    return 1 - front * fraction


def _beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(x, a, b) / a
    return 1 - front * _beta_fraction(1 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _not_zero(1 + even * d), _not_zero(1 + even / c)
        fraction *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _not_zero(1 + odd * d), _not_zero(1 + odd / c)
        fraction *= d * c
        if abs(d * c - 1) < _CLOSE:
            break
    return fraction


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
