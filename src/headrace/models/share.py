"""Which of several models a key belongs to: always the same, on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from xxhash import xxh64_intdigest


def assigned(
    frame: pl.DataFrame, by: Sequence[str], shares: Sequence[float], salt: str
) -> npt.NDArray[np.int64]:
    """Return for each row 0 for the first model, or 1, 2, … for those with a share.

    A key's place in [0, 1) is xxh64 of its values as JSON, seeded with that of `salt`; the shares
    are taken from 0 up, one after the other, and what is left is the first model's. So raising
    the last share moves keys to that model only, and none between the others.

    Args:
        frame: n rows.
        by: Key columns; null is a key like any other.
        shares: One per further model, their sum at most 1.
        salt: Another one gives an independent assignment.

    Cost: one hash per distinct key of the batch.
    """
    columns = [_plain(name, frame.schema[name]).alias(str(at)) for at, name in enumerate(by)]
    keys = frame.select(pl.struct(columns).alias("key"))
    distinct = keys.unique(maintain_order=True).with_row_index("number")
    texts = distinct["key"].struct.json_encode().to_list()
    seed = xxh64_intdigest(salt.encode())
    places = np.array([xxh64_intdigest(text.encode(), seed=seed) / 2**64 for text in texts])
    bounds = np.cumsum(np.asarray(shares, dtype=np.float64))
    above = np.searchsorted(bounds, places, side="right")
    models: npt.NDArray[Any] = np.where(above < len(bounds), above + 1, 0)
    number = keys.join(distinct, on="key", how="left", maintain_order="left", nulls_equal=True)
    found: npt.NDArray[np.int64] = models[number["number"].to_numpy()].astype(np.int64)
    return found


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    # As text: neither the width of a number nor the name of its column shall matter.
    column = pl.col(name)
    if dtype.is_float():
        # Adding zero turns -0.0 into 0.0, and there are many NaNs.
        column = pl.when(column.is_nan()).then(float("nan")).otherwise(column + 0.0)
    return column.cast(pl.String)
