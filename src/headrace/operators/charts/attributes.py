"""Charts of counts: defective pieces in a sample, defects on a piece.

Formulas: D. C. Montgomery, Introduction to Statistical Quality Control, chapter 7.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np
import polars as pl

from headrace.core.errors import PlanError
from headrace.operators.charts.chart import MEAN, SIZE, Chart
from headrace.operators.charts.constants import Floats
from headrace.operators.charts.quantiles import binomial, poisson
from headrace.operators.charts.samples import Drawn, Groups, Measures, Rows, Sheet, divided

_TOTAL: Final = "total"


class Counted(Chart):
    """A chart of a count, in samples of one row, or of the rows of a subgroup added up."""

    estimates: ClassVar[tuple[str, ...]] = (MEAN,)
    measures_values: ClassVar[bool] = False
    sums_rows: ClassVar[bool] = True
    needs_size: ClassVar[bool] = True

    def check_sampling(self) -> None:
        """Refuse a chart without sizes, and a sigma: the centre says it."""
        if self.needs_size and self.size is None:
            raise PlanError(
                f"{self.kind} needs to know how much was inspected",
                hint='size=50, or size="inspected" for a column',
            )
        if self.sigma is not None:
            raise PlanError(f"sigma of {self.kind} follows from its centre", hint="leave it out")

    def is_known(self) -> bool:
        """Return whether the centre is known."""
        return self.center is not None

    def measures(self, values: int) -> tuple[str, ...]:  # noqa: ARG002 - always one
        """Name the count."""
        return (_TOTAL,)

    def reduce(self, rows: Rows) -> dict[str, Floats]:
        """Return what was inspected and what was counted in each sample."""
        whole = rows.whole()
        n = rows.samples.sum(np.where(whole, rows.sizes, 0.0))
        total = rows.samples.sum(np.where(whole, rows.values[0], 0.0))
        return {SIZE: n, _TOTAL: np.where(n > 0, total, np.nan)}

    def estimate(self, samples: Measures, keys: Groups) -> dict[str, Floats]:
        """Return the count per unit inspected."""
        rate = keys.mean(divided(samples[_TOTAL], samples[SIZE]), samples[SIZE])
        return {MEAN: rate if self.center is None else np.full_like(rate, self.center)}

    def draw(self, sheet: Sheet) -> Drawn:
        """Return counts, or rates, with the limits of their distribution."""
        n = np.where(sheet.samples[SIZE] > 0, sheet.samples[SIZE], np.nan)
        statistic, center, sd, error, most = self.shape(sheet.samples[_TOTAL], n, sheet.known[MEAN])
        if self.confidence is None:
            low, high = center - self.nsigmas * error, center + self.nsigmas * error
        else:
            tail = (1 - self.confidence) / 2
            low = _each(lambda k, mean: self.quantile(tail, k, mean), n, sheet.known[MEAN])
            high = _each(lambda k, mean: self.quantile(1 - tail, k, mean), n, sheet.known[MEAN])
        low, high = np.maximum(low, 0.0), np.minimum(high, most)
        return Drawn(statistic, center, sd, error, low, high, {})

    @abstractmethod
    def shape(
        self, total: Floats, n: Floats, mean: Floats
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return statistic, centre line, sd, standard error and the most that is possible."""

    @abstractmethod
    def quantile(self, q: float, n: float, mean: float) -> float:
        """Return the statistic that is not passed with probability `q`."""


class P(Counted):
    """The fraction of a sample that is defective; `center` is the fraction too."""

    kind: ClassVar[str] = "p"

    def shape(
        self, total: Floats, n: Floats, mean: Floats
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return fractions with sd √(p (1 - p) / n)."""
        error = np.sqrt(np.maximum(mean * (1 - mean), 0.0) / n)
        return total / n, mean, error, error, np.ones_like(n)

    def quantile(self, q: float, n: float, mean: float) -> float:
        """Return a fraction, from the binomial distribution."""
        return binomial(q, round(n), mean) / round(n) if _is_fraction(n, mean) else np.nan


class NP(P):
    """The number of defective pieces in a sample; `center` is the fraction all the same."""

    kind: ClassVar[str] = "np"

    def shape(
        self, total: Floats, n: Floats, mean: Floats
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return numbers with sd √(n p (1 - p))."""
        error = np.sqrt(np.maximum(mean * (1 - mean), 0.0) * n)
        return total, n * mean, error, error, n

    def quantile(self, q: float, n: float, mean: float) -> float:
        """Return a number, from the binomial distribution."""
        return binomial(q, round(n), mean) if _is_fraction(n, mean) else np.nan


class C(Counted):
    """The number of defects in samples that are alike, whatever their `size`."""

    kind: ClassVar[str] = "c"
    needs_size: ClassVar[bool] = False

    def estimate(self, samples: Measures, keys: Groups) -> dict[str, Floats]:
        """Return the count per sample."""
        mean = keys.mean(samples[_TOTAL])
        return {MEAN: mean if self.center is None else np.full_like(mean, self.center)}

    def shape(
        self, total: Floats, n: Floats, mean: Floats
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return numbers with sd √c."""
        error = np.where(n > 0, np.sqrt(np.maximum(mean, 0.0)), np.nan)
        return total, mean, np.sqrt(np.maximum(mean, 0.0)), error, np.full_like(n, np.inf)

    def quantile(self, q: float, n: float, mean: float) -> float:  # noqa: ARG002 - samples are alike
        """Return a number, from the Poisson distribution."""
        return poisson(q, mean) if mean >= 0 else np.nan


class U(Counted):
    """The number of defects per unit inspected."""

    kind: ClassVar[str] = "u"
    size_dtype: ClassVar[pl.DataType] = pl.Float64()

    def shape(
        self, total: Floats, n: Floats, mean: Floats
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return rates with sd √u and standard error √(u / n)."""
        sd = np.sqrt(np.maximum(mean, 0.0))
        return total / n, mean, sd, sd / np.sqrt(n), np.full_like(n, np.inf)

    def quantile(self, q: float, n: float, mean: float) -> float:
        """Return a rate, from the Poisson distribution."""
        return poisson(q, n * mean) / n if mean >= 0 else np.nan


def _is_fraction(n: float, p: float) -> bool:
    return round(n) > 0 and 0 <= p <= 1


def _each(quantile: Callable[[float, float], float], n: Floats, mean: Floats) -> Floats:
    """Return the quantile of each sample, computed once for those that are alike."""
    found: dict[tuple[float, float], float] = {}
    answers = np.full(n.size, np.nan)
    for at, pair in enumerate(zip(n.tolist(), mean.tolist(), strict=True)):
        if pair[0] > 0 and pair[1] == pair[1]:
            if pair not in found:
                found[pair] = quantile(*pair)
            answers[at] = found[pair]
    return answers
