"""The gateway as a process of its own."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvicorn

from headrace.core.errors import ConfigError
from headrace.core.log import Log
from headrace.core.settings import GatewaySettings
from headrace.gateway.app import Gateway, create_gateway
from headrace.gateway.frames import FrameProtocol
from headrace.log import open_log
from headrace.runners.embedded.lifeline import stop_on_signal, stop_with_supervisor
from headrace.stream.app import App

_log = structlog.get_logger(__name__)

BACKLOG = 8192
GRACE_S = 5


class Server(uvicorn.Server):
    """A uvicorn server in a thread or process that has its own way of stopping."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the role's own handlers stop the server."""
        yield


def serve(
    app: App,
    data: Log | Path | str,
    settings: GatewaySettings | None = None,
    *,
    slot: int = 0,
    port: int | None = None,
) -> None:
    """Serve `app` until asked to stop by a signal or by the supervisor.

    Args:
        app: What is served.
        data: The log, or the data directory it lies in.
        settings: Address, limits and policies.
        slot: Which of several gateways this is.
        port: Overrides the settings' port; 0 takes a free one, found in the gateway's status.

    Raises:
        ConfigError: The address is in use.
        HeadraceError: The log failed while serving.
    """
    settings = settings or GatewaySettings()
    log = open_log(data) if isinstance(data, Path | str) else data
    gateway = create_gateway(app, log, settings=settings, slot=slot)
    allow_many_connections()
    listener = listen(settings.host, settings.port if port is None else port)
    server = make_server(gateway, listener, settings)

    def stop() -> None:
        server.should_exit = True

    if threading.current_thread() is threading.main_thread():
        stop_on_signal(stop)
        stop_with_supervisor(stop)
    server.run(sockets=[listener])
    if gateway.core.failure is not None:
        raise gateway.core.failure


def allow_many_connections() -> None:
    """Raise the limit of open files to what the system allows: a connection is a file."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS says "no limit" and refuses it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address.

    Raises:
        ConfigError: The address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="choose another with --port, or 0 for a free one",
        ) from error
    return listener


def make_server(gateway: Gateway, listener: socket.socket, settings: GatewaySettings) -> Server:
    """Return a uvicorn server for `gateway` that ends when the log fails."""
    host, port = listener.getsockname()[:2]
    gateway.core.address = (host, port)
    config = uvicorn.Config(
        gateway,
        host=host,
        port=port,
        http="httptools",
        ws=FrameProtocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
        ws_max_size=settings.max_message_bytes,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,
    )
    server = Server(config)

    def end() -> None:
        server.should_exit = True

    gateway.core.on_failure = end
    _log.info("gateway.listening", host=host, port=port)
    return server
