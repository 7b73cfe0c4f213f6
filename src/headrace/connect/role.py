"""The role connect: hosts an application's sinks in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from headrace.alerts.secrets import Secrets
from headrace.connect.delivery import DeliverySink
from headrace.connect.handlers import CONNECT_SLOT, HandlerSink
from headrace.connect.watching import ModelWatcher, fed_models
from headrace.core.log import Log, Reader, Writer
from headrace.core.time import Clock, SystemClock, to_datetime
from headrace.log import open_log
from headrace.runners.embedded.lifeline import stop_on_signal, stop_with_supervisor
from headrace.stream.app import App

_log = structlog.get_logger(__name__)

PUBLISH_S = 1.0
LOOK_S = 0.05


def run_connect(
    app: App, data: Path, secrets: Secrets | None = None, *, allow_private: bool = False
) -> None:
    """Run every sink of `app` on the log in `data` until asked to stop.

    Args:
        app: Whose functions and channels.
        data: The data directory.
        secrets: What channels need; the environment by default.
        allow_private: Let channels reach addresses that are not public.

    Raises:
        ConfigError: A channel cannot open.
        StateError: Another process runs them.
    """
    stop = threading.Event()
    stop_on_signal(stop.set)
    stop_with_supervisor(stop.set)
    log = open_log(data)
    writer = log.writer(f"connect-{app.name}", CONNECT_SLOT)
    reader = log.reader()
    try:
        role = ConnectRole(
            app, reader, writer, SystemClock(), secrets or Secrets(), allow_private=allow_private
        )
        role.watch(data / "models")
        asyncio.run(role.run(log, stop))
    finally:
        writer.close()
        reader.close()


class ConnectRole:
    """Functions and channels of one application, each following its topic in a task of its own.

    Reading and committing happen in the event loop's thread, a few milliseconds at a time; what
    waits for the outside does not, so no sink waits for another.
    """

    def __init__(
        self,
        app: App,
        reader: Reader,
        writer: Writer,
        clock: Clock,
        secrets: Secrets,
        *,
        allow_private: bool,
    ) -> None:
        self._app = app
        self._writer = writer
        self._clock = clock
        self._started = to_datetime(clock.now()).isoformat()
        self._handlers = [HandlerSink(handler, reader, writer, clock) for handler in app.handlers]
        self._channels = [
            DeliverySink(
                delivery,
                delivery.channel.open(secrets, allow_private=allow_private),
                reader,
                writer,
                clock,
                secrets,
            )
            for delivery in app.deliveries
        ]
        self._watchers: list[ModelWatcher] = []

    def watch(self, home: Path) -> None:
        """Follow the versions of the application's models, with copies of their files in `home`."""
        if self._app.watches:
            fed = fed_models(self._app.plan())
            self._watchers = [
                ModelWatcher(watch, fed, self._writer, self._clock, home / watch.table)
                for watch in self._app.watches
            ]

    async def run(self, log: Log, stop: threading.Event) -> None:
        """Run all sinks until `stop` is set, looked at often enough to end in time."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        committed = [asyncio.Event() for _ in self._handlers]

        def wake() -> None:
            for event in committed:
                event.set()
            for channel in self._channels:
                channel.wake.set()

        def notice() -> None:
            # From the log's thread, which may outlive the loop by a moment.
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake)

        self._publish("running")
        _log.info(
            "connect.running",
            handlers=[sink.handler.name for sink in self._handlers],
            channels=[sink.channel.name for sink in self._channels],
        )
        unlisten: Callable[[], None] = log.listen(notice)
        try:
            async with asyncio.TaskGroup() as tasks:
                for sink, event in zip(self._handlers, committed, strict=True):
                    tasks.create_task(_follow(sink, event, stopping))
                for channel in self._channels:
                    tasks.create_task(channel.run(stopping))
                for watcher in self._watchers:
                    tasks.create_task(watcher.run(stopping))
                await self._watch(stop)
                stopping.set()
                wake()
        except BaseExceptionGroup as group:
            # One that fails ends all; the first says why.
            raise group.exceptions[0] from group
        finally:
            unlisten()
        self._publish("stopped")

    async def _watch(self, stop: threading.Event) -> None:
        """Publish and keep house once a second until asked to stop."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                for channel in self._channels:
                    channel.rest()
                self._writer.maintain(self._clock.now())
                self._publish("running")
                due = self._clock.monotonic() + round(PUBLISH_S * 1e6)
            await asyncio.sleep(LOOK_S)

    def _publish(self, state: str) -> None:
        positions = {at: p for sink in self._handlers for at, p in sink.positions.items()}
        for channel in self._channels:
            for at, place in channel.positions.items():
                # Several sinks may read one topic: the slowest of them holds its rows.
                known = positions.get(at)
                if known is None or place.offset < known.offset:
                    positions[at] = place
        self._writer.publish_positions(self._writer.owner, positions)
        status = {
            "role": "connect",
            "app": self._app.name,
            "pid": os.getpid(),
            "started": self._started,
            "published": to_datetime(self._clock.now()).isoformat(),
            "state": state,
            "channels": {sink.channel.name: sink.status() for sink in self._channels},
            "models": {
                name: status
                for watcher in self._watchers
                for name, status in watcher.status().items()
            },
        }
        self._writer.publish_status(json.dumps(status).encode())


async def _follow(sink: HandlerSink, committed: asyncio.Event, stop: asyncio.Event) -> None:
    while not stop.is_set():
        committed.clear()
        if not await sink.turn():
            await committed.wait()
