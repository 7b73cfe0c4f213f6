"""Rows gathered into list columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl


def lists_of(place: Any, rows: pl.DataFrame, height: int) -> pl.Series:
    """Return `height` lists: the rows of each place as structs, in their order.

    Args:
        place: The list each row belongs to, ascending; places without rows have empty lists.
        rows: What the lists hold.
        height: How many lists.
    """
    if rows.is_empty():
        nothing = pl.Series([[]], dtype=pl.List(pl.Struct(rows.schema)))
        return nothing.new_from_index(0, height)
    grouped = (
        rows.select(pl.struct(pl.all()).alias("row"))
        .with_columns(pl.Series("place", place))
        .group_by("place", maintain_order=True)
        .agg("row")
    )
    empty = pl.Series("row", [[]], dtype=grouped.schema["row"])
    at = np.full(height, grouped.height)
    at[grouped["place"].to_numpy()] = np.arange(grouped.height)
    return pl.concat([grouped["row"], empty], rechunk=True)[at]
