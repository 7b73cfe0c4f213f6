"""What an aggregate is: partial values per slice that merge, and a final value.

An aggregate never sees a window. It tells a `Compiler` which values to keep per group, how two
such values become one, and how the answer follows; `operators/partials.py` runs that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from headrace.core.component import Component, Expression, expression_text
from headrace.core.errors import PlanError
from headrace.core.time import EVENT_TIME, HIDDEN_SCHEMA, POSITION

Shrink = Callable[[pl.DataFrame, list[str]], pl.DataFrame]
"""(rows, group columns) to fewer rows with the same answer; doing it twice changes nothing."""


@dataclass(slots=True)
class Gather:
    """Rows kept per group because the answer does not fit in one value.

    Attributes:
        columns: What is kept of a row, as row-wise expressions over the compiler's arguments.
        keep: Rows that count at all, or None for every row.
        shrink: Drops rows that cannot matter any more.
        finals: Answers, as expressions in a `group_by` over the shrunk rows.
    """

    columns: Mapping[str, pl.Expr]
    keep: pl.Expr | None
    shrink: Shrink
    finals: dict[str, pl.Expr] = field(default_factory=dict)


class Compiler:
    """Collects what the aggregates of one operator keep; equal parts are kept once."""

    def __init__(self, schema: pl.Schema) -> None:
        self.schema = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
        self.arguments: dict[str, pl.Expr] = {}
        self.partials: dict[str, pl.Expr] = {}
        self.merges: dict[str, pl.Expr] = {}
        self.gathers: dict[str, Gather] = {}
        self.ordered = False
        self._argument_names: dict[str, str] = {}

    def argument(self, of: pl.Expr, where: pl.Expr | None = None) -> str:
        """Return the column in which `of` will stand, null where `where` does not hold."""
        if where is not None and self.dtype_of(where) != pl.Boolean:
            raise PlanError(f"where= must be true or false, not {self.dtype_of(where)}")
        expr = of if where is None else pl.when(where).then(of)
        self.dtype_of(expr)
        text = expression_text(expr)
        name = self._argument_names.setdefault(text, f"__a{len(self._argument_names)}")
        self.arguments[name] = expr.alias(name)
        return name

    def partial(self, name: str, of: pl.Expr, merge: pl.Expr) -> pl.Expr:
        """Keep one value per group; `name` starts with its argument's, so equal means same."""
        self.partials[name] = of.alias(name)
        self.merges[name] = merge.alias(name)
        return pl.col(name)

    def gather(self, name: str, gather: Gather, answer: str, final: pl.Expr) -> pl.Expr:
        """Keep rows per group in the table `name`; return where its answer will stand."""
        kept = self.gathers.setdefault(name, gather)
        kept.finals[answer] = final.alias(answer)
        return pl.col(answer)

    def in_event_order(self) -> None:
        """Ask for rows sorted by (event time, position) before partials are computed."""
        self.ordered = True

    def dtype_of(self, expr: pl.Expr) -> pl.DataType:
        """Return the dtype of a row-wise expression over the input."""
        return dtype_of(expr, self.schema)


class Aggregate(Component, ABC):
    """A value per group of rows.

    Nulls are ignored; of no values `count` and `n_unique` are 0 and all others null.
    """

    @abstractmethod
    def output_dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return the dtype of the answer for these input columns."""

    @abstractmethod
    def compile(self, compiler: Compiler) -> pl.Expr:
        """Register what to keep; return the answer over the merged columns."""

    @abstractmethod
    def over_rows(self, schema: pl.Schema) -> pl.Expr:
        """Return the same answer as one aggregating expression over rows that lie in
        (event time, position) order; a sketch's answer is exact here.
        """


class Conditional(Aggregate, ABC):
    """An aggregate that may look at some of the rows only.

    Attributes:
        where: Only rows for which this holds count.
    """

    where: Expression | None = None


def dtype_of(expr: pl.Expr, schema: pl.Schema) -> pl.DataType:
    """Return the dtype of a row-wise expression.

    Raises:
        PlanError: A column is missing or types do not fit.
    """
    try:
        resolved = pl.LazyFrame(schema=schema).select(expr.alias("__dtype")).collect_schema()
    except pl.exceptions.PolarsError as error:
        raise plan_error(error, schema) from error
    return resolved["__dtype"]


def plan_error(error: Exception, schema: pl.Schema) -> PlanError:
    """Return what Polars said of an expression as an error about the plan."""
    reason = str(error).split("\n", 1)[0]
    visible = [name for name in schema if name not in HIDDEN_SCHEMA]
    return PlanError(reason, hint=f"the columns here are {', '.join(visible)}")


def ordered_rows(value: pl.Expr, where: pl.Expr | None) -> pl.Expr:
    """Return `value` of the rows that count, nulls dropped."""
    chosen = value if where is None else value.filter(where)
    return chosen.drop_nulls()


TIME_AND_PLACE = {EVENT_TIME: pl.col(EVENT_TIME), POSITION: pl.col(POSITION)}
