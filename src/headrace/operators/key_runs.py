"""Rows laid out key by key, for work along each key without a loop over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

ALL: Final = "__all"
"""The key column of rows without a key."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class KeyRuns:
    """The rows of a frame grouped by key, in their order within each.

    Attributes:
        keys: One row per key, in order of first appearance.
        order: Row numbers of the frame, key after key.
        key_of: For each of these, the row number in `keys`.
    """

    keys: pl.DataFrame
    order: Ints
    key_of: Ints

    @property
    def starts(self) -> Bools:
        """Whether a row is the first of its key."""
        return changes(self.key_of)


def key_runs(frame: pl.DataFrame, by: Sequence[str]) -> KeyRuns:
    """Group the rows of `frame` by the columns `by`; null and NaN are keys of their own.

    Without columns there is one key, `ALL`.
    """
    if not by:
        order = np.arange(frame.height, dtype=np.int64)
        return KeyRuns(pl.DataFrame({ALL: [True]}), order, np.zeros_like(order))
    numbered = frame.select(*by, pl.int_range(frame.height, dtype=pl.Int64).alias("__row"))
    groups = numbered.group_by(by, maintain_order=True).agg(pl.col("__row"))
    lengths = groups["__row"].list.len().to_numpy()
    order = groups["__row"].explode().to_numpy()
    key_of = np.repeat(np.arange(groups.height, dtype=np.int64), lengths)
    return KeyRuns(groups.drop("__row"), order, key_of)


def changes(values: Ints) -> Bools:
    """Return whether a value differs from the one before it; the first does."""
    fresh = np.ones(values.size, dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    return fresh


def running_max(values: Ints, key_of: Ints) -> Ints:
    """Return the running maximum of `values` within each key.

    Ranks keep the numbers small enough to lift each key above the one before it.
    """
    distinct, ranks = np.unique(values, return_inverse=True)
    lift = key_of * np.int64(distinct.size)
    highest: Ints = distinct[np.maximum.accumulate(ranks.astype(np.int64) + lift) - lift]
    return highest
