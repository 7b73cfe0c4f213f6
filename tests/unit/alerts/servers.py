"""Local servers that accept, fail, hang and break off, on free ports."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass(frozen=True)
class Reply:
    """What an HTTP server does with one request.

    Attributes:
        hang: Read the request and never answer.
        cut: Send only so many bytes of the answer, then close.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    hang: bool = False
    cut: int | None = None

    def encoded(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Said"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode() + self.body


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class HttpServer:
    """Answers the n-th request with the n-th reply, later ones with the last.

    Attributes:
        received: All requests so far.
        most_at_once: The largest number of requests that were under way together.
    """

    replies: Sequence[Reply] = (Reply(),)
    port: int = 0
    scheme: str = "http"
    received: list[Received] = field(default_factory=list)
    under_way: int = 0
    most_at_once: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    async def until(self, requests: int, deadline_s: float = 10.0) -> None:
        """Return when so many requests have come."""
        async with asyncio.timeout(deadline_s):
            while len(self.received) < requests:
                self.came.clear()
                await self.came.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            reply = self.reply(Received(method, path, headers, body))
            self.came.set()
            if reply.hang:
                await reader.read()
                return False
            answer = reply.encoded()
            writer.write(answer if reply.cut is None else answer[: reply.cut])
            await writer.drain()
            return reply.cut is None
        finally:
            self.under_way -= 1

    def reply(self, received: Received) -> Reply:
        """Note a request and return what to answer."""
        self.received.append(received)
        return self.replies[min(len(self.received), len(self.replies)) - 1]


@asynccontextmanager
async def http_server(
    *replies: Reply, server: HttpServer | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[HttpServer]:
    made = server or HttpServer(replies or (Reply(),))
    made.scheme = "http" if tls is None else "https"
    async with _listening(made.serve, tls) as made.port:
        yield made


@dataclass
class SmtpServer:
    """A mail server that knows little more than RFC 5321 asks of it.

    Attributes:
        refuse: Replies to `RCPT TO` by address, else 250.
        data_reply: Reply to a whole message.
        silent_at: Word at which it stops answering.
        tls: Offers STARTTLS with this.
        user: Offers AUTH PLAIN, and takes this (user, password).
        messages: Messages taken, as (recipients, text).
    """

    refuse: dict[str, str] = field(default_factory=dict)
    data_reply: str = "250 2.0.0 queued"
    silent_at: str = ""
    tls: ssl.SSLContext | None = None
    user: tuple[str, str] | None = None
    port: int = 0
    is_encrypted: bool = False
    messages: list[tuple[list[str], str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._talk(reader, writer)
        self.gone.set()
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.silent_at == "greeting":
            await reader.read()
            return
        writer.write(b"220 mail.example ESMTP\r\n")
        recipients: list[str] = []
        while line := (await reader.readline()).decode().strip():
            self.said.append(line)
            word = line.split(" ")[0].upper()
            if word == self.silent_at:
                await reader.read()
                return
            if word == "DATA":
                writer.write(b"354 go on\r\n")
                text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                if self.data_reply.startswith("250"):
                    self.messages.append((recipients, text.replace("\r\n", "\n")))
            elif word == "RCPT":
                recipients += self._recipient(line)
            writer.write(f"{self._reply(word, line)}\r\n".encode())
            if word == "STARTTLS":
                await writer.drain()
                assert self.tls is not None
                await writer.start_tls(self.tls)
                self.is_encrypted = True

    def _reply(self, word: str, line: str) -> str:
        match word:
            case "EHLO":
                lines = ["mail.example"]
                lines += ["STARTTLS"] if self.tls is not None and not self.is_encrypted else []
                lines += ["AUTH PLAIN"] if self.user is not None else []
                marks = ["-"] * (len(lines) - 1) + [" "]
                return "\r\n".join(f"250{m}{x}" for m, x in zip(marks, lines, strict=True))
            case "AUTH":
                return self._login(line)
            case "RCPT":
                return self.refuse.get(_address(line), "250 ok")
            case _:
                usual = {"STARTTLS": "220 go ahead", "DATA": self.data_reply, "QUIT": "221 bye"}
                return usual.get(word, "250 ok")

    def _recipient(self, line: str) -> list[str]:
        return [] if _address(line) in self.refuse else [_address(line)]

    def _login(self, line: str) -> str:
        _, _, token = line.rpartition(" ")
        _, user, password = base64.b64decode(token).decode().split("\0")
        return "235 welcome" if (user, password) == self.user else "535 5.7.8 bad credentials"


def _address(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]


@asynccontextmanager
async def smtp_server(
    server: SmtpServer, *, implicit: ssl.SSLContext | None = None
) -> AsyncIterator[SmtpServer]:
    async with _listening(server.serve, implicit) as server.port:
        yield server


@asynccontextmanager
async def _listening(serve: Any, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()
        finally:
            tasks.discard(task)

    listener = await asyncio.start_server(client, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
