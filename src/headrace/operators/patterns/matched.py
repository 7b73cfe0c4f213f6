"""What conditions and measures say about the rows taken so far: `hr.matched("a").last("x")`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from headrace.core.component import expression_from_text, expression_text
from headrace.core.errors import ConfigError, PlanError
from headrace.operators.aggregates.aggregate import Conditional, dtype_of
from headrace.operators.aggregates.basic import Count, Max, Mean, Min, Sum
from headrace.operators.key_runs import Ints

Function = Literal["first", "last", "sum", "avg", "min", "max", "count", "collect"]

STEP: Final = "__step"
"""Number of the step that took a row."""

_PREFIX: Final = "__matched:"
_MERGING: Final[dict[str, type[Conditional]]] = {
    "sum": Sum,
    "avg": Mean,
    "min": Min,
    "max": Max,
}


@dataclass(frozen=True, slots=True)
class Matched:
    """The rows taken by one step, or by all, in match order.

    In a condition they are those taken before the row under test. Every method takes a column
    name or a row-wise expression and gives a Polars expression to combine as one likes.

    Attributes:
        step: Name of the step; None means all.
    """

    step: str | None = None

    def first(self, of: str | pl.Expr, offset: int = 0) -> pl.Expr:
        """Take the value of the first row, or of that `offset` rows after it; null if not there."""
        return self._say("first", of, offset)

    def last(self, of: str | pl.Expr, offset: int = 0) -> pl.Expr:
        """Take the value of the last row, or of that `offset` rows before it; null if not there."""
        return self._say("last", of, offset)

    def sum(self, of: str | pl.Expr) -> pl.Expr:
        """Sum values; null of none."""
        return self._say("sum", of)

    def avg(self, of: str | pl.Expr) -> pl.Expr:
        """Average values, Float64; null of none."""
        return self._say("avg", of)

    def min(self, of: str | pl.Expr) -> pl.Expr:
        """Find the smallest value; null of none."""
        return self._say("min", of)

    def max(self, of: str | pl.Expr) -> pl.Expr:
        """Find the largest value; null of none."""
        return self._say("max", of)

    def count(self, of: str | pl.Expr | None = None) -> pl.Expr:
        """Count rows, or the values of `of` that are not null. Int64, 0 of none."""
        return self._say("count", of)

    def collect(self, of: str | pl.Expr) -> pl.Expr:
        """List the value of each row, nulls too; an empty list of none."""
        return self._say("collect", of)

    def _say(self, function: Function, of: str | pl.Expr | None, offset: int = 0) -> pl.Expr:
        if offset < 0:
            raise PlanError(f"offset={offset} is negative", hint="use first() or last()")
        value = pl.col(of) if isinstance(of, str) else of
        text = None if value is None else expression_text(value)
        if text is not None:
            try:
                expression_from_text(text)
            except ConfigError as error:
                raise PlanError(
                    "hr.matched takes no Python functions",
                    hint="compute the column before: stream.with_columns(...)",
                ) from error
        return pl.col(Reference(self.step, function, text, offset).name)


def matched(step: str | None = None) -> Matched:
    """Return what conditions and measures may ask of the rows taken by `step`, or by all.

    Example:
        >>> import polars as pl
        >>> import headrace as hr
        >>> rise = pl.col("price") > hr.matched("a").last("price")
        >>> pattern = hr.Pattern.begin("a").next("b", rise)
    """
    return Matched(step)


@dataclass(frozen=True, slots=True)
class Reference:
    """One use of `matched`, carried through expressions as the name of a column."""

    step: str | None
    function: Function
    of: str | None
    offset: int

    @property
    def name(self) -> str:
        """The column that stands for it."""
        return _PREFIX + json.dumps([self.step, self.function, self.of, self.offset])

    def aggregate(self, value: str, steps: dict[str, int], schema: pl.Schema) -> pl.Expr:
        """Return it as an aggregate over rows taken, in match order.

        Args:
            value: The column that holds `of`; any column for `count` of rows.
            steps: Number of each step, as in the column `STEP`.
            schema: Columns of the rows taken.

        Raises:
            PlanError: No such step takes rows.
        """
        if self.step is not None and self.step not in steps:
            raise PlanError(
                f"no step {self.step!r} takes rows", hint=f"the steps are {', '.join(steps)}"
            )
        where = None if self.step is None else pl.col(STEP) == steps[self.step]
        if self.function == "count":
            count = Count(of=None if self.of is None else pl.col(value), where=where)
            return count.over_rows(schema).cast(pl.Int64)
        kind = _MERGING.get(self.function)
        if kind is not None:
            one = kind(of=pl.col(value), where=where)  # type: ignore[call-arg] # all of them take it
            return one.over_rows(schema).cast(one.output_dtype(schema))
        values = pl.col(value) if where is None else pl.col(value).filter(where)
        if self.function == "collect":
            return values.implode()
        place = self.offset if self.function == "first" else -1 - self.offset
        return values.get(place, null_on_oob=True)


def references(expr: pl.Expr) -> list[Reference]:
    """Return the uses of `matched` in `expr`, in order, each once."""
    names = dict.fromkeys(name for name in expr.meta.root_names() if name.startswith(_PREFIX))
    return [Reference(*json.loads(name.removeprefix(_PREFIX))) for name in names]


class Taken:
    """Computes references over rows taken.

    Args:
        wanted: The references.
        steps: Number of each step that takes rows.
        schema: Visible columns of the rows.

    Attributes:
        values: What is kept of each row taken: column name and row-wise expression.
        kept: Their dtypes.
        schema: The dtype of each reference, by its name.
    """

    def __init__(self, wanted: list[Reference], steps: dict[str, int], schema: pl.Schema) -> None:
        texts = dict.fromkeys(one.of for one in wanted if one.of is not None)
        names = {text: f"__v{place}" for place, text in enumerate(texts)}
        self.values = {name: expression_from_text(text) for text, name in names.items()}
        self.kept = pl.Schema({name: dtype_of(of, schema) for name, of in self.values.items()})
        columns = pl.Schema({**self.kept, STEP: pl.Int64()})
        self._wanted = {one.name: one for one in wanted}
        self._aggregates = {
            one.name: one.aggregate(names.get(one.of or "", STEP), steps, columns).alias(one.name)
            for one in wanted
        }
        self.schema = (
            pl.LazyFrame(schema=columns).select(self._aggregates.values()).collect_schema()
        )

    def of_none(self) -> list[pl.Expr]:
        """Return what each reference is when nothing was taken."""
        answers = []
        for name, dtype in self.schema.items():
            function = self._wanted[name].function
            nothing = {"count": 0, "collect": []}.get(function)
            answers.append(pl.lit(pl.Series([nothing], dtype=dtype)).first().alias(name))
        return answers

    def of(
        self, names: Sequence[str], groups: Ints, steps: Sequence[int], rows: pl.DataFrame
    ) -> pl.DataFrame:
        """Return the references called `names`, a row for each group.

        Args:
            names: Which ones.
            groups: For each row taken the group it belongs to, ascending without gaps from 0.
            steps: The step that took it.
            rows: The rows taken with the columns of `values`.
        """
        # Counting needs no column of the rows, and a frame without columns has no length.
        long = pl.DataFrame(
            [
                pl.Series("__group", groups),
                pl.Series(STEP, steps, dtype=pl.Int64),
                *rows.select(self.kept.names()).get_columns(),
            ]
        )
        return (
            long.group_by("__group", maintain_order=True)
            .agg(self._aggregates[name] for name in names)
            .drop("__group")
        )
