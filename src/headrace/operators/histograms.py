"""Histograms whose buckets are the same everywhere, and how far two of them lie apart."""

from __future__ import annotations

from typing import Final

import polars as pl
from xxhash import xxh64_intdigest

from headrace.operators.aggregates.sketch import Quantile

BUCKET: Final = "__bucket"
GROUP: Final = "__group"
NOW: Final = "__now"
THEN: Final = "__then"
MISSING: Final = -(1 << 31)
"""The bucket of null and NaN."""

_CLASSES: Final = 128
_SEED: Final = 0x68656164
_LEAST_SHARE: Final = 1e-4
_CLOSE: Final = 1e-9


def buckets(values: pl.Series, error: float) -> pl.Series:
    """Return the bucket of each value, Int32.

    Numbers are in buckets of the quantile sketch: each is as wide as 2 `error` of its values,
    ascending with them. Text and Booleans are in one of 128 classes by a hash that is the same
    on every machine; two words may share a class.
    """
    if values.dtype.is_numeric():
        numbers = values.cast(pl.Float64).fill_nan(None)
        place = Quantile(of=pl.col(values.name), q=0.5, error=error).bucket(pl.col(values.name))
        return numbers.to_frame().select(place.fill_null(MISSING).alias(BUCKET)).to_series()
    words = values.cast(pl.String).to_frame("__word")
    distinct = words.unique(maintain_order=True)
    hashes = [
        MISSING if word is None else xxh64_intdigest(word.encode(), seed=_SEED) % _CLASSES
        for word in distinct["__word"]
    ]
    known = distinct.with_columns(pl.Series(BUCKET, hashes, dtype=pl.Int32))
    return words.join(known, on="__word", how="left", nulls_equal=True, maintain_order="left")[
        BUCKET
    ]


def distances(now: pl.DataFrame, then: pl.DataFrame, bins: int) -> pl.DataFrame:
    """Return how far histograms lie apart, group by group.

    Both sides are counts of values per bucket, without missing ones. `psi`, the population
    stability index, is the sum of (p - q) ln(p / q) over bins that hold equal shares of the
    reference as far as its buckets allow, with shares of at least 0.0001 (N. Siddiqi, "Credit
    risk scorecards", 2006). `ks` is the largest distance of the two distribution functions
    (Kolmogorov and Smirnov), at the ends of buckets: values within one bucket are not told apart.
    `outside` is the share of values in buckets below or above all of the reference.

    Args:
        now: Columns `GROUP`, `BUCKET`, `NOW` (counts).
        then: Columns `GROUP`, `BUCKET`, `THEN`.
        bins: Number of bins; 0 makes each bucket a bin.

    Returns:
        One row per group that has values on both sides, by group: `GROUP`, `psi`, `ks`,
        `outside`, Float64.
    """
    none = pl.lit(0, pl.Int64)
    both = (
        pl.concat(
            [
                now.select(GROUP, BUCKET, NOW, none.alias(THEN)),
                then.select(GROUP, BUCKET, none.alias(NOW), THEN),
            ]
        )
        .group_by(GROUP, BUCKET, maintain_order=True)
        .agg(pl.col(NOW, THEN).sum())
        .sort(GROUP, BUCKET, maintain_order=True)
        .filter((pl.col(NOW).sum().over(GROUP) > 0) & (pl.col(THEN).sum().over(GROUP) > 0))
    )
    below = {
        name: (pl.col(name).cum_sum() / pl.col(name).sum()).over(GROUP).alias(f"{name}_below")
        for name in (NOW, THEN)
    }
    shared = both.with_columns(*below.values())
    place = ((pl.col(f"{THEN}_below") * bins - _CLOSE).ceil() - 1).clip(0, bins - 1)
    binned = (
        shared.with_columns((place if bins else pl.col(BUCKET).cast(pl.Float64)).alias("__bin"))
        .group_by(GROUP, "__bin", maintain_order=True)
        .agg(pl.col(NOW, THEN).sum())
    )
    share = {name: (pl.col(name) / pl.col(name).sum()).clip(_LEAST_SHARE) for name in (NOW, THEN)}
    psi = ((share[NOW] - share[THEN]) * (share[NOW] / share[THEN]).log()).sum()
    known = pl.col(BUCKET).filter(pl.col(THEN) > 0)
    strays = pl.col(NOW).filter((pl.col(BUCKET) < known.min()) | (pl.col(BUCKET) > known.max()))
    unseen = pl.col(NOW).filter(pl.col(THEN) == 0)
    spread = shared.group_by(GROUP, maintain_order=True).agg(
        (pl.col(f"{NOW}_below") - pl.col(f"{THEN}_below")).abs().max().alias("ks"),
        ((strays if bins else unseen).sum() / pl.col(NOW).sum()).alias("outside"),
    )
    stable = binned.group_by(GROUP, maintain_order=True).agg(psi.alias("psi"))
    return stable.join(spread, on=GROUP, how="left", maintain_order="left").select(
        GROUP, "psi", "ks", "outside"
    )
