"""Real servers for the tests of feature sources: Redis, PostgreSQL, and HTTP in a thread."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_LONGEST_START_S = 30.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def started(command: list[str], is_ready: Callable[[], object]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _LONGEST_START_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start")
            threading.Event().wait(0.02)
        yield
    finally:
        process.terminate()
        process.wait(timeout=_LONGEST_START_S)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def redis_server(program: str, folder: Path) -> Iterator[str]:
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with started([*command, "--save", ""], lambda: accepts(port)):
        yield f"redis://127.0.0.1:{port}/0"


def postgres_programs() -> Path | None:
    """Return the folder of Debian's newest PostgreSQL, or of one in the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    program = shutil.which("postgres")
    return None if program is None else Path(program).parent


@contextmanager
def postgres_server(programs: Path) -> Iterator[str]:
    port = free_port()
    # PostgreSQL refuses root, and its own user cannot look into pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
    own: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        own = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    data = str(folder / "data")
    try:
        subprocess.run(
            [*own, str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "hr", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        options = [
            *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"),
            *("-c", "fsync=off"),
        ]
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        with started(
            [*own, str(programs / "postgres"), "-D", data, "-p", str(port), *options],
            lambda: subprocess.run(ready, check=False).returncode == 0,
        ):
            yield f"postgresql://hr@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class FeatureService:
    """Answers as `hr.features.http` asks; tests change what it does.

    Attributes:
        rows: Features by user.
        hold: Not set: a request waits.
        status: HTTP status of answers.
        asked: Bodies of requests.
        tokens: Their authorization headers.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.hold = threading.Event()
        self.hold.set()
        self.status = 200
        self.shorten = False
        self.asked: list[Any] = []
        self.tokens: list[str | None] = []

    @contextmanager
    def serve(self) -> Iterator[str]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                service.asked.append(body)
                service.tokens.append(self.headers["authorization"])
                service.hold.wait(_LONGEST_START_S)
                rows = [service.rows.get(key["user"]) for key in body["keys"]]
                answer = json.dumps({"rows": rows[1:] if service.shorten else rows}).encode()
                self.send_response(service.status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/features"
            finally:
                self.hold.set()
                server.shutdown()
                thread.join()
