"""The plan: an immutable graph of operators between topics and outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Operator
from headrace.core.schema import RowSchema
from headrace.core.time import duration_text

Start = Literal["earliest", "latest"]
Computing = Literal["engine", "model"]
Overflow = Literal["block", "drop_oldest", "drop_newest", "drop_random", "sample"]

CHANGES = ".changes"
DEAD = ".dead"

DEAD_SCHEMA = pl.Schema(
    {
        "topic": pl.String(),
        "arrival": pl.Datetime("us", "UTC"),
        "reason": pl.String(),
        "payload": pl.String(),
        "partition": pl.Int64(),
        "offset": pl.Int64(),
    }
)
"""Columns of every dead-letter topic; partition and offset are null where the payload never
entered the log."""


@dataclass(frozen=True, slots=True)
class TopicDecl:
    """An input topic as declared by `app.topic`.

    Attributes:
        time: The event-time column.
        key: Column(s) that may not be null; rows of one key keep their order.
        delay: How long after its event time a row may normally arrive.
        idle_after: Silence after which a caught-up partition no longer holds the watermark.
        max_ahead: Rows further than this beyond the clock are dead letters.
        id: Column whose values identify a row; repeats within `id_within` are dropped.
        overflow: What happens when the topic holds `max_rows` unread rows.
    """

    name: str
    schema: RowSchema
    time: str
    key: tuple[str, ...] = ()
    delay: timedelta = timedelta(0)
    idle_after: timedelta = timedelta(seconds=30)
    max_ahead: timedelta = timedelta(minutes=5)
    partitions: int = 1
    start: Start = "earliest"
    retention: timedelta | None = None
    retention_bytes: int | None = None
    archive: bool = False
    id: str | None = None
    id_within: timedelta | None = None
    overflow: Overflow = "block"
    max_rows: int | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class FeedDecl:
    """A topic whose rows change a control table.

    Attributes:
        topic: The topic, an input or an output.
        delete: Rows for which this holds remove their key.
    """

    topic: str
    delete: pl.Expr | None = None


@dataclass(frozen=True, slots=True)
class ControlTableDecl:
    """A table changed through the API, and by a topic that feeds it, while the application runs.

    Attributes:
        checks: What a record must satisfy beyond the schema; each raises where it does not.
    """

    name: str
    schema: RowSchema
    key: tuple[str, ...]
    description: str = ""
    feed: FeedDecl | None = None
    checks: tuple[Callable[[pl.DataFrame], None], ...] = ()

    @property
    def changes(self) -> str:
        """The topic that carries its changes."""
        return self.name + CHANGES


@dataclass(frozen=True, slots=True)
class Ref:
    """One port of a node; sources are `topic:<name>` and `control:<name>`."""

    node: str
    port: str = MAIN


@dataclass(frozen=True, slots=True)
class Node:
    """An operator in its place."""

    id: str
    operator: Operator
    inputs: tuple[Ref, ...]
    input_schemas: tuple[pl.Schema, ...]
    output_schemas: dict[str, pl.Schema]


@dataclass(frozen=True, slots=True)
class OutputDecl:
    """A stream written to a topic.

    Attributes:
        schema: The stream's columns, and `event_time` where its time column was dropped.
        time: The column that, shifted by `time_shift_us` microseconds, is the event time.
        role: The process that computes it.
    """

    name: str
    source: Ref
    schema: pl.Schema
    time: str
    time_shift_us: int = 0
    role: Computing = "engine"
    key: tuple[str, ...] = ()
    partitions: int = 1
    retention: timedelta | None = None
    retention_bytes: int | None = None
    archive: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class TableDecl:
    """A stream kept as the latest row per key; `node` is its table operator."""

    name: str
    source: Ref
    schema: pl.Schema
    key: tuple[str, ...]
    ttl: timedelta | None = None
    description: str = ""

    @property
    def changes(self) -> str:
        """The topic that carries its changes."""
        return self.name + CHANGES


@dataclass(frozen=True, slots=True)
class DeliveryDecl:
    """A channel that takes its rows of a topic of notifications; the role connect serves it.

    Attributes:
        topic: The topic of notifications.
        channel: Name of the channel; how to reach it is no part of a plan.
        kind: webhook, email, ...
    """

    topic: str
    channel: str
    kind: str


@dataclass(frozen=True)
class Plan:
    """Everything an application asks to be run. Nodes are in topological order.

    Attributes:
        foreign: Outputs that another role computes, which this plan may read.
    """

    app: str
    topics: tuple[TopicDecl, ...] = ()
    control_tables: tuple[ControlTableDecl, ...] = ()
    nodes: tuple[Node, ...] = ()
    outputs: tuple[OutputDecl, ...] = ()
    tables: tuple[TableDecl, ...] = ()
    deliveries: tuple[DeliveryDecl, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    foreign: tuple[OutputDecl, ...] = ()

    @cached_property
    def by_id(self) -> dict[str, Node]:
        """Nodes by id."""
        return {node.id: node for node in self.nodes}

    def topic(self, name: str) -> TopicDecl:
        """Return the input topic `name`.

        Raises:
            PlanError: There is none.
        """
        for topic in self.topics:
            if topic.name == name:
                return topic
        raise PlanError(
            f"application {self.app!r} has no topic {name!r}",
            hint=f"it has {', '.join(topic.name for topic in self.topics) or 'none'}",
        )

    def schema_of(self, ref: Ref) -> pl.Schema:
        """Return the visible columns that flow through `ref`."""
        kind, _, name = ref.node.partition(":")
        if kind == "topic":
            for output in (*self.outputs, *self.foreign):
                if output.name == name:
                    return output.schema
            return self.topic(name).schema.columns
        if kind == "control":
            return next(t for t in self.control_tables if t.name == name).schema.columns
        return self.by_id[ref.node].output_schemas[ref.port]

    def read_topics(self) -> tuple[str, ...]:
        """Names of the topics this plan reads, in rank order: sorted, control changes too."""
        read = {topic.name for topic in self.topics}
        read |= {table.changes for table in self.control_tables}
        for ref in self._refs():
            kind, _, name = ref.node.partition(":")
            if kind == "topic":
                read.add(name)
        return tuple(sorted(read))

    def _refs(self) -> Iterator[Ref]:
        for node in self.nodes:
            yield from node.inputs
        for output in self.outputs:
            yield output.source

    def roles(self) -> tuple[Computing, ...]:
        """Return the roles that compute outputs, the engine first."""
        asked = any(output.role == "model" for output in self.outputs)
        return ("engine", "model") if asked else ("engine",)

    def part(self, role: Computing) -> Plan:
        """Return what one role computes: its outputs, and the nodes and inputs they need.

        The engine has all tables and topics; the part of role `model` is called `<app>.model`.
        """
        if self.roles() == ("engine",) and role == "engine":
            return self
        mine = tuple(output for output in self.outputs if output.role == role)
        others = tuple(output for output in self.outputs if output.role != role)
        wanted = {output.source.node for output in mine}
        if role == "engine":
            wanted |= {table.source.node for table in self.tables}
        for node in reversed(self.nodes):
            if node.id in wanted:
                wanted |= {ref.node for ref in node.inputs}
        nodes = tuple(node for node in self.nodes if node.id in wanted)
        if role == "engine":
            return replace(self, nodes=nodes, outputs=mine, foreign=others)
        # Dead letters of rows that come from nowhere else go to the first topic's.
        read = tuple(topic for topic in self.topics if f"topic:{topic.name}" in wanted)
        controls = (one for one in self.control_tables if f"control:{one.name}" in wanted)
        return Plan(
            app=f"{self.app}.{role}",
            topics=read or self.topics[:1],
            control_tables=tuple(controls),
            nodes=nodes,
            outputs=mine,
            settings=self.settings,
            foreign=others,
        )

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with anything that could change an answer."""
        body = self.to_json()
        del body["deliveries"]
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON data: for `headrace plan --json`, checkpoints and forms.

        Expressions are Polars' JSON and name the Polars version; they are shown, compared and
        fingerprinted, and rebuilt only from the application's code (see `headrace.plan.stored`).
        """
        return {
            "app": self.app,
            "polars": pl.__version__,
            "topics": [_topic_json(topic) for topic in self.topics],
            "control_tables": [
                {"name": t.name, "key": list(t.key), "columns": schema_json(t.schema.columns)}
                for t in self.control_tables
            ],
            "nodes": [
                {
                    "id": node.id,
                    "kind": node.operator.kind,
                    "parameters": node.operator.model_dump(mode="json"),
                    "inputs": [{"node": ref.node, "port": ref.port} for ref in node.inputs],
                    "outputs": {
                        port: schema_json(schema) for port, schema in node.output_schemas.items()
                    },
                }
                for node in self.nodes
            ],
            "outputs": [
                {
                    "name": output.name,
                    "source": {"node": output.source.node, "port": output.source.port},
                    "columns": schema_json(output.schema),
                    "key": list(output.key),
                }
                for output in self.outputs
            ],
            "tables": [
                {
                    "name": table.name,
                    "source": {"node": table.source.node, "port": table.source.port},
                    "columns": schema_json(table.schema),
                    "key": list(table.key),
                    "ttl": duration_text(table.ttl) if table.ttl else None,
                }
                for table in self.tables
            ],
            "deliveries": [asdict(delivery) for delivery in self.deliveries],
        }


def _topic_json(topic: TopicDecl) -> dict[str, Any]:
    return {
        "name": topic.name,
        "columns": schema_json(topic.schema.columns),
        "time": topic.time,
        "key": list(topic.key),
        "delay": duration_text(topic.delay),
        "idle_after": duration_text(topic.idle_after),
        "max_ahead": duration_text(topic.max_ahead),
        "id": topic.id,
        "id_within": duration_text(topic.id_within) if topic.id_within else None,
    }


def schema_json(schema: pl.Schema) -> dict[str, str]:
    """Return column names with their types as text.

    Example:
        >>> schema_json(pl.Schema({"depth_m": pl.Float64}))
        {'depth_m': 'Float64'}
    """
    return {name: str(dtype) for name, dtype in schema.items()}
