"""`/ws`: subscribe to topics and tables, get snapshots and changes; see docs/websocket.md."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
from starlette.types import Receive, Scope, Send

from headrace.core.errors import HeadraceError
from headrace.core.settings import GatewaySettings
from headrace.gateway.channels import Wanted
from headrace.gateway.client import Client, Message, Outlet
from headrace.gateway.frames import EXTENSION, AsgiOutlet
from headrace.gateway.hub import Hub, Request
from headrace.gateway.origins import origin_allowed

REFUSED: Final = 4403
"""Close code for a page of a foreign origin."""
BUSY: Final = 1013
MAX_EVERY_MS: Final = 60_000
_BAD: Final = "HR201"


class Subscribe(msgspec.Struct, tag="subscribe", tag_field="op"):
    """A client asks for a topic, a table, a control table or statistics."""

    id: str
    topic: str | None = None
    table: str | None = None
    control_table: str | None = None
    stats: bool = False
    where: str | None = None
    after: int | Literal["latest"] | None = msgspec.field(default=None, name="from")
    snapshot: bool = True
    limit: int | None = None
    policy: Literal["latest", "drop_oldest", "disconnect"] | None = None
    every_ms: int = 0


class Unsubscribe(msgspec.Struct, tag="unsubscribe", tag_field="op"):
    """A client has seen enough."""

    id: str


class Ping(msgspec.Struct, tag="ping", tag_field="op"):
    """A client wants to know that we are there."""

    t: msgspec.Raw = msgspec.Raw(b"null")


_DECODER: Final = msgspec.json.Decoder(Subscribe | Unsubscribe | Ping)


class Live:
    """The WebSocket endpoint, and the statistics it sends once a second."""

    def __init__(
        self,
        hub: Hub,
        settings: GatewaySettings,
        host: Callable[[], str],
        statistics: Callable[[], dict[str, Any]],
    ) -> None:
        self._hub = hub
        self._statistics = statistics
        self._settings = settings
        self._host = host
        self._stats: dict[Client, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until it ends."""
        async with connection(
            self._hub, self._settings, self._host(), scope, receive, send
        ) as link:
            if link is None:
                return
            client, messages = link
            try:
                async for text in messages:
                    self._handle(client, text)
            finally:
                self._stats.pop(client, None)

    def send_stats(self) -> None:
        """Send statistics to everyone who asked for them, encoded once."""
        if not self._stats:
            return
        payload = msgspec.json.encode({"op": "stats", **self._statistics()})
        for client in list(self._stats):
            client.tell(payload)

    def _handle(self, client: Client, text: str) -> None:
        try:
            message: Subscribe | Unsubscribe | Ping = _DECODER.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            client.tell(error_message(None, _BAD, f"the message was not understood: {error}"))
            return
        match message:
            case Ping():
                client.tell(b'{"op":"pong","t":' + bytes(message.t) + b"}")
            case Unsubscribe():
                self._unsubscribe(client, message.id)
            case Subscribe():
                self._subscribe(client, message)

    def _unsubscribe(self, client: Client, name: str) -> None:
        if self._stats.get(client) == name:
            del self._stats[client]
        elif not self._hub.unsubscribe(client, name):
            client.tell(error_message(name, _BAD, "there is no such subscription"))

    def _subscribe(self, client: Client, message: Subscribe) -> None:
        if message.stats:
            self._stats[client] = message.id
            body = {"op": "subscribed", "id": message.id, "channel": "stats", "seq": 0}
            client.tell(msgspec.json.encode(body))
            client.tell(msgspec.json.encode({"op": "stats", **self._statistics()}))
            return
        problem = self._problem(client, message)
        if problem is not None:
            client.tell(error_message(message.id, _BAD, problem))
            return
        is_topic = message.topic is not None
        wanted = Wanted(
            kind="topic" if is_topic else "table",
            name=message.topic or message.table or message.control_table or "",
            where=(message.where or "").strip(),
            every_ms=max(0, min(message.every_ms, MAX_EVERY_MS)),
        )
        latest = message.after == "latest"
        request = Request(
            id=message.id,
            wanted=wanted,
            policy=message.policy or ("drop_oldest" if is_topic else "latest"),
            after=message.after if isinstance(message.after, int) else None,
            snapshot=message.snapshot and not latest,
            limit=message.limit,
        )
        try:
            self._hub.subscribe(client, request)
        except HeadraceError as error:
            client.tell(error_message(message.id, error.code, error.message, error.hint))

    def _problem(self, client: Client, message: Subscribe) -> str | None:
        targets = [message.topic, message.table, message.control_table]
        if sum(target is not None for target in targets) != 1:
            return "name one of topic, table, control_table"
        if message.id in client.by_id:
            return "this id is in use: unsubscribe it first"
        if len(client.by_id) >= self._settings.max_subscriptions:
            return f"a client has at most {self._settings.max_subscriptions} subscriptions"
        if message.limit is not None and message.limit < 0:
            return "limit cannot be negative"
        return None


@contextlib.asynccontextmanager
async def connection(
    hub: Hub,
    settings: GatewaySettings,
    host: str,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> Any:
    """Accept a WebSocket and yield its client and its messages; None where it is refused."""
    await receive()
    if not origin_allowed(dict(scope["headers"]), settings.origins, host):
        await send({"type": "websocket.close", "code": REFUSED, "reason": "foreign origin"})
        yield None
        return
    await send({"type": "websocket.accept"})
    if len(hub.clients) >= settings.max_clients:
        await send({"type": "websocket.close", "code": BUSY, "reason": "too many clients"})
        yield None
        return
    loop = asyncio.get_running_loop()
    closing: set[asyncio.Task[None]] = set()
    direct = scope.get("extensions", {}).get(EXTENSION)
    outlet: Outlet = direct if direct is not None else AsgiOutlet(_sender(send))

    def disconnect(code: int, reason: str) -> None:
        client.closed = True
        closing.add(loop.create_task(_close(send, code, reason)))

    client = Client(
        outlet, limit=settings.client_queue, catch_up=hub.catch_up, disconnect=disconnect
    )
    hub.clients[client] = None
    try:
        yield client, _messages(receive)
    finally:
        hub.gone(client)
        if isinstance(outlet, AsgiOutlet):
            outlet.stop()


async def _messages(receive: Receive) -> Any:
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        text = event.get("text")
        yield text if text is not None else event.get("bytes", b"")


def _sender(send: Send) -> Callable[[str], Any]:
    async def text(payload: str) -> None:
        await send({"type": "websocket.send", "text": payload})

    return text


async def _close(send: Send, code: int, reason: str) -> None:
    # The connection may have ended by itself meanwhile.
    with contextlib.suppress(Exception):
        await send({"type": "websocket.close", "code": code, "reason": reason})


def error_message(name: str | None, code: str, message: str, hint: str = "") -> bytes:
    """Return an `error` message."""
    body = {"op": "error", "id": name, "code": code, "message": message, "hint": hint}
    return msgspec.json.encode(body)


__all__ = ["Live", "Message", "connection", "error_message"]
