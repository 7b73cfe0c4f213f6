"""The client side of the `ingest` bench, a process of its own: `python -m … '{"port": …}'`.

Keeps every connection busy with one POST after the other for a while, then prints what was
acknowledged as one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import resource
import secrets
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from time import monotonic_ns

import polars as pl

from headrace.bench.events import FIRST_TIME_US, events
from headrace.bench.http_client import Connection, Request, connect
from headrace.bench.result import quantiles

BODIES = 50
ACCEPTED = 202


@dataclass(frozen=True, slots=True)
class Settings:
    """What to send.

    Attributes:
        port: Where the gateway listens on 127.0.0.1.
        topic: Where rows go.
        rows: Rows in one request.
        connections: Keep-alive connections, one request in flight on each.
        seconds: How long requests are begun.
    """

    port: int
    topic: str
    rows: int
    connections: int
    seconds: float


@dataclass(slots=True)
class Acknowledged:
    """What was answered 202, with sums by which the log is checked.

    `time_sum` counts microseconds since the first event's second: the sum must fit 64 bits.
    """

    requests: int = 0
    rows: int = 0
    time_sum: int = 0
    value_sum: float = 0.0


class Load:
    """Bodies made beforehand, sent round-robin, each under an Idempotency-Key of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._run = secrets.token_hex(8).encode()
        self._bodies: list[bytes] = []
        self._sums: list[tuple[int, float]] = []
        for number in range(BODIES):
            frame = events(settings.rows, seed=number)
            self._bodies.append(frame.write_ndjson().encode())
            self._sums.append(
                (int((frame["time"] - FIRST_TIME_US).sum()), float(frame["value"].sum()))
            )
        self._sent = 0
        self._end_ns = 0
        self._finished = asyncio.Event()
        self._connections: list[Connection] = []
        self.statuses: Counter[int] = Counter()
        self.latencies: list[int] = []
        self.acknowledged = Acknowledged()
        self.first_error = ""

    def _next(self) -> Request:
        number, self._sent = self._sent, self._sent + 1
        body = self._bodies[number % BODIES]
        head = (
            b"POST /topics/%b HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/%b\r\nIdempotency-Key: %b-%d\r\n"
            b"Content-Length: %d\r\n\r\n"
        )
        form = b"json" if self._settings.rows == 1 else b"x-ndjson"
        topic = self._settings.topic.encode()
        wire = head % (topic, form, self._run, number, len(body)) + body
        return Request(wire, self._settings.rows, number, due_ns=monotonic_ns())

    def _done(self, request: Request, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        self.latencies.append(request.done_ns - request.due_ns)
        if status == ACCEPTED:
            time_sum, value_sum = self._sums[request.number % BODIES]
            self.acknowledged.requests += 1
            self.acknowledged.rows += request.rows
            self.acknowledged.time_sum += time_sum
            self.acknowledged.value_sum += value_sum
        elif not self.first_error:
            self.first_error = body[:500].decode(errors="replace")
        if request.done_ns < self._end_ns:
            self._idle().send(self._next())
        elif not any(connection.queued for connection in self._connections):
            self._finished.set()

    def _idle(self) -> Connection:
        return next(each for each in self._connections if not each.queued)

    async def run(self) -> dict[str, object]:
        """Send for the time set; return the report."""
        settings = self._settings
        self._connections = await connect(settings.port, settings.connections, self._done)
        began = monotonic_ns()
        self._end_ns = began + int(settings.seconds * 1e9)
        for connection in self._connections:
            connection.send(self._next())
        await asyncio.wait_for(self._finished.wait(), settings.seconds + 30)
        ended = monotonic_ns()
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "seconds": (ended - began) / 1e9,
            "statuses": dict(self.statuses),
            "first_error": self.first_error,
            "latency_ms": asdict(quantiles(self.latencies)),
            "acknowledged": asdict(self.acknowledged),
            "client_cpu_s": used.ru_utime + used.ru_stime,
        }


def checked(frame: pl.DataFrame, acknowledged: Acknowledged) -> bool:
    """Whether `frame`, all rows of the topic, is exactly what was acknowledged, by its sums."""
    return (
        frame.height == acknowledged.rows
        and (frame["time"].dt.epoch("us") - FIRST_TIME_US).sum() == acknowledged.time_sum
        and abs(float(frame["value"].sum()) - acknowledged.value_sum)
        <= 1e-9 * acknowledged.value_sum
    )


async def _main(settings: Settings) -> None:
    report = await Load(settings).run()
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(Settings(**json.loads(sys.argv[1]))))
