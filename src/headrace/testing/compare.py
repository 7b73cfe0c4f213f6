"""Whether two answers hold the same rows, order aside and floats within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Tolerance:
    """How far two floats may lie apart: `relative` to the larger one, or `absolute`."""

    relative: float = 1e-9
    absolute: float = 1e-9

    def equal(self, left: Any, right: Any) -> bool:
        """Whether two values are equal; NaN equals NaN, lists and structs go by their parts."""
        if isinstance(left, float) and isinstance(right, float):
            if math.isnan(left) or math.isnan(right):
                return math.isnan(left) and math.isnan(right)
            return math.isclose(left, right, rel_tol=self.relative, abs_tol=self.absolute)
        if isinstance(left, list | tuple) and isinstance(right, list | tuple):
            return len(left) == len(right) and all(map(self.equal, left, right))
        if isinstance(left, dict) and isinstance(right, dict):
            return self.equal(list(left.values()), list(right.values()))
        return bool(left == right)


def difference(
    left: pl.DataFrame, right: pl.DataFrame, tolerance: Tolerance | None = None
) -> str | None:
    """Say how two frames differ as bags of rows, None where they do not.

    Args:
        left: Any rows.
        right: Rows with the same columns, in any order.
        tolerance: For floats.
    """
    tolerance = tolerance or Tolerance()
    if left.schema != right.select(left.columns).schema:
        return f"columns differ: {dict(left.schema)} and {dict(right.schema)}"
    ours = sorted(left.rows(), key=_rank)
    theirs = sorted(right.select(left.columns).rows(), key=_rank)
    only_left, only_right = _unmatched(ours, theirs, tolerance)
    if not only_left and not only_right:
        return None
    return (
        f"{len(ours)} and {len(theirs)} rows of {left.columns}\n"
        f"only in the first:\n{_lines(only_left)}\nonly in the second:\n{_lines(only_right)}"
    )


def _unmatched(
    ours: Sequence[tuple[Any, ...]], theirs: Sequence[tuple[Any, ...]], tolerance: Tolerance
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    if len(ours) == len(theirs) and all(map(tolerance.equal, ours, theirs)):
        return [], []
    # Floats that differ in the last bit may have been sorted apart, so each row looks for its own.
    rest = list(theirs)
    missing = []
    for row in ours:
        match = next((at for at, other in enumerate(rest) if tolerance.equal(row, other)), None)
        if match is None:
            missing.append(row)
        else:
            del rest[match]
    return missing, rest


def _rank(value: Any) -> tuple[Any, ...]:
    """Return a key by which values of one column, nulls and NaN among them, can be sorted."""
    if value is None:
        return (0,)
    if isinstance(value, float):
        return (1,) if math.isnan(value) else (2, float(f"{value:.6e}"))
    if isinstance(value, list | tuple):
        return (3, *map(_rank, value))
    if isinstance(value, dict):
        return (3, *map(_rank, value.values()))
    return (2, value)


def _lines(rows: Sequence[tuple[Any, ...]]) -> str:
    shown = [f"  {row}" for row in rows[:5]]
    if len(rows) > len(shown):
        shown.append(f"  … and {len(rows) - len(shown)} more")
    return "\n".join(shown) or "  nothing"
