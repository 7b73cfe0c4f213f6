"""Aggregates over the last rows of each key, kept as partial results of short panes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.operators.rulebook.bits import Bools, Floats, Ints
from headrace.operators.rulebook.tree import Window

PANES: Final = 60
"""A window is so many panes, the one of the row included."""

PANE: Final = pl.Struct(
    {
        "pane": pl.Int64,
        "rows": pl.Int64,
        "present": pl.Int64,
        "sum": pl.Float64,
        "min": pl.Float64,
        "max": pl.Float64,
    }
)
_AGGREGATES: Final = ("rows", "present", "sum", "min", "max")


class Pane(NamedTuple):
    """Partial results, key after key, each key's in order of time.

    Attributes:
        key: Number of the key.
        pane: Number of the pane since 1970.
        rows: Rows in it.
        present: Those whose value is there.
        sum: Of these; min and max alike, infinite where there is none.
    """

    key: Ints
    pane: Ints
    rows: Ints
    present: Ints
    sum: Floats
    min: Floats
    max: Floats


def source_of(window: Window) -> str:
    """Return what names the partial results of a window: others share them."""
    return f"{window.length_us}:{window.value}"


def pane_us(length_us: int) -> int:
    """Return the length of a pane, in microseconds."""
    return -(-length_us // PANES)


def rows_as_panes(
    key: Ints, time_us: Ints, length_us: int, values: Floats | None, present: Bools | None
) -> Pane:
    """Return each row as a partial result of its own.

    Args:
        key: Of each row, ascending; rows of a key in their order.
        time_us: Event time.
        length_us: Of the window.
        values: What is aggregated; None where rows are counted.
        present: Where there is a value.
    """
    ones = np.ones(key.size, dtype=np.int64)
    if values is None or present is None:
        present, values = np.zeros(key.size, dtype=np.bool_), np.zeros(key.size)
    numbers = values.astype(np.float64)
    return Pane(
        key,
        time_us // pane_us(length_us),
        ones,
        present.astype(np.int64),
        np.where(present, numbers, 0.0),
        np.where(present, numbers, np.inf),
        np.where(present, numbers, -np.inf),
    )


def aggregate(
    before: Pane, rows: Pane, windows: Sequence[Window]
) -> tuple[dict[str, Floats], Pane]:
    """Return for each row every window over the last panes of its key, and what to keep.

    Args:
        before: What was kept of these keys.
        rows: As of `rows_as_panes`.
        windows: Over the same values and length.

    Returns:
        Values by the name of the window, NaN where there is nothing to aggregate; and the panes
        that rows to come may need.

    Cost: O((rows + panes) log rows), whatever the length.
    """
    both = Pane._make(np.concatenate(pair) for pair in zip(before, rows, strict=True))
    # Stable: a key's kept panes come before its rows.
    order = np.argsort(both.key, kind="stable")
    entries = Pane._make(column[order] for column in both)
    first = _first_in_reach(entries)
    is_row = order >= before.key.size
    mine = np.flatnonzero(is_row)
    wanted = {part for window in windows for part in _NEEDS[window.function]}
    found: dict[str, npt.NDArray[Any]] = {
        name: _over(getattr(entries, name), first[mine], mine + 1, name)
        for name in _AGGREGATES
        if name in wanted
    }
    # The sort moved no row past another, so rows are still in their order.
    answers = {window.name: _answer(window, found) for window in windows}
    return answers, _kept(entries)


_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "avg": ("sum", "present"),
    "sum": ("sum", "present"),
    "min": ("min", "present"),
    "max": ("max", "present"),
    "count": ("rows", "present"),
}
_EMPTY: Final = {"rows": 0, "present": 0, "sum": 0.0, "min": np.inf, "max": -np.inf}
_JOIN: Final[Mapping[str, np.ufunc]] = {
    "rows": np.add,
    "present": np.add,
    "sum": np.add,
    "min": np.minimum,
    "max": np.maximum,
}


def _answer(window: Window, found: Mapping[str, npt.NDArray[Any]]) -> Floats:
    if window.function == "count":
        return found["present" if window.value else "rows"].astype(np.float64)
    count = found["present"]
    total = found["sum" if window.function == "avg" else window.function]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = total / count if window.function == "avg" else total
    return np.where(count > 0, value, np.nan)


def _first_in_reach(entries: Pane) -> Ints:
    """Return for each entry the first of its key within its last panes."""
    # Ranks keep key and pane in one number without overflow.
    panes, reach = entries.pane, entries.pane - (PANES - 1)
    distinct = np.unique(panes)
    span = np.int64(distinct.size + 1)
    place = entries.key * span + np.searchsorted(distinct, panes)
    start = entries.key * span + np.searchsorted(distinct, reach, side="left")
    return np.searchsorted(place, start, side="left").astype(np.int64)


def _over(values: npt.NDArray[Any], start: Ints, stop: Ints, name: str) -> npt.NDArray[Any]:
    """Return an aggregate over values[start:stop] for many ranges, none of them empty.

    A range is cut into lengths that are powers of two, whose results are found by doubling.
    """
    join = _JOIN[name]
    length = stop - start
    at = start.copy()
    result = np.full(length.size, _EMPTY[name], dtype=values.dtype)
    table, size = values, 1
    while size <= (length.max() if length.size else 0):
        mine = (length & size) != 0
        result[mine] = join(result[mine], table[at[mine]])
        at[mine] += size
        table = join(table[:-size], table[size:]) if table.size > size else table[:0]
        size *= 2
    return result


def _kept(entries: Pane) -> Pane:
    """Return the panes of each key that a row to come may reach, one entry per pane."""
    if not entries.key.size:
        return entries
    last = np.flatnonzero(np.diff(entries.key, append=-1))
    newest = np.repeat(entries.pane[last], np.diff(last, prepend=-1))
    reached = Pane._make(column[entries.pane > newest - PANES] for column in entries)
    begins = np.flatnonzero(
        (np.diff(reached.key, prepend=-1) != 0) | (np.diff(reached.pane, prepend=0) != 0)
    )
    joined = (_JOIN[name].reduceat(getattr(reached, name), begins) for name in _AGGREGATES)
    return Pane(reached.key[begins], reached.pane[begins], *joined)
