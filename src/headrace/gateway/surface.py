"""An application's own routes and sockets, as it declared them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, get_type_hints

import msgspec
from fastapi import Depends, FastAPI, Request, Response
from starlette.routing import Route as AsgiRoute
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.codecs.json import encode_row
from headrace.core.errors import ConfigError, DataError, HeadraceError, NotFoundError
from headrace.gateway.app_data import AppData, versioned
from headrace.gateway.catalog import VERSION
from headrace.gateway.channels import Wanted
from headrace.gateway.control import ControlTable
from headrace.gateway.control_routes import body_of, change, etag, version_of
from headrace.gateway.core import Core
from headrace.gateway.hub import Request as Subscribe
from headrace.gateway.ingest import check_origin
from headrace.gateway.keys import key_values
from headrace.gateway.live import connection, error_message
from headrace.gateway.work import Outcome
from headrace.plan.expressions import ConditionError, condition
from headrace.stream.data import Data, Versioned
from headrace.stream.surface import Handler, Route, Socket

JSON = "application/json"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def add_surface(gateway: FastAPI, core: Core, hot: dict[str, ASGIApp]) -> None:
    """Add every route and socket the application declares.

    Args:
        gateway: Where to add them.
        core: What they work on.
        hot: Gets the endpoints that take rows under a fixed path.

    Raises:
        ConfigError: A route names no topic or table, or a path parameter no key.
    """
    data = AppData(core)
    for route in core.app.routes:
        if route.handler is not None:
            _add_handler(gateway, core, route, data)
        elif route.to is not None:
            _add_ingest(gateway, core, route, hot)
        elif route.table is not None:
            _add_table(gateway, core, route)
        else:
            _add_control(gateway, core, route)
    for socket in core.app.sockets:
        endpoint = SocketEndpoint(core, socket, data)
        gateway.router.routes.append(WebSocketRoute(socket.path, endpoint))


def _add_handler(gateway: FastAPI, core: Core, route: Route, data: Data) -> None:
    assert route.handler is not None  # noqa: S101 - the caller has checked
    gateway.add_api_route(
        route.path,
        _with_data(route.handler, data),
        methods=[route.method],
        status_code=route.status,
        response_model=route.model,
        summary=route.summary or None,
        description=inspect.cleandoc(route.description) or None,
        tags=list(route.tags or (core.app.name,)),
        dependencies=[Depends(_own_origin(core))] if route.method != "GET" else [],
    )


def _own_origin(core: Core) -> Callable[[Request], Any]:
    async def own_origin(request: Request) -> None:
        check_origin(dict(request.scope["headers"]), core.settings, core.address[0])

    return own_origin


def _with_data(handler: Handler, data: Data) -> Handler:
    """Return the handler with its `Data` parameter bound, for FastAPI to read the others."""
    hints = get_type_hints(handler, include_extras=True)
    parameters = []
    for parameter in inspect.signature(handler).parameters.values():
        hint = hints.get(parameter.name, parameter.annotation)
        if inspect.isclass(hint) and issubclass(hint, Data):
            hint = Annotated[Data, Depends(lambda: data)]
            parameters.append(parameter.replace(annotation=hint, default=parameter.empty))
        else:
            parameters.append(parameter.replace(annotation=hint))
    # Dependencies have no default and must not follow parameters that do.
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters]
    signature = inspect.Signature(parameters, return_annotation=hints.get("return", Any))
    if inspect.iscoroutinefunction(handler):

        @wraps(handler)
        async def call(**values: Any) -> Any:
            return await handler(**values)

    else:

        @wraps(handler)
        def call(**values: Any) -> Any:
            return handler(**values)

    call.__signature__ = signature  # type: ignore[attr-defined] # what FastAPI reads
    return call


def _add_ingest(gateway: FastAPI, core: Core, route: Route, hot: dict[str, ASGIApp]) -> None:
    topic = route.to or ""
    if topic not in core.inputs():
        raise ConfigError(
            f"{route.method} {route.path} sends to {topic!r}, which is no input topic",
            hint=f"have {', '.join(core.inputs())}",
        )
    endpoint = core.ingest(topic, aliases=route.aliases, shape=route.answer, status=route.status)
    if route.method == "POST" and not _PARAMETER.search(route.path):
        hot[route.path] = endpoint
    gateway.router.routes.append(AsgiRoute(route.path, endpoint, methods=[route.method]))


def _add_table(gateway: FastAPI, core: Core, route: Route) -> None:
    table = core.catalog.table(route.table or "")
    state = core.tables[table.name]

    async def read(request: Request) -> Response:
        parameters = request.path_params
        key = key_values(_key_parts(parameters, state.key), state.key, state.columns)
        row = state.get(key, core.engine_clock())
        if route.answer is not None:
            found = None if row is None else msgspec.json.decode(encode_row(row))
            return _json(route.answer(found, dict(parameters)), route.status)
        if row is None:
            raise NotFoundError(f"there is no {'/'.join(map(str, key))}")
        return Response(encode_row(row), route.status, media_type=JSON)

    _check_parameters(route, state.key)
    _add(gateway, core, route, read)


def _add_control(gateway: FastAPI, core: Core, route: Route) -> None:
    decl = core.catalog.control(route.control_table or "")
    keyed = bool(_PARAMETER.search(route.path))
    if keyed:
        _check_parameters(route, decl.key)

    async def read(request: Request) -> Response:
        parameters = request.path_params
        if not keyed:
            rows = AppData(core).scan(decl.name)
            if route.answer is None:
                return _json(rows, route.status)
            return _json(route.answer([_of_row(row) for row in rows], {}), route.status)
        key = key_values(_key_parts(parameters, decl.key), decl.key, decl.schema.columns)
        body = core.control_row(decl.name, key)
        if route.answer is not None:
            found = None if body is None else _of_row(msgspec.json.decode(body))
            return _json(route.answer(found, dict(parameters)), route.status)
        if body is None:
            raise NotFoundError(f"there is no {'/'.join(map(str, key))}")
        return Response(body, route.status, {"etag": etag(body)}, JSON)

    async def write(request: Request) -> Response:
        check_origin(dict(request.scope["headers"]), core.settings, core.address[0])
        table = core.control(decl.name)
        body = await body_of(core, request)
        prepare = _prepare(table, route, request, body)
        name = request.headers.get("idempotency-key")
        outcome = await change(core, request, table, prepare, name, body)
        return _changed(route, request, outcome)

    _add(gateway, core, route, read if route.method == "GET" else write)


def _prepare(table: ControlTable, route: Route, request: Request, body: bytes) -> Any:
    """Return what a request asks of a control table."""
    columns = table.decl.schema.columns
    version = version_of(request.headers.get("if-match"))
    if route.method == "POST":
        return table.put(table.parse(_renamed(body, route.aliases)), version, create=True)
    key = key_values(_key_parts(request.path_params, table.key), table.key, columns)
    if route.method == "DELETE":
        return table.delete(key, version)
    renamed = _renamed(body, route.aliases)
    if route.method == "PATCH":
        return table.patch(key, renamed, version)
    row = table.parse(renamed)
    if tuple(row[name][0] for name in table.key) != key:
        raise DataError("the key in the path is not the key in the body")
    return table.put(row, version)


def _changed(route: Route, request: Request, outcome: Outcome) -> Response:
    headers = {"idempotency-replayed": "true"} if outcome.replayed else {}
    row = versioned(outcome) if outcome.body else None
    if row is not None:
        headers["etag"] = etag(outcome.body)
    if route.answer is not None:
        status = outcome.status if outcome.body else 200
        answer = _json(route.answer(row, dict(request.path_params)), status)
        answer.headers.update(headers)
        return answer
    return Response(outcome.body or None, outcome.status, headers, JSON if outcome.body else None)


def _of_row(row: dict[str, Any]) -> Versioned:
    return Versioned({name: row[name] for name in row if name != VERSION}, row[VERSION])


def _add(gateway: FastAPI, core: Core, route: Route, endpoint: Handler) -> None:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    gateway.add_api_route(
        route.path,
        endpoint,
        methods=[route.method],
        status_code=route.status,
        response_model=route.model,
        summary=route.summary or None,
        description=inspect.cleandoc(route.description) or None,
        tags=list(route.tags or (core.app.name,)),
        openapi_extra={"parameters": parameters} if parameters else None,
    )


def _check_parameters(route: Route, key: tuple[str, ...]) -> None:
    found = _PARAMETER.findall(route.path)
    if len(found) != len(key):
        raise ConfigError(
            f"{route.method} {route.path} has {len(found)} path parameters, the key {len(key)}",
            hint=f"the key is {', '.join(key)}",
        )


def _key_parts(parameters: Mapping[str, Any], key: tuple[str, ...]) -> list[Any]:
    """Return path parameters in the order of the key: by name, else by place."""
    if set(key) <= set(parameters):
        return [parameters[name] for name in key]
    return list(parameters.values())


def _renamed(body: bytes, aliases: Mapping[str, str]) -> bytes:
    """Return a JSON object with its names replaced."""
    if not aliases:
        return body
    try:
        found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return body
    return msgspec.json.encode({aliases.get(name, name): value for name, value in found.items()})


def _json(answer: Any, status: int) -> Response:
    if isinstance(answer, tuple):
        status, answer = answer
    return Response(msgspec.json.encode(answer), status, media_type=JSON)


class SocketEndpoint:
    """One declared socket."""

    def __init__(self, core: Core, socket: Socket, data: Data) -> None:
        self._core = core
        self._socket = socket
        self._data = data
        if socket.topic is not None:
            self._columns = core.catalog.topic(socket.topic).schema.columns
        elif socket.table in core.tables:
            self._columns = core.tables[socket.table or ""].columns
        else:
            raise ConfigError(f"socket {socket.path} follows no table {socket.table!r}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection: rows out, commands in."""
        core, socket = self._core, self._socket
        host = core.address[0]
        async with connection(core.hub, core.settings, host, scope, receive, send) as link:
            if link is None:
                return
            client, messages = link
            parameters = dict(scope.get("path_params", {}))
            wanted = Wanted(
                kind="topic" if socket.topic is not None else "table",
                name=socket.topic or socket.table or "",
                where=self._where(parameters),
                socket=socket.path,
            )
            core.hub.subscribe(
                client,
                Subscribe(
                    id="socket",
                    wanted=wanted,
                    policy="drop_oldest" if socket.topic is not None else "latest",
                    snapshot=socket.snapshot,
                    announce=False,
                ),
            )
            async for text in messages:
                answer = await self._answer(text, parameters)
                if answer is not None:
                    client.tell(answer)

    async def _answer(self, text: str, parameters: dict[str, Any]) -> bytes | None:
        """Hand a client's message to the application's function."""
        if self._socket.command is None:
            return None
        try:
            message = msgspec.json.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return error_message(None, "HR201", "the message is not JSON")
        try:
            answer = self._socket.command(self._data, message, parameters)
            if inspect.isawaitable(answer):
                answer = await answer
        except HeadraceError as error:
            return error_message(None, error.code, error.message, error.hint)
        return None if answer is None else msgspec.json.encode(answer)

    def _where(self, parameters: dict[str, Any]) -> str:
        """Return the filter with path parameters in it, as text or, where that fits, numbers."""
        template = self._socket.where or ""
        if not template:
            return ""
        texts = {
            name: "'" + str(value).replace("'", "''") + "'" for name, value in parameters.items()
        }
        quoted = _filled(template, texts)
        try:
            condition(quoted, self._columns)
        except ConditionError:
            numbers = {
                name: str(value) if _is_number(str(value)) else texts[name]
                for name, value in parameters.items()
            }
            return _filled(template, numbers)
        return quoted


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _PARAMETER.sub(lambda found: values.get(found[1], found[0]), template)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
