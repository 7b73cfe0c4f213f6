"""App: what an application declares; `plan()` is all of it as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel

from headrace.alerts.channel import Channel
from headrace.alerts.notification import DELIVERIES, NOTIFICATIONS, check_columns
from headrace.alerts.websocket import WebSocket
from headrace.core.errors import ConfigError, PlanError, SchemaError
from headrace.core.schema import RowSchema
from headrace.core.time import TIME_DTYPE, Duration, duration, positive_duration
from headrace.models.description import Model
from headrace.models.make import Version
from headrace.operators.filter import check_predicate
from headrace.operators.table import Table
from headrace.plan.check import check
from headrace.plan.graph import (
    CHANGES,
    DEAD,
    Computing,
    ControlTableDecl,
    DeliveryDecl,
    FeedDecl,
    OutputDecl,
    Overflow,
    Plan,
    Ref,
    Start,
    TableDecl,
    TopicDecl,
)
from headrace.stream.declared_tables import AppTable, ControlTable
from headrace.stream.graph_builder import GraphBuilder
from headrace.stream.handle import TimeColumn
from headrace.stream.sinks import Delivery, Handler, Watch
from headrace.stream.stream import Stream
from headrace.stream.surface import Surface
from headrace.stream.views import source_name

Columns = str | Sequence[str]
FOUND = dict.fromkeys(("name", "model_version", "source"), pl.String())

SchemaLike = Mapping[str, Any] | pl.Schema | type[BaseModel] | RowSchema


class App(Surface):
    """An application: topics, streams, outputs, tables, and the surface its users see.

    Args:
        name: Letters, digits, `-` and `_`; names the engine and its files.
        title: Shown on the dashboard; the name by default.
        version: The application's own version.

    Example:
        >>> import headrace as hr
        >>> app = hr.App("shop")
        >>> orders = app.topic(
        ...     "orders",
        ...     schema={"order": pl.String, "time": pl.Datetime("us", "UTC"), "euro": pl.Float64},
        ...     time="time",
        ... )
        >>> _ = app.output("large", orders.filter(pl.col("euro") > 100))
        >>> [output.name for output in app.plan().outputs]
        ['large']
    """

    def __init__(self, name: str, *, title: str = "", version: str = "0.1.0") -> None:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{name!r} cannot name an application: use letters, digits, - and _")
        super().__init__()
        self.name = name
        self.title = title or name
        self.version = version
        self.graph = GraphBuilder(self)
        self.handlers: list[Handler] = []
        self.deliveries: list[Delivery] = []
        self.watches: list[Watch] = []
        self._topics: dict[str, TopicDecl] = {}
        self._control_tables: dict[str, ControlTableDecl] = {}
        self._outputs: dict[str, OutputDecl] = {}
        self._tables: dict[str, TableDecl] = {}

    def topic(  # noqa: PLR0913 - a topic has that many properties
        self,
        name: str,
        schema: SchemaLike,
        *,
        time: str,
        key: Columns = (),
        delay: Duration = "0s",
        idle_after: Duration = "30s",
        max_ahead: Duration = "5m",
        partitions: int = 1,
        start: Start = "earliest",
        retention: Duration | None = None,
        retention_bytes: int | None = None,
        archive: bool = False,
        id: str | None = None,  # noqa: A002 - the word of the contract
        id_within: Duration | None = None,
        overflow: Overflow = "block",
        max_rows: int | None = None,
        time_unit: Literal["s", "ms", "us", "ns"] | None = None,
        aliases: Mapping[str, str] | None = None,
        description: str = "",
    ) -> Stream:
        """Declare an input topic and return its rows as a stream.

        Args:
            name: Unique among topics, tables, outputs and control tables.
            schema: A Polars schema, or a pydantic model whose constraints become checks.
            time: The event-time column, `Datetime("us", "UTC")`.
            key: Column(s) that may not be null.
            delay: How long after its event time a row may normally arrive; sets the watermark.
            idle_after: Silence after which the topic no longer holds back others.
            max_ahead: Rows further than this beyond the clock are dead letters.
            partitions: Partitions each writing process adds.
            start: Where an app that never read this topic begins.
            retention: Age above which rows may go once nobody needs them.
            retention_bytes: Size above which the oldest rows may go.
            archive: Write rows to Parquet before they go.
            id: Column that identifies a row; repeats within `id_within` are dropped.
            id_within: How long an id is remembered, in event time; needed with `id`.
            overflow: What happens when `max_rows` rows wait to be read.
            max_rows: Bound for `overflow`.
            time_unit: Unit of times given as numbers.
            aliases: Further names accepted for columns, {outside name: column}.
            description: Shown in the API's documentation.

        Raises:
            ConfigError: The declaration contradicts itself; the message says where.
        """
        self._claim(name)
        rows = RowSchema.of(schema, time_unit=time_unit, aliases=aliases)
        columns = rows.columns
        keys = _names(key)
        for column in (time, *keys, *([id] if id else [])):
            if column not in columns:
                raise SchemaError(
                    f"topic {name!r} has no column {column!r}",
                    hint=f"it has {', '.join(columns)}",
                )
        if columns[time] != TIME_DTYPE:
            raise SchemaError(
                f"time column {time!r} of topic {name!r} is {columns[time]}",
                hint='declare it as pl.Datetime("us", "UTC")',
            )
        if (id is None) != (id_within is None):
            raise ConfigError(
                f"topic {name!r}: id and id_within go together",
                hint='e.g. id="event_id", id_within="1h"',
            )
        if overflow != "block" and max_rows is None:
            raise ConfigError(f"topic {name!r}: overflow={overflow!r} needs max_rows=")
        self._topics[name] = TopicDecl(
            name=name,
            schema=rows,
            time=time,
            key=keys,
            delay=duration(delay),
            idle_after=duration(idle_after),
            max_ahead=duration(max_ahead),
            partitions=partitions,
            start=start,
            retention=_optional(retention),
            retention_bytes=retention_bytes,
            archive=archive,
            id=id,
            id_within=_optional(id_within),
            overflow=overflow,
            max_rows=max_rows,
            time_unit=time_unit,
            description=description,
        )
        stream = Stream(self.graph, Ref(f"topic:{name}"), columns, TimeColumn(time))
        if id is not None and id_within is not None:
            stream = stream.dedup(id, within=id_within, order="arrival", name=f"{name}.id")
        return stream

    def control_table(
        self,
        name: str,
        schema: SchemaLike,
        *,
        key: Columns,
        feed: Stream | str | None = None,
        delete: pl.Expr | None = None,
        description: str = "",
    ) -> ControlTable:
        """Declare a table that people and programs change while the application runs.

        Args:
            name: Unique among topics, tables, outputs and control tables.
            schema: Its columns, or a pydantic model that checks each row.
            key: Column(s) that name a row.
            feed: A topic or output whose rows change the table too: each is checked and kept as if
                it had been sent, columns that are null being left out; bad ones are in
                `<name>.dead` with their reason. The gateway follows it, so `hr.testing.run` does
                not.
            delete: Rows of `feed` for which this holds remove their key.
            description: Shown in the API's documentation.

        Raises:
            SchemaError: A key is no column, of the table or of `feed`.
            ConfigError: `delete` is given without `feed`, or `feed` is no topic.
        """
        self._claim(name)
        rows = RowSchema.of(schema)
        keys = _names(key)
        for column in keys:
            if column not in rows.columns:
                raise SchemaError(
                    f"control table {name!r} has no column {column!r}",
                    hint=f"it has {', '.join(rows.columns)}",
                )
        if delete is not None and feed is None:
            raise ConfigError(f"control table {name!r}: delete= is about the rows of feed=")
        fed = None if feed is None else self._feed(name, keys, feed, delete)
        decl = ControlTableDecl(name, rows, keys, description, fed)
        self._control_tables[name] = decl
        return ControlTable(self, decl)

    def _feed(
        self, name: str, key: Sequence[str], feed: Stream | str, delete: pl.Expr | None
    ) -> FeedDecl:
        topic = source_name(feed)
        columns: pl.Schema | None = None
        if topic in self._topics:
            columns = self._topics[topic].schema.columns
        elif topic in self._outputs:
            columns = self._outputs[topic].schema
        if columns is None:
            raise ConfigError(
                f"control table {name!r} is fed by {topic!r}, which is no topic of the application",
                hint="declare the topic or output first",
            )
        for column in key:
            if column not in columns:
                raise SchemaError(
                    f"topic {topic!r} has no column {column!r}, the key of control table {name!r}",
                    hint=f"it has {', '.join(columns)}",
                )
        if delete is not None:
            check_predicate(delete, columns)
        return FeedDecl(topic, delete)

    def require(self, table: str, check: Callable[[pl.DataFrame], None]) -> None:
        """Refuse records of a control table for which `check` raises, whoever sends them."""
        known = self._control_tables[table]
        self._control_tables[table] = replace(known, checks=(*known.checks, check))

    def output(  # noqa: PLR0913 - a topic has that many properties
        self,
        name: str,
        stream: Stream,
        *,
        key: Columns = (),
        partitions: int = 1,
        retention: Duration | None = None,
        retention_bytes: int | None = None,
        archive: bool = False,
        role: Computing = "engine",
        description: str = "",
    ) -> Stream:
        """Write a stream to a topic and return that topic as a stream.

        A stream without its time column gets one called `event_time`.

        Args:
            name: Unique among topics, tables, outputs and control tables.
            stream: The rows.
            key: Columns that identify a row.
            partitions: Partitions of the topic.
            retention: Age above which rows may go once nobody needs them.
            retention_bytes: Size above which the oldest rows may go.
            archive: Write rows to Parquet before they go.
            role: `model` computes it, from the topics on, in a process beside the engine, so that
                slow predictions hold nothing else up. What goes on from the returned topic is in
                the engine again.
            description: Shown in the API's documentation.
        """
        self._own(stream)
        self._claim(name)
        schema, time = stream.schema, stream.time
        if time is None or time.column not in schema:
            schema = pl.Schema({**schema, "event_time": TIME_DTYPE})
            time = TimeColumn("event_time")
        self._outputs[name] = OutputDecl(
            name=name,
            source=stream.ref,
            schema=schema,
            time=time.column,
            time_shift_us=time.shift_us,
            key=_names(key),
            partitions=partitions,
            retention=_optional(retention),
            retention_bytes=retention_bytes,
            archive=archive,
            role=role,
            description=description,
        )
        return Stream(self.graph, Ref(f"topic:{name}"), schema, time)

    def table(
        self,
        name: str,
        stream: Stream,
        *,
        key: Columns,
        ttl: Duration | None = None,
        delete: pl.Expr | None = None,
        description: str = "",
    ) -> AppTable:
        """Keep the row with the newest event time per key.

        Args:
            name: Unique; read at `GET /tables/<name>`.
            stream: The rows.
            key: Column(s) that identify a row.
            ttl: Keys not changed for this long disappear.
            delete: Rows for which this holds delete their key.
            description: Shown in the API's documentation.
        """
        self._own(stream)
        self._claim(name)
        operator = Table(key=_names(key), ttl=_optional(ttl), delete=delete, name=f"table:{name}")
        kept = stream.then(operator, time=stream.time)
        self.graph.times[kept.ref.node] = stream.time
        self._tables[name] = TableDecl(
            name=name,
            source=kept.ref,
            schema=stream.schema,
            key=_names(key),
            ttl=_optional(ttl),
            description=description,
        )
        return AppTable(self, self._tables[name])

    def on(
        self,
        topic: Stream | str,
        fn: Callable[..., Any],
        *,
        batch: int = 1000,
        concurrency: int = 1,
        attempts: int = 5,
        name: str | None = None,
    ) -> None:
        """Call a function with a topic's new rows: a sink with a cursor of its own.

        Args:
            topic: What `app.topic` or `app.output` returned, or its name.
            fn: `fn(frame)`, sync or async; called at least once for every row, in order within a
                partition. What it raises is tried again, then dead-lettered.
            batch: Most rows per call.
            concurrency: Calls under way at once, over different partitions.
            attempts: Calls for one batch before its rows become dead letters.
            name: Identity of the cursor; the function's name by default.

        Raises:
            ConfigError: The name is taken, or the numbers are not positive.
        """
        handler = name or fn.__name__
        if batch < 1 or concurrency < 1 or attempts < 1:
            raise ConfigError("batch, concurrency and attempts must be at least 1")
        if any(other.name == handler for other in self.handlers):
            raise ConfigError(f"handler {handler!r} is declared twice", hint="give it a name=")
        self.handlers.append(Handler(handler, source_name(topic), fn, batch, concurrency, attempts))

    def notify(self, notifications: Stream, channels: Sequence[Channel]) -> Stream:
        """Deliver notifications by channels: each is a sink with a cursor of its own.

        A row goes to the channel that its column `channel` names. It is tried until it is delivered
        or dead, each attempt a row of the topic `deliveries`; what is dead is in
        `<topic>.dead` with its reason.

        Args:
            notifications: What `app.output` returned, or a stream that becomes the output
                `notifications`; with the columns of the operator `notify`.
            channels: `hr.channel.webhook(...)` and so on, their names unique.

        Returns:
            The topic of notifications.

        Raises:
            ConfigError: A channel's name is taken.
            PlanError: The stream carries no notifications.
        """
        self._own(notifications)
        if not notifications.ref.node.startswith("topic:"):
            notifications = self.output(NOTIFICATIONS, notifications)
        topic = source_name(notifications)
        check_columns(topic, notifications.schema)
        for channel in channels:
            if any(other.channel.name == channel.name for other in self.deliveries):
                raise ConfigError(
                    f"channel {channel.name!r} is declared twice", hint="give it a name="
                )
            self.deliveries.append(Delivery(topic, channel))
            if isinstance(channel, WebSocket):
                where = f"channel = '{channel.name}'"
                self.socket(channel.path, topic=topic, where=where)
        return notifications

    def watch_models(
        self, models: Sequence[Model], *, name: str = "models", every: Duration = "5s"
    ) -> ControlTable:
        """Follow what the paths and aliases of models name, for `stream.predict(versions=)`.

        The role connect looks at each. A new version is loaded and warmed in a process that is
        then ended, a copy of a file is kept in the data directory (the last five), and only then
        the version is announced in the topic `<name>.found`, which feeds the table. What cannot be
        loaded is not announced, and tried again later each time. A row that somebody puts into the
        table counts until the path or alias names another version.

        Args:
            models: Models that are loaded, and ensembles of such.
            name: Of the control table of `hr.model.Version`.
            every: Time between two looks.

        Raises:
            ConfigError: Two models have one name, or one has a `version` of its own.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> fare = hr.model.mlflow("models:/fare@champion")
            >>> versions = app.watch_models([fare])
            >>> versions.name
            'models'
        """
        leaves = {leaf.name: leaf for model in models for leaf in model.leaves()}
        for model in models:
            for leaf in model.leaves():
                if leaf != leaves[leaf.name]:
                    raise ConfigError(
                        f"two different models are called {leaf.name!r}", hint="give each a name="
                    )
                if leaf.version is not None:
                    raise ConfigError(
                        f"model {leaf.name!r} has a version of its own, which would never change",
                        hint="leave version= out: it is found out",
                    )
        found = self.topic(f"{name}.found", {**FOUND, "found_at": TIME_DTYPE}, time="found_at")
        table = self.control_table(name, Version, key="name", feed=found)
        every = positive_duration(every, "every")
        self.watches.append(
            Watch(name, f"{name}.found", found.schema, tuple(leaves.values()), every)
        )
        return table

    def declares(self, name: str) -> bool:
        """Say whether there is a topic, output, table or control table of this name."""
        kinds = (self._topics, self._control_tables, self._outputs, self._tables)
        return any(name in kind for kind in kinds)

    def plan(self) -> Plan:
        """Return everything declared so far as a plan; streams nobody uses are left out.

        Raises:
            PlanError: Nothing is declared that could run, or the whole does not fit together.
        """
        if not self._topics:
            raise PlanError(
                f"application {self.name!r} declares no topic",
                hint='begin with app.topic("name", schema={...}, time="time")',
            )
        if self.deliveries and (DELIVERIES in self._topics or DELIVERIES in self._outputs):
            raise PlanError(
                f"{DELIVERIES!r} is the topic of attempts at delivery", hint="rename yours"
            )
        sources = [output.source for output in self._outputs.values()]
        sources += [table.source for table in self._tables.values()]
        plan = Plan(
            app=self.name,
            topics=tuple(self._topics.values()),
            control_tables=tuple(self._control_tables.values()),
            nodes=self.graph.needed(tuple(sources)),
            outputs=tuple(self._outputs.values()),
            tables=tuple(self._tables.values()),
            deliveries=tuple(
                DeliveryDecl(one.topic, one.channel.name, one.channel.kind)
                for one in self.deliveries
            ),
        )
        check(plan)
        return plan

    def _claim(self, name: str) -> None:
        if not name or "/" in name or name.startswith(".") or name.endswith((CHANGES, DEAD)):
            raise ConfigError(
                f"{name!r} cannot name a topic or table",
                hint=f"use letters, digits, - _ and . ; {CHANGES} and {DEAD} endings are ours",
            )
        if self.declares(name):
            raise ConfigError(
                f"{name!r} is declared twice",
                hint="topics, outputs, tables and control tables share one namespace",
            )

    def _own(self, stream: Stream) -> None:
        if stream.graph is not self.graph:
            raise PlanError("the stream belongs to another application")


def _names(value: Columns) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _optional(value: Duration | None) -> timedelta | None:
    return None if value is None else duration(value)
