"""Row-wise expressions: checked before start, evaluated without touching hidden columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Final

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.time import HIDDEN, HIDDEN_SCHEMA, to_datetime
from headrace.operators.aggregates.aggregate import plan_error

_SAMPLES: Final = (0, 1, None, 0, 2, 1, 3, None, 2)
"""Which of a dtype's values stands in each generated row: repeats and nulls."""

_CUTS: Final = ((0, 1), (1, 4), (4, 5), (5, 9))

_HINT: Final = "depends on other rows: use rolling(), window() or join_asof()"


def check_row_wise(exprs: Iterable[pl.Expr], schema: pl.Schema) -> None:
    """Refuse expressions whose answer for a row depends on other rows.

    Polars' own `is_row_separable` takes `x - x.mean()` for safe, so each expression is also
    evaluated on generated rows of its columns (repeats, nulls), whole and cut.

    Raises:
        PlanError: An expression depends on other rows, or does not fit `schema`.
    """
    generated = sample_rows(schema)
    for expr in exprs:
        if not _separable(expr) or not _same_when_cut(_results_of(expr), generated):
            raise PlanError(f"{expr} is not row-wise", hint=_HINT)


def _separable(expr: pl.Expr) -> bool:
    try:
        return expr.meta.is_row_separable()
    except (pl.exceptions.ColumnNotFoundError, pl.exceptions.InvalidOperationError):
        # Polars cannot tell for `list.eval` and selectors without a schema; generated rows can.
        return True


def check_row_wise_function(function: Callable[[pl.DataFrame], Any], schema: pl.Schema) -> None:
    """Refuse a function over frames whose answer for a row depends on other rows.

    It is called on generated rows, whole and cut; rows on which it raises prove nothing.

    Raises:
        PlanError: The same rows cut differently gave other answers, or another number of rows.
    """

    def call(rows: pl.DataFrame) -> pl.DataFrame | None:
        try:
            answer = function(rows.drop(HIDDEN))
        except Exception:  # noqa: BLE001 - a user's function may dislike generated values
            return None
        return answer if isinstance(answer, pl.DataFrame) else None

    if not _same_when_cut(call, sample_rows(schema)):
        name = getattr(function, "__qualname__", repr(function))
        raise PlanError(f"{name} is not row-wise", hint=_HINT)


