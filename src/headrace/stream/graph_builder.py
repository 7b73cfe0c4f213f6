"""Collects the nodes that streams make, so that equal steps of one application are one node."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.protocols import Operator
from headrace.plan.graph import Node, Ref

if TYPE_CHECKING:
    from headrace.stream.app import App
    from headrace.stream.handle import TimeColumn


class GraphBuilder:
    """The nodes of one application, in the order they were made, which is topological.

    Attributes:
        times: The time column each node was given, by node id: late rows still have it.
        right_times: The same of the second input, where late rows of both leave apart.
        app: The application, for methods of streams that declare tables and topics too.
    """

    def __init__(self, app: App | None = None) -> None:
        self.app = app
        self.nodes: dict[str, Node] = {}
        self.times: dict[str, TimeColumn | None] = {}
        self.right_times: dict[str, TimeColumn | None] = {}

    def add(self, operator: Operator, inputs: tuple[tuple[Ref, pl.Schema], ...]) -> Node:
        """Return the node for `operator` over `inputs`; the same step twice is one node.

        Raises:
            PlanError: The operator does not fit its inputs, or its name is taken.
        """
        refs = tuple(ref for ref, _ in inputs)
        schemas = tuple(schema for _, schema in inputs)
        identity = operator.name or f"{operator.kind}-{_lineage(operator, refs)}"
        known = self.nodes.get(identity)
        if known is not None:
            if _lineage(known.operator, known.inputs) == _lineage(operator, refs):
                return known
            raise PlanError(
                f"the name {identity!r} is used for two different steps",
                hint="name= must be unique within an application",
            )
        node = Node(identity, operator, refs, schemas, operator.output_schema(*schemas))
        self.nodes[identity] = node
        return node

    def needed(self, refs: tuple[Ref, ...]) -> tuple[Node, ...]:
        """Return the nodes that `refs` depend on, in topological order."""
        wanted: set[str] = set()
        stack = [ref.node for ref in refs]
        while stack:
            node = self.nodes.get(stack.pop())
            if node is not None and node.id not in wanted:
                wanted.add(node.id)
                stack.extend(ref.node for ref in node.inputs)
        return tuple(node for node in self.nodes.values() if node.id in wanted)


def _lineage(operator: Operator, refs: tuple[Ref, ...]) -> str:
    body = [operator.fingerprint(), [[ref.node, ref.port] for ref in refs]]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:8]
