"""Steps over stretches of event time: windows, rolling aggregates, gaps, repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from headrace.core.component import Component
from headrace.core.errors import PlanError
from headrace.core.protocols import Operator
from headrace.core.time import Duration, duration
from headrace.operators.aggregates import as_aggregate
from headrace.operators.assigners import Assigner, Forever, Session
from headrace.operators.columns import column_names
from headrace.operators.window import Window
from headrace.stream.handle import Columns, FrameFunction, Handle, Order, TimeColumn

if TYPE_CHECKING:
    from headrace.stream.stream import Stream

Aggregation = Component | pl.Expr


class Windowing(Handle):
    """Windows, rolling aggregates, gaps, repeats."""

    __slots__ = ()

    def window(
        self,
        assigner: Assigner,
        by: Columns | None = None,
        *,
        lateness: Duration = timedelta(0),
        emit: Literal["close", "update"] = "close",
        every: Duration | None = None,
        name: str | None = None,
    ) -> Windowed:
        """Group rows by window and key; `.agg(...)` or `.apply(...)` says what comes out.

        Args:
            assigner: `hr.tumbling("5m")`, `hr.sliding("5m", every="1m")`, `hr.session("30s")`, …
            by: Key columns; None makes one group.
            lateness: How long after its end a window still takes rows.
            emit: `close`: one row when the watermark reaches the end. `update`: changed windows
                as they grow, the last with `is_final`.
            every: With `update`, at most one row per window in such a stretch of the step clock.
            name: Identity of the state.
        """
        return Windowed(
            self,
            {
                "assigner": assigner,
                "by": column_names(by),
                "lateness": duration(lateness),
                "emit": emit,
                "every": None if every is None else duration(every),
                "name": name,
            },
        )

    def rolling(
        self,
        span: Duration | None = None,
        *,
        rows: int | None = None,
        following: Duration | None = None,
        by: Columns | None = None,
        order: Order = "event",
        name: str | None = None,
        **more: Any,
    ) -> Rolled:
        """Aggregate, for each row, what came before it; `.agg(...)` says what comes out.

        Args:
            span: Length of event time before the row: (t - span, t]; or
            rows: number of rows, the row itself among them.
            following: Length of event time after the row that counts too, up to and including
                t + following. Rows then wait that much longer for their answer.
            by: Key columns; None makes one group.
            order: `event` waits for the watermark, `arrival` answers at once.
            name: Identity of the state.
            more: Further parameters of the operator, such as `forget`.

        Raises:
            PlanError: Not one of `span` and `rows` is given, or `following` without a span or
                in order of arrival.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> depths = app.topic(
            ...     "depths", {"time": pl.Datetime("us", "UTC"), "m": pl.Float64}, time="time"
            ... )
            >>> smooth = depths.rolling("2s", following="1s").agg(mean=hr.mean("m"))
            >>> _ = app.output("smooth", smooth)
            >>> rows = pl.DataFrame({"time": [0, 1, 2], "m": [6.0, 9.0, 3.0]}).with_columns(
            ...     (pl.col("time") * 1_000_000).cast(pl.Datetime("us", "UTC"))
            ... )
            >>> hr.testing.run(app, {"depths": rows})["smooth"]["mean"].to_list()
            [7.5, 6.0, 6.0]
        """
        parameters = {"by": column_names(by), "order": order, "name": name, **more}
        if span is not None:
            parameters["over"] = duration(span)
        if rows is not None:
            parameters["rows"] = rows
        if following is not None:
            parameters["following"] = duration(following)
        return Rolled(self, parameters)

    def dedup(
        self,
        by: Columns,
        *,
        within: Duration,
        order: Order = "event",
        name: str | None = None,
    ) -> Stream:
        """Keep the first row of each key within a stretch of event time."""
        from headrace.operators.dedup import Dedup

        operator = Dedup(by=column_names(by), within=duration(within), order=order, name=name)
        return self._then(operator)

    def fill(
        self,
        *,
        every: Duration,
        by: Columns | None = None,
        value: Literal["null", "last", "linear"] = "null",
        max_gap: Duration | None = None,
        name: str | None = None,
    ) -> Stream:
        """Add the rows that each key's series lacks, marked `is_filled`, in event-time order.

        Args:
            every: Distance between the rows of a series.
            by: Key columns; None makes one series.
            value: What stands in the other columns: nothing, the row before the gap, or numbers
                on the line between the rows around it.
            max_gap: Longer gaps stay as they are; by default 100 times `every`. What follows
                waits that long for rows that may still be added.
            name: Identity of the state.

        Raises:
            PlanError: A column is missing, or the gap would become more than 100 000 rows.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> readings = app.topic(
            ...     "readings",
            ...     {"time": pl.Datetime("us", "UTC"), "celsius": pl.Float64},
            ...     time="time",
            ... )
            >>> _ = app.output("steady", readings.fill(every="1s", value="linear"))
            >>> rows = pl.DataFrame({"time": [0, 2_000_000], "celsius": [7.0, 8.0]}).cast(
            ...     {"time": pl.Datetime("us", "UTC")}
            ... )
            >>> hr.testing.run(app, {"readings": rows})["steady"].drop("time").rows()
            [(7.0, False), (7.5, True), (8.0, False)]
        """
        from headrace.operators.fill import Fill

        shown = (
            {} if self.time is None else {"time": self.time.column, "shift_us": self.time.shift_us}
        )
        parameters = {"by": column_names(by), "value": value, "name": name, **shown}
        if max_gap is not None:
            parameters["max_gap"] = duration(max_gap)
        return self._then(Fill(every=duration(every), **parameters))


@dataclass(frozen=True, slots=True)
class Windowed:
    """Rows grouped by window and key."""

    stream: Handle
    parameters: Mapping[str, Any]

    def agg(self, **aggregates: Aggregation) -> Stream:
        """Give one row per window and key: the key, `window_start`, `window_end`, the aggregates.

        Plain Polars expressions are evaluated over the collected rows when the window closes.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> dives = app.topic(
            ...     "dives",
            ...     {"auv": pl.String, "time": pl.Datetime("us", "UTC"), "depth_m": pl.Float64},
            ...     time="time",
            ... )
            >>> deepest = dives.window(hr.tumbling("5m"), by="auv").agg(depth_m=hr.max("depth_m"))
            >>> deepest.schema.names()
            ['auv', 'window_start', 'window_end', 'depth_m']
        """
        if not aggregates:
            raise PlanError("agg() needs an aggregate", hint="e.g. agg(rows=hr.count())")
        named = tuple((name, as_aggregate(value)) for name, value in aggregates.items())
        return self._end(Window(aggregates=named, **self.parameters))

    def apply(self, fn: FrameFunction, schema: Mapping[str, Any] | pl.Schema) -> Stream:
        """Call `fn(frame) -> frame` once per closed window and key; `schema` is what it returns."""
        from headrace.operators.window_apply import WindowApply

        parameters = {k: v for k, v in self.parameters.items() if k not in ("emit", "every")}
        return self._end(WindowApply(fn=fn, returns=pl.Schema(schema), **parameters))

    def _end(self, operator: Operator) -> Stream:
        assigner = self.parameters["assigner"]
        shift = 0 if isinstance(assigner, Session) else -1
        # forever() has no end; its event time is the newest row's, which no column shows.
        time = None if isinstance(assigner, Forever) else TimeColumn("window_end", shift)
        result = self.stream.then(operator, time=time)
        self.stream.graph.times[result.ref.node] = self.stream.time
        return result


@dataclass(frozen=True, slots=True)
class Rolled:
    """Rows with what came before them."""

    stream: Handle
    parameters: Mapping[str, Any]

    def agg(self, **aggregates: Aggregation) -> Stream:
        """Give each input row with the aggregates over its stretch."""
        from headrace.operators.rolling import Rolling

        named = tuple((name, as_aggregate(value)) for name, value in aggregates.items())
        return self.stream._then(Rolling(aggregates=named, **self.parameters))  # noqa: SLF001 - its other half
