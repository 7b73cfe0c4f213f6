"""Hotelling's T²: several values at once.

Formulas: D. C. Montgomery, Introduction to Statistical Quality Control, chapter 11.
"""

from __future__ import annotations

from functools import lru_cache
from math import nan
from typing import Annotated, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator

from headrace.core.errors import PlanError
from headrace.operators.charts.chart import SIZE, Chart, only_limits
from headrace.operators.charts.constants import Floats
from headrace.operators.charts.quantiles import beta, f_ratio
from headrace.operators.charts.samples import Drawn, Groups, Measures, Rows, Sheet, divided
from headrace.operators.key_runs import Bools

MOST_VALUES: Final = 32
_INSIDE: Final = 0.9973
_SAMPLES: Final = "samples"
_SINGULAR: Final = 1e-12
"""A covariance whose eigenvalues differ by more than this has no inverse worth the name."""


class T2(Chart):
    """Distances of single rows, or of averages of samples, from the centre, in the metric of
    their covariance. `center` and `sd` are null: they are a vector and a matrix.

    The limit is that of `confidence`, by default 0.9973 to the power of the number of values.
    """

    kind: ClassVar[str] = "t2"
    measures_values: ClassVar[bool] = False
    rules: Annotated[tuple[str, ...], BeforeValidator(only_limits)] = ("we1", "nelson1")

    def check_sampling(self) -> None:
        """Refuse what this chart cannot use."""
        if isinstance(self.size, str):
            raise PlanError("t2 counts its rows", hint="size=5, or subgroup=")
        if self.center is not None or self.sigma is not None:
            raise PlanError("t2 learns centre and covariance from phase I", hint="phase1=25")
        if self.nsigmas != T2.model_fields["nsigmas"].default:
            raise PlanError("the limit of t2 is not in sigmas", hint="confidence=0.99")

    def check_values(self, values: int) -> None:
        """Refuse fewer than two values, and a phase I too short for them."""
        if not 1 < values <= MOST_VALUES:
            raise PlanError(f"t2 takes 2 to {MOST_VALUES} value columns, not {values}")
        least = values + 2 if self.rows_per_sample == 1 else 2
        if isinstance(self.phase1, int) and self.phase1 < least:
            raise PlanError(
                f"phase1={self.phase1} is too short for {values} values", hint=f"{least}"
            )

    @property
    def look_back(self) -> int:
        """Nothing: each sample is judged by itself."""
        return 0

    def measures(self, values: int) -> tuple[str, ...]:
        """Name averages and, of samples of several rows, sums of products."""
        return (*_vector(values), *(() if self.rows_per_sample == 1 else _matrix(values)))

    def estimated(self, values: int) -> tuple[str, ...]:
        """Name the centre, the inverse of the covariance, and the number of samples."""
        return (*_vector(values), *_matrix(values), _SAMPLES)

    def reduce(self, rows: Rows) -> dict[str, Floats]:
        """Return size, averages and sums of products of each sample."""
        whole, groups = rows.whole(), rows.samples
        n = groups.sum(whole.astype(np.float64))
        kept = [np.where(whole, value, 0.0) for value in rows.values]
        means = [divided(groups.sum(value), n) for value in kept]
        measures = {SIZE: n, **dict(zip(_vector(len(means)), means, strict=True))}
        if self.rows_per_sample == 1:
            return measures
        gaps = [np.where(whole, v - m[groups.of], 0.0) for v, m in zip(kept, means, strict=True)]
        for (i, j), name in _pairs(len(means)):
            measures[name] = groups.sum(gaps[i] * gaps[j])
        return measures

    def estimate(self, samples: Measures, keys: Groups) -> dict[str, Floats]:
        """Return the centre, the inverse of the covariance, and the number of samples."""
        names = [name for name in samples if name.startswith("mean_")]
        p, n = len(names), samples[SIZE]
        center = {name: keys.mean(samples[name], n) for name in names}
        single = self.rows_per_sample == 1
        used = (n > 0) if single else (n > 1)
        freedom = keys.sum(np.where(used, n - 1, 0.0)) if not single else keys.sum(n) - 1
        gaps = [np.where(used, samples[m] - center[m][keys.of], 0.0) for m in names]
        matrix = np.zeros((keys.count, p, p))
        for (i, j), name in _pairs(p):
            products = gaps[i] * gaps[j] if single else np.where(used, samples[name], 0.0)
            matrix[:, i, j] = matrix[:, j, i] = divided(keys.sum(products), freedom)
        inverse = _inverse(matrix)
        found = {name: inverse[:, i, j] for (i, j), name in _pairs(p)}
        return {**center, **found, _SAMPLES: keys.sum(used.astype(np.float64))}

    def draw(self, sheet: Sheet) -> Drawn:
        """Return T² with its upper limit; the lower one is 0."""
        names = [name for name in sheet.samples if name.startswith("mean_")]
        n = np.where(sheet.samples[SIZE] > 0, sheet.samples[SIZE], np.nan)
        gaps = [sheet.samples[name] - sheet.known[name] for name in names]
        distance = np.zeros(n.size)
        for (i, j), name in _pairs(len(names)):
            twice = 1 if i == j else 2
            distance = distance + twice * gaps[i] * gaps[j] * sheet.known[name]
        limits = zip(n.tolist(), sheet.known[_SAMPLES].tolist(), sheet.trial.tolist(), strict=True)
        high = np.array([self._limit(len(names), *one) for one in limits], dtype=np.float64)
        none = np.full(n.size, np.nan)
        return Drawn(n * distance, none, none, none, np.where(high > 0, 0.0, nan), high, {})

    def _limit(self, p: int, n: float, samples: float, trial: bool) -> float:
        q = _INSIDE**p if self.confidence is None else self.confidence
        if self.rows_per_sample == 1:
            return _limit_of_singles(q, p, samples, trial)
        return _limit_of_samples(q, p, n, samples, trial)


@lru_cache(maxsize=4096)
def _limit_of_singles(q: float, p: int, m: float, trial: bool) -> float:
    if not m > p + 1:
        return nan
    if trial:
        return (m - 1) ** 2 / m * beta(q, p / 2, (m - p - 1) / 2)
    return p * (m + 1) * (m - 1) / (m * (m - p)) * f_ratio(q, p, m - p)


@lru_cache(maxsize=4096)
def _limit_of_samples(q: float, p: int, n: float, m: float, trial: bool) -> float:
    freedom = m * n - m - p + 1
    if not (freedom > 0 and n > 1):
        return nan
    return p * (m - 1 if trial else m + 1) * (n - 1) / freedom * f_ratio(q, p, freedom)


def _inverse(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the inverse of each covariance, NaN where it has none."""
    known: Bools = np.logical_and.reduce(np.isfinite(matrices), axis=(1, 2))
    tame = np.where(known[:, None, None], matrices, 0.0)
    answer = np.full_like(matrices, np.nan)
    if not tame.size:
        return answer
    values = np.linalg.eigvalsh(tame)
    good = values[:, 0] > _SINGULAR * values[:, -1]
    if good.any():
        answer[good] = np.linalg.inv(tame[good])
    return answer


def _vector(values: int) -> tuple[str, ...]:
    return tuple(f"mean_{i}" for i in range(values))


def _pairs(values: int) -> list[tuple[tuple[int, int], str]]:
    return [((i, j), f"pair_{i}_{j}") for i in range(values) for j in range(i, values)]


def _matrix(values: int) -> tuple[str, ...]:
    return tuple(name for _, name in _pairs(values))
