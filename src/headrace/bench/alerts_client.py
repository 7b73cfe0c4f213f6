"""The client side of the `alerts` bench, a process of its own.

Saves a rule for each severity, posts rows of which one per request breaks one of them, each for a
key of its own, and is the receiver of the webhook that tells of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import monotonic_ns
from typing import Any, cast

from headrace.bench.http_client import Connection, Request, connect, post
from headrace.bench.result import quantiles

CREATED = 201
SETTLE_S = 30.0
GOOD, BAD = 100.0, 250.0
KEYS = 1_000
LEVELS = ("critical", "high", "warning")
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Settings:
    """What to send, and where to be told.

    Attributes:
        port: Where the gateway listens on 127.0.0.1.
        receiver_port: Where the webhook goes.
        topic: Topic with columns `sensor`, `time`, `level` and `depth_m`.
        rows: Rows in one request; the last breaks a rule.
        connections: Keep-alive connections.
        requests_per_s: Open loop: one is due every so often, whatever became of the others.
        seconds: How long.
    """

    port: int
    receiver_port: int
    topic: str
    rows: int
    connections: int
    requests_per_s: float
    seconds: float


class Receiver(asyncio.Protocol):
    """One connection of the webhook: notes when each request was complete, and answers it."""

    def __init__(self, take: Any) -> None:
        self._take = take
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take every request that is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            whole = end + 4 + length
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            self._take(body)
            if self._transport is not None:
                self._transport.write(_ANSWER)


class Watch:
    """Sends breaches and waits to be told of each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told = asyncio.Event()
        self._saved = asyncio.Event()
        self._statuses: Counter[int] = Counter()
        self._sent: dict[str, int] = {}
        self._arrived: dict[str, int] = {}
        self._repeats = 0
        self._total = round(settings.requests_per_s * settings.seconds)

    async def run(self) -> dict[str, object]:
        """Send everything; return the report once all was told or time is up."""
        settings, loop = self._settings, asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Receiver(self._take), "127.0.0.1", settings.receiver_port
        )
        connections = await connect(settings.port, settings.connections, self._done)
        for rule in rules():
            connections[0].send(Request(rule, 0, -1))
        await asyncio.wait_for(self._saved.wait(), SETTLE_S)
        began = loop.time()
        for number in range(self._total):
            due = began + number / settings.requests_per_s
            await asyncio.sleep(max(due - loop.time(), 0))
            request = self._request(number)
            request.due_ns = round(due * 1e9)
            self._sent[f"b{number}"] = request.due_ns
            _idlest(connections).send(request)
        ended = loop.time()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), SETTLE_S)
        server.close()
        return self._report(ended - began)

    def _request(self, number: int) -> Request:
        settings = self._settings
        moment = datetime.now(UTC).isoformat()
        first = number * (settings.rows - 1)
        rows = [
            {"sensor": f"k{(first + n) % KEYS}", "time": moment, "level": "", "depth_m": GOOD}
            for n in range(settings.rows - 1)
        ]
        level = level_of(number)
        rows.append({"sensor": f"b{number}", "time": moment, "level": level, "depth_m": BAD})
        body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        wire = post(f"/topics/{settings.topic}", body, f"breach-{number}")
        return Request(wire, settings.rows, number)

    def _done(self, request: Request, status: int, body: bytes) -> None:  # noqa: ARG002 - its form
        self._statuses[status] += 1
        if self._statuses[CREATED] == len(LEVELS):
            self._saved.set()

    def _take(self, body: bytes) -> None:
        now = monotonic_ns()
        for alert in json.loads(body)["alerts"]:
            if alert["key"] in self._arrived:
                self._repeats += 1
            else:
                self._arrived[alert["key"]] = now
        if len(self._arrived) >= self._total:
            self._told.set()

    def _report(self, seconds: float) -> dict[str, object]:
        settings = self._settings
        every = {
            key: self._arrived[key] - self._sent[key] for key in self._sent if key in self._arrived
        }
        by_level: dict[str, list[int]] = {level: [] for level in LEVELS}
        for key, taken in every.items():
            by_level[level_of(int(key[1:]))].append(taken)
        return {
            "seconds": seconds,
            "rows": self._total * settings.rows,
            "breaches": self._total,
            "told": len(every),
            "repeats": self._repeats,
            "unexpected": len(self._arrived.keys() - self._sent.keys()),
            "statuses": dict(self._statuses),
            "ms": {
                level: asdict(quantiles(taken))
                for level, taken in {**by_level, "all": list(every.values())}.items()
                if taken
            },
        }


def level_of(number: int) -> str:
    """Return the severity of the rule that breach `number` breaks."""
    return LEVELS[number % len(LEVELS)]


def rules() -> list[bytes]:
    """Return requests that save a rule for each severity."""
    requests = []
    for level in LEVELS:
        condition = f"level = '{level}' AND depth_m > {GOOD}"
        record = {"rule_id": level, "condition": condition, "severity": level}
        body = json.dumps(record).encode()
        requests.append(post("/control/rules", body, f"rule-{level}", "application/json"))
    return requests


def _idlest(connections: list[Connection]) -> Connection:
    return min(connections, key=lambda one: one.queued)


async def _main(settings: Settings) -> None:
    report = await Watch(settings).run()
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(Settings(**json.loads(sys.argv[1]))))
