import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import polars as pl
import pytest
from pydantic import BaseModel, Field
from websockets.asyncio.client import ClientConnection, connect

from headrace.core.log import OP, Append, Commit, Log, TopicSpec
from headrace.core.settings import GatewaySettings
from headrace.core.time import TIME_DTYPE
from headrace.gateway.app import Gateway, create_gateway
from headrace.gateway.serve import listen, make_server
from headrace.log import MemoryLog
from headrace.stream.app import App

NOW_US = 1_767_225_600_000_000


class Zone(BaseModel):
    zone_id: str = Field(min_length=1)
    kind: str = "park"
    depth_m: float = Field(default=0, ge=0)
    geometry: dict[str, Any] = Field(default_factory=dict)


@pytest.fixture
def log() -> Log:
    return MemoryLog()


@pytest.fixture
def app() -> App:
    app = App("shop")
    orders = app.topic(
        "orders",
        {"order": pl.String, "time": pl.Datetime, "euro": pl.Float64, "items": pl.Int64},
        time="time",
        key="order",
    )
    app.control_table("zones", Zone, key="zone_id")
    app.table("latest", orders, key="order", ttl="1h")
    return app


class Serve(Protocol):
    def __call__(
        self, app: App, *, settings: GatewaySettings | None = None
    ) -> AbstractAsyncContextManager[httpx2.AsyncClient]: ...


@pytest.fixture
def serve(log: Log) -> Serve:
    @asynccontextmanager
    async def client(
        app: App, *, settings: GatewaySettings | None = None
    ) -> AsyncIterator[httpx2.AsyncClient]:
        gateway: Gateway = create_gateway(app, log, settings=settings)
        async with gateway.router.lifespan_context(gateway):
            transport = httpx2.ASGITransport(app=gateway)
            async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as http:
                yield http

    return client


class Engine:
    """Writes what an engine would: changes of the table `latest`."""

    def __init__(self, log: Log) -> None:
        self._writer = log.writer("engine-shop", 32)
        self.schema = pl.Schema(
            {
                "order": pl.String(),
                "time": TIME_DTYPE,
                "euro": pl.Float64(),
                "items": pl.Int64(),
                OP: pl.String(),
            }
        )
        self._writer.create(TopicSpec("latest.changes", self.schema))

    def change(self, *rows: tuple[str, int | None, str]) -> None:
        """Commit (order, items, op) rows as one batch."""
        frame = pl.DataFrame(
            {
                "order": [order for order, _, _ in rows],
                "items": [items for _, items, _ in rows],
                OP: [op for _, _, op in rows],
            },
            schema_overrides={"items": pl.Int64},
        ).select(
            pl.col(name) if name in {"order", "items", OP} else pl.lit(None, dtype).alias(name)
            for name, dtype in self.schema.items()
        )
        append = Append("latest.changes", 32 * 64, frame, frame.height, None, NOW_US)
        self._writer.commit([Commit(appends=[append])])

    def publish(self, **status: Any) -> None:
        """Publish a status."""
        self._writer.publish_status(json.dumps(status).encode())


@pytest.fixture
def engine(log: Log) -> Engine:
    return Engine(log)


@dataclass
class Live:
    """A running gateway: its HTTP client and a way to open WebSockets."""

    http: httpx2.AsyncClient
    port: int
    gateway: Gateway

    def socket(self, path: str = "/ws", **options: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}{path}", compression=None, **options)


class Run(Protocol):
    def __call__(
        self, app: App, *, settings: GatewaySettings | None = None
    ) -> AbstractAsyncContextManager[Live]: ...


@pytest.fixture
def run(log: Log) -> Run:
    @asynccontextmanager
    async def running(app: App, *, settings: GatewaySettings | None = None) -> AsyncIterator[Live]:
        settings = settings or GatewaySettings()
        gateway = create_gateway(app, log, settings=settings)
        listener = listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        server = make_server(gateway, listener, settings)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                while not server.started:
                    assert not task.done(), task.exception()
                    await asyncio.sleep(0)
                yield Live(http, port, gateway)
        finally:
            server.should_exit = True
            await task
            listener.close()

    return running


async def ask(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def told(socket: ClientConnection) -> dict[str, Any]:
    """Return the next message, at the latest after five seconds."""
    async with asyncio.timeout(5):
        message: dict[str, Any] = json.loads(await socket.recv())
        return message
