"""The REST surface of rules: keep them, change them, try one over the last hour."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from pydantic import ValidationError

from headrace.core.errors import ConstraintError
from headrace.core.protocols import MAIN
from headrace.core.schema import RowSchema, model_reason
from headrace.core.time import TIME_DTYPE
from headrace.operators.rulebook.ports import ABSENT, CLEARED
from headrace.operators.rulebook.rule import Rule
from headrace.plan.graph import OutputDecl, Plan, Ref, TopicDecl
from headrace.stream.data import Data, Versioned

if TYPE_CHECKING:
    from headrace.stream.app import App
    from headrace.stream.declared_tables import ControlTable

SPAN: Final = "1h"
MAX_ROWS: Final = 200_000
EXAMPLES: Final = 10
TRANSITIONS: Final = 1000

_TIME: Final = "event_time"
_OUTPUT: Final = "rehearsal."


def serve_rules(table: ControlTable, node: str) -> None:
    """Declare the routes over a table of rules; a second step that uses it adds none.

    `POST GET /<table>`, `GET PUT PATCH DELETE /<table>/{rule_id}`, and `POST /<table>/test`.
    """
    app, path = table.app, f"/{table.name}"
    if any(route.path == path for route in app.routes):
        return
    one = f"{path}/{{rule_id}}"
    tags = (table.name,)
    app.route(
        "POST",
        path,
        control_table=table,
        answer=_created,
        summary="Create a rule; it judges the next row",
        tags=tags,
    )
    app.route("GET", path, control_table=table, answer=_listed, summary="All rules", tags=tags)
    app.route("GET", one, control_table=table, summary="One rule", tags=tags)
    app.route(
        "PUT",
        one,
        control_table=table,
        answer=_changed,
        summary="Create or replace a rule",
        tags=tags,
    )
    app.route(
        "PATCH",
        one,
        control_table=table,
        answer=_changed,
        summary="Change words of a rule",
        tags=tags,
    )
    app.route(
        "DELETE",
        one,
        control_table=table,
        answer=_changed,
        summary="Delete a rule; what it held for is cleared",
        tags=tags,
    )
    trial = _Trial(app, table, node)

    async def test(rule: dict[str, Any], data: Data) -> dict[str, Any]:
        """Judge the last hour of events by a rule that nobody has saved.

        The body is a rule; `rule_id` may be left out. Answers how many rows it holds for and
        for which keys, the first of them, and when it would have begun and ceased to hold. Its
        windows are empty at the beginning. Rows are those that the log still holds, back from
        the newest event time; at most 200 000 of a topic, where `whole` is false.
        """
        return await trial.answer(rule, data)

    app.route("POST", f"{path}/test", summary="Try a rule over the last hour of events", tags=tags)(
        test
    )


def _created(rule: Versioned | None, _: Mapping[str, str]) -> dict[str, Any]:
    assert rule is not None  # noqa: S101 - what was created is there
    return {"status": "created", "rule_id": rule.row["rule_id"], "version": rule.version}


def _changed(rule: Versioned | None, path: Mapping[str, str]) -> dict[str, Any]:
    if rule is None:
        return {"status": "deleted", **path}
    return {"status": "created" if rule.created else "updated", **path, "version": rule.version}


def _listed(rules: list[Versioned], _: Mapping[str, str]) -> dict[str, Any]:
    rows = [{**rule.row, "version": rule.version} for rule in rules]
    return {"rules": rows, "total": len(rows)}


class _Trial:
    """Runs the steps that lead to a step of rules over stored rows, with one rule."""

    def __init__(self, app: App, table: ControlTable, node: str) -> None:
        self._app, self._table, self._node = app, table.name, node

    async def answer(self, body: Mapping[str, Any], data: Data) -> dict[str, Any]:
        """Return what a rule would have said.

        Raises:
            ConstraintError: It is no rule, or does not fit the rows.
        """
        plan = self._app.plan()
        decl = next(one for one in plan.control_tables if one.name == self._table)
        record = _record(body, decl.schema)
        for check in decl.checks:
            check(record)
        controls = {
            one.name: record if one.name == self._table else data.frame(one.name)
            for one in plan.control_tables
        }
        trial = steps_until(plan, self._node)
        found = await data.rehearse(trial, controls, span=SPAN, limit=MAX_ROWS)
        violations, cleared, absent = (
            found.outputs[_OUTPUT + port] for port in (MAIN, CLEARED, ABSENT)
        )
        return {
            "rule_id": record["rule_id"][0],
            "from": found.since,
            "to": found.until,
            "rows": found.rows,
            "whole": found.whole,
            "violations": violations.height,
            "keys": violations["key"].n_unique(),
            "severities": dict(
                violations["severity"].value_counts(sort=True).sort("severity").iter_rows()
            ),
            "absent": absent.height,
            "examples": _shown(violations.head(EXAMPLES)),
            "transitions": _transitions(violations, cleared),
        }


def steps_until(plan: Plan, node: str) -> Plan:
    """Return the part of a plan that leads to a step of rules, with its ports as outputs.

    Outputs that the steps read are topics there: what they held is stored.
    """
    wanted, waiting = set[str](), [node]
    topics = set[str]()
    while waiting:
        at = waiting.pop()
        if at in plan.by_id and at not in wanted:
            wanted.add(at)
            waiting.extend(ref.node for ref in plan.by_id[at].inputs)
        elif at.startswith("topic:"):
            topics.add(at.removeprefix("topic:"))
    made = [
        TopicDecl(output.name, RowSchema.of(output.schema), output.time, partitions=1)
        for output in plan.outputs
        if output.name in topics
    ]
    schemas = plan.by_id[node].output_schemas
    outputs = [
        OutputDecl(
            _OUTPUT + port,
            Ref(node, port),
            pl.Schema({**schemas[port], _TIME: TIME_DTYPE}),
            _TIME,
        )
        for port in (MAIN, CLEARED, ABSENT)
    ]
    return replace(
        plan,
        topics=(*(topic for topic in plan.topics if topic.name in topics), *made),
        nodes=tuple(one for one in plan.nodes if one.id in wanted),
        outputs=tuple(outputs),
        tables=(),
        deliveries=(),
    )


def _record(body: Mapping[str, Any], schema: RowSchema) -> pl.DataFrame:
    model = schema.model or Rule
    try:
        rule = model.model_validate({"rule_id": "test", **body, "enabled": True})
    except ValidationError as error:
        raise ConstraintError(model_reason(error)) from error
    return schema.frame_of([rule])


def _shown(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rows.write_ndjson().splitlines() if line]


def _transitions(violations: pl.DataFrame, cleared: pl.DataFrame) -> list[dict[str, Any]]:
    """Return when the rule began to hold for each key, and when it ceased to."""
    holds = violations.select("key", _TIME, pl.lit(value=True).alias("holds"))
    ceases = cleared.filter("is_back").select("key", _TIME, pl.lit(value=False).alias("holds"))
    both = pl.concat([holds, ceases]).sort("key", _TIME, maintain_order=True)
    begins = pl.col("holds") != pl.col("holds").shift(1).over("key").fill_null(value=False)
    return _shown(both.filter(begins).rename({_TIME: "at"}).head(TRANSITIONS))
