"""What an application's tables are to its streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.core.errors import PlanError
from headrace.plan.graph import ControlTableDecl, Ref, TableDecl
from headrace.stream.joined import AsOf
from headrace.stream.stream import Stream

if TYPE_CHECKING:
    from headrace.stream.app import App


@dataclass(frozen=True)
class ControlTable:
    """A table changed through the API; operators that take one see its changes at once."""

    app: App
    decl: ControlTableDecl

    @property
    def name(self) -> str:
        """Its name."""
        return self.decl.name

    @property
    def stream(self) -> Stream:
        """Its changes, for an operator's control port."""
        return Stream(
            self.app.graph, Ref(f"control:{self.decl.name}"), self.decl.schema.columns, None
        )

    def require(self, check: Callable[[pl.DataFrame], None]) -> None:
        """Refuse records for which `check` raises, whoever sends them."""
        self.app.require(self.name, check)

    def looked_up(self, as_of: AsOf) -> tuple[Stream, Mapping[str, Any]]:
        """Return its changes and its key, for `Stream.lookup`.

        Raises:
            PlanError: It was asked for as of event time, which its changes do not have.
        """
        if as_of == "event":
            raise PlanError(
                f"control table {self.name!r} has no event time",
                hint='use as_of="now", or send its rows to a topic and keep them with app.table()',
            )
        return self.stream, {"key": self.decl.key}


@dataclass(frozen=True)
class AppTable:
    """A table kept by the application: the latest row per key."""

    app: App
    decl: TableDecl

    @property
    def name(self) -> str:
        """Its name."""
        return self.decl.name

    def looked_up(self, as_of: AsOf) -> tuple[Stream, Mapping[str, Any]]:
        """Return its changes, or as of event time the rows it is kept from, and what a lookup
        must know of them, for `Stream.lookup`.
        """
        graph, source = self.app.graph, self.decl.source
        node = graph.nodes[source.node]
        if as_of == "now":
            changes = Stream(graph, source, node.output_schemas[source.port], None)
            return changes, {"key": self.decl.key, "lagging": True}
        rows = Stream(graph, node.inputs[0], self.decl.schema, graph.times.get(node.id))
        delete = getattr(node.operator, "delete", None)
        return rows, {"key": self.decl.key, "delete": delete, "valid_for": self.decl.ttl}
