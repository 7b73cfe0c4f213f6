"""`POST /topics/{topic}` as a bare ASGI endpoint: read the body, let the writer do the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from headrace.core.errors import HeadraceError, NotFoundError
from headrace.core.settings import GatewaySettings
from headrace.gateway.answers import JSON, Headers, error_answer, error_body
from headrace.gateway.idempotency import Key
from headrace.gateway.intake import Form, Intake
from headrace.gateway.limits import Limits
from headrace.gateway.origins import origin_allowed
from headrace.gateway.work import Outcome, Rows, Shape

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON_TYPES: Final = {"", "application/json", "text/json"}
LINES_TYPES: Final = {"application/x-ndjson", "application/ndjson", "application/jsonl"}
ARROW_TYPE: Final = "application/vnd.apache.arrow.stream"
DRAIN_BYTES: Final = 100 * 1024 * 1024
"""A body too large is read to its end up to this size, so that its sender sees the answer."""

_SPACE: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a request body may be: bytes, and who watches that it keeps arriving."""

    max_bytes: int
    watchdog: Watchdog


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """Ends a request early with `status` and one error body."""

    def __init__(self, status: int, message: str, hint: str = "", headers: Headers = []) -> None:  # noqa: B006 - never changed
        super().__init__(message)
        self.status = status
        self.body = msgspec.json.encode(error_body("HR201", message, hint))
        self.headers = [JSON, *headers]


class Surroundings(Protocol):
    """What an ingest endpoint needs of its gateway."""

    limits: Limits
    body: BodyLimits
    settings: GatewaySettings
    address: tuple[str, int | None]

    async def submit(self, work: Rows) -> Outcome:
        """Commit rows and return the answer."""
        ...


class Ingest:
    """Takes rows for one topic.

    Args:
        gateway: Writes them, and says when no more may come.
        intake: Reads and checks them.
        shape: Makes the answer; by default all of `Published`.
        status: Status of a good answer.
    """

    def __init__(
        self,
        gateway: Surroundings,
        intake: Intake,
        *,
        shape: Shape | None = None,
        status: int = 202,
    ) -> None:
        self._gateway = gateway
        self._intake = intake
        self._shape = shape
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            headers = dict(scope["headers"])
            gateway = self._gateway
            if b"origin" in headers:
                check_origin(headers, gateway.settings, gateway.address[0])
            gateway.limits.check(self._intake.entry.name)
            form = _form(headers)
            body = await read_body(receive, headers, gateway.body)
            outcome = await gateway.submit(self._work(scope, headers, form, body))
        except Refusal as refusal:
            await respond(send, refusal.status, refusal.headers, refusal.body)
            return
        except HeadraceError as error:
            await respond(send, *error_answer(error))
            return
        extra = [JSON, (b"idempotency-replayed", b"true")] if outcome.replayed else [JSON]
        await respond(send, outcome.status, extra, outcome.body)

    def _work(self, scope: Scope, headers: Mapping[bytes, bytes], form: Form, body: bytes) -> Rows:
        key = headers.get(b"idempotency-key")
        name = None if key is None else key.decode("latin-1")
        return Rows(
            intake=self._intake,
            form="array" if form == "object" and body.lstrip(_SPACE)[:1] == b"[" else form,
            body=body,
            size=len(body),
            key=None if name is None else Key.of("POST", scope["path"], name, body),
            shape=self._shape,
            status=self._status,
        )


def unknown_topic(name: str, known: list[str]) -> NotFoundError:
    """Return the error for a topic that takes no rows."""
    return NotFoundError(
        f"there is no input topic {name!r}", hint=f"rows go to {', '.join(known) or 'none'}"
    )


def check_origin(headers: Mapping[bytes, bytes], settings: GatewaySettings, host: str) -> None:
    """Refuse to be written to by a page of another site.

    Raises:
        Refusal: 403.
    """
    if not origin_allowed(headers, settings.origins, host):
        raise Refusal(403, "this origin may not write", "list it in HEADRACE_GATEWAY__ORIGINS")


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limits: BodyLimits) -> bytes:
    """Return the whole body.

    Raises:
        Refusal: 413 where it is too large, 408 where it stops coming, 400 where it breaks off.
    """
    length = headers.get(b"content-length", b"")
    declared = int(length) if length.isdigit() else 0
    if declared > limits.max_bytes:
        # Who asks first with `Expect: 100-continue` sends nothing after this answer.
        if declared <= DRAIN_BYTES and b"expect" not in headers:
            await _drain(receive, limits, 0)
        raise _too_large(limits)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await _next(receive, limits)
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limits.max_bytes:
            await _drain(receive, limits, size)
            raise _too_large(limits)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _drain(receive: Receive, limits: BodyLimits, size: int) -> None:
    while size <= DRAIN_BYTES:
        message = await _next(receive, limits)
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


async def _next(receive: Receive, limits: BodyLimits) -> MutableMapping[str, Any]:
    with limits.watchdog:
        message = await receive()
    if message["type"] == "http.disconnect":
        raise Refusal(400, "the client went away")
    return message


class Watchdog:
    """Ends reads that wait too long, looking once a second: a timer for each costs too much."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._reading[task] = asyncio.get_running_loop().time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._reading.pop(task, None)
        if task in self._late:
            self._late.discard(task)
            task.uncancel()
            raise Refusal(408, "the body stopped arriving", "send it in one go", _CLOSE) from None

    def look(self) -> None:
        """End what waits too long; call it about once a second."""
        now = asyncio.get_running_loop().time()
        for task, since in list(self._reading.items()):
            if now - since > self._timeout_s and task not in self._late:
                self._late.add(task)
                task.cancel()


_CLOSE: Final[Headers] = [(b"connection", b"close")]


def _too_large(limits: BodyLimits) -> Refusal:
    return Refusal(
        413,
        f"the body is larger than {limits.max_bytes} bytes",
        "send fewer rows at once, or raise HEADRACE_GATEWAY__MAX_BODY_BYTES",
        _CLOSE,
    )


def _form(headers: Mapping[bytes, bytes]) -> Form:
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Refusal(415, "compressed bodies are not read", "send the body as it is")
    kind = headers.get(b"content-type", b"").decode("latin-1")
    media, _, parameters = kind.partition(";")
    media = media.strip().lower()
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if charset not in {"", "utf-8", "utf8"} and media != ARROW_TYPE:
        raise Refusal(415, f"text in {charset} is not read", "send UTF-8")
    if media in JSON_TYPES:
        return "object"
    if media in LINES_TYPES:
        return "lines"
    if media == ARROW_TYPE:
        return "arrow"
    raise Refusal(
        415,
        f"{media} is not read",
        f"send application/json, application/x-ndjson or {ARROW_TYPE}",
    )


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


__all__ = ["ARROW_TYPE", "BodyLimits", "Ingest", "Outcome", "Refusal", "read_body", "respond"]
