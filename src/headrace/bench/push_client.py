"""The client side of the `push` bench, a process of its own.

Holds many WebSocket subscribers, posts one row at a time and notes when each subscriber has it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import resource
import select
import socket
import sys
from dataclasses import asdict, dataclass
from time import monotonic_ns

from headrace.bench.http_client import post
from headrace.bench.result import quantiles
from headrace.bench.websocket_client import Subscriber, is_ping, pong_frame, subscribe

SUBSCRIPTION = '{"op":"subscribe","id":"s1","topic":"%s","from":"latest"}'
ACCEPTED = 202
DELIVERY_S = 20.0
READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Settings:
    """What to hold and send.

    Attributes:
        port: Where the gateway listens on 127.0.0.1.
        topic: Topic with columns `id`, `time` and `value`; every subscriber reads it.
        subscribers: WebSocket connections.
        updates: Rows posted, one after the other.
        pause_s: Silence between the last delivery of one update and the next update.
    """

    port: int
    topic: str
    subscribers: int
    updates: int
    pause_s: float


class Audience:
    """All subscribers of one run, and who has got what.

    They are connected and kept by the event loop. While an update is on its way their sockets are
    read without it, in one epoll loop: a thousand subscribers are a thousand machines elsewhere,
    so what one process spends on reading for all of them should be small.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._subscribed: set[int] = set()
        self._event = asyncio.Event()
        self._mark = b""
        self._epoll = select.epoll()
        self.unexpected = 0
        self.members: list[Subscriber] = []

    def message(self, number: int, payload: bytes, _arrived: int) -> None:
        """Take a message that came outside an update."""
        if self._mark and self._mark in payload:
            self.unexpected += 1
        elif b'"subscribed"' in payload:
            self._subscribed.add(number)
            if len(self._subscribed) == self._settings.subscribers:
                self._event.set()

    async def gather(self) -> None:
        """Connect everybody and wait until everybody is subscribed."""
        settings = self._settings
        words = SUBSCRIPTION % settings.topic
        self.members = await subscribe(settings.port, settings.subscribers, words, self.message)
        await asyncio.wait_for(self._event.wait(), 60 + settings.subscribers / 100)
        for member in self.members:
            self._epoll.register(member.descriptor, select.EPOLLIN)

    def arrivals(self, mark: bytes) -> list[int]:
        """Return when each subscriber had the message with `mark`, all or those within 20 s."""
        self._mark = mark
        arrived: dict[int, int] = {}
        end = monotonic_ns() + int(DELIVERY_S * 1e9)
        while len(arrived) < self._settings.subscribers and monotonic_ns() < end:
            for descriptor, _ in self._epoll.poll(1.0, self._settings.subscribers):
                data = os.read(descriptor, READ_BYTES)
                now = monotonic_ns()
                if mark in data and descriptor not in arrived:
                    arrived[descriptor] = now
                elif is_ping(data):
                    os.write(descriptor, pong_frame(data))
                else:
                    self.unexpected += 1
        return list(arrived.values())


async def run(settings: Settings) -> dict[str, object]:
    """Hold, send, measure; return the report."""
    audience = Audience(settings)
    began = monotonic_ns()
    await audience.gather()
    gathered_s = (monotonic_ns() - began) / 1e9
    latencies: list[int] = []
    complete = 0
    with socket.create_connection(("127.0.0.1", settings.port)) as sender:
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(settings.updates):
            mark = f"update-{number}-of-{settings.updates}"
            row = {"id": mark, "time": 1_700_000_000_000_000 + number, "value": number / 2}
            key = f"{monotonic_ns()}-{mark}"
            body = json.dumps(row).encode()
            wire = post(f"/topics/{settings.topic}", body, key, "application/json")
            started = monotonic_ns()
            sender.sendall(wire)
            arrived = audience.arrivals(mark.encode())
            answer = http.client.HTTPResponse(sender)
            answer.begin()
            said = answer.read()
            if answer.status != ACCEPTED:
                raise SystemExit(f"the update was answered {answer.status}: {said[:300]!r}")
            latencies += [each - started for each in arrived]
            complete += len(arrived) == settings.subscribers
            await asyncio.sleep(settings.pause_s)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "held": sum(not member.closed for member in audience.members),
        "gathered_s": gathered_s,
        "complete_updates": complete,
        "unexpected": audience.unexpected,
        "deliveries": len(latencies),
        "latency_ms": asdict(quantiles(latencies)),
        "client_cpu_s": used.ru_utime + used.ru_stime,
        "client_rss_mb": used.ru_maxrss / 1024,
    }


def raise_file_limit(wanted: int) -> int:
    """Raise this process's limit of open files to `wanted` where allowed; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


if __name__ == "__main__":
    import uvloop

    given = Settings(**json.loads(sys.argv[1]))
    raise_file_limit(given.subscribers + 200)
    sys.stdout.write(json.dumps(uvloop.run(run(given))) + "\n")
