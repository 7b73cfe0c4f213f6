"""What every stream is: an immutable handle on one port of the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from headrace.core.protocols import LATE, Operator
from headrace.operators.filter import Filter
from headrace.operators.joined_columns import LATE_RIGHT
from headrace.plan.graph import Ref
from headrace.stream.graph_builder import GraphBuilder

if TYPE_CHECKING:
    from headrace.stream.stream import Stream

Columns = str | pl.Expr | Sequence[str | pl.Expr]
Order = Literal["event", "arrival"]
FrameFunction = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """The visible column that, plus a constant, is the event time."""

    column: str
    shift_us: int = 0


@dataclass(frozen=True, slots=True)
class Handle:
    """The port, its columns and how a step is put behind it; `Stream` has the steps.

    Attributes:
        graph: The application's steps.
        ref: The port the rows leave from.
        schema: Their columns. Event time travels beside them, see `headrace.event_time`.
        time: The column that shows the event time, None where it was dropped.
    """

    graph: GraphBuilder
    ref: Ref
    schema: pl.Schema
    time: TimeColumn | None

    @property
    def late(self) -> Stream:
        """The rows that came too late for the step this stream comes from; empty where none."""
        return self._port(LATE)

    def then(self, operator: Operator, *others: Stream, time: TimeColumn | None) -> Stream:
        """Add a step over this stream and `others`; return its main port.

        Args:
            operator: What to do; any registered operator, a plug-in's too.
            others: Further inputs, in the order of the operator's ports.
            time: The column that shows the event time of the result.

        Raises:
            PlanError: The operator does not fit its inputs; the message says where.
        """
        inputs = ((self.ref, self.schema), *((other.ref, other.schema) for other in others))
        node = self.graph.add(operator, inputs)
        schema = node.output_schemas[operator.outputs()[0]]
        kept = time if time is not None and time.column in schema else None
        return self._at(Ref(node.id, operator.outputs()[0]), schema, kept)

    def _port(self, port: str) -> Stream:
        node = self.graph.nodes.get(self.ref.node)
        if node is None or port not in node.output_schemas:
            return self._then(Filter(predicate=pl.lit(value=False)))
        schema = node.output_schemas[port]
        time = self.time if self.time is not None and self.time.column in schema else None
        if port == LATE:
            time = _shown(self.graph.times.get(self.ref.node), schema)
        elif port == LATE_RIGHT:
            time = _shown(self.graph.right_times.get(self.ref.node), schema)
        return self._at(Ref(node.id, port), schema, time)

    def _at(self, ref: Ref, schema: pl.Schema, time: TimeColumn | None) -> Stream:
        from headrace.stream.stream import Stream

        return Stream(self.graph, ref, schema, time)

    def _then(self, operator: Operator, *others: Stream) -> Stream:
        result = self.then(operator, *others, time=self.time)
        self.graph.times[result.ref.node] = self.time
        return result


def _shown(time: TimeColumn | None, schema: pl.Schema) -> TimeColumn | None:
    """Late rows are input rows: their time column is the one their step was given."""
    return time if time is not None and time.column in schema else None
