"""Ready-made conditions for `stream.check`, under the name `hr.quality`.

Conditions on a row: `present`, `finite`, `in_range`, `one_of`, `matches`. Conditions that remember
rows before it: `unique`, `monotone`, `steady`. What a window says, for `window(...).agg(...)` with
a `check` behind it: `missing_rate`, `outside_rate`, `duplicate_rate`, `is_monotone`, `longest_gap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.time import Duration, event_time, positive_duration
from headrace.operators.aggregates import count
from headrace.operators.columns import column_names

if TYPE_CHECKING:
    from headrace.operators.aggregates.aggregate import Aggregate
    from headrace.stream.handle import Columns
    from headrace.stream.stream import Stream

__all__ = [
    "Gate",
    "duplicate_rate",
    "finite",
    "in_range",
    "is_monotone",
    "longest_gap",
    "matches",
    "missing_rate",
    "monotone",
    "one_of",
    "outside_rate",
    "present",
    "steady",
    "unique",
]

_ROWS: Final = "__rows"
_BEFORE: Final = "__before"
_TIME: Final = "__time"


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """A condition that looks at rows before the one it judges.

    Attributes:
        watch: Adds to a stream what the condition reads.
        predicate: The condition.
        without: The columns that `watch` adds, and that do not leave.
    """

    watch: Callable[[Stream], Stream]
    predicate: pl.Expr
    without: tuple[str, ...]


def present(*columns: str) -> pl.Expr:
    """Hold where no column is null."""
    if not columns:
        raise PlanError("present() needs a column", hint='hr.quality.present("depth_m")')
    return reduce(and_, (pl.col(one).is_not_null() for one in columns))


def finite(column: str) -> pl.Expr:
    """Hold where a number is there, and neither NaN nor infinite."""
    return pl.col(column).is_finite().fill_null(value=False)


def in_range(column: str, low: Any = None, high: Any = None) -> pl.Expr:
    """Hold where low <= value <= high; None is no bound. Null and NaN are outside."""
    return _within(pl.col(column), low, high).fill_null(value=False)


def one_of(column: str, values: Sequence[Any]) -> pl.Expr:
    """Hold where the value is one of `values`. Null is none."""
    return pl.col(column).is_in(list(values)).fill_null(value=False)


def matches(column: str, pattern: str) -> pl.Expr:
    """Hold where the whole text matches a regular expression. Null does not."""
    return pl.col(column).str.contains(f"^(?:{pattern})$").fill_null(value=False)


def unique(columns: Columns, *, within: Duration) -> Gate:
    """Hold where no row with the same values came in the `within` before it, by event time.

    Rows with a null among the values pass. Rows wait for the watermark; of equal times the one
    that arrived first passes. State: a row per value and `within`.
    """
    names = column_names(columns)
    span = positive_duration(within, "within")

    def watch(stream: Stream) -> Stream:
        return stream.rolling(span, by=names).agg(**{_ROWS: count()})

    missing = pl.any_horizontal(pl.col(names).is_null())
    return Gate(watch, (pl.col(_ROWS) == 1) | missing, (_ROWS,))


def monotone(
    column: str, *, by: Columns | None = None, strict: bool = False, falling: bool = False
) -> Gate:
    """Hold where the value is not less than that of the row before it of its key, by event time.

    A first row passes, and where either value is null. Rows wait for the watermark. State: two
    rows per key, for 24 hours.

    Args:
        column: The value.
        by: Key columns.
        strict: Equal values do not pass.
        falling: The value must not be greater instead.
    """

    def watch(stream: Stream) -> Stream:
        rolled = stream.rolling(rows=2, by=by)
        aggregates: dict[str, Aggregate | pl.Expr] = {_BEFORE: pl.col(column).first()}
        return rolled.agg(**{_ROWS: count()}, **aggregates)

    holds = _follows(pl.col(_BEFORE), pl.col(column), strict=strict, falling=falling)
    return Gate(watch, (pl.col(_ROWS) == 1) | holds.fill_null(value=True), (_ROWS, _BEFORE))


def steady(within: Duration, *, by: Columns | None = None) -> Gate:
    """Hold where the row before it of its key is at most `within` older, by event time.

    It says so when a row comes; who must know that none comes uses `hr.session(within)`. A first
    row passes. State: two rows per key, for 24 hours.
    """
    span = positive_duration(within, "within")

    def watch(stream: Stream) -> Stream:
        timed = stream.with_columns(**{_TIME: event_time()})
        return timed.rolling(rows=2, by=by).agg(**{_BEFORE: pl.col(_TIME).first()})

    holds = pl.col(_TIME) - pl.col(_BEFORE) <= pl.lit(span)
    return Gate(watch, holds, (_TIME, _BEFORE))


def missing_rate(column: str, *, nan: bool = False) -> pl.Expr:
    """Give the share of a window's rows whose value is null; with `nan` also NaN, of numbers."""
    missing = pl.col(column).is_null()
    lacking = missing | pl.col(column).is_nan().fill_null(value=False) if nan else missing
    return lacking.mean()


def outside_rate(column: str, low: Any = None, high: Any = None) -> pl.Expr:
    """Give the share of a window's values outside low <= value <= high; nulls are no values."""
    return (~_within(pl.col(column), low, high)).mean()


def duplicate_rate(column: str) -> pl.Expr:
    """Give the share of a window's values that repeat an earlier one; nulls are no values."""
    values = pl.col(column).drop_nulls()
    return 1 - values.n_unique() / values.len()


def is_monotone(column: str, *, strict: bool = False, falling: bool = False) -> pl.Expr:
    """Say whether a window's values rise, by event time; nulls are no values."""
    values = pl.col(column).drop_nulls()
    return _follows(values.shift(1), values, strict=strict, falling=falling).all()


def longest_gap(column: str) -> pl.Expr:
    """Give the longest distance between neighbours among a window's values of a time column."""
    return pl.col(column).drop_nulls().sort().diff().max()


def _within(value: pl.Expr, low: Any, high: Any) -> pl.Expr:
    if low is None and high is None:
        raise PlanError("a range needs a bound", hint='in_range("depth_m", 0, 11_000)')
    if high is None and isinstance(low, int | float):
        # Polars takes NaN for the greatest number; a lower bound alone must not let it pass.
        high = math.inf
    bounds: list[pl.Expr] = [] if low is None else [value >= low]
    bounds += [] if high is None else [value <= high]
    return reduce(and_, bounds)


def _follows(before: pl.Expr, value: pl.Expr, *, strict: bool, falling: bool) -> pl.Expr:
    first, second = (value, before) if falling else (before, value)
    return first < second if strict else first <= second