def sample_rows(schema: pl.Schema) -> pl.DataFrame:
    """Return nine rows of `schema` with repeats and nulls, hidden columns included."""
    columns = {
        name: pl.Series(
            name,
            [_value(dtype, turn) for turn in _SAMPLES],
            dtype,
            strict=False,
        )
        for name, dtype in schema.items()
    }
    hidden = {
        name: pl.Series(name, [place // 2 for place in range(len(_SAMPLES))], pl.Int64)
        for name in HIDDEN
    }
    return pl.DataFrame({**columns, **hidden})


def row_wise_schema(exprs: Sequence[pl.Expr], schema: pl.Schema) -> pl.Schema:
    """Return the columns that `exprs` give over rows of `schema`.

    Raises:
        PlanError: A column is missing, types do not fit, or two results share a name.
    """
    visible = pl.LazyFrame(schema=schema)
    full = pl.LazyFrame(schema={**schema, **HIDDEN_SCHEMA})
    result: dict[str, pl.DataType] = {}
    for expr in exprs:
        source = visible if expr.meta.has_multiple_outputs() else full
        try:
            columns = source.select(expr).collect_schema()
        except pl.exceptions.PolarsError as error:
            raise plan_error(error, schema) from error
        for name, dtype in columns.items():
            check_visible(name)
            if name in result:
                raise PlanError(f"two columns are called {name!r}", hint="use .alias(name)")
            result[name] = dtype
    return pl.Schema(result)


def check_visible(name: str) -> None:
    """Refuse a column name that headrace uses itself.

    Raises:
        PlanError: The name is one of the hidden columns.
    """
    if name in HIDDEN:
        raise PlanError(
            f"the column name {name!r} is reserved", hint="event time is hr.event_time()"
        )


def evaluate(exprs: Sequence[pl.Expr], frame: pl.DataFrame) -> list[pl.Expr | pl.Series]:
    """Return `exprs` ready for `frame.select`: those like `pl.all()` see no hidden columns."""
    ready: list[pl.Expr | pl.Series] = []
    for expr in exprs:
        if expr.meta.has_multiple_outputs():
            ready.extend(frame.drop(HIDDEN).select(expr).get_columns())
        else:
            ready.append(expr)
    return ready


def _same_when_cut(
    answer: Callable[[pl.DataFrame], pl.DataFrame | None], rows: pl.DataFrame
) -> bool:
    # A generated value may be no valid input (text that is no date): such rows prove nothing.
    singles = [answer(rows[i : i + 1]) for i in range(rows.height)]
    if any(single is not None and single.height != 1 for single in singles):
        return False
    usable = [i for i, single in enumerate(singles) if single is not None]
    kept = rows[usable]
    whole = answer(kept)
    if whole is None or whole.height != kept.height:
        return not usable
    alone = [singles[i] for i in usable]
    cuts = [answer(kept[start:stop]) for start, stop in _CUTS if start < kept.height]
    back = answer(kept.reverse())
    return (
        _joined(alone, whole)
        and _joined(cuts, whole)
        and back is not None
        and back.reverse().equals(whole, null_equal=True)
    )


def _results_of(expr: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame | None]:
    def answer(rows: pl.DataFrame) -> pl.DataFrame | None:
        try:
            if expr.meta.has_multiple_outputs():
                return rows.drop(HIDDEN).select(expr)
            # Beside a full column literals spread over all rows, and other lengths fail.
            return rows.select(pl.col(HIDDEN[0]).alias("__rows"), expr).drop("__rows")
        except pl.exceptions.ShapeError:
            return rows.clear()
        except pl.exceptions.PolarsError:
            return None

    return answer


def _joined(parts: Sequence[pl.DataFrame | None], whole: pl.DataFrame) -> bool:
    present = [part for part in parts if part is not None]
    return len(present) == len(parts) and pl.concat(present).equals(whole, null_equal=True)


def _value(dtype: pl.DataType | pl.datatypes.DataTypeClass, turn: int | None) -> Any:
    """Return the value number `turn` of a dtype, different for different turns where it can."""
    if turn is None:
        return None
    if isinstance(dtype, pl.List | pl.Array):
        length = dtype.shape[0] if isinstance(dtype, pl.Array) else turn + 1
        return [_value(dtype.inner, turn + i) for i in range(length)]
    if isinstance(dtype, pl.Struct):
        return {name: _value(inner, turn) for name, inner in dtype.to_schema().items()}
    if isinstance(dtype, pl.Enum):
        return dtype.categories[turn % len(dtype.categories)] if len(dtype.categories) else None
    for kinds, make in _MAKERS:
        if isinstance(dtype, kinds):
            return make(turn)
    return turn if dtype.is_integer() else None


def _moment(turn: int) -> Any:
    return to_datetime(1_700_000_000_000_000 + turn * 90_061_000_001)


_MAKERS: Final[tuple[tuple[Any, Callable[[int], Any]], ...]] = (
    (pl.Boolean, lambda turn: turn % 2 == 0),
    (pl.String | pl.Categorical, lambda turn: ("b", "a", "3", "")[turn % 4]),
    (pl.Binary, lambda turn: bytes([98 - turn % 8])),
    (pl.Float32 | pl.Float64, lambda turn: (2.5, -1.0, 40.25, 0.0)[turn % 4]),
    (pl.Decimal, lambda turn: Decimal((3, 1, 7, 2)[turn % 4])),
    (pl.Datetime, lambda turn: _moment(turn).replace(tzinfo=None)),
    (pl.Date, lambda turn: date(2024, 2, 28 - turn % 9)),
    (pl.Time, lambda turn: time(3 + turn % 9, 59)),
    (pl.Duration, lambda turn: timedelta(seconds=5 - turn)),
)
