"""The client side of the `e2e` bench, a process of its own.

Sends requests when they are due (open loop) or as fast as they are answered, and follows the
windows by WebSocket. A request counts as arrived when the outputs of all its keys contain it.

Every connection has keys of its own and one request in flight, so the rows of a key are committed
in the order of their request numbers; each row carries its request's number and each output its
window's highest, which therefore contains every request of that key up to it. Latency is counted
from the moment a request was due to the arrival of the last output it needs.
"""

from __future__ import annotations

import asyncio
import json
import resource
import secrets
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from time import monotonic_ns

import msgspec

from headrace.bench.http_client import Connection, Request, connect, post
from headrace.bench.result import quantiles
from headrace.bench.websocket_client import subscribe

ACCEPTED = 202
FIRST_NUMBER = 1_000_000_000
"""Request numbers and times have fixed widths, so that a body is a template with two blanks."""
TIME_BLANK = 1_700_000_000_000_000
DRAIN_S = 30.0
WARM_UP_S = 2.0
AHEAD = 32
"""Requests of one connection whose outputs may be missing when there is no rate."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to send.

    Attributes:
        port: Where the gateway listens on 127.0.0.1.
        topic: Topic with columns `key`, `time`, `request`, `value`.
        output: Windows of it, updated at each step: `key`, `window_start`, `count`, `request`.
        rows: Rows in one request.
        connections: Connections, each with its own keys.
        keys: Keys per connection.
        requests_per_s: Open-loop rate over all connections; None sends as fast as answered.
        seconds: How long requests are sent.
    """

    port: int
    topic: str
    output: str
    rows: int
    connections: int
    keys: int
    requests_per_s: float | None
    seconds: float


class Row(msgspec.Struct, gc=False):
    """One output row: a window of a key as it is now."""

    key: str
    window_start: str
    count: int
    request: int


class Frame(msgspec.Struct, gc=False):
    """A message of the gateway; `rows` where it carries rows."""

    op: str = ""
    rows: list[Row] = []


class Lane:
    """One connection: its keys, its body template, the requests whose outputs are awaited."""

    def __init__(self, settings: Settings, number: int) -> None:
        self.keys = [f"c{number}k{key}" for key in range(settings.keys)]
        self.pending: deque[Request] = deque()
        self.seen = dict.fromkeys(self.keys, 0)
        self.low = 0
        lines = [
            f'{{"key":"{self.keys[row % settings.keys]}","time":{TIME_BLANK},'
            f'"request":{FIRST_NUMBER},"value":{row % 97}.5}}'
            for row in range(settings.rows)
        ]
        self._template = "\n".join(lines).encode()

    def body(self, number: int, now_us: int) -> bytes:
        """Return the template with request number and event time filled in."""
        numbered = self._template.replace(b"%d" % FIRST_NUMBER, b"%d" % number)
        return numbered.replace(b"%d" % TIME_BLANK, b"%d" % now_us)


