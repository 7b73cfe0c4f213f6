"""The role connect: hosts an application's sinks in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import structlog

from headrace.connect.handlers import CONNECT_SLOT, HandlerSink
from headrace.core.time import SystemClock, to_datetime
from headrace.log import open_log
from headrace.runners.embedded.lifeline import stop_on_signal, stop_with_supervisor
from headrace.stream.app import App

_log = structlog.get_logger(__name__)

IDLE_S = 0.5
PUBLISH_US = 1_000_000


def run_connect(app: App, data: Path) -> None:
    """Run every handler of `app` on the log in `data` until asked to stop.

    Raises:
        StateError: Another process runs them.
    """
    stop = threading.Event()
    stop_on_signal(stop.set)
    stop_with_supervisor(stop.set)
    log = open_log(data)
    clock = SystemClock()
    writer = log.writer(f"connect-{app.name}", CONNECT_SLOT)
    reader = log.reader()
    started = to_datetime(clock.now()).isoformat()
    try:
        sinks = [HandlerSink(handler, reader, writer, clock) for handler in app.handlers]

        def publish(state: str) -> None:
            writer.publish_positions(
                writer.owner, {at: p for sink in sinks for at, p in sink.positions.items()}
            )
            status = {
                "role": "connect",
                "app": app.name,
                "pid": os.getpid(),
                "started": started,
                "published": to_datetime(clock.now()).isoformat(),
                "state": state,
            }
            writer.publish_status(json.dumps(status).encode())

        async def turns() -> None:
            publish("running")
            due = clock.monotonic() + PUBLISH_US
            _log.info("connect.running", handlers=[sink.handler.name for sink in sinks])
            while not stop.is_set():
                worked = [await sink.turn() for sink in sinks]
                if not any(worked):
                    await asyncio.to_thread(reader.wait, IDLE_S)
                if clock.monotonic() >= due:
                    writer.maintain(clock.now())
                    publish("running")
                    due = clock.monotonic() + PUBLISH_US

        asyncio.run(turns())
        publish("stopped")
    finally:
        writer.close()
        reader.close()
