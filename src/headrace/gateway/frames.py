"""WebSocket frames written once and sent as they are to every client of a channel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

EXTENSION: Final = "headrace.frames"
"""Key of the ASGI extension by which an endpoint finds its connection's `FrameProtocol`."""

_TEXT: Final = 0x81
_SHORT: Final = 125
_MEDIUM: Final = 0xFFFF


def text_frame(payload: bytes) -> bytes:
    """Return UTF-8 text as one unmasked WebSocket frame, as a server sends it (RFC 6455, 5.2)."""
    size = len(payload)
    if size <= _SHORT:
        return bytes((_TEXT, size)) + payload
    if size <= _MEDIUM:
        return bytes((_TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT, 127)) + size.to_bytes(8, "big") + payload


class FrameProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which also takes finished frames and says when it can take more.

    The ASGI way costs one frame encoding, several calls and an await for every client; here a
    message to a thousand clients is one frame and a thousand writes.
    """

    on_writable: Callable[[], None] | None = None
    _descriptor: int | None = None

    def handle_connect(self, event: Any) -> None:
        """Offer this connection to the endpoint."""
        super().handle_connect(event)
        if self.transport.get_extra_info("sslcontext") is None and os.name == "posix":
            self._descriptor = self.transport.get_extra_info("socket").fileno()
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][EXTENSION] = self

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the descriptor: its number may soon be another connection's."""
        self._descriptor = None
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """Tell the client's queue that the peer has read."""
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    @property
    def can_take(self) -> bool:
        """Whether a frame goes out now instead of into a growing buffer."""
        return self.writable.is_set()

    def write_frame(self, frame: bytes) -> None:
        """Send a finished frame.

        It is given to the kernel at once where nothing waits in the transport's buffer: uvloop
        would send only when every client of the channel has been gone through.
        """
        transport = self.transport
        if self.close_sent or transport.is_closing():
            return
        sent = 0
        if self._descriptor is not None and not transport.get_write_buffer_size():
            try:
                sent = os.write(self._descriptor, frame)
            except OSError:
                # Full, or gone: the transport finds out which.
                sent = 0
        if sent < len(frame):
            transport.write(frame[sent:] if sent else frame)


class AsgiOutlet:
    """The same for any other ASGI server: a task that sends what is written, in order."""

    LIMIT: Final = 16

    def __init__(self, send: Callable[[str], Any]) -> None:
        self._send = send
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self.on_writable: Callable[[], None] | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def can_take(self) -> bool:
        """Whether little waits to be sent."""
        return self._waiting.qsize() < self.LIMIT

    def write_frame(self, frame: bytes) -> None:
        """Send the text of a finished frame."""
        self._waiting.put_nowait(frame)

    def stop(self) -> None:
        """End the task."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            frame = await self._waiting.get()
            await self._send(_payload(frame).decode())
            if self.on_writable is not None and self.can_take:
                self.on_writable()


def _payload(frame: bytes) -> bytes:
    length = frame[1]
    return frame[2:] if length <= _SHORT else frame[4:] if length == _SHORT + 1 else frame[10:]
