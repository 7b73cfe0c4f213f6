"""Routes over control tables: read, create, replace, change, remove, each with a version."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Request, Response

from headrace.codecs.json import encode_rows
from headrace.core.errors import DataError, NotFoundError
from headrace.gateway.control import ControlTable
from headrace.gateway.core import Core
from headrace.gateway.idempotency import Key
from headrace.gateway.ingest import check_origin, read_body
from headrace.gateway.keys import key_from_path
from headrace.gateway.tables import JSON, Limit, Where, rows_body
from headrace.gateway.work import Change, Outcome
from headrace.plan.expressions import condition

IfMatch = Annotated[str | None, Header(alias="If-Match")]
Idempotency = Annotated[str | None, Header(alias="Idempotency-Key")]
Which = Callable[..., Awaitable[str]]


async def named(table: str) -> str:
    """Return the table that the path names."""
    return table


def control_router(core: Core) -> APIRouter:
    """Return the routes that read and change control tables."""
    router = APIRouter(tags=["control tables"])
    add_routes(router, core, "/control/{table}", named)
    return router


def mounted_router(core: Core, path: str, table: str) -> APIRouter:
    """Return the routes of one control table under a path of its own, e.g. `/silences`."""

    async def fixed() -> str:
        return table

    router = APIRouter(tags=[path.removeprefix("/")])
    add_routes(router, core, path, fixed)
    return router


def add_routes(router: APIRouter, core: Core, path: str, table: Which) -> None:
    """Add the routes of control tables under `path`; `table` says which one is meant."""
    _reading(router, core, path, table)

    async def may_write(request: Request) -> None:
        check_origin(dict(request.scope["headers"]), core.settings, core.address[0])

    writing = APIRouter(dependencies=[Depends(may_write)])
    _creating(writing, core, path, table)
    _changing(writing, core, path, table)
    router.include_router(writing)


def _reading(router: APIRouter, core: Core, path: str, which: Which) -> None:
    meant: str = Depends(which)

    @router.get(path, summary="Read a control table")
    async def read_control(limit: Limit = 1000, where: Where = "", table: str = meant) -> Response:
        """All rows by key, each with its version."""
        found = core.catalog.control(table)
        rows = core.control_frame(table)
        if where:
            rows = rows.filter(condition(where, rows.schema))
        shown = encode_rows(rows.head(limit), found.schema.json_columns)
        tail = {"seq": core.tables[table].seq, "total": rows.height}
        return Response(rows_body({"table": table}, shown, tail), media_type=JSON)

    @router.get(path + "/{key:path}", summary="Read one row of a control table")
    async def read_control_row(key: str, table: str = meant) -> Response:
        """The row of a key with its version, which is also its ETag."""
        decl = core.catalog.control(table)
        row = core.control_row(table, key_from_path(key, decl.key, decl.schema.columns))
        if row is None:
            raise NotFoundError(f"control table {table!r} has no row {key}")
        return Response(row, media_type=JSON, headers={"etag": etag(row)})


def _creating(router: APIRouter, core: Core, path: str, which: Which) -> None:
    meant: str = Depends(which)

    @router.post(path, status_code=201, summary="Create a row")
    async def create(
        request: Request, idempotency_key: Idempotency = None, table: str = meant
    ) -> Response:
        """Create a row; 409 where its key exists."""
        found = core.control(table)
        body = await body_of(core, request)
        prepare = found.put(found.parse(body), None, create=True)
        return changed(await change(core, request, found, prepare, idempotency_key, body))

    @router.put(path + "/{key:path}", summary="Replace a row")
    async def replace(
        key: str,
        request: Request,
        match: IfMatch = None,
        idempotency_key: Idempotency = None,
        table: str = meant,
    ) -> Response:
        """Create or replace the row of a key; 412 where it is not at the version of `If-Match`."""
        found = core.control(table)
        body = await body_of(core, request)
        row = found.parse(body)
        wanted = key_from_path(key, found.key, found.decl.schema.columns)
        if tuple(row[name][0] for name in found.key) != wanted:
            raise DataError("the key in the path is not the key in the body")
        prepare = found.put(row, version_of(match))
        return changed(await change(core, request, found, prepare, idempotency_key, body))


def _changing(router: APIRouter, core: Core, path: str, which: Which) -> None:
    meant: str = Depends(which)

    @router.patch(path + "/{key:path}", summary="Change a row")
    async def patch(
        key: str,
        request: Request,
        match: IfMatch = None,
        idempotency_key: Idempotency = None,
        table: str = meant,
    ) -> Response:
        """Change some columns of a row; 412 where it is not at the version of `If-Match`."""
        found = core.control(table)
        body = await body_of(core, request)
        wanted = key_from_path(key, found.key, found.decl.schema.columns)
        prepare = found.patch(wanted, body, version_of(match))
        return changed(await change(core, request, found, prepare, idempotency_key, body))

    @router.delete(path + "/{key:path}", status_code=204, summary="Remove a row")
    async def delete(
        key: str,
        request: Request,
        match: IfMatch = None,
        idempotency_key: Idempotency = None,
        table: str = meant,
    ) -> Response:
        """Remove a row; 412 where it is not at the version of `If-Match`."""
        found = core.control(table)
        wanted = key_from_path(key, found.key, found.decl.schema.columns)
        prepare = found.delete(wanted, version_of(match))
        return changed(await change(core, request, found, prepare, idempotency_key, b""))


async def change(
    core: Core, request: Request, table: ControlTable, prepare: Any, key: str | None, body: bytes
) -> Outcome:
    """Commit a change of a control table and return its answer."""
    name = None if key is None else Key.of(request.method, request.url.path, key, body)
    return await core.submit(Change(prepare, table.settle, key=name, size=len(body)))


async def body_of(core: Core, request: Request) -> bytes:
    """Return a request's body, bounded like any other."""
    return await read_body(request.receive, dict(request.scope["headers"]), core.body)


def version_of(match: str | None) -> int | None:
    """Return the version an `If-Match` header names; `*` and none name no particular one.

    Raises:
        DataError: It is no version of ours.
    """
    if match is None or match.strip() == "*":
        return None
    text = match.strip().removeprefix("W/").strip('"')
    if not text.isdigit():
        raise DataError(f"If-Match: {match} names no version", hint='send the ETag, e.g. "3"')
    return int(text)


def changed(outcome: Outcome) -> Response:
    """Return the answer to a change, with the row's version as ETag."""
    headers = {"idempotency-replayed": "true"} if outcome.replayed else {}
    if outcome.status == 204:  # noqa: PLR2004 - a name would say no more
        return Response(None, 204, headers)
    headers["etag"] = etag(outcome.body)
    return Response(outcome.body, outcome.status, headers, JSON)


def etag(body: bytes) -> str:
    """Return the ETag of a row: its version."""
    return f'"{msgspec.json.decode(body, type=_Version).version}"'


class _Version(msgspec.Struct):
    version: int = 0
