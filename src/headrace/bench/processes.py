"""Starting `headrace run` as its users do, watching what it costs, and ending it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace.core.errors import OutsideError

READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds used and the largest resident size, over a tree of processes."""

    cpu_s: float
    peak_rss_mb: float


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> list[int]:
    """Return `pid` and its living descendants."""
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        for thread in Path(f"/proc/{current}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                todo.extend(int(child) for child in thread.read_text().split())
    return found


def cost(pid: int) -> Cost:
    """Return what `pid` and its descendants have used so far; needs Linux's /proc.

    The peak is the sum of each process's own peak: an upper bound.
    """
    tick = os.sysconf("SC_CLK_TCK")
    cpu, peak = 0.0, 0.0
    for member in family(pid):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            cpu += (int(stat[11]) + int(stat[12])) / tick
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak += int(line.split()[1]) / 1024
    return Cost(cpu, peak)


class Server:
    """`headrace run APP` on a free port over a data directory, as a context manager."""

    def __init__(
        self,
        app: str,
        data: Path,
        *arguments: str,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.app = app
        self.data = data
        self.port = port or free_port()
        self.arguments = arguments
        self.environment = dict(environment or {})
        self.log = data.parent / f"{data.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        if self._process is None:
            raise OutsideError("the server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start it and return at once."""
        command = [sys.executable, "-m", "headrace", "run", self.app]
        command += ["--port", str(self.port), "--data", str(self.data), *self.arguments]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdout=log,
                stderr=log,
                process_group=0,
                env={**os.environ, **self.environment},
            )

    def wait_ready(self, deadline_s: float = READY_S) -> None:
        """Return when it answers that it is ready; a gateway alone, when it is alive.

        Raises:
            OutsideError: It ended or was not ready in time; the message ends its log.
        """
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(OSError, urllib.error.URLError):
                self.get("/health/live" if "gateway" in self.arguments else "/health/ready")
                return
            time.sleep(0.02)
        tail = self.log.read_text(errors="replace")[-2_000:]
        raise OutsideError(f"{self.app} did not become ready; its log ends:\n{tail}")

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> object:
        """Return the JSON that `path` answers."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:  # noqa: S310 - http only
            return json.load(answer)

    def kill(self) -> None:
        """End all its processes at once with SIGKILL."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Ask it to end, and end it after 20 s."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def run_client(module: str, settings: Mapping[str, object], timeout_s: float) -> dict[str, Any]:
    """Run `python -m module` with `settings` as JSON on its command line; return its report.

    Raises:
        OutsideError: It failed; the message ends with what it said.
    """
    command = [sys.executable, "-m", module, json.dumps(settings)]
    done = subprocess.run(  # noqa: S603 - our own module
        command, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise OutsideError(f"{module} failed:\n{done.stderr[-2_000:]}")
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report
