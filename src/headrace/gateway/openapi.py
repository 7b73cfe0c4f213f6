"""OpenAPI of the routes FastAPI does not see: bare endpoints that take rows."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from headrace.core.schema import RowSchema
from headrace.gateway.catalog import TopicEntry
from headrace.gateway.core import Core
from headrace.gateway.ingest import ARROW_TYPE
from headrace.stream.surface import Route

_REF: Final = "#/components/schemas/"
_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "examples": ["HR303"]},
                "message": {"type": "string"},
                "hint": {"type": "string"},
            },
        }
    },
}
_PUBLISHED: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["accepted", "rejected", "offsets", "reasons", "ignored"],
    "properties": {
        "accepted": {"type": "integer", "description": "Rows in the topic now, durably"},
        "rejected": {"type": "integer", "description": "Rows in its dead letters now"},
        "offsets": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "partition": {"type": "integer"},
                    "from": {"type": "integer"},
                    "to": {"type": "integer", "description": "Exclusive"},
                },
            },
        },
        "reasons": {
            "type": "array",
            "description": "The first rejected rows",
            "items": {
                "type": "object",
                "properties": {"index": {"type": "integer"}, "reason": {"type": "string"}},
            },
        },
        "ignored": {
            "type": "array",
            "description": "Names in the first row that are no column",
            "items": {"type": "string"},
        },
        "dropped": {"type": "integer", "description": "Rows the topic's policy let go"},
    },
}
_STATUSES: Final = {
    "409": "The Idempotency-Key was used for another body",
    "413": "The body is too large",
    "415": "The content type is not read",
    "422": "The body is no rows at all; it is kept in the dead letters",
    "429": "Too many rows wait to be read; send again after Retry-After seconds",
    "503": "The log cannot be written",
    "507": "The disk is nearly full; nothing was written",
}
_EXAMPLES: Final[dict[str, Any]] = {
    "string": "a",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "12:00:00",
    "array": [],
    "object": {},
}


def add_openapi(gateway: FastAPI, core: Core) -> None:
    """Make the gateway's OpenAPI document complete; it is built when first asked for."""

    def openapi() -> dict[str, Any]:
        if gateway.openapi_schema is None:
            spec = get_openapi(title=gateway.title, version=gateway.version, routes=gateway.routes)
            _complete(spec, core)
            gateway.openapi_schema = spec
        return gateway.openapi_schema

    gateway.openapi = openapi  # type: ignore[method-assign] # FastAPI's own way of extending it


def _complete(spec: dict[str, Any], core: Core) -> None:
    schemas = spec.setdefault("components", {}).setdefault("schemas", {})
    schemas.setdefault("Error", _ERROR)
    schemas.setdefault("Published", _PUBLISHED)
    paths = spec.setdefault("paths", {})
    for name in core.inputs():
        entry = core.catalog.topic(name)
        _add_schema(schemas, name, entry.schema, entry)
        operation = _operation(name, entry, None)
        paths.setdefault(f"/topics/{name}", {})["post"] = operation
    for route in core.app.routes:
        if route.to is None:
            continue
        entry = core.catalog.topic(route.to)
        component = route.to
        if route.aliases:
            component = f"{route.to} via {route.path}"
            _add_schema(schemas, component, entry.schema, entry, route)
        operation = _operation(component, entry, route)
        if route.model is not None:
            _add_component(
                schemas,
                route.model.__name__,
                route.model.model_json_schema(ref_template=_REF + "{model}"),
            )
        paths.setdefault(route.path, {})[route.method.lower()] = operation


def _add_schema(
    schemas: dict[str, Any],
    component: str,
    schema: RowSchema,
    entry: TopicEntry,
    route: Route | None = None,
) -> None:
    needed = [*entry.key, *([entry.time] if entry.time else [])]
    body = schema.json_schema(title=component, required=needed)
    if route is not None:
        outside = {column: alias for alias, column in route.aliases.items()}
        body["properties"] = {
            outside.get(name, name): kind for name, kind in body["properties"].items()
        }
        if "required" in body:
            body["required"] = [outside.get(name, name) for name in body["required"]]
    _add_component(schemas, component, body)


def _add_component(schemas: dict[str, Any], name: str, body: dict[str, Any]) -> None:
    """Add a JSON schema with what it defines inside as components of their own."""
    for inner, definition in body.pop("$defs", {}).items():
        schemas.setdefault(inner, definition)
    schemas[name] = _moved(body)


def _moved(node: Any) -> Any:
    """Return a schema whose references point to components."""
    if isinstance(node, dict):
        return {
            key: value.replace("#/$defs/", _REF) if key == "$ref" else _moved(value)
            for key, value in node.items()
        }
    return [_moved(item) for item in node] if isinstance(node, list) else node


def _operation(component: str, entry: TopicEntry, route: Route | None) -> dict[str, Any]:
    row = {"$ref": _REF + component.replace("/", "~1")}
    example = _example(entry, route)
    answer: dict[str, Any] = {"$ref": _REF + "Published"}
    if route is not None and route.model is not None:
        answer = {"$ref": _REF + route.model.__name__}
    good = str(route.status if route is not None else 202)
    declared = entry.declared
    description = (route.description if route else "") or (declared.description if declared else "")
    return {
        "tags": list(route.tags) if route is not None and route.tags else ["topics"],
        "summary": (route.summary if route else "") or f"Append rows to {entry.name}",
        "description": description
        or "Answered when the rows are durable. Bad rows become dead letters and are counted.",
        "operationId": f"append {component}",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key again within 24 h gets the first answer again",
                "schema": {"type": "string", "maxLength": 255},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [row, {"type": "array", "items": row}]},
                    "examples": {
                        "row": {"summary": "One row", "value": example},
                        "rows": {"summary": "Many rows", "value": [example, example]},
                    },
                },
                "application/x-ndjson": {"schema": {"type": "string"}},
                ARROW_TYPE: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            good: {
                "description": "Durable",
                "content": {"application/json": {"schema": answer}},
            },
            **{
                status: {
                    "description": text,
                    "content": {"application/json": {"schema": {"$ref": _REF + "Error"}}},
                }
                for status, text in _STATUSES.items()
            },
        },
    }


def _example(entry: TopicEntry, route: Route | None) -> dict[str, Any]:
    schema = RowSchema(columns=entry.schema.columns, time_unit=None).json_schema()
    outside = {} if route is None else {column: alias for alias, column in route.aliases.items()}
    return {outside.get(name, name): _value(kind) for name, kind in schema["properties"].items()}


def _value(kind: dict[str, Any]) -> Any:
    if "enum" in kind:
        return kind["enum"][0]
    if "format" in kind:
        return _EXAMPLES.get(kind["format"], "a")
    types = kind.get("type", "string")
    return _EXAMPLES[types if isinstance(types, str) else types[0]]
