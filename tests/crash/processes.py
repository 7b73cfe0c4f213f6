"""`headrace run fleet` as real processes, and a client that repeats itself until answered."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2

_Answer = TypeVar("_Answer")

READY_S = 120.0
ANSWER_S = 180.0
_PAUSE = threading.Event()


def wait_until(done: Callable[[], _Answer | None], deadline_s: float, what: str) -> _Answer:
    """Ask again and again until there is an answer; fail when the deadline has passed."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        answer = done()
        if answer is not None:
            return answer
        _PAUSE.wait(0.05)
    raise AssertionError(f"{what} took longer than {deadline_s:.0f} s")


@dataclass
class Fleet:
    """A running fleet application and the requests made to it.

    Attributes:
        data: Its data directory.
        url: Where it answers.
        killed: Roles killed, in order.
    """

    data: Path
    url: str
    log: Path
    http: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=10.0))
    killed: list[tuple[str, int]] = field(default_factory=list)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return the answer of a GET; asked again while the gateway is away."""

        def ask() -> dict[str, Any] | None:
            try:
                answer = self.http.get(f"{self.url}{path}", params=query)
            except httpx2.TransportError:
                return None
            return dict(answer.json()) if answer.status_code == 200 else None

        return wait_until(ask, ANSWER_S, f"GET {path}")

    def post(self, path: str, body: Any, key: str) -> dict[str, Any]:
        """Send `body` under one Idempotency-Key until it is answered for good."""

        def send() -> dict[str, Any] | None:
            try:
                answer = self.http.post(
                    f"{self.url}{path}", json=body, headers={"Idempotency-Key": key}
                )
            except httpx2.TransportError:
                return None
            if answer.status_code in {429, 500, 503, 507}:
                return None
            assert answer.is_success, answer.text
            return dict(answer.json())

        return wait_until(send, ANSWER_S, f"POST {path}")

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """Return every row of a topic, in log order per partition."""
        found: list[dict[str, Any]] = []
        at: dict[str, Any] = {}
        while True:
            page = self.get(f"/topics/{topic}", limit=10_000, **at)
            found += page["rows"]
            if page["next"] == page["end"]:
                return found
            at = {"from": page["next"]}

    def wait_ready(self) -> None:
        """Return when every role is up and has recovered."""

        def ready() -> bool | None:
            try:
                return self.http.get(f"{self.url}/health/ready").status_code == 200 or None
            except httpx2.TransportError:
                return None

        wait_until(ready, READY_S, "getting ready")

    def kill(self, *roles: str, recovered: bool) -> None:
        """SIGKILL roles by the ids that `/health` tells, never one that was killed before.

        Args:
            roles: gateway, engine.
            recovered: Wait until the engine has recovered; else it may be killed while it does.
        """
        gone = {pid for _, pid in self.killed}

        def alive() -> dict[str, int] | None:
            checks: Mapping[str, Any] = self.get("/health")["checks"]
            found = {role: checks.get(role, {}).get("pid") for role in ("gateway", "engine")}
            if any(pid is None or pid in gone or not self._ours(pid) for pid in found.values()):
                return None
            if recovered and checks["engine"]["status"] != "healthy":
                return None
            return found

        pids = wait_until(alive, READY_S, "coming back after a kill")
        for role in roles:
            os.kill(pids[role], signal.SIGKILL)
            self.killed.append((role, pids[role]))

    def _ours(self, pid: int) -> bool:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        return str(self.data).encode() in command


@contextmanager
def running_fleet(folder: Path) -> Iterator[Fleet]:
    """Run the fleet application on an empty data directory until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    data, log = folder / "data", folder / "log.txt"
    command = [sys.executable, "-m", "headrace", "run", "fleet"]
    # Checkpoints come often, so that kills meet them half written.
    settings = {"HEADRACE_ENGINE__CHECKPOINT_EVERY": "3s", "HEADRACE_LOG_FORMAT": "json"}
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            [*command, "--port", str(port), "--data", str(data)],
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        fleet = Fleet(data, f"http://127.0.0.1:{port}", log)
        try:
            fleet.wait_ready()
            yield fleet
        finally:
            fleet.http.close()
            supervisor.terminate()
            try:
                supervisor.wait(30)
            except subprocess.TimeoutExpired:
                supervisor.kill()
                supervisor.wait()


class Killer:
    """Kills roles at moments drawn beforehand, counted in requests sent.

    Args:
        fleet: What to kill.
        kills: How many times.
        requests: Requests over which the kills are spread.
        seed: The same seed draws the same moments.
    """

    def __init__(self, fleet: Fleet, kills: int, requests: int, seed: int) -> None:
        self._fleet = fleet
        self._chance = random.Random(seed)  # noqa: S311 - draws moments
        moments = sorted(self._chance.sample(range(requests), kills))
        roles = [("engine",), ("gateway",), ("gateway", "engine")]
        self._plan = {at: roles[number % len(roles)] for number, at in enumerate(moments)}
        self._thread: threading.Thread | None = None
        self._failures: list[BaseException] = []

    def before(self, request: int) -> None:
        """Start the kill of this moment, if it is one, to strike while requests go on."""
        roles = self._plan.get(request)
        if roles is None:
            return
        self.join()
        delay_s = self._chance.random() * 0.2
        recovered = self._chance.random() < 0.7
        self._thread = threading.Thread(target=self._strike, args=(roles, delay_s, recovered))
        self._thread.start()

    def join(self) -> None:
        """Wait for the last kill; raise what went wrong in it."""
        if self._thread is not None:
            self._thread.join()
        if self._failures:
            raise self._failures[0]

    def _strike(self, roles: tuple[str, ...], delay_s: float, recovered: bool) -> None:
        try:
            _PAUSE.wait(delay_s)
            self._fleet.kill(*roles, recovered=recovered)
        except BaseException as error:  # noqa: BLE001 - join() raises it in the test
            self._failures.append(error)
