"""What a range and a standard deviation of n normal values are expected to be."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import erf, exp, lgamma, nan, pi, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_D2: Final = (
    *(1.128, 1.693, 2.059, 2.326, 2.534, 2.704, 2.847, 2.970),
    *(3.078, 3.173, 3.258, 3.336, 3.407, 3.472, 3.532, 3.588),
    *(3.640, 3.689, 3.735, 3.778, 3.819, 3.858, 3.895, 3.931),
)
_STEP: Final = 0.05
_EDGE: Final = 9.0
_WIDEST: Final = 18.0
_NODES: Final = 160


def d2(n: int) -> float:
    """Return the mean range of `n` standard normal values.

    Up to n = 25 as tables print it, to three decimals (ASTM Manual on Presentation of Data and
    Control Chart Analysis): published limits are made with these. Beyond, by integration.

    Example:
        >>> d2(5), round(d2(100), 4)
        (2.326, 5.0152)
    """
    printed = 1 < n < len(_D2) + 2
    return _D2[n - 2] if printed else exact_d2(n)


@lru_cache(maxsize=4096)
def exact_d2(n: int) -> float:
    """Return the mean range of `n` standard normal values, not rounded."""
    if n < 2:  # noqa: PLR2004 - a range needs two values
        return nan
    at, weights = _ranges()
    return float(np.sum(weights * (1 - _range_cdf(n, at))))


@lru_cache(maxsize=4096)
def d3(n: int) -> float:
    """Return the standard deviation of the range of `n` standard normal values.

    Example:
        >>> round(d3(5), 6)
        0.864082
    """
    if n < 2:  # noqa: PLR2004 - a range needs two values
        return nan
    at, weights = _ranges()
    square = float(np.sum(weights * 2 * at * (1 - _range_cdf(n, at))))
    return sqrt(square - exact_d2(n) ** 2)


@lru_cache(maxsize=4096)
def c4(n: int) -> float:
    """Return the mean standard deviation (divisor n - 1) of `n` standard normal values.

    Example:
        >>> round(c4(5), 6)
        0.939986
    """
    if n < 2:  # noqa: PLR2004 - a standard deviation needs two values
        return nan
    return sqrt(2 / (n - 1)) * exp(lgamma(n / 2) - lgamma((n - 1) / 2))


@lru_cache(maxsize=4096)
def range_quantile(q: float, n: int) -> float:
    """Return the range of `n` standard normal values that is not passed with probability `q`."""
    low, high = 0.0, _WIDEST
    for _ in range(60):
        middle = (low + high) / 2
        below = float(_range_cdf(n, np.array([middle]))[0]) < q
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def of_sizes(constant: Callable[[int], float], sizes: Floats) -> Floats:
    """Return the constant of each sample size; NaN where there is none."""
    distinct, place = np.unique(sizes, return_inverse=True)
    values = np.array([constant(int(n)) if n >= 2 else nan for n in distinct])  # noqa: PLR2004
    found: Floats = values[place] if values.size else np.zeros(0)
    return found


def _range_cdf(n: int, ranges: Floats) -> Floats:
    """Return P(range <= r) = n int phi(x) (Phi(x + r) - Phi(x))^(n - 1) dx.

    The trapezoidal rule is exact to double precision for a smooth integrand that vanishes.
    """
    _, density = _grid()
    inside = _between(ranges.tobytes())
    cdf: Floats = n * _STEP * np.sum(density[:, None] * inside ** (n - 1), axis=0)
    return cdf


@lru_cache(maxsize=8)
def _between(ranges: bytes) -> Floats:
    x, _ = _grid()
    return _normal_cdf(x[:, None] + np.frombuffer(ranges)) - _normal_cdf(x)[:, None]


@lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats]:
    x = np.arange(-_EDGE, _EDGE + _STEP / 2, _STEP)
    return x, np.exp(-x * x / 2) / sqrt(2 * pi)


@lru_cache(maxsize=1)
def _ranges() -> tuple[Floats, Floats]:
    at, weights = np.polynomial.legendre.leggauss(_NODES)
    return (at + 1) * (_WIDEST / 2), weights * (_WIDEST / 2)


_ERF: Final = np.frompyfunc(erf, 1, 1)


def _normal_cdf(x: Floats) -> Floats:
    values: Floats = np.asarray(_ERF(x / sqrt(2)), dtype=np.float64)
    return (1 + values) / 2
