"""Follows the log in one thread: keeps tables current and feeds live channels."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final

import polars as pl
import structlog

from headrace.core.errors import HeadraceError, LostRangeError
from headrace.core.log import Batch, Log, PartitionInfo, Reader, TopicPartition
from headrace.gateway.catalog import TopicEntry
from headrace.gateway.channels import Channel
from headrace.gateway.client import Message
from headrace.gateway.newest import newest_first
from headrace.gateway.table_state import TableState
from headrace.runners.embedded.sources import conform

_log = structlog.get_logger(__name__)

MAX_ROWS: Final = 8192
MAX_BYTES: Final = 8 * 1024 * 1024
HISTORY: Final = 4096
GAP_S: Final = 0.001
"""Shortest time between two looks at the log, so that a busy writer costs no second one."""
IDLE_S: Final = 0.5

Deliver = Callable[[Channel, Message], None]


@dataclass(eq=False)
class Feed:
    """A followed topic: where it is and who wants its rows.

    Attributes:
        positions: Next offset by partition.
        history: Earlier sequence numbers with their positions, for resuming.
        observers: Functions that see every batch, in the tail's thread.
    """

    entry: TopicEntry
    positions: dict[int, int] = field(default_factory=dict)
    channels: dict[Channel, None] = field(default_factory=dict)
    history: deque[tuple[int, dict[int, int]]] = field(
        default_factory=lambda: deque(maxlen=HISTORY)
    )
    observers: list[Callable[[pl.DataFrame], None]] = field(default_factory=list)

    @property
    def seq(self) -> int:
        """The sum of end offsets delivered so far."""
        return sum(self.positions.values())

    def at(self, seq: int) -> dict[int, int] | None:
        """Return the positions at an earlier sequence number, None where that is unknown."""
        if len(self.positions) == 1:
            (partition,) = self.positions
            return {partition: seq} if 0 <= seq <= self.positions[partition] else None
        if seq == self.seq:
            return dict(self.positions)
        return next((dict(places) for known, places in self.history if known == seq), None)


class Tail:
    """Owns a reader; everything below `run` happens in its thread.

    Args:
        log: Where topics live.
        tables: States to keep current, by table.
        deliver: Hands a message of a channel to the event loop; keeps order.
        reload: Begins a table anew from its latest snapshot, where its changelog was cut.
    """

    def __init__(
        self,
        log: Log,
        tables: dict[str, TableState],
        deliver: Deliver,
        reload: Callable[[TableState], None],
    ) -> None:
        self._reader: Reader = log.reader()
        self._deliver = deliver
        self._reload = reload
        self._reloaded: set[str] = set()
        self.tables = tables
        self._by_topic = {state.topic: state for state in tables.values()}
        self.table_channels: dict[str, dict[Channel, None]] = {name: {} for name in tables}
        self.feeds: dict[str, Feed] = {}
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake = threading.Event()
        self._closing = False
        self.ready = threading.Event()
        self._unlisten = log.listen(self._wake.set)
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)

    def start(self) -> None:
        """Bring tables up to now, then follow."""
        self._thread.start()

    def post(self, command: Callable[[], None]) -> None:
        """Run `command` in the tail's thread, between two looks at the log."""
        self._commands.put(command)
        self._wake.set()

    def wake(self) -> None:
        """Look at the log now: this process has just written to it."""
        self._wake.set()

    def close(self) -> None:
        """Stop following."""
        self._closing = True
        self._unlisten()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._reader.close()

    # -- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            try:
                more = self._look()
                if not more:
                    self._tell_reloaded()
                    self.ready.set()
                self._run_commands()
                self._flush_due()
            except HeadraceError as error:
                _log.warning("gateway.tail", error=str(error))
                more = False
                time.sleep(IDLE_S)
            except Exception:  # noqa: BLE001 - one bad batch must not end live updates for all
                _log.error("gateway.tail", exc_info=True)
                more = False
                time.sleep(IDLE_S)
            if not more:
                time.sleep(GAP_S)
                self._wake.wait(self._patience())
            self._wake.clear()

    def _tell_reloaded(self) -> None:
        """Send tables that began anew to those who follow them."""
        for name in sorted(self._reloaded):
            state = self.tables[name]
            for channel in self.table_channels[name]:
                gap = Message.of(channel.encoder.lost(0, state.seq), 0, state.seq)
                self._deliver(channel, gap)
                rows = channel.keep(state.frame())
                self._deliver(channel, channel.snapshot(rows, state.seq, None))
        self._reloaded.clear()

    def _run_commands(self) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except Empty:
                return
            try:
                command()
            except Exception:  # noqa: BLE001 - one client's request must not end the others'
                _log.error("gateway.tail_command", exc_info=True)

    def _patience(self) -> float:
        due = [channel.due_us for channel in self._channels() if channel.due_us is not None]
        if not due:
            return IDLE_S
        return min(IDLE_S, max(0.0, min(due) / 1e6 - time.monotonic()))

    def _channels(self) -> list[Channel]:
        found = [channel for feed in self.feeds.values() for channel in feed.channels]
        return found + [channel for group in self.table_channels.values() for channel in group]

    def _flush_due(self) -> None:
        now = _now_us()
        for channel in self._channels():
            if channel.due_us is not None and channel.due_us <= now:
                self.flush(channel)

    def flush(self, channel: Channel) -> None:
        """Send what a channel gathered."""
        message = channel.flush(self.seq_of(channel))
        if message is not None:
            self._deliver(channel, message)

    def seq_of(self, channel: Channel) -> int:
        """Return how far a channel's source is."""
        if channel.wanted.kind == "table":
            return self.tables[channel.wanted.name].seq
        return self.feeds[channel.wanted.name].seq

    def _look(self) -> bool:
        """Read what is new, at most one piece of each partition; say whether more is there."""
        topics = [*self._by_topic, *self.feeds]
        if not topics:
            return False
        more = False
        for at, info in self._reader.partitions(topics).items():
            if at.topic in self._by_topic:
                more |= self._table(self._by_topic[at.topic], at, info)
            if at.topic in self.feeds:
                more |= self._feed(self.feeds[at.topic], at, info)
        return more

    def _table(self, state: TableState, at: TopicPartition, info: PartitionInfo) -> bool:
        offset = state.positions.setdefault(at.partition, info.start)
        if offset >= info.end:
            return False
        try:
            batches = self._reader.read(at, offset, MAX_ROWS * 8, MAX_BYTES)
        except LostRangeError:
            self._reload(state)
            start = state.positions.get(at.partition, 0)
            state.positions[at.partition] = max(start, info.start)
            self._reloaded.add(state.name)
            return True
        channels = self.table_channels[state.name]
        for batch in batches:
            rows = state.apply(batch)
            for channel in channels:
                message = channel.take(rows, state.seq, _now_us())
                if message is not None:
                    self._deliver(channel, message)
        return bool(batches) and batches[-1].end < info.end

    def _feed(self, feed: Feed, at: TopicPartition, info: PartitionInfo) -> bool:
        offset = feed.positions.setdefault(at.partition, info.start)
        if offset >= info.end:
            return False
        try:
            batches = self._reader.read(at, offset, MAX_ROWS, MAX_BYTES)
        except LostRangeError:
            feed.positions[at.partition] = info.start
            for channel in feed.channels:
                gap = Message.of(channel.encoder.lost(offset, feed.seq), 0, feed.seq)
                self._deliver(channel, gap)
            return True
        if not batches:
            return False
        columns = feed.entry.schema.columns
        frames = [conform(batch.frame, columns) for batch in batches]
        frame = frames[0] if len(frames) == 1 else pl.concat(frames)
        feed.positions[at.partition] = batches[-1].end
        feed.history.append((feed.seq, dict(feed.positions)))
        for observer in feed.observers:
            observer(frame)
        for channel in feed.channels:
            message = channel.take(frame, feed.seq, _now_us())
            if message is not None:
                self._deliver(channel, message)
        return batches[-1].end < info.end

    def follow(self, entry: TopicEntry) -> Feed:
        """Return the feed of a topic, begun at its present end if it is new."""
        feed = self.feeds.get(entry.name)
        if feed is None:
            feed = self.feeds[entry.name] = Feed(entry)
            for at, info in self._reader.partitions([entry.name]).items():
                feed.positions[at.partition] = info.end
            feed.history.append((feed.seq, dict(feed.positions)))
        return feed

    def observe(self, entry: TopicEntry, observer: Callable[[pl.DataFrame], None]) -> None:
        """Show every new row of a topic to `observer`, in this thread."""
        self.post(lambda: self.follow(entry).observers.append(observer))

    def unfollow(self, name: str) -> None:
        """Let go of a topic nobody listens to."""
        feed = self.feeds.get(name)
        if feed is not None and not feed.channels and not feed.observers:
            del self.feeds[name]

    def newest(self, feed: Feed, channel: Channel, limit: int) -> pl.DataFrame:
        """Return the newest rows of a topic that pass a channel's filter, oldest first."""
        rows, _ = newest_first(
            self._reader,
            feed.entry.name,
            feed.entry.schema.columns,
            channel.keep,
            limit=limit,
            stops=feed.positions,
        )
        return rows.reverse()

    def between(self, name: str, start: dict[int, int], stop: dict[int, int]) -> list[Batch]:
        """Return batches of a topic from one place to another.

        Raises:
            LostRangeError: Some of them are gone.
        """
        found: list[Batch] = []
        for partition, end in sorted(stop.items()):
            offset = start.get(partition, 0)
            while offset < end:
                at = TopicPartition(name, partition)
                batches = self._reader.read(at, offset, end - offset, MAX_BYTES)
                if not batches:
                    break
                found += batches
                offset = batches[-1].end
        return found


def _now_us() -> int:
    return time.monotonic_ns() // 1000
