"""`GET /app`: what an application is made of, for its page and for tools."""

from __future__ import annotations

from typing import Any

import polars as pl
from fastapi import APIRouter

from headrace.gateway.core import Core


def describe_router(core: Core) -> APIRouter:
    """Return the router of `/app`."""
    router = APIRouter(tags=["operations"])
    body = describe(core)

    @router.get("/app", summary="Topics, tables and views of the application")
    def app() -> dict[str, Any]:
        return body

    return router


def describe(core: Core) -> dict[str, Any]:
    """Return topics, tables, control tables and views with their columns."""
    catalog = core.catalog
    return {
        "app": core.app.name,
        "title": core.app.title,
        "version": core.app.version,
        "views": core.app.views,
        "topics": {
            name: {
                "columns": columns_of(topic.schema.columns),
                "time": topic.time,
                "key": _key(topic.key),
                "role": topic.role,
            }
            for name, topic in catalog.topics.items()
        },
        "tables": {
            name: {
                "columns": columns_of(table.schema),
                "key": _key(table.key),
                "description": table.description,
            }
            for name, table in catalog.tables.items()
        },
        "control_tables": {
            name: {
                "columns": columns_of(table.schema.columns),
                "key": _key(table.key),
                "json_schema": table.schema.json_schema(),
                "description": table.description,
            }
            for name, table in catalog.controls.items()
        },
    }


def columns_of(schema: pl.Schema) -> list[dict[str, str]]:
    """Return names and types of columns, types as text.

    Example:
        >>> columns_of(pl.Schema({"depth_m": pl.Float64}))
        [{'name': 'depth_m', 'type': 'Float64'}]
    """
    return [{"name": name, "type": str(dtype)} for name, dtype in schema.items()]


def _key(key: tuple[str, ...]) -> str | list[str] | None:
    if not key:
        return None
    return key[0] if len(key) == 1 else list(key)
