"""Charts of measured values: averages, ranges, standard deviations, single values.

Formulas: D. C. Montgomery, Introduction to Statistical Quality Control, chapters 6 and 8.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from headrace.core.errors import PlanError
from headrace.operators.charts.chart import MEAN, OVERALL, SD, SIZE, Chart
from headrace.operators.charts.constants import Floats, c4, d2, d3, of_sizes, range_quantile
from headrace.operators.charts.quantiles import chi_square
from headrace.operators.charts.samples import Drawn, Groups, Measures, Rows, Sheet, divided

_RANGE = "range"
_SPREAD = "spread"
_LINE = "line_sd"


class Measured(Chart):
    """A chart of one measured value, in samples of one or more."""

    estimates: ClassVar[tuple[str, ...]] = (MEAN, SD, OVERALL)
    sigmas: ClassVar[tuple[str, ...]] = (
        *("range", "sd", "weighted_range", "weighted_sd", "pooled"),
        "moving_range",
    )
    default_sigma: ClassVar[str] = "range"

    @property
    def single(self) -> bool:
        """Whether samples are single values."""
        return self.rows_per_sample == 1

    def check_sampling(self) -> None:
        """Refuse a size that is a column, and estimates that samples do not give."""
        if isinstance(self.size, str):
            raise PlanError(f"{self.kind} counts its rows", hint="size=5, or subgroup=")
        if not isinstance(self.sigma, str):
            return
        fits = ("moving_range", "sd") if self.single else tuple(set(self.sigmas) - {"moving_range"})
        if self.sigma not in fits:
            raise PlanError(
                f"{self.kind} of {'single values' if self.single else 'samples'} cannot take "
                f"sigma={self.sigma!r}",
                hint=f"one of {', '.join(sorted(fits))}",
            )

    def measures(self, values: int) -> tuple[str, ...]:  # noqa: ARG002 - always one
        """Name mean, range and standard deviation."""
        return (MEAN, _RANGE, _SPREAD)

    def reduce(self, rows: Rows) -> dict[str, Floats]:
        """Return size, mean, range and standard deviation of each sample."""
        whole, groups = rows.whole(), rows.samples
        value = np.where(whole, rows.values[0], 0.0)
        n = groups.sum(whole.astype(np.float64))
        mean = divided(groups.sum(value), n)
        gap = np.where(whole, value - mean[groups.of], 0.0)
        spread = np.sqrt(divided(groups.sum(gap * gap), n - 1))
        least = groups.least(np.where(whole, value, np.inf))
        most = groups.most(np.where(whole, value, -np.inf))
        several = n > 1
        extent = np.full_like(mean, np.nan)
        extent[several] = most[several] - least[several]
        return {SIZE: n, MEAN: mean, _RANGE: extent, _SPREAD: spread}

    def estimate(self, samples: Measures, keys: Groups) -> dict[str, Floats]:
        """Return mean and standard deviation of the process, and that of all its values."""
        mean = keys.mean(samples[MEAN], samples[SIZE])
        center = np.full_like(mean, self.center) if self.center is not None else mean
        if isinstance(self.sigma, float):
            sd = np.full_like(mean, self.sigma)
        else:
            sd = self._spread(samples, keys, mean)
        return {MEAN: center, SD: sd, OVERALL: _overall(samples, keys, mean)}

    def _spread(self, samples: Measures, keys: Groups, mean: Floats) -> Floats:
        n = samples[SIZE]
        extent, spread = samples[_RANGE], samples[_SPREAD]
        default = "moving_range" if self.single else self.default_sigma
        method = self.sigma if isinstance(self.sigma, str) else default
        if self.single:
            return self._spread_of_singles(samples, keys, mean, method)
        expected, wobble, small = of_sizes(d2, n), of_sizes(d3, n), of_sizes(c4, n)
        estimates = {
            "range": (extent / expected, None),
            "weighted_range": (extent / expected, (expected / wobble) ** 2),
            "sd": (spread / small, None),
            "weighted_sd": (spread / small, small**2 / (1 - small**2)),
        }
        if method in estimates:
            return keys.mean(*estimates[method])
        freedom = keys.sum(np.where(n > 1, n - 1, 0.0))
        return np.sqrt(keys.mean(spread**2, n - 1)) / of_sizes(c4, freedom + 1)

    def _spread_of_singles(
        self, samples: Measures, keys: Groups, mean: Floats, method: str
    ) -> Floats:
        if method == "moving_range":
            return keys.mean(np.abs(samples[MEAN] - keys.before(samples[MEAN]))) / d2(2)
        return _overall(samples, keys, mean) / of_sizes(c4, keys.sum(samples[SIZE]))

    def given(self) -> dict[str, float]:
        """Return the centre and standard deviation that are known."""
        known = np.nan if self.center is None else self.center
        sd = self.sigma if isinstance(self.sigma, float) else np.nan
        return {MEAN: known, SD: sd, OVERALL: np.nan}


def _overall(samples: Measures, keys: Groups, mean: Floats) -> Floats:
    """Return the standard deviation of all values, from those within and between samples."""
    n, spread = samples[SIZE], samples[_SPREAD]
    within = np.where(n > 1, np.nan_to_num(spread) ** 2 * (n - 1), 0.0)
    gap = np.where(n > 0, samples[MEAN] - mean[keys.of], 0.0)
    return np.sqrt(divided(keys.sum(within + n * gap * gap), keys.sum(n) - 1))


class _Sampled(Measured):
    def check_sampling(self) -> None:
        """Refuse samples of one."""
        if self.rows_per_sample == 1:
            raise PlanError(
                f"{self.kind} needs samples of several rows",
                hint='size=5, or subgroup="batch"; hr.chart.individuals takes single values',
            )
        super().check_sampling()


class XBar(_Sampled):
    """Averages of samples; sigma from ranges unless said otherwise."""

    kind: ClassVar[str] = "xbar"

    def draw(self, sheet: Sheet) -> Drawn:
        """Return averages with limits center ± width sd / √n."""
        return averages(self, sheet)


class Individuals(Measured):
    """Single values; sigma from moving ranges of two unless said otherwise."""

    kind: ClassVar[str] = "individuals"
    least_phase1: ClassVar[int] = 2

    def check_sampling(self) -> None:
        """Refuse samples of several rows."""
        refuse_samples(self)
        super().check_sampling()

    @property
    def rows_per_sample(self) -> int:
        """One."""
        return 1

    def draw(self, sheet: Sheet) -> Drawn:
        """Return values with limits center ± width sd."""
        return averages(self, sheet)


class MovingRange(Individuals):
    """Distances of single values from the one before; goes with `individuals`."""

    kind: ClassVar[str] = "moving_range"

    def is_known(self) -> bool:
        """Return whether sigma is known: the centre follows from it."""
        return isinstance(self.sigma, float)

    def draw(self, sheet: Sheet) -> Drawn:
        """Return moving ranges with the limits of ranges of two."""
        mean = sheet.samples[MEAN]
        moved = np.abs(mean - sheet.keys.before(mean))
        return _ranges(self, moved, np.full_like(mean, 2.0), sheet.known)


class _Spreads(_Sampled):
    """The centre line of a spread comes from spreads of its own kind, whatever `sigma` is."""

    estimates: ClassVar[tuple[str, ...]] = (MEAN, SD, OVERALL, _LINE)

    def is_known(self) -> bool:
        """Return whether sigma is known: the centre line follows from it."""
        return isinstance(self.sigma, float)

    def given(self) -> dict[str, float]:
        """Return what is known; the line is that of sigma."""
        given = super().given()
        return {**given, _LINE: given[SD]}

    def estimate(self, samples: Measures, keys: Groups) -> dict[str, Floats]:
        """Return the process's estimates, and the sigma of the centre line."""
        return {**super().estimate(samples, keys), _LINE: keys.mean(self.scaled(samples))}

    @abstractmethod
    def scaled(self, samples: Measures) -> Floats:
        """Return what the spread of each sample says of sigma."""


