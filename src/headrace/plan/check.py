"""What can be said of a plan before anything runs: errors that stop it, warnings that do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headrace.core.errors import PlanError
from headrace.plan.graph import Node, Plan


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth saying.

    Attributes:
        where: Node, topic, output or table.
        message: What is wrong or surprising.
        hint: What to do about it.
        fatal: Whether the plan must not run.
    """

    where: str
    message: str
    hint: str
    fatal: bool = True

    def __str__(self) -> str:
        word = "error" if self.fatal else "warning"
        return f"{word}: {self.where}: {self.message} ({self.hint})"


def findings(plan: Plan) -> list[Finding]:
    """Return all there is to say of `plan`.

    Columns and types were checked when the streams were made: a step that does not fit its
    inputs is never in a plan. This looks at what only the whole shows.
    """
    return [*_keys(plan), *_functions(plan), *_orders(plan), *_unread(plan)]


def check(plan: Plan) -> list[Finding]:
    """Return the warnings about `plan`.

    Raises:
        PlanError: It must not run; the first error is named.
    """
    found = findings(plan)
    fatal = [finding for finding in found if finding.fatal]
    if fatal:
        more = f", and {len(fatal) - 1} more" if len(fatal) > 1 else ""
        first = fatal[0]
        raise PlanError(f"{first.where}: {first.message}{more}", hint=first.hint)
    return found


def _keys(plan: Plan) -> Iterator[Finding]:
    for output in plan.outputs:
        missing = [column for column in output.key if column not in output.schema]
        if missing:
            yield Finding(
                f"output {output.name}",
                f"its key {', '.join(missing)} is no column of the stream",
                f"it has {', '.join(output.schema)}",
            )


def _functions(plan: Plan) -> Iterator[Finding]:
    """Other processes find a function by its name, so it must have one they can import."""
    for node in plan.nodes:
        function = getattr(node.operator, "fn", None)
        if function is None:
            continue
        name = getattr(function, "__qualname__", "")
        if "<lambda>" in name or "<locals>" in name:
            yield Finding(
                node.id,
                f"{name or function!r} cannot be imported by name",
                "define it with def at the top level of a module",
                fatal=False,
            )


def _orders(plan: Plan) -> Iterator[Finding]:
    for node in plan.nodes:
        if getattr(node.operator, "order", None) != "arrival":
            continue
        for topic in plan.topics:
            if topic.partitions > 1 and topic.name in _sources(plan, node):
                yield Finding(
                    node.id,
                    f'order="arrival" over the {topic.partitions} partitions of {topic.name}: '
                    "rows of one key keep their order only within a partition",
                    'route by key, or use order="event"',
                    fatal=False,
                )


def _unread(plan: Plan) -> Iterator[Finding]:
    used = {ref.node for node in plan.nodes for ref in node.inputs}
    used |= {output.source.node for output in plan.outputs}
    used |= {f"topic:{table.feed.topic}" for table in plan.control_tables if table.feed}
    for topic in plan.topics:
        if f"topic:{topic.name}" not in used:
            yield Finding(
                f"topic {topic.name}",
                "nothing reads it",
                "write it with app.output(...) or keep it with app.table(...)",
                fatal=False,
            )


def _sources(plan: Plan, node: Node) -> set[str]:
    """Return the topics a node's rows come from."""
    found: set[str] = set()
    stack = [ref.node for ref in node.inputs]
    while stack:
        kind, _, name = (at := stack.pop()).partition(":")
        if kind == "topic":
            found.add(name)
        elif at in plan.by_id:
            stack.extend(ref.node for ref in plan.by_id[at].inputs)
    return found
