"""A lean HTTP/1.1 load generator: keep-alive connections that cost little CPU per request.

Bodies are encoded before the clock starts. A connection has one request in flight (no
pipelining). Open-loop requests carry the time they were due, so a server that stalls makes the
requests behind the stall late too (no coordinated omission).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic_ns
from typing import cast

Done = Callable[["Request", int, bytes], None]
"""Called with the request, the status and the body of the answer."""


@dataclass(slots=True)
class Request:
    """One request: its bytes on the wire, when it was due and when its answer was complete."""

    wire: bytes
    rows: int
    number: int
    due_ns: int = 0
    done_ns: int = 0


def post(path: str, body: bytes, key: str, content_type: str = "application/x-ndjson") -> bytes:
    """Return a POST with an Idempotency-Key as it goes on the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request in flight and a queue of those due."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Remember that the server went away."""
        self.lost = True

    def send(self, request: Request) -> None:
        """Send `request`, or queue it behind the one in flight."""
        if self._current is not None:
            self._waiting.append(request)
        elif self._transport is not None:
            self._current = request
            self._transport.write(request.wire)

    def data_received(self, data: bytes) -> None:
        """Complete the request in flight when its whole answer is here."""
        received = self._received = self._received + data if self._received else data
        head_end = received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = received[:head_end].lower()
        mark = head.find(b"content-length:")
        line_end = head.find(b"\r\n", mark)
        length = int(head[mark + 15 : line_end if line_end > 0 else None]) if mark >= 0 else 0
        end = head_end + 4 + length
        if len(received) < end:
            return
        request, self._current = self._current, None
        self._received = received[end:]
        if request is None:
            return
        request.done_ns = monotonic_ns()
        status = int(received[9:12])
        body = received[head_end + 4 : end]
        if self._waiting and self._transport is not None:
            self._current = self._waiting.popleft()
            self._transport.write(self._current.wire)
        self._done(request, status, body)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    @property
    def queued(self) -> int:
        """Requests in flight or due."""
        return len(self._waiting) + (self._current is not None)


async def connect(port: int, connections: int, done: Done) -> list[Connection]:
    """Open `connections` connections to 127.0.0.1."""
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(connections):
        _, protocol = await loop.create_connection(lambda: Connection(done), "127.0.0.1", port)
        opened.append(protocol)
    return opened
