"""What all routes of a gateway share: the log, tables, limits and live clients."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from headrace.codecs.json import encode_row
from headrace.core.errors import HeadraceError, StateError
from headrace.core.log import Log, Reader, TopicPartition, Writer
from headrace.core.settings import GatewaySettings
from headrace.core.time import Clock, micros, to_datetime, to_micros
from headrace.gateway.app_metrics import observations
from headrace.gateway.catalog import Catalog
from headrace.gateway.committer import Committer
from headrace.gateway.control import ControlTable, control_tables
from headrace.gateway.feed import Feed
from headrace.gateway.forward import ElsewhereError
from headrace.gateway.hub import Hub
from headrace.gateway.ingest import BodyLimits, Ingest, Watchdog
from headrace.gateway.intake import Intake
from headrace.gateway.limits import Limits, engine_positions
from headrace.gateway.live import Live
from headrace.gateway.overflow import Room
from headrace.gateway.reading import Readers
from headrace.gateway.stats import TopicRates, stats_body
from headrace.gateway.table_state import TableState, load_snapshot, table_states
from headrace.gateway.tail import Tail
from headrace.gateway.work import Outcome, Shape, Work
from headrace.stream.app import App

READY_S = 30.0
ROLES = ("gateway", "engine", "connect")


class Core:
    """Opens with `start`, closes with `stop`; routes use what lies between.

    Attributes:
        statuses: The last status of every role, by owner; refreshed about twice a second.
        failure: Why the gateway had to stop, if it had to.
        on_failure: Called once when it has to.
        address: Where it listens, once it does.
    """

    def __init__(
        self, app: App, log: Log, settings: GatewaySettings, *, slot: int, clock: Clock
    ) -> None:
        self.app = app
        self.log = log
        self.settings = settings
        self.slot = slot
        self.clock = clock
        self.plan = app.plan()
        self.catalog = Catalog(self.plan)
        self.limits = Limits(settings.backlog_rows, settings.backlog_bytes)
        self.room = Room({topic.name: topic for topic in self.plan.topics})
        self.body = BodyLimits(
            settings.max_body_bytes, Watchdog(settings.body_timeout.total_seconds())
        )
        self.owner = f"gateway-{slot}"
        self.tables: dict[str, TableState] = table_states(self.catalog)
        self.controls: dict[str, ControlTable] = control_tables(self.catalog.controls)
        self.hub = Hub(
            self.catalog,
            self.tables,
            snapshot_rows=settings.snapshot_rows,
            sockets={socket.path: socket for socket in app.sockets},
            clock=self.engine_clock,
        )
        self.live = Live(self.hub, settings, lambda: self.address[0], self.stats)
        self._ticking: asyncio.Task[None] | None = None
        self.observations = observations(
            app.metrics,
            {name: entry.schema.columns for name, entry in self.catalog.topics.items()},
            {
                name: (state.columns, partial(self._table_now, name))
                for name, state in self.tables.items()
            },
        )
        self.statuses: dict[str, dict[str, Any]] = {}
        self.rates = TopicRates()
        self.address: tuple[str, int | None] = (settings.host, None)
        self.on_failure: Callable[[], None] | None = None
        self.started_us = clock.now()
        self._feeds: list[Feed] = []
        self._committer: Committer | None = None
        self._readers: Readers | None = None
        self._tail: Tail | None = None
        self._watch: Reader | None = None
        self._read_before: tuple[float, dict[TopicPartition, int]] = (0.0, {})

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the log's writer, bring tables up to now and begin to serve.

        Raises:
            StateError: Another gateway of this slot runs.
        """
        writer = self.log.writer(self.owner, self.slot)
        self._committer = Committer(
            writer,
            self.catalog,
            slot=self.slot,
            room=self.room,
            keep_us=micros(self.settings.idempotency_keep),
            clock=self.clock,
            on_idle=self._look,
            on_commit=self._written,
        )
        self._watch = self.log.reader()
        for table in self.controls.values():
            table.load(self._watch)
        for name in self.catalog.tables:
            self._reload(self.tables[name])
        self._look(writer)
        if self.slot == 0:
            self._feeds = self._open_feeds(writer)
        self._committer.start()
        for feed in self._feeds:
            feed.start(self.submit)
        self._readers = Readers(self.log)
        self._tail = Tail(self.log, self.tables, self.hub.deliver, self._reload)
        self.hub.open(asyncio.get_running_loop(), self._tail)
        for observation in self.observations:
            entry = self.catalog.topics.get(observation.declared.from_)
            if entry is not None:
                self._tail.observe(entry, observation.observe)
        self._tail.start()
        if not await asyncio.to_thread(self._tail.ready.wait, READY_S):
            raise StateError("the tables could not be read from the log in 30 s")
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """Write and answer what waits, then let go of the log."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._tail is not None:
            await asyncio.to_thread(self._tail.close)
        for feed in self._feeds:
            await asyncio.to_thread(feed.stop)
        if self._committer is not None:
            await asyncio.to_thread(self._committer.close)
        if self._readers is not None:
            self._readers.close()
        if self._watch is not None:
            self._watch.close()

    def _open_feeds(self, writer: Writer) -> list[Feed]:
        feeds = []
        for table in self.catalog.fed():
            assert table.feed is not None  # noqa: S101 - that is what fed() says
            schema = self.catalog.topic(table.feed.topic).schema
            feeds.append(Feed(self.controls[table.name], table.feed, schema, self.log, writer))
        return feeds

    def _written(self) -> None:
        # The log tells everyone a little later; our own live clients need not wait for that.
        if self._tail is not None:
            self._tail.wake()

    def _table_now(self, name: str) -> pl.DataFrame:
        return self.tables[name].frame(self.engine_clock())

    async def _tick(self) -> None:
        """Send statistics, and end bodies that stopped arriving, once a second."""
        while True:
            await asyncio.sleep(1.0)
            self.live.send_stats()
            self.body.watchdog.look()

    def _reload(self, state: TableState) -> None:
        folder = self._snapshots()
        if folder is not None and state.name in self.catalog.tables:
            load_snapshot(state, folder)
        else:
            state.clear()

    def _snapshots(self) -> Path | None:
        path = getattr(self.log, "path", None)
        return Path(path) / f"engine-{self.plan.app}" / "tables" if path is not None else None

    # -- what routes use ------------------------------------------------------------------------

    @property
    def committer(self) -> Committer:
        """The writer's thread."""
        assert self._committer is not None, "the gateway was not started"  # noqa: S101 - a lifespan
        return self._committer

    @property
    def readers(self) -> Readers:
        """Threads that read the log."""
        assert self._readers is not None, "the gateway was not started"  # noqa: S101 - a lifespan
        return self._readers

    @property
    def tail(self) -> Tail:
        """The thread that follows the log."""
        assert self._tail is not None, "the gateway was not started"  # noqa: S101 - a lifespan
        return self._tail

    @property
    def failure(self) -> HeadraceError | None:
        """Why nothing can be written any more."""
        return None if self._committer is None else self._committer.failed

    def inputs(self) -> list[str]:
        """Names of the topics that take rows."""
        return [topic.name for topic in self.plan.topics]

    def ingest(
        self,
        topic: str,
        *,
        aliases: Mapping[str, str] | None = None,
        shape: Shape | None = None,
        status: int = 202,
    ) -> Ingest:
        """Return the endpoint that takes rows for `topic`."""
        intake = Intake(self.catalog.topic(topic), aliases)
        return Ingest(self, intake, shape=shape, status=status)

    async def submit(self, work: Work) -> Outcome:
        """Commit `work` with whatever arrived meanwhile; see `Committer.submit`."""
        return await self.committer.submit(work)

    def control(self, name: str) -> ControlTable:
        """Return a control table that can be changed here.

        Raises:
            NotFoundError: There is none of that name.
            ElsewhereError: Another gateway owns control tables.
        """
        self.catalog.control(name)
        if self.slot != 0:
            raise ElsewhereError("control tables are changed at the gateway of slot 0")
        return self.controls[name]

    def control_frame(self, name: str) -> pl.DataFrame:
        """Return all rows of a control table with their versions, our own changes included."""
        self.catalog.control(name)
        return self.controls[name].frame() if self.slot == 0 else self.tables[name].frame()

    def control_row(self, name: str, key: tuple[Any, ...]) -> bytes | None:
        """Return a control table's row with its version as JSON, None where there is none."""
        decl = self.catalog.control(name)
        if self.slot == 0:
            entry = self.controls[name].get(key)
            return None if entry is None else self.controls[name].json(entry)
        row = self.tables[name].get(key)
        return None if row is None else encode_row(row, decl.schema.json_columns)

    def engine_status(self) -> dict[str, Any]:
        """Return what the application's engine last published, empty if nothing."""
        return self.statuses.get(f"engine-{self.plan.app}", {})

    def model_status(self) -> dict[str, Any]:
        """Return what the role model last published, empty if nothing."""
        return self.statuses.get(f"engine-{self.plan.app}.model", {})

    def model_counts(self) -> list[dict[str, Any]]:
        """Return what models did in the engine and in the role model, counter by counter."""
        roles = (self.engine_status(), self.model_status())
        return [one for status in roles for one in status.get("models") or []]

    def channel_statuses(self) -> dict[str, dict[str, Any]]:
        """Return what the role connect last published of the application's channels, by name."""
        channels = self.statuses.get(f"connect-{self.plan.app}", {}).get("channels", {})
        return {name: status for name, status in channels.items() if isinstance(status, dict)}

    def supervised(self) -> dict[str, dict[str, Any]]:
        """Return the roles of this run by name, empty where no supervisor started it."""
        roles = self.statuses.get("supervisor", {}).get("roles", {})
        return {name: role for name, role in roles.items() if name in ROLES}

    def stats(self) -> dict[str, Any]:
        """Return what `/stats` answers and what subscribers of stats get."""
        dropped: dict[str, int] = {}
        for (topic, _), rows in self.room.dropped.items():
            dropped[topic] = dropped.get(topic, 0) + rows
        engine = self.engine_status()
        for topic, rows in (engine.get("dropped") or {}).items():
            dropped[topic] = dropped.get(topic, 0) + rows
        return stats_body(engine, self.rates, dropped)

    def engine_clock(self) -> int | None:
        """Return the engine's last clock in microseconds."""
        clock = self.engine_status().get("clock")
        return to_micros(datetime.fromisoformat(clock)) if isinstance(clock, str) else None

    # -- in the writer's thread, when it is idle --------------------------------------------------

    def _look(self, writer: Writer) -> None:
        """Refresh what limits and health know, and publish our own status."""
        assert self._watch is not None  # noqa: S101 - opened before the writer's thread
        writer.publish_status(json.dumps(self.status()).encode())
        self.statuses = {owner: json.loads(text) for owner, text in self._watch.statuses().items()}
        everything = self._watch.partitions(list(self.catalog.topics))
        self.rates.update(everything.values())
        inputs = set(self.inputs())
        infos = {at: info for at, info in everything.items() if at.topic in inputs}
        positions = engine_positions(self.statuses)
        for reader, published in self._watch.positions().items():
            if reader.startswith("engine-") and reader not in self.statuses:
                for at, place in published.items():
                    positions.setdefault(at, place.offset)
        backlogs = self.limits.update(
            infos.values(),
            positions,
            self._rates(positions),
            blocked=writer.blocked(),
            low=writer.space().low,
        )
        for topic in self.inputs():
            found = backlogs.get(topic)
            self.room.waiting(topic, found.rows if found is not None else 0)
        if self.failure is not None and self.on_failure is not None:
            self.on_failure()

    def _rates(self, positions: Mapping[TopicPartition, int]) -> dict[str, float]:
        """Return rows read per second by the slowest engine since the last look, by topic."""
        now = time.monotonic()
        then, before = self._read_before
        self._read_before = (now, dict(positions))
        rates: dict[str, float] = {}
        for at, offset in positions.items():
            if at in before and now > then:
                gained = (offset - before[at]) / (now - then)
                rates[at.topic] = rates.get(at.topic, 0.0) + gained
        return rates

    def status(self) -> dict[str, Any]:
        """Return what this gateway publishes of itself."""
        return {
            "role": "gateway",
            "app": self.plan.app,
            "pid": os.getpid(),
            "started": to_datetime(self.started_us).isoformat(),
            "published": to_datetime(self.clock.now()).isoformat(),
            "state": "running" if self.failure is None else "failed",
            "host": self.address[0],
            "port": self.address[1],
            "slot": self.slot,
        }
