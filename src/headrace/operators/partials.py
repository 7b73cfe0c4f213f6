"""Grouped partial aggregates: computed per batch, merged later, finished at close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.protocols import TableSpec
from headrace.core.time import EVENT_TIME, HIDDEN_SCHEMA, POSITION
from headrace.operators.aggregates.aggregate import Aggregate, Compiler, plan_error
from headrace.operators.row_wise import check_row_wise

PARTIALS: Final = "partials"


class Aggregation:
    """The aggregates of one operator, compiled for its input columns.

    Args:
        aggregates: Output column and aggregate, in output order.
        schema: The input's visible columns.
        by: Group columns.
        slot: Further group columns that the operator adds, e.g. the slice.
        earliest: Name under which a group's earliest event time is kept too, if it is needed.
        latest: Name under which a group's latest event time is kept too, if it is needed.
    """

    def __init__(
        self,
        aggregates: Sequence[tuple[str, Aggregate]],
        schema: pl.Schema,
        by: Sequence[str],
        slot: Mapping[str, pl.DataType],
        earliest: str | None = None,
        latest: str | None = None,
    ) -> None:
        compiler = Compiler(schema)
        if earliest is not None:
            compiler.partial(earliest, pl.col(EVENT_TIME).min(), pl.col(earliest).min())
        if latest is not None:
            compiler.partial(latest, pl.col(EVENT_TIME).max(), pl.col(latest).max())
        self._finals = [
            aggregate.compile(compiler).cast(aggregate.output_dtype(compiler.schema)).alias(name)
            for name, aggregate in aggregates
        ]
        self._compiler = compiler
        self._by = list(by)
        self._keys = [_group_key(name, schema[name]) for name in by]
        self._group = [*by, *slot]
        self._partial = list(compiler.partials.values())
        self._merge = list(compiler.merges.values())
        self._arguments = [
            expr for name, expr in compiler.arguments.items() if name not in self._by
        ]
        empty = pl.DataFrame(schema=compiler.schema)
        slots = [pl.Series(name, [], dtype) for name, dtype in slot.items()]
        try:
            prepared = self.prepare(empty, slots)
            kept = {PARTIALS: self.partial(prepared), **self.gathered(prepared)}
            self.finish(kept.pop(PARTIALS), kept, self._group)
            self._schemas = {PARTIALS: self.partial(prepared).schema} | {
                name: rows.schema for name, rows in kept.items()
            }
        except pl.exceptions.PolarsError as error:
            raise plan_error(error, schema) from error

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        """The state that holds partials: one rows table each, `partials` first."""
        return tuple(TableSpec(name, "rows", schema) for name, schema in self._schemas.items())

    @property
    def gathers(self) -> tuple[str, ...]:
        """Names of the tables that hold several rows per group."""
        return tuple(self._compiler.gathers)

    def prepare(self, frame: pl.DataFrame, slots: Sequence[pl.Series]) -> pl.DataFrame:
        """Return group columns, arguments, event time and position of each row."""
        if self._compiler.ordered and not _is_ordered(frame):
            frame = frame.with_columns(slots).sort(EVENT_TIME, POSITION, maintain_order=True)
            slots = [frame[slot.name] for slot in slots]
        return frame.select(*self._keys, *slots, *self._arguments, EVENT_TIME, POSITION)

    def partial(self, prepared: pl.DataFrame) -> pl.DataFrame:
        """Return one row per group with its partial values, in order of appearance."""
        group = self._hashed(prepared)
        partials = prepared.group_by(group, maintain_order=True).agg(self._partial)
        return self._with_constants(partials, prepared, list(self._compiler.partials))

    def gathered(self, prepared: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """Return the rows to keep, by table."""
        result = {}
        for name, gather in self._compiler.gathers.items():
            rows = prepared if gather.keep is None else prepared.filter(gather.keep)
            kept = [column for column in gather.columns if column not in self._group]
            columns = [gather.columns[column].alias(column) for column in kept]
            group = self._hashed(prepared)
            shrunk = gather.shrink(rows.select(*group, *columns), group)
            result[name] = self._with_constants(shrunk, prepared, kept)
        return result

    def _hashed(self, prepared: pl.DataFrame) -> list[str]:
        """Return the group columns that differ: a batch often lies in one slice, which then
        need not be hashed with the key.
        """
        constant = {
            name for name in self._group if name not in self._by and _is_constant(prepared[name])
        }
        return [name for name in self._group if name not in constant] if self._by else self._group

    def _with_constants(
        self, rows: pl.DataFrame, prepared: pl.DataFrame, columns: Sequence[str]
    ) -> pl.DataFrame:
        missing = [name for name in self._group if name not in rows.columns]
        values = [pl.lit(prepared[name][0], prepared[name].dtype).alias(name) for name in missing]
        return rows.with_columns(values).select(*self._group, *columns)

    def merge(self, partials: pl.DataFrame, group: Sequence[str]) -> pl.DataFrame:
        """Return one row per `group` with the partial values of its rows merged."""
        return partials.group_by(group, maintain_order=True).agg(self._merge)

    def shrink(self, name: str, rows: pl.DataFrame, group: Sequence[str]) -> pl.DataFrame:
        """Return the rows of the table `name` that still matter per `group`."""
        return self._compiler.gathers[name].shrink(rows, list(group))

    def finish(
        self, merged: pl.DataFrame, gathered: Mapping[str, pl.DataFrame], group: Sequence[str]
    ) -> pl.DataFrame:
        """Return `group` and the answers, in the order of `merged`.

        Args:
            merged: One row per group.
            gathered: Rows of each gather table with the columns `group`.
            group: Which columns make a group.
        """
        for name, gather in self._compiler.gathers.items():
            rows = gather.shrink(gathered[name], list(group))
            answers = rows.group_by(group, maintain_order=True).agg(list(gather.finals.values()))
            merged = merged.join(
                answers, on=list(group), how="left", nulls_equal=True, maintain_order="left"
            )
        return merged.select(*group, *self._finals)


def check_aggregates(
    by: Sequence[str],
    aggregates: Sequence[tuple[str, Aggregate]],
    schema: pl.Schema,
    reserved: Sequence[str],
) -> None:
    """Refuse group columns that do not exist, output columns that clash, and aggregates of
    expressions that depend on other rows.

    Raises:
        PlanError: Which one, and what would do.
    """
    for name in by:
        if name not in schema:
            raise PlanError(
                f"by={name!r} is not a column", hint=f"the columns are {', '.join(schema)}"
            )
    taken = [*by, *reserved]
    for name, one in aggregates:
        compiler = Compiler(schema)
        one.compile(compiler)
        check_row_wise(compiler.arguments.values(), schema)
        if name in taken or name in HIDDEN_SCHEMA:
            raise PlanError(
                f"the output column {name!r} exists already", hint="name the aggregate differently"
            )
        taken.append(name)


def _group_key(name: str, dtype: pl.DataType) -> pl.Expr:
    # -0.0 and 0.0 are one group; its key is 0.0 whichever came first.
    column = pl.col(name)
    return (
        pl.when(column == 0).then(0.0).otherwise(column).cast(dtype).alias(name)
        if (dtype.is_float())
        else column
    )


def _is_constant(values: pl.Series) -> bool:
    return values.len() > 0 and values.min() == values.max()


def _is_ordered(frame: pl.DataFrame) -> bool:
    return frame[EVENT_TIME].is_sorted() and frame[POSITION].is_sorted()
