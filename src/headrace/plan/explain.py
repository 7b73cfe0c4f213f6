"""Show a plan to a person: as indented text or as a mermaid graph."""

from __future__ import annotations

import json
from datetime import timedelta

import polars as pl
from pydantic import BaseModel

from headrace.core.time import duration_text
from headrace.plan.graph import Node, Plan, Ref


def explain_text(plan: Plan) -> str:
    """Return one line per topic, operator, output and table, inputs before what reads them."""
    lines = [f"application {plan.app}"]
    for topic in plan.topics:
        key = f" key={','.join(topic.key)}" if topic.key else ""
        lines.append(
            f"  topic {topic.name} ({', '.join(topic.schema.columns)}) time={topic.time}{key}"
            f" delay={duration_text(topic.delay)}"
        )
    lines.extend(
        f"  control table {table.name} ({', '.join(table.schema.columns)})"
        f" key={','.join(table.key)}"
        for table in plan.control_tables
    )
    for node in plan.nodes:
        inputs = ", ".join(_ref_text(ref) for ref in node.inputs)
        lines.append(f"  {node.id} = {node.operator.kind}({inputs}){_parameters(node)}")
        for port, schema in node.output_schemas.items():
            columns = ", ".join(f"{name}: {dtype}" for name, dtype in schema.items())
            lines.append(f"      {port}: {columns}")
    lines.extend(f"  output {output.name} <- {_ref_text(output.source)}" for output in plan.outputs)
    lines.extend(
        f"  table {table.name} <- {_ref_text(table.source)} key={','.join(table.key)}"
        + (f" ttl={duration_text(table.ttl)}" if table.ttl else "")
        for table in plan.tables
    )
    lines.extend(
        f"  channel {delivery.channel} ({delivery.kind}) <- {delivery.topic}"
        for delivery in plan.deliveries
    )
    return "\n".join(lines)


def explain_mermaid(plan: Plan) -> str:
    """Return the plan as a mermaid `flowchart`."""
    names: dict[str, str] = {}

    def ident(node: str) -> str:
        return names.setdefault(node, f"n{len(names)}")

    lines = ["flowchart LR"]
    lines.extend(f'  {ident(f"topic:{topic.name}")}[/"{topic.name}"/]' for topic in plan.topics)
    lines.extend(
        f'  {ident(f"control:{table.name}")}[("{table.name}")]' for table in plan.control_tables
    )
    for node in plan.nodes:
        lines.append(f'  {ident(node.id)}["{_label(node)}"]')
        lines.extend(_edge(ident(ref.node), ref, ident(node.id)) for ref in node.inputs)
    for output in plan.outputs:
        target = ident(f"output:{output.name}")
        lines.append(f'  {target}[\\"{output.name}"\\]')
        lines.append(_edge(ident(output.source.node), output.source, target))
    for table in plan.tables:
        target = ident(f"kept:{table.name}")
        lines.append(f'  {target}[("{table.name}")]')
        lines.append(_edge(ident(table.source.node), table.source, target))
    outputs = {output.name for output in plan.outputs}
    for delivery in plan.deliveries:
        target = ident(f"channel:{delivery.channel}")
        told = f"{'output' if delivery.topic in outputs else 'topic'}:{delivery.topic}"
        lines.append(f'  {target}>"{delivery.channel}"]')
        lines.append(f"  {ident(told)} --> {target}")
    return "\n".join(lines)


def _edge(source: str, ref: Ref, target: str) -> str:
    label = f"|{ref.port}|" if ref.port != "main" else ""
    return f"  {source} -->{label} {target}"


def _label(node: Node) -> str:
    return node.operator.name or node.operator.kind


def _ref_text(ref: Ref) -> str:
    return ref.node if ref.port == "main" else f"{ref.node}.{ref.port}"


def _parameters(node: Node) -> str:
    shown = []
    for name, field in type(node.operator).model_fields.items():
        value = getattr(node.operator, name)
        if name == "name" or (not _holds_expression(value) and value == field.default):
            continue
        shown.append(f"{name}={_short(value)}")
    return " " + " ".join(shown) if shown else ""


def _holds_expression(value: object) -> bool:
    """Whether comparing would make an expression instead of an answer."""
    if isinstance(value, tuple):
        return any(_holds_expression(one) for one in value)
    return isinstance(value, pl.Expr)


def _short(value: object) -> str:
    match value:
        case pl.Expr():
            text = str(value)
        case tuple() if value and all(isinstance(one, pl.Expr) for one in value):
            text = "[" + ", ".join(str(one) for one in value) + "]"
        case timedelta():
            text = duration_text(value)
        case BaseModel():
            body = value.model_dump(mode="json", exclude_none=True)
            text = f"{getattr(value, 'kind', '')}{json.dumps(body)}"
        case _:
            text = str(value)
    limit = 120
    return text if len(text) <= limit else text[: limit - 1] + "…"
