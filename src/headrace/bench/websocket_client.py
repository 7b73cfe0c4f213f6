"""A lean WebSocket subscriber (RFC 6455, client side) for holding thousands of connections.

Text and binary messages from the server arrive whole or in fragments; pings are answered;
extensions are not offered. Each message is handed over with the time its last byte arrived.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from time import monotonic_ns
from typing import cast

Message = Callable[[int, bytes, int], None]
"""Called with the subscriber's number, the message and its time of arrival (monotonic ns)."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_SHORT, _TWO_BYTES, _EIGHT_BYTES = 125, 126, 127
_FIN = 0x80


def text_frame(text: str) -> bytes:
    """Return `text` as one masked client frame."""
    return _frame(_TEXT, text.encode())


def pong_frame(ping: bytes) -> bytes:
    """Return the answer to `ping`, a whole server frame of at most 125 bytes of payload."""
    return _frame(_PONG, ping[2 : 2 + ping[1]])


def is_ping(frame: bytes) -> bool:
    """Whether a server frame is a ping."""
    return frame[:1] == bytes([_FIN | _PING])


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= _SHORT:
        head = bytes([_FIN | opcode, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([_FIN | opcode, 0x80 | _TWO_BYTES]) + size.to_bytes(2, "big")
    else:
        head = bytes([_FIN | opcode, 0x80 | _EIGHT_BYTES]) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    repeated = mask * (size // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:size], "big")
    return head + mask + masked.to_bytes(size, "big")


class Subscriber(asyncio.Protocol):
    """One connection: shakes hands, sends its subscription, hands over what arrives."""

    def __init__(self, number: int, port: int, subscription: str, message: Message) -> None:
        self.number = number
        self.closed = False
        self._port = port
        self._subscription = subscription
        self._message = message
        self._buffer = bytearray()
        self._fragments = bytearray()
        self._open = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Remember that the server went away."""
        self.closed = True

    @property
    def descriptor(self) -> int:
        """The socket's number, for reading it outside the event loop."""
        if self._transport is None:
            raise ConnectionError("the subscriber is not connected")
        return int(self._transport.get_extra_info("socket").fileno())

    def close(self) -> None:
        """Hang up without a closing handshake."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into frames."""
        arrived = monotonic_ns()
        buffer = self._buffer
        if self._open and not buffer and not self._fragments and self._alone(data, arrived):
            return
        buffer += data
        if not self._open and not self._upgraded():
            return
        while True:
            size = len(buffer)
            if size < 2:  # noqa: PLR2004 - the shortest head of a frame
                return
            start, length = 2, buffer[1] & 0x7F
            if length == _TWO_BYTES:
                start, length = 4, int.from_bytes(buffer[2:4], "big")
            elif length == _EIGHT_BYTES:
                start, length = 10, int.from_bytes(buffer[2:10], "big")
            if size < start or size < start + length:
                return
            first = buffer[0]
            payload = bytes(buffer[start : start + length])
            del buffer[: start + length]
            self._take(first, payload, arrived)

    def _alone(self, data: bytes, arrived: int) -> bool:
        """Hand over `data` if it is exactly one unfragmented text message, the usual case."""
        if data[0] != _FIN | _TEXT or len(data) < 4:  # noqa: PLR2004 - head and length
            return False
        start, length = 2, data[1]
        if length == _TWO_BYTES:
            start, length = 4, int.from_bytes(data[2:4], "big")
        elif length == _EIGHT_BYTES:
            return False
        if len(data) != start + length:
            return False
        self._message(self.number, data[start:], arrived)
        return True

    def _upgraded(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        status = bytes(self._buffer[9:12])
        del self._buffer[: end + 4]
        if status != b"101" or self._transport is None:
            self.closed = True
            return False
        self._open = True
        self._transport.write(text_frame(self._subscription))
        return True

    def _take(self, first: int, payload: bytes, arrived: int) -> None:
        opcode = first & 0x0F
        if opcode == _PING and self._transport is not None:
            self._transport.write(_frame(_PONG, payload))
        elif opcode == _CLOSE:
            self.closed = True
        elif opcode in (_TEXT, _BINARY, _CONTINUATION):
            if first & _FIN and not self._fragments:
                self._message(self.number, payload, arrived)
                return
            self._fragments += payload
            if first & _FIN:
                whole = bytes(self._fragments)
                self._fragments.clear()
                self._message(self.number, whole, arrived)


async def subscribe(
    port: int, count: int, subscription: str, message: Message, at_once: int = 50
) -> list[Subscriber]:
    """Open `count` subscribers to 127.0.0.1, `at_once` at a time."""
    loop = asyncio.get_running_loop()

    async def one(number: int) -> Subscriber:
        _, subscriber = await loop.create_connection(
            lambda: Subscriber(number, port, subscription, message), "127.0.0.1", port
        )
        return subscriber

    opened: list[Subscriber] = []
    for first in range(0, count, at_once):
        batch = range(first, min(first + at_once, count))
        opened += await asyncio.gather(*(one(number) for number in batch))
    return opened
