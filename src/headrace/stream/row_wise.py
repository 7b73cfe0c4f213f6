"""Steps that look at one row at a time, or only at when it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.time import TIME_DTYPE, Duration, duration
from headrace.operators.explode import Explode
from headrace.operators.filter import Filter
from headrace.operators.project import Drop, Rename, Select, WithColumns
from headrace.operators.split import Split
from headrace.operators.union import Union
from headrace.operators.unnest import Unnest
from headrace.plan.graph import Ref
from headrace.stream.handle import FrameFunction, Handle, TimeColumn

if TYPE_CHECKING:
    from headrace.stream.stream import Stream


class RowWise(Handle):
    """Filters, columns, splits and unions."""

    __slots__ = ()

    def filter(self, *predicates: pl.Expr, name: str | None = None) -> Stream:
        """Keep the rows for which all `predicates` hold; null counts as no.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> dives = app.topic(
            ...     "dives",
            ...     {"time": pl.Datetime("us", "UTC"), "depth_m": pl.Float64},
            ...     time="time",
            ... )
            >>> dives.filter(pl.col("depth_m") > 200).schema.names()
            ['time', 'depth_m']
        """
        if not predicates:
            raise PlanError("filter() needs a condition", hint='e.g. pl.col("depth_m") > 200')
        predicate = predicates[0]
        for another in predicates[1:]:
            predicate = predicate & another
        return self._then(Filter(predicate=predicate, name=name))

    def select(self, *columns: str | pl.Expr, **named: pl.Expr) -> Stream:
        """Keep and compute columns, row by row."""
        return self._then(Select(columns=_expressions(columns, named)))

    def with_columns(self, *columns: pl.Expr, **named: pl.Expr) -> Stream:
        """Add or replace columns, row by row."""
        made = _expressions(columns, named)
        result = self._then(WithColumns(columns=made))
        if self.time is not None and self.time.column in _made_names(made):
            return replace(result, time=None)
        return result

    def drop(self, *columns: str | pl.Expr, name: str | None = None) -> Stream:
        """Leave columns out; the event time stays, whatever is dropped."""
        return self._then(Drop(columns=columns, name=name))

    def rename(self, mapping: Mapping[str, str], *, name: str | None = None) -> Stream:
        """Give columns other names, {old: new}."""
        time = self.time
        if time is not None and time.column in mapping:
            time = TimeColumn(mapping[time.column], time.shift_us)
        return self.then(Rename(mapping=dict(mapping), name=name), time=time)

    def explode(self, *columns: str | pl.Expr, name: str | None = None) -> Stream:
        """Give each element of list columns a row of its own."""
        return self._then(Explode(columns=columns, name=name))

    def unnest(self, *columns: str | pl.Expr, name: str | None = None) -> Stream:
        """Put the fields of struct columns in their place."""
        return self._then(Unnest(columns=columns, name=name))

    def map_batches(
        self,
        fn: FrameFunction,
        schema: Mapping[str, Any] | pl.Schema,
        *,
        pure: bool = True,
        name: str | None = None,
    ) -> Stream:
        """Apply an importable function that works row by row to each batch.

        Args:
            fn: Takes a frame and returns as many rows with `schema`, in the same order.
            schema: Columns it returns.
            pure: Whether the same rows always give the same answer; otherwise the answers are
                recorded in the journal, and replay takes them from there.
            name: Identity of the step.
        """
        from headrace.operators.map_batches import MapBatches, MapBatchesRecorded

        kind = MapBatches if pure else MapBatchesRecorded
        return self._then(kind(fn=fn, returns=pl.Schema(schema), name=name))

    def split(self, predicate: pl.Expr, *, name: str | None = None) -> tuple[Stream, Stream]:
        """Return two streams: the rows for which `predicate` holds, and the rest."""
        yes = self._then(Split(predicate=predicate, name=name))
        return yes, self._at(Ref(yes.ref.node, "no"), yes.schema, yes.time)

    def union(self, *others: Stream, name: str | None = None) -> Stream:
        """Return the rows of this stream and of `others`, which have the same columns."""
        same = all(other.time == self.time for other in others)
        return self.then(Union(name=name), *others, time=self.time if same else None)

    def with_time(self, column: str, *, delay: Duration = "0s", name: str | None = None) -> Stream:
        """Take another column as event time; rows may then be `delay` behind the watermark."""
        from headrace.operators.with_time import WithTime

        if self.schema.get(column) != TIME_DTYPE:
            raise PlanError(
                f"{column!r} cannot be the event time: it is {self.schema.get(column)}",
                hint='it must be a pl.Datetime("us", "UTC") column',
            )
        operator = WithTime(column=column, delay=duration(delay), name=name)
        return self.then(operator, time=TimeColumn(column))

    def in_order(self, *, name: str | None = None) -> Stream:
        """Let rows wait for the watermark and leave in (event time, position) order."""
        from headrace.operators.in_order import InOrder

        return self._then(InOrder(name=name))


def _expressions(
    columns: Sequence[str | pl.Expr], named: Mapping[str, pl.Expr]
) -> tuple[pl.Expr, ...]:
    given = [pl.col(column) if isinstance(column, str) else column for column in columns]
    return (*given, *(expr.alias(name) for name, expr in named.items()))


def _made_names(expressions: Sequence[pl.Expr]) -> set[str]:
    return {expr.meta.output_name(raise_if_undetermined=False) or "" for expr in expressions}
