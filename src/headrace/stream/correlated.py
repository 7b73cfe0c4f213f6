"""Steps that relate events of several kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, Duration, duration
from headrace.operators.columns import column_names
from headrace.stream.handle import Columns, Handle, TimeColumn

if TYPE_CHECKING:
    from headrace.operators.correlate import Correlate
    from headrace.stream.stream import Stream


class Correlating(Handle):
    """Correlation."""

    __slots__ = ()

    def correlate(  # noqa: PLR0913 - what counts, how close, and what is told
        self,
        kinds: Sequence[str],
        *,
        within: Duration,
        on: Columns | None = None,
        kind: str = "kind",
        id: str | None = None,  # noqa: A002 - the word of the contract
        min_lift: float = 0.0,
        min_count: int = 1,
        history: pl.DataFrame | None = None,
        name: str | None = None,
    ) -> Stream:
        """Tell of each event which other kinds with its key came shortly before, and how telling
        that is: lift, confidence and support from counts of all events so far.

        Args:
            kinds: Two or more kinds of event.
            within: How long before an event another may lie.
            on: Columns whose values the events share; None learns what comes close in time more
                often than by chance, and needs `min_lift`.
            kind: Column of the kind.
            id: Column that names an event.
            min_lift: Only kinds at least so much more often than by chance; 1 is chance.
            min_count: Only pairs of kinds counted so often.
            history: Past events with the same columns: counts begin as if they had been seen.
                Only counts are taken from it, no member is of the past.
            name: Identity of the state.

        Raises:
            PlanError: A column is missing or no text, or `history` lacks one.

        Example:
            >>> import headrace as hr, polars as pl
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> seen = app.topic(
            ...     "seen", {"host": pl.String, "time": utc, "kind": pl.String}, time="time"
            ... )
            >>> linked = seen.correlate(["deploy", "error"], on="host", within="10m")
            >>> _ = app.output("linked", linked)
            >>> rows = {"host": ["a", "b", "a"], "time": [0, 1, 2]}
            >>> frame = pl.DataFrame({**rows, "kind": ["deploy", "error", "error"]})
            >>> outputs = hr.testing.run(app, {"seen": frame.cast({"time": utc})})
            >>> outputs["linked"].select("host", "kind", "lift", "confidence").rows()
            [('a', 'error', 1.5, 1.0)]
        """
        from headrace.operators.correlate import Correlate

        operator = Correlate(
            kinds=tuple(kinds),
            within=duration(within),
            on=column_names(on),
            kind_column=kind,
            id_column=id,
            min_lift=min_lift,
            min_count=min_count,
            name=name,
        )
        if history is not None:
            if self.time is None:
                raise PlanError(
                    "correlate: the stream shows its event time in no column",
                    hint="keep the time column, so that history= can be read by it",
                )
            learnt = counts_of(operator, history, self.time.column)
            operator = operator.model_copy(update={"learnt": learnt})
        result = self.then(operator, time=TimeColumn("match_end"))
        self.graph.times[result.ref.node] = self.time
        return result


def counts_of(operator: Correlate, history: pl.DataFrame, time: str) -> tuple[int, ...]:
    """Return the counts that `operator` would have after the events of `history`.

    Args:
        operator: Its own learnt counts come first.
        history: Events with the columns that it needs, in any order; rows without time do not
            count.
        time: Column of event time; rows of equal times keep their order.

    Raises:
        PlanError: A column is missing or of a wrong type.
    """
    import numpy as np

    from headrace.operators.correlate import COUNTS
    from headrace.state.tables import StateTables

    operator.output_schema(history.schema)
    if history.schema.get(time) != TIME_DTYPE:
        raise PlanError(
            f"history= needs the column {time!r} as {TIME_DTYPE}",
            hint=f"it has {', '.join(history.columns)}",
        )
    tables = StateTables(operator.tables(history.schema))
    task = operator.open(tables, history.schema)
    events = history.drop_nulls(time).with_columns(
        pl.col(time).dt.epoch("us").alias(EVENT_TIME),
        pl.int_range(pl.len(), dtype=pl.Int64).alias(POSITION),
    )
    if events.height:
        list(task.process(events.rechunk(), 0))
        list(task.finish())
    value = tables.blob(COUNTS).value
    return operator.learnt if value is None else tuple(np.frombuffer(value, "<i8").tolist())