class Run:
    """One measurement."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._run = secrets.token_hex(8)
        self._lanes = [Lane(settings, number) for number in range(settings.connections)]
        self._lane_of = {key: lane for lane in self._lanes for key in lane.keys}
        self._connections: list[Connection] = []
        self._decoder = msgspec.json.Decoder(Frame)
        self._subscribed = asyncio.Event()
        self._drained = asyncio.Event()
        self._sent = 0
        self._sending = True
        self._began = 0
        self._end = 0
        self._counts: dict[tuple[str, str], int] = {}
        self.rows_sent = 0
        self.latencies: list[int] = []
        self.acknowledge: list[int] = []
        self.statuses: Counter[int] = Counter()
        self.first_error = ""
        self.last_arrival = 0

    def _send(self, lane: int, due: int) -> None:
        number = FIRST_NUMBER + 1 + self._sent
        self._sent += 1
        self.rows_sent += self._settings.rows
        body = self._lanes[lane].body(number, time.time_ns() // 1_000)
        wire = post(f"/topics/{self._settings.topic}", body, f"{self._run}-{number}")
        request = Request(wire, self._settings.rows, number, due)
        self._lanes[lane].pending.append(request)
        self._connections[lane].send(request)

    def _answered(self, request: Request, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        self.acknowledge.append(request.done_ns - request.due_ns)
        if status != ACCEPTED and not self.first_error:
            self.first_error = body[:500].decode(errors="replace")
        self._pump()

    def _pump(self) -> None:
        """Without a rate, keep every connection busy while its outputs keep up."""
        now = monotonic_ns()
        if self._settings.requests_per_s is not None or now >= self._end:
            return
        for lane, connection in enumerate(self._connections):
            if not connection.queued and len(self._lanes[lane].pending) < AHEAD:
                self._send(lane, now)

    def _message(self, _: int, payload: bytes, arrived: int) -> None:
        frame = self._decoder.decode(payload)
        if frame.op == "subscribed":
            self._subscribed.set()
        touched = set()
        for row in frame.rows:
            self._counts[row.key, row.window_start] = row.count
            lane = self._lane_of[row.key]
            if row.request > lane.seen[row.key]:
                lane.seen[row.key] = row.request
                touched.add(lane)
        for lane in touched:
            self._release(lane, arrived)
        if touched:
            self._pump()

    def _release(self, lane: Lane, arrived: int) -> None:
        low = min(lane.seen.values())
        warm = self._began + int(WARM_UP_S * 1e9)
        while lane.pending and lane.pending[0].number <= low:
            request = lane.pending.popleft()
            self.last_arrival = arrived
            if request.due_ns >= warm:
                self.latencies.append(arrived - request.due_ns)
        if not self._sending and not any(each.pending for each in self._lanes):
            self._drained.set()

    async def run(self) -> dict[str, object]:
        """Send for the time set, wait for the last output, return the report."""
        settings = self._settings
        self._connections = await connect(settings.port, settings.connections, self._answered)
        words = {"op": "subscribe", "id": "s1", "topic": settings.output, "from": "latest"}
        await subscribe(settings.port, 1, json.dumps(words), self._message)
        await asyncio.wait_for(self._subscribed.wait(), 30)
        self._began = monotonic_ns()
        self._end = self._began + int(settings.seconds * 1e9)
        if settings.requests_per_s is None:
            self._pump()
            await asyncio.sleep(settings.seconds)
        else:
            await self._open_loop(settings.requests_per_s)
        self._sending = False
        drained = True
        try:
            await asyncio.wait_for(self._drained.wait(), DRAIN_S)
        except TimeoutError:
            drained = False
        used = resource.getrusage(resource.RUSAGE_SELF)
        counted = sum(self._counts.values())
        return {
            "rows": self.rows_sent,
            "requests": self._sent,
            "seconds": (self.last_arrival - self._began) / 1e9,
            "drained": drained,
            "counted": counted,
            "equal": drained and counted == self.rows_sent,
            "statuses": dict(self.statuses),
            "first_error": self.first_error,
            "latency_ms": asdict(quantiles(self.latencies)) if self.latencies else None,
            "acknowledge_ms": asdict(quantiles(self.acknowledge)),
            "client_cpu_s": used.ru_utime + used.ru_stime,
        }

    async def _open_loop(self, per_s: float) -> None:
        total = int(self._settings.seconds * per_s)
        for number in range(total):
            due = self._began + int(number * 1e9 / per_s)
            wait = (due - monotonic_ns()) / 1e9
            if wait > 0:
                await asyncio.sleep(wait)
            self._send(number % self._settings.connections, due)


if __name__ == "__main__":
    import uvloop

    report = uvloop.run(Run(Settings(**json.loads(sys.argv[1]))).run())
    sys.stdout.write(json.dumps(report) + "\n")
