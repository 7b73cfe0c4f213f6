"""The role connect is killed while it delivers: each transition is told once, none is lost."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from headrace.alerts.notification import DELIVERIES
from headrace.core.log import Append, Commit, Reader, TopicSpec
from headrace.log import SqliteLog
from tests.crash.notified import CHANNELS
from tests.unit.alerts.samples import SCHEMA, row
from tests.unit.alerts.servers import HttpServer, Received, Reply, http_server

KILLS = int(os.environ.get("HEADRACE_KILLS", "3"))
SEED = int(os.environ.get("HEADRACE_SEED", "1"))
KEYS = 20
TRANSITIONS = 5
FAILURES = 0.1
DEADLINE_S = 120.0 + 30.0 * KILLS
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Connect:
    """The role connect as a process, started again whenever it was killed."""

    data: Path
    urls: dict[str, str]
    kills: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "headrace", "run", "tests.crash.notified:app"]
        command += ["--role", "connect", "--data", str(self.data)]
        secrets = {f"{name.upper()}_URL": url for name, url in self.urls.items()}
        with (self.data.parent / "connect.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | secrets, stdout=log, stderr=log
            )

    def kill(self) -> None:
        self.end()
        self.kills += 1
        self.start()

    def end(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@dataclass
class Receiver(HttpServer):
    """Fails now and then, and has the sender killed at moments drawn beforehand.

    Attributes:
        moments: Numbers of requests at which to kill; before the answer if odd, else after it.
    """

    connect: Connect | None = None
    moments: set[int] = field(default_factory=set)
    fails: random.Random = field(default_factory=lambda: random.Random(SEED))  # noqa: S311 - moments
    accepted: list[Received] = field(default_factory=list)

    def reply(self, received: Received) -> Reply:
        super().reply(received)
        number = len(self.received)
        if number in self.moments and self.connect is not None:
            if number % 2:
                self.connect.kill()
            else:
                # The answer is written first: the sender dies with it on its way to its records.
                asyncio.get_running_loop().call_soon(self.connect.kill)
        if self.fails.random() < FAILURES:
            return Reply(503)
        self.accepted.append(received)
        return Reply()


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(180 + 30 * KILLS)
async def test_each_transition_is_told_once_when_the_sender_is_killed(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - draws moments
    total = KEYS * TRANSITIONS
    moments = set(chance.sample(range(5, total), KILLS))
    receivers = {"remembers": Receiver(moments=moments), "forgets": Receiver()}
    connect = Connect(tmp_path / "data", {})
    receivers["remembers"].connect = connect
    async with AsyncExitStack() as stack:
        for name, receiver in receivers.items():
            server = await stack.enter_async_context(http_server(server=receiver))
            connect.urls[name] = server.url
        log = SqliteLog(connect.data)
        put(
            log,
            [
                row(f"k{key}", n + 1, name)
                for n in range(TRANSITIONS)
                for key in range(KEYS)
                for name in CHANNELS
            ],
        )
        connect.start()
        reader = log.reader()
        stack.callback(reader.close)
        stack.callback(connect.end)
        rows = await settled(reader, total)

    assert connect.kills == KILLS
    wanted = {f"deep/k{key}/{n + 1}" for key in range(KEYS) for n in range(TRANSITIONS)}
    for name, receiver in receivers.items():
        told = [received.headers["idempotency-key"] for received in receiver.accepted]
        # A receiver that remembers keys has each transition exactly once ...
        assert set(told) == wanted
        # ... and one that does not sees again only what was under way when the sender was killed.
        repeats = len(told) - total
        assert repeats <= KILLS * 4, f"{name}: {repeats} repeats of {KILLS} kills"
        assert all(
            one["transition"] == int(key.rpartition("/")[2])
            for key, one in zip(told, map(Received.json, receiver.accepted), strict=True)
        )
        assert in_order(told)
    recorded = [one for one in rows if one["outcome"] == "delivered"]
    assert Counter((one["channel"], one["notification_id"]) for one in recorded) == Counter(
        (name, one) for name in CHANNELS for one in wanted
    )
    attempts = defaultdict(list)
    for one in rows:
        attempts[one["channel"], one["notification_id"]].append(one["attempt"])
    # Counted across restarts: none twice, none left out.
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in attempts.values())


def put(log: SqliteLog, rows: list[dict[str, Any]]) -> None:
    writer = log.writer("gateway-0", 0)
    partition = writer.create(TopicSpec("told", SCHEMA))[0].partition
    for frame in pl.DataFrame(rows, SCHEMA).iter_slices(50):
        writer.commit([Commit([Append("told", partition, frame, frame.height)])])
    writer.close()


async def settled(reader: Reader, total: int) -> list[dict[str, Any]]:
    """Return all attempts once every notification of both channels is delivered."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            rows = [
                one
                for at, info in reader.partitions([DELIVERIES]).items()
                for batch in (reader.read(at, 0, 1_000_000, 1 << 30) if info.end else [])
                for one in batch.frame.to_dicts()
            ]
            if sum(one["outcome"] == "delivered" for one in rows) >= total * len(CHANNELS):
                return rows
            await asyncio.to_thread(reader.wait, 0.5)


def in_order(keys: list[str]) -> bool:
    """Whether the transitions of each alert came one after the other, but for repeats."""
    seen: dict[str, int] = defaultdict(int)
    for key in keys:
        alert, _, number = key.rpartition("/")
        if int(number) > seen[alert] + 1:
            return False
        seen[alert] = max(seen[alert], int(number))
    return True
