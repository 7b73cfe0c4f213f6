"""Routes that read tables."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from headrace.codecs.json import encode_row, encode_rows
from headrace.core.errors import NotFoundError
from headrace.gateway.core import Core
from headrace.gateway.keys import key_from_path
from headrace.plan.expressions import condition

MAX_ROWS = 100_000
JSON = "application/json"

Limit = Annotated[int, Query(ge=1, le=MAX_ROWS, description="Most rows to return")]
Where = Annotated[str, Query(description="SQL condition, e.g. depth_m > 200 AND kind = 'auv'")]


def table_router(core: Core) -> APIRouter:
    """Return the routes that read tables."""
    router = APIRouter(tags=["tables"])

    @router.get("/tables/{table}", summary="Read a table")
    async def read_table(table: str, limit: Limit = 1000, where: Where = "") -> Response:
        """Live rows; `total` counts all that match, `step` is the engine's."""
        core.catalog.table(table)
        state = core.tables[table]
        rows = state.frame(core.engine_clock())
        if where:
            rows = rows.filter(condition(where, state.columns))
        place = {"step": core.engine_status().get("step"), "seq": state.seq, "total": rows.height}
        body = rows_body({"table": table}, encode_rows(rows.head(limit)), place)
        return Response(body, media_type=JSON)

    @router.get("/tables/{table}/{key:path}", summary="Read one row of a table")
    async def read_row(table: str, key: str) -> Response:
        """The row of a key; parts of a key of several columns are divided by slashes."""
        core.catalog.table(table)
        state = core.tables[table]
        row = state.get(key_from_path(key, state.key, state.columns), core.engine_clock())
        if row is None:
            raise NotFoundError(f"table {table!r} has no row {key}")
        place = {"step": core.engine_status().get("step"), "seq": state.seq}
        head = msgspec.json.encode({"table": table})[:-1]
        tail = msgspec.json.encode(place)[1:]
        return Response(head + b',"row":' + encode_row(row) + b"," + tail, media_type=JSON)

    return router


def rows_body(head: dict[str, Any], rows: bytes, tail: dict[str, Any]) -> bytes:
    """Return a JSON object of `head`, then `rows`, then `tail`."""
    return (
        msgspec.json.encode(head)[:-1] + b',"rows":' + rows + b"," + msgspec.json.encode(tail)[1:]
    )