class R(_Spreads):
    """Ranges of samples."""

    kind: ClassVar[str] = "r"

    def scaled(self, samples: Measures) -> Floats:
        """Return range / d2."""
        return samples[_RANGE] / of_sizes(d2, samples[SIZE])

    def draw(self, sheet: Sheet) -> Drawn:
        """Return ranges with limits center ± width d3 sd, not below 0."""
        return _ranges(self, sheet.samples[_RANGE], sheet.samples[SIZE], sheet.known)


class S(_Spreads):
    """Standard deviations of samples."""

    kind: ClassVar[str] = "s"
    default_sigma: ClassVar[str] = "sd"

    def scaled(self, samples: Measures) -> Floats:
        """Return standard deviation / c4."""
        return samples[_SPREAD] / of_sizes(c4, samples[SIZE])

    def draw(self, sheet: Sheet) -> Drawn:
        """Return standard deviations with limits center ± width √(1 - c4²) sd, not below 0."""
        n, sd = sheet.samples[SIZE], sheet.known[SD]
        small = of_sizes(c4, n)
        error = np.sqrt(1 - small**2) * sd
        center = small * sheet.known[_LINE]
        if self.confidence is None:
            low, high = (
                np.maximum(center - self.nsigmas * error, 0.0),
                center + self.nsigmas * error,
            )
        else:
            tail = (1 - self.confidence) / 2
            low = np.sqrt(of_sizes(lambda k: chi_square(tail, k - 1) / (k - 1), n)) * sd
            high = np.sqrt(of_sizes(lambda k: chi_square(1 - tail, k - 1) / (k - 1), n)) * sd
        return Drawn(sheet.samples[_SPREAD], center, sd, error, low, high, {})


def averages(chart: Measured, sheet: Sheet) -> Drawn:
    """Return averages with limits center ± width sd / √n."""
    center, sd, n = sheet.known[MEAN], sheet.known[SD], sheet.samples[SIZE]
    error = sd / np.sqrt(np.where(n > 0, n, np.nan))
    reach = chart.width * error
    return Drawn(sheet.samples[MEAN], center, sd, error, center - reach, center + reach, {})


def refuse_samples(chart: Chart) -> None:
    """Refuse samples of several rows.

    Raises:
        PlanError: `size` or `subgroup` asks for them.
    """
    if chart.subgroup is not None or chart.size not in (None, 1):
        raise PlanError(
            f"{chart.kind} takes single values", hint="leave out size= and subgroup=, or use xbar"
        )


def _ranges(chart: Measured, ranges: Floats, n: Floats, known: Measures) -> Drawn:
    sd = known[SD]
    center, error = of_sizes(d2, n) * known.get(_LINE, sd), of_sizes(d3, n) * sd
    if chart.confidence is None:
        low, high = np.maximum(center - chart.nsigmas * error, 0.0), center + chart.nsigmas * error
    else:
        tail = (1 - chart.confidence) / 2
        low = of_sizes(lambda k: range_quantile(tail, k), n) * sd
        high = of_sizes(lambda k: range_quantile(1 - tail, k), n) * sd
    return Drawn(ranges, center, sd, error, low, high, {})
