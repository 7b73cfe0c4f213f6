"""Steps that put the columns of another stream or of a table beside each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.protocols import Operator
from headrace.core.time import Duration, duration
from headrace.operators.assigners import Assigner
from headrace.operators.join import How
from headrace.operators.join_asof import Strategy
from headrace.stream.handle import Columns, Handle, TimeColumn

if TYPE_CHECKING:
    from headrace.features.source import FeatureSource
    from headrace.stream.features import FeatureView
    from headrace.stream.stream import Joined, Stream

AsOf = Literal["now", "event"]


class LookupTable(Protocol):
    """A table whose rows can be found by key: a control table, or one kept by the application."""

    def looked_up(self, as_of: AsOf) -> tuple[Stream, Mapping[str, Any]]:
        """Return what the operator that looks into it reads, and must know of it."""
        ...


class Joining(Handle):
    """Joins of streams, look-ups in tables."""

    __slots__ = ()

    def join(  # noqa: PLR0913 - the words of the contract
        self,
        other: Stream,
        *,
        on: Columns | Mapping[str, str] | None = None,
        within: tuple[Duration, Duration] | None = None,
        window: Assigner | None = None,
        how: How = "inner",
        where: pl.Expr | None = None,
        suffix: str = "_right",
        name: str | None = None,
    ) -> Joined:
        """Pair rows with those of `other` that have the same key and lie close in event time.

        Args:
            other: The right side.
            on: Key columns; {left: right} where names differ, None for all with all.
            within: Least and greatest time of the right row minus time of the left row; or
            window: `hr.tumbling("5m")`, `hr.sliding(...)` or `hr.cumulate(...)`: rows pair that
                lie in the same window, and leave when it ends, with `window_start` and
                `window_end`.
            how: `inner`, `left`, `right`, `outer`: pairs, and rows of that side without one.
                `semi`, `anti`: left rows that have a match, or none.
            where: Further condition on a pair, over both sides' columns.
            suffix: Added to right columns whose name the left side has too.
            name: Identity of the state.

        Raises:
            PlanError: The bounds are the wrong way round, keys or columns do not fit, or not one
                of `within` and `window` is given.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> times = {"time": pl.Datetime("us", "UTC")}
            >>> orders = app.topic("orders", {"order": pl.Int64, **times}, time="time")
            >>> paid = app.topic("paid", {"order": pl.Int64, **times}, time="time")
            >>> orders.join(paid, on="order", within=("0s", "1h"), how="left").schema.names()
            ['order', 'time', 'time_right']
            >>> orders.join(paid, on="order", window=hr.tumbling("1h")).schema.names()
            ['order', 'time', 'time_right', 'window_start', 'window_end']
        """
        if (within is None) == (window is None):
            raise PlanError(
                "join() takes within= or window=",
                hint='within=("-5m", "0s") pairs rows by their distance, '
                'window=tumbling("5m") those of a window',
            )
        from headrace.operators.join import Join
        from headrace.operators.window_join import WindowJoin

        parameters = {"on": on, "how": how, "where": where, "suffix": suffix, "name": name}
        if within is None:
            paired = WindowJoin(assigner=window, **parameters)
            return self._beside(other, paired, TimeColumn("window_end", -1))
        operator = Join(within=tuple(duration(bound) for bound in within), **parameters)
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

    def enrich(
        self,
        source: FeatureView | FeatureSource,
        *,
        on: Columns | Mapping[str, str] | None = None,
        default: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        max_age: Duration | None = None,
        name: str | None = None,
    ) -> Joined:
        """Put beside each row the features of its entity.

        From a feature view those that were known before the row's event time: rows wait for the
        watermark and leave in order. Values of the row's own time are not known yet, so a row is
        never among those its features are made of.

        From a source outside those that it knows now; `features_from` says whether it did, see
        `headrace.operators.enrich.Enrich`.

        Args:
            source: What `hr.feature_view` returned, or `hr.features.redis(...)` and others.
            on: Entity columns; {column here: entity column} where names differ.
            default: Value by feature where nothing is known, or nothing young enough (of a view
                by its `ttl`); null otherwise.
            timeout: Longest wait for a source, per batch; 100 ms by default.
            max_age: Age beyond which values of a source do not count.
            name: Identity of the state.

        Raises:
            PlanError: A column is missing, or a feature's name is taken.
            MissingExtraError: The source's client library is not installed.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> seen = app.topic("seen", {"item": pl.Int64, "time": utc}, time="time")
            >>> views = hr.feature_view(
            ...     "views", seen, entity="item", features={"seen_1h": hr.count()}, over="1h"
            ... )
            >>> _ = app.output("known", seen.enrich(views, default={"seen_1h": 0}))
            >>> rows = pl.DataFrame({"item": [7, 7, 7], "time": [0, 0, 9]}).cast({"time": utc})
            >>> hr.testing.run(app, {"seen": rows})["known"]["seen_1h"].to_list()
            [0, 0, 2]
        """
        from headrace.features.source import FeatureSource
        from headrace.operators.enrich import Enrich

        rows = self._at(self.ref, self.schema, self.time)
        if not isinstance(source, FeatureSource):
            if timeout is not None or max_age is not None:
                raise PlanError(
                    "a feature view answers by itself", hint="give the view a ttl= instead"
                )
            return source.beside(rows, on, default or {}, name)
        waits = {"timeout": timeout, "max_age": max_age}
        operator = Enrich(
            source=source,
            on=source.key if on is None else on,
            default=dict(default or {}),
            name=name,
            **{word: duration(length) for word, length in waits.items() if length is not None},
        )
        main = rows.then(operator, time=self.time)
        self.graph.times[main.ref.node] = self.time
        from headrace.stream.stream import Joined

        return Joined(main.graph, main.ref, main.schema, main.time)

    def _beside(self, other: Stream, operator: Operator, time: TimeColumn | None) -> Joined:
        """Add a step over this stream and `other` that has late rows of both."""
        main = self.then(operator, other, time=time)
        self.graph.times[main.ref.node] = self.time
        self.graph.right_times[main.ref.node] = other.time
        from headrace.stream.stream import Joined

        return Joined(main.graph, main.ref, main.schema, main.time)
