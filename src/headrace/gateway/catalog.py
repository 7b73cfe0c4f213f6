"""What a gateway serves: the topics and tables of its application, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import polars as pl

from headrace.alerts.notification import DELIVERIES, DELIVERIES_SCHEMA
from headrace.core.errors import NotFoundError, SchemaError
from headrace.core.log import OP, TopicSpec
from headrace.core.schema import RowSchema
from headrace.core.time import micros
from headrace.plan.graph import DEAD, DEAD_SCHEMA, ControlTableDecl, Plan, TableDecl, TopicDecl

Role = Literal["input", "output", "dead", "changes"]
VERSION = "version"
"""The column of a control table's changelog that counts a key's changes."""


@dataclass(frozen=True)
class TopicEntry:
    """A topic that can be read, and written where it is an input.

    Attributes:
        role: `input` topics take rows; `dead` and `changes` belong to one that does.
        time: The event-time column.
        declared: The declaration of an input topic.
    """

    name: str
    role: Role
    schema: RowSchema
    time: str | None = None
    key: tuple[str, ...] = ()
    declared: TopicDecl | None = None


class Catalog:
    """Topics and tables by name; raises NotFoundError for what is not there."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.topics: dict[str, TopicEntry] = {}
        for topic in plan.topics:
            self._add(TopicEntry(topic.name, "input", topic.schema, topic.time, topic.key, topic))
            dead = topic.name + DEAD
            self._add(TopicEntry(dead, "dead", RowSchema.of(DEAD_SCHEMA), "arrival"))
        for output in plan.outputs:
            schema = RowSchema(columns=output.schema)
            self._add(TopicEntry(output.name, "output", schema, output.time, output.key))
        for topic_name in sorted({delivery.topic for delivery in plan.deliveries}):
            attempts = RowSchema.of(DELIVERIES_SCHEMA)
            self._add(TopicEntry(DELIVERIES, "output", attempts, "at"))
            dead = topic_name + DEAD
            self._add(TopicEntry(dead, "dead", RowSchema.of(DEAD_SCHEMA), "arrival"))
        self.tables: dict[str, TableDecl] = {table.name: table for table in plan.tables}
        for control in plan.control_tables:
            if VERSION in control.schema.columns:
                raise SchemaError(
                    f"control table {control.name!r} has a column {VERSION!r}",
                    hint="its rows get one of that name, counting their changes: rename yours",
                )
        self.controls: dict[str, ControlTableDecl] = {
            table.name: table for table in plan.control_tables
        }
        for control in self.fed():
            dead = control.name + DEAD
            self._add(TopicEntry(dead, "dead", RowSchema.of(DEAD_SCHEMA), "arrival"))

    def _add(self, entry: TopicEntry) -> None:
        self.topics[entry.name] = entry

    def topic(self, name: str) -> TopicEntry:
        """Return topic `name`."""
        return _found(self.topics, name, "topic")

    def table(self, name: str) -> TableDecl:
        """Return table `name`."""
        return _found(self.tables, name, "table")

    def control(self, name: str) -> ControlTableDecl:
        """Return control table `name`."""
        return _found(self.controls, name, "control table")

    def own_specs(self) -> list[TopicSpec]:
        """Return the topics a gateway writes: inputs and their dead letters."""
        specs = []
        for topic in self.plan.topics:
            retention = topic.retention
            specs.append(
                TopicSpec(
                    topic.name,
                    topic.schema.columns,
                    partitions=topic.partitions,
                    retention_us=None if retention is None else micros(retention),
                    retention_bytes=topic.retention_bytes,
                    archive=topic.archive,
                )
            )
            specs.append(TopicSpec(topic.name + DEAD, DEAD_SCHEMA))
        return specs

    def control_specs(self) -> list[TopicSpec]:
        """Return the changelogs of control tables, and the dead letters of those that are fed;
        slot 0 writes them.
        """
        changes = [
            TopicSpec(table.changes, control_changes(table)) for table in self.controls.values()
        ]
        return changes + [TopicSpec(table.name + DEAD, DEAD_SCHEMA) for table in self.fed()]

    def fed(self) -> list[ControlTableDecl]:
        """Return the control tables that are fed from a topic."""
        return [table for table in self.controls.values() if table.feed is not None]


def control_changes(table: ControlTableDecl) -> pl.Schema:
    """Return the columns of a control table's changelog."""
    return pl.Schema({**table.schema.columns, OP: pl.String(), VERSION: pl.Int64()})


T = TypeVar("T")


def _found(kind: dict[str, T], name: str, word: str) -> T:
    try:
        return kind[name]
    except KeyError:
        raise NotFoundError(
            f"there is no {word} {name!r}", hint=f"there are {', '.join(kind) or 'none'}"
        ) from None
