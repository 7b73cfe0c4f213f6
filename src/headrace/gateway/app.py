"""The gateway as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.core.errors import HeadraceError
from headrace.core.log import Log
from headrace.core.settings import GatewaySettings
from headrace.core.time import Clock, SystemClock
from headrace.gateway.alerts import alert_router, has_alerts
from headrace.gateway.answers import error_answer, error_body
from headrace.gateway.control import PreconditionError
from headrace.gateway.control_routes import control_router
from headrace.gateway.core import Core
from headrace.gateway.describe import describe_router
from headrace.gateway.forward import ElsewhereError, forward
from headrace.gateway.health import health_router
from headrace.gateway.ingest import Refusal, read_body, respond, unknown_topic
from headrace.gateway.metrics import metrics_router
from headrace.gateway.openapi import add_openapi
from headrace.gateway.page import add_page
from headrace.gateway.surface import add_surface
from headrace.gateway.tables import table_router
from headrace.gateway.topics import topic_router
from headrace.stream.app import App

TOPICS = "/topics/"


class Gateway(FastAPI):
    """FastAPI, but hot POST paths go straight to their ASGI endpoint.

    Attributes:
        core: What the routes work on.
        hot: Endpoints of POST routes by path.
    """

    def __init__(self, core: Core, **options: Any) -> None:
        super().__init__(**options)
        self.core = core
        self.hot: dict[str, ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one connection."""
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self.hot.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
            if scope["path"].startswith(TOPICS):
                error = unknown_topic(scope["path"][len(TOPICS) :], self.core.inputs())
                await respond(send, *error_answer(error))
                return
        await super().__call__(scope, receive, send)


def create_gateway(
    app: App,
    log: Log,
    *,
    settings: GatewaySettings | None = None,
    slot: int = 0,
    clock: Clock | None = None,
) -> Gateway:
    """Return the gateway of `app` on `log`; its lifespan opens and closes the log's writer.

    Args:
        app: What is served.
        log: Where topics live.
        settings: Limits and policies.
        slot: Which of several gateways this is; slot 0 also owns the control tables.
        clock: Wall time.
    """
    settings = settings or GatewaySettings()
    core = Core(app, log, settings, slot=slot, clock=clock or SystemClock())

    @asynccontextmanager
    async def lifespan(gateway: FastAPI) -> AsyncIterator[None]:
        del gateway
        await core.start()
        try:
            yield
        finally:
            await core.stop()

    gateway = Gateway(
        core,
        title=app.title,
        version=app.version,
        lifespan=lifespan,
        telemetry=None,
        docs_url="/docs",
    )

    async def elsewhere(request: Request, error: Exception) -> Response:
        del error
        body = await read_body(request.receive, dict(request.scope["headers"]), core.body)
        return await forward(core, request, body)

    gateway.add_exception_handler(ElsewhereError, elsewhere)
    gateway.add_exception_handler(HeadraceError, _ours)
    gateway.add_exception_handler(RequestValidationError, _invalid)
    gateway.add_exception_handler(Refusal, _refused)
    gateway.include_router(health_router(core))
    gateway.include_router(describe_router(core))
    gateway.include_router(metrics_router(core))
    gateway.include_router(topic_router(core))
    gateway.include_router(table_router(core))
    gateway.include_router(control_router(core))
    if has_alerts(core):
        gateway.include_router(alert_router(core))
    gateway.router.routes.append(WebSocketRoute("/ws", core.live))
    gateway.hot.update({TOPICS + name: core.ingest(name) for name in core.inputs()})
    add_surface(gateway, core, gateway.hot)
    add_page(gateway)
    add_openapi(gateway, core)
    return gateway


async def _ours(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HeadraceError)  # noqa: S101 - registered for it
    if isinstance(error, PreconditionError):
        return Response(_precondition(error), 412, media_type="application/json")
    status, headers, body = error_answer(error)
    return Response(body, status, {k.decode(): v.decode() for k, v in headers})


def _precondition(error: PreconditionError) -> bytes:
    body = msgspec.json.encode(error_body(error.code, error.message, error.hint))
    return body[:-1] + b',"current":' + error.current + b"}"


async def _refused(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, Refusal)  # noqa: S101 - registered for it
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body, error.status, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in {"query", "path", "body"})
    body = error_body("HR202", f"{where}: {first['msg']}" if where else first["msg"])
    return Response(msgspec.json.encode(body), 422, media_type="application/json")
