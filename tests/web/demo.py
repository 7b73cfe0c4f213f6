"""A demonstration in a process of its own, and a browser to look at it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2

CHROMIUM_FLAGS: Final = (
    "--no-sandbox",
    # Compositing without a GPU, WebGL by SwiftShader: the same on every machine.
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # Without these, Chromium calls hosts of its own.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
)

_READY_WITHIN_S = 120.0
_ENDS_WITHIN_S = 20.0


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health/ready", timeout=2).is_success
    except httpx2.HTTPError:
        return False


@contextmanager
def demo(data: Path, *, vehicles: int = 30, speed: float = 10) -> Iterator[str]:
    """Run `headrace demo fleet` until the block ends, and yield its address.

    Raises:
        RuntimeError: It ended, or was not ready in time; what it printed is in the message.
    """
    url = f"http://127.0.0.1:{(port := free_port())}"
    log = data / "demo.log"
    command = [
        *(sys.executable, "-m", "headrace", "demo", "fleet", "--no-browser"),
        *("--port", str(port), "--data", str(data / "log")),
        *("--vehicles", str(vehicles), "--speed", str(speed)),
        # If these tests are killed, nobody else ends it.
        *("--for", "60m"),
    ]
    with log.open("wb") as out:
        # A group of its own, so that ending it reaches its roles and nothing else.
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not _ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the demonstration is not ready:\n{log.read_text()}")
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
