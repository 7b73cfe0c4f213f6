"""Rows and samples as arrays: what a chart computes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.operators.charts.constants import Floats
from headrace.operators.key_runs import Bools, Ints

Measures = Mapping[str, Floats]
"""Numbers by name, one per sample or one per key."""


@dataclass(frozen=True)
class Groups:
    """Elements that lie group after group.

    Sums go through each group's elements in order, so they do not depend, to the last bit, on
    what other groups there are.

    Attributes:
        of: Number of the group of each element, ascending; a group may have none.
        count: Number of groups.
    """

    of: Ints
    count: int

    def sum(self, values: Floats) -> Floats:
        """Return the sum of each group; 0 of none."""
        total = np.bincount(self.of, weights=values, minlength=self.count)
        return total.astype(np.float64, copy=False)

    def mean(self, values: Floats, weights: Floats | None = None) -> Floats:
        """Return the mean of the values that are not NaN; NaN of none."""
        known = np.isfinite(values)
        shares = known.astype(np.float64) if weights is None else np.where(known, weights, 0.0)
        total = self.sum(np.where(known, values, 0.0) * shares)
        return divided(total, self.sum(shares))

    def least(self, values: Floats) -> Floats:
        """Return the least value of each group; infinite of none."""
        found = np.full(self.count, np.inf)
        np.minimum.at(found, self.of, values)
        return found

    def most(self, values: Floats) -> Floats:
        """Return the largest value of each group; -infinite of none."""
        return -self.least(-values)

    def before(self, values: Floats) -> Floats:
        """Return the value one place before within the group, NaN for the first of each."""
        shifted = np.full(values.size, np.nan)
        shifted[1:] = np.where(self.of[1:] == self.of[:-1], values[:-1], np.nan)
        return shifted

    def place(self) -> Ints:
        """Return each element's number within its group, from 0."""
        at = np.arange(self.of.size, dtype=np.int64)
        first = np.searchsorted(self.of, np.arange(self.count))
        place: Ints = at - first[self.of]
        return place


@dataclass(frozen=True)
class Drawn:
    """What a chart shows of each sample, NaN where it has nothing to show.

    Attributes:
        statistic: The point.
        center: The centre line.
        sd: The process's standard deviation that the limits are made of.
        error: The standard error of the statistic, by which rules measure.
        lcl: Lower control limit.
        ucl: Upper control limit.
        more: What the chart must remember of each sample.
    """

    statistic: Floats
    center: Floats
    sd: Floats
    error: Floats
    lcl: Floats
    ucl: Floats
    more: Measures


@dataclass(frozen=True)
class Sheet:
    """Samples with what is known of their process, key after key.

    Attributes:
        samples: Sizes, measures, `number` (from 1) within the key, and what the chart remembers,
            NaN where a sample is new.
        known: The estimates, one per sample.
        keys: Which key a sample belongs to.
        trial: Whether a sample is of phase I.
    """

    samples: Measures
    known: Measures
    keys: Groups
    trial: Bools


@dataclass(frozen=True)
class Rows:
    """Measurements, sample after sample.

    Attributes:
        values: One array per value column; NaN where there is no measurement.
        sizes: What each row counts for.
        samples: Which sample each row belongs to.
    """

    values: tuple[Floats, ...]
    sizes: Floats
    samples: Groups

    def whole(self) -> Bools:
        """Return which rows count: every value finite, and a size above nothing."""
        whole: npt.NDArray[np.bool_] = np.isfinite(self.sizes) & (self.sizes > 0)
        for value in self.values:
            whole &= np.isfinite(value)
        return whole


def divided(above: Floats, below: Floats) -> Floats:
    """Return the ratio, NaN where there is nothing to divide by."""
    answer: Floats = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return answer
