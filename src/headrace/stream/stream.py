"""Stream: an immutable handle on one port of the plan, with a method per operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

import polars as pl

from headrace.core.component import Component
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, Operator
from headrace.core.time import TIME_DTYPE, Duration, duration, positive_duration
from headrace.operators.aggregates import as_aggregate
from headrace.operators.assigners import Assigner, Forever, Session
from headrace.operators.charts.chart import Chart
from headrace.operators.columns import column_names
from headrace.operators.explode import Explode
from headrace.operators.filter import Filter
from headrace.operators.geofence import POSITIONS, Geofence
from headrace.operators.join import How
from headrace.operators.join_asof import Strategy
from headrace.operators.joined_columns import LATE_RIGHT
from headrace.operators.patterns.pattern import Pattern
from headrace.operators.project import Drop, Rename, Select, WithColumns
from headrace.operators.split import Split
from headrace.operators.union import Union
from headrace.operators.unnest import Unnest
from headrace.operators.window import Window
from headrace.plan.graph import Ref
from headrace.stream.graph_builder import GraphBuilder

if TYPE_CHECKING:
    from headrace.stream.checked import Checked

Columns = str | pl.Expr | Sequence[str | pl.Expr]
Aggregation = Component | pl.Expr
Order = Literal["event", "arrival"]
AsOf = Literal["now", "event"]
FrameFunction = Callable[[pl.DataFrame], pl.DataFrame]


class HasStream(Protocol):
    """A control table: something whose changes are a stream."""

    @property
    def stream(self) -> Stream:
        """Its changes."""
        ...


class LookupTable(Protocol):
    """A table whose rows can be found by key: a control table, or one kept by the application."""

    def looked_up(self, as_of: AsOf) -> tuple[Stream, Mapping[str, Any]]:
        """Return what the operator that looks into it reads, and must know of it."""
        ...


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """The visible column that, plus a constant, is the event time."""

    column: str
    shift_us: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows that flow from one port of a step to whoever reads them.

    Streams are made by `app.topic` and by their own methods, never directly. They are immutable:
    every method returns another stream, and using one twice runs its steps once.

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

    # -- ports ------------------------------------------------------------------------------

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
        return Stream(self.graph, Ref(node.id, operator.outputs()[0]), schema, kept)

    def _port(self, port: str) -> Stream:
        node = self.graph.nodes.get(self.ref.node)
        if node is None or port not in node.output_schemas:
            return self.filter(pl.lit(value=False))
        schema = node.output_schemas[port]
        time = self.time if self.time is not None and self.time.column in schema else None
        if port == LATE:
            time = _shown(self.graph.times.get(self.ref.node), schema)
        elif port == LATE_RIGHT:
            time = _shown(self.graph.right_times.get(self.ref.node), schema)
        return Stream(self.graph, Ref(node.id, port), schema, time)

    # -- row by row -------------------------------------------------------------------------

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
        return yes, Stream(self.graph, Ref(yes.ref.node, "no"), yes.schema, yes.time)

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

    def check(
        self,
        name: str,
        predicate: pl.Expr,
        *,
        action: Literal["quarantine", "alert", "stop"] = "quarantine",
        every: Duration = "1m",
    ) -> Checked:
        """Let only the rows pass for which `predicate` holds; null counts as no.

        The result has `.quarantine`, the other rows; `.results`, counts per `every`; `.alerts`.
        A gate after `window` judges windows: rates of missing values, numbers of rows.

        Args:
            name: Names the gate in its results.
            predicate: A condition on one row.
            action: `quarantine` puts the other rows aside. `alert` does too, and `.alerts` has
                the results with such rows. `stop` ends the engine before the step that holds one.
            every: Event time over which results are counted.

        Raises:
            PlanError: The condition is no row-wise Boolean.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> dives = app.topic("dives", {"time": utc, "depth_m": pl.Float64}, time="time")
            >>> sane = dives.check("depth", pl.col("depth_m").is_between(0, 11_000))
            >>> _ = app.output("sane", sane)
            >>> _ = app.output("odd", sane.quarantine)
            >>> _ = app.output("quality", sane.results)
            >>> rows = pl.DataFrame({"time": [0, 1, 2], "depth_m": [5.0, -3.0, None]}).cast(
            ...     {"time": utc}
            ... )
            >>> outputs = hr.testing.run(app, {"dives": rows})
            >>> outputs["odd"]["depth_m"].to_list()
            [-3.0, None]
            >>> outputs["quality"].select("check", "rows", "failed").rows()
            [('depth', 3, 2)]
        """
        from headrace.operators.check import Check
        from headrace.stream.checked import Checked

        length = positive_duration(every, "every")
        main = self._then(Check(gate=name, predicate=predicate, action=action))
        return Checked(main.graph, main.ref, main.schema, main.time, length, action)

    def in_order(self, *, name: str | None = None) -> Stream:
        """Let rows wait for the watermark and leave in (event time, position) order."""
        from headrace.operators.in_order import InOrder

        return self._then(InOrder(name=name))

    # -- with state -------------------------------------------------------------------------

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
        by: Columns | None = None,
        order: Order = "event",
        name: str | None = None,
        **more: Any,
    ) -> Rolled:
        """Aggregate, for each row, what came before it: `span` of event time, or `rows` rows."""
        parameters = {"by": column_names(by), "order": order, "name": name, **more}
        if span is not None:
            parameters["over"] = duration(span)
        if rows is not None:
            parameters["rows"] = rows
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

    def join(
        self,
        other: Stream,
        *,
        on: Columns | Mapping[str, str] | None = None,
        within: tuple[Duration, Duration],
        how: How = "inner",
        where: pl.Expr | None = None,
        suffix: str = "_right",
        name: str | None = None,
    ) -> Joined:
        """Pair rows with those of `other` that have the same key and lie close in event time.

        Args:
            other: The right side.
            on: Key columns; {left: right} where names differ, None for all with all.
            within: Least and greatest time of the right row minus time of the left row.
            how: `inner`, `left`, `right`, `outer`: pairs, and rows of that side without one.
                `semi`, `anti`: left rows that have a match, or none.
            where: Further condition on a pair, over both sides' columns.
            suffix: Added to right columns whose name the left side has too.
            name: Identity of the state.

        Raises:
            PlanError: The bounds are the wrong way round, or keys or columns do not fit.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> times = {"time": pl.Datetime("us", "UTC")}
            >>> orders = app.topic("orders", {"order": pl.Int64, **times}, time="time")
            >>> paid = app.topic("paid", {"order": pl.Int64, **times}, time="time")
            >>> orders.join(paid, on="order", within=("0s", "1h"), how="left").schema.names()
            ['order', 'time', 'time_right']
        """
        from headrace.operators.join import Join

        operator = Join(
            on=on,
            within=tuple(duration(bound) for bound in within),
            how=how,
            where=where,
            suffix=suffix,
            name=name,
        )
        theirs = None
        if other.time is not None and how not in ("semi", "anti"):
            columns = operator.columns(self.schema, other.schema)
            theirs = TimeColumn(columns.name_of(other.time.column), other.time.shift_us)
        time = {"left": self.time, "right": theirs, None: None}[operator.time_side()]
        return self._beside(other, operator, time)

    def join_asof(  # noqa: PLR0913 - the words of the contract
        self,
        other: Stream,
        *,
        by: Columns | Mapping[str, str] | None = None,
        tolerance: Duration | None = None,
        strategy: Strategy = "backward",
        exact: bool = True,
        how: Literal["left", "inner"] = "left",
        suffix: str = "_right",
        forget: Duration = "24h",
        name: str | None = None,
    ) -> Joined:
        """Put beside each row the one of `other` that was valid at its time.

        Args:
            other: The right side.
            by: Key columns; {left: right} where names differ, None takes all rows for one key.
            tolerance: How far away the right row may lie; needed for `forward` and `nearest`.
            strategy: `backward`: the last row at or before. `forward`: the first at or after.
                `nearest`: the one at the least distance, of equally near ones the last.
            exact: Whether a row of the same event time counts.
            how: `left` keeps rows that find nothing, `inner` drops them.
            suffix: Added to right columns whose name the left side has too.
            forget: How far `backward` without a tolerance looks back.
            name: Identity of the state.

        Raises:
            PlanError: The tolerance is missing, or keys or columns do not fit.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> time = {"sku": pl.String, "time": pl.Datetime("us", "UTC")}
            >>> sales = app.topic("sales", time, time="time")
            >>> prices = app.topic("prices", {**time, "euro": pl.Float64}, time="time")
            >>> sales.join_asof(prices, by="sku").schema.names()
            ['sku', 'time', 'time_right', 'euro']
        """
        from headrace.operators.join_asof import JoinAsof

        operator = JoinAsof(
            by=by,
            tolerance=None if tolerance is None else duration(tolerance),
            strategy=strategy,
            exact=exact,
            how=how,
            suffix=suffix,
            forget=duration(forget),
            name=name,
        )
        return self._beside(other, operator, self.time)

    def lookup(
        self,
        table: LookupTable,
        *,
        on: Columns | Mapping[str, str],
        as_of: AsOf = "now",
        many: bool = False,
        how: Literal["left", "inner", "semi", "anti"] = "left",
        suffix: str = "_right",
        name: str | None = None,
    ) -> Joined:
        """Put the columns of a table beside each row that names its key.

        Args:
            table: A control table, or what `app.table` returned.
            on: The table's key: columns that both have, or {column here: column of the table}.
            as_of: `now` answers at once, by the table as it is; changes of an application's own
                table count from the next step on. `event` waits for the watermark and answers by
                the table as it was at the row's event time; a control table has none. Rows that
                come too late for that are in `.late` and `.late_right`.
            many: Give one row per hit, for `on` that is not the whole key; with `now` only.
            how: `left` keeps rows that find nothing, `inner` drops them; `semi` keeps the rows
                that find something and adds no columns, `anti` those that find nothing.
            suffix: Added to the name of a column of the table that is here already.
            name: Identity of the state.

        Raises:
            PlanError: A column is missing or of another type, `on` is not the key, or the table
                has no event time.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> sales = app.topic("sales", {"sku": pl.String, "time": utc}, time="time")
            >>> prices = {"sku": pl.String, "euro": pl.Float64}
            >>> priced = sales.lookup(app.control_table("prices", prices, key="sku"), on="sku")
            >>> priced.schema.names()
            ['sku', 'time', 'euro']
        """
        from headrace.operators.lookup import Lookup
        from headrace.operators.lookup_event import LookupEvent

        rows, known = table.looked_up(as_of)
        parameters = {"on": on, "how": how, "suffix": suffix, "name": name, **known}
        if as_of == "now":
            return self._beside(rows, Lookup(many=many, **parameters), self.time)
        if many:
            raise PlanError(
                'a lookup as_of="event" finds one row at most',
                hint='use many=True with as_of="now"',
            )
        return self._beside(rows, LookupEvent(**parameters), self.time)

    def match(
        self,
        pattern: Pattern,
        *,
        by: Columns | None = None,
        skip: Literal["none", "past_last", "to_next"] | tuple[str, str] = "none",
        measures: Mapping[str, pl.Expr] | None = None,
        forget: Duration = "24h",
        name: str | None = None,
    ) -> Stream:
        """Give one row per match of a pattern: key, `match_start`, `match_end`, the measures.

        Args:
            pattern: What to look for, made by `hr.Pattern.begin` and its methods.
            by: Key columns; None makes one group.
            skip: Which matches a match rules out: `none`, `past_last`, `to_next`,
                `("to_first", step)` or `("to_last", step)`.
            measures: What to say of a match, expressions over `hr.matched(step)`.
            forget: The longest match where the pattern has no `within`.
            name: Identity of the state.

        Raises:
            PlanError: The pattern cannot be found, or does not fit the columns.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> logins = app.topic(
            ...     "logins",
            ...     {"user": pl.String, "time": pl.Datetime("us", "UTC"), "kind": pl.String},
            ...     time="time",
            ... )
            >>> pattern = (
            ...     hr.Pattern.begin("fail", pl.col("kind") == "fail", times=(3, None))
            ...     .followed_by("ok", pl.col("kind") == "ok")
            ...     .within("60s")
            ... )
            >>> tries = hr.matched("fail").count()
            >>> logins.match(pattern, by="user", measures={"tries": tries}).schema.names()
            ['user', 'match_start', 'match_end', 'tries']
        """
        from headrace.operators.match import Match

        operator = Match(
            pattern=pattern,
            by=column_names(by),
            skip=skip,
            measures=tuple((measures or {}).items()),
            forget=duration(forget),
            name=name,
        )
        result = self.then(operator, time=TimeColumn("match_end"))
        self.graph.times[result.ref.node] = self.time
        return result

    def geofence(  # noqa: PLR0913 - the words of the contract
        self,
        zones: HasStream | Mapping[str, Any] | str,
        *,
        by: Columns,
        lon: str = "longitude",
        lat: str = "latitude",
        depth: str | None = None,
        detect: Sequence[str] = ("enter", "exit"),
        min_dwell: Duration | None = None,
        border_m: float = 0.0,
        order: Order = "event",
        attributes: Sequence[str] = (),
        forget: Duration = "24h",
        name: str | None = None,
    ) -> Fenced:
        """Follow vehicles through zones; see `headrace.operators.geofence.Geofence`.

        Args:
            zones: A control table, or a GeoJSON FeatureCollection.
            by: Columns that identify a vehicle.
            lon: Longitude column, degrees.
            lat: Latitude column, degrees.
            depth: Depth column, metres.
            detect: Events to report.
            min_dwell: How long a visit lasts before it is reported.
            border_m: How far outside a visit goes on.
            order: `event` waits for the watermark, `arrival` judges at once.
            attributes: Zone columns to carry along.
            forget: A vehicle silent for longer begins anew.
            name: Identity of the state.
        """
        parameters: dict[str, Any] = {
            "by": column_names(by),
            "lon": lon,
            "lat": lat,
            "depth": depth,
            "detect": tuple(detect),
            "min_dwell": None if min_dwell is None else duration(min_dwell),
            "border_m": border_m,
            "order": order,
            "attributes": tuple(attributes),
            "forget": duration(forget),
            "name": name,
        }
        if isinstance(zones, str | Mapping):
            main = self._then(Geofence(zones=zones, **parameters))
        else:
            main = self._then(Geofence(**parameters), zones.stream)
        return Fenced(main.graph, main.ref, main.schema, main.time)

    def control_chart(
        self,
        chart: Chart,
        value: Columns,
        by: Columns | None = None,
        *,
        forget: Duration = "30d",
        name: str | None = None,
    ) -> Stream:
        """Draw samples into a control chart per key; one row per sample, those of phase I too.

        Args:
            chart: `hr.chart.xbar(size=5, phase1=25)` and others.
            value: The measurement; `t2` takes several columns.
            by: Key columns; None makes one chart.
            forget: A key silent for longer begins anew, phase I too.
            name: Identity of the state.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> rings = app.topic(
            ...     "rings",
            ...     {"press": pl.String, "time": pl.Datetime("us", "UTC"), "mm": pl.Float64},
            ...     time="time",
            ... )
            >>> drawn = rings.control_chart(hr.chart.xbar(size=5, phase1=25), "mm", by="press")
            >>> drawn.schema.names()[4:]
            ['n', 'statistic', 'center', 'sd', 'lcl', 'ucl', 'phase', 'violations']
        """
        from headrace.operators.control_chart import ControlChart

        operator = ControlChart(
            chart=chart,
            value=column_names(value),
            by=column_names(by),
            forget=duration(forget),
            name=name,
        )
        # Phase I leaves when it ends, so no column shows the event time of every row.
        result = self.then(operator, time=None)
        self.graph.times[result.ref.node] = self.time
        return result

    # -- inside -----------------------------------------------------------------------------

    def _beside(self, other: Stream, operator: Operator, time: TimeColumn | None) -> Joined:
        """Add a step over this stream and `other` that has late rows of both."""
        main = self.then(operator, other, time=time)
        self.graph.times[main.ref.node] = self.time
        self.graph.right_times[main.ref.node] = other.time
        return Joined(main.graph, main.ref, main.schema, main.time)

    def _then(self, operator: Operator, *others: Stream) -> Stream:
        result = self.then(operator, *others, time=self.time)
        self.graph.times[result.ref.node] = self.time
        return result


@dataclass(frozen=True, slots=True)
class Joined(Stream):
    """The result of a join."""

    @property
    def late_right(self) -> Stream:
        """The rows of the right side that came too late; those of the left are `late`."""
        return self._port(LATE_RIGHT)


@dataclass(frozen=True, slots=True)
class Fenced(Stream):
    """The events of a geofence, and beside them every position."""

    @property
    def positions(self) -> Stream:
        """Every judged position once, with its events as the list column `fences`."""
        return self._port(POSITIONS)


@dataclass(frozen=True, slots=True)
class Windowed:
    """Rows grouped by window and key."""

    stream: Stream
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

    stream: Stream
    parameters: Mapping[str, Any]

    def agg(self, **aggregates: Aggregation) -> Stream:
        """Give each input row with the aggregates over its stretch."""
        from headrace.operators.rolling import Rolling

        named = tuple((name, as_aggregate(value)) for name, value in aggregates.items())
        return self.stream._then(Rolling(aggregates=named, **self.parameters))  # noqa: SLF001 - its other half


def _expressions(
    columns: Sequence[str | pl.Expr], named: Mapping[str, pl.Expr]
) -> tuple[pl.Expr, ...]:
    given = [pl.col(column) if isinstance(column, str) else column for column in columns]
    return (*given, *(expr.alias(name) for name, expr in named.items()))


def _shown(time: TimeColumn | None, schema: pl.Schema) -> TimeColumn | None:
    """Late rows are input rows: their time column is the one their step was given."""
    return time if time is not None and time.column in schema else None


def _made_names(expressions: Sequence[pl.Expr]) -> set[str]:
    return {expr.meta.output_name(raise_if_undetermined=False) or "" for expr in expressions}
