"""Group commit: one thread writes everything that arrived meanwhile in one transaction."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import polars as pl
import structlog

from headrace.core.errors import BugError, HeadraceError, StorageFullError, ThrottledError
from headrace.core.log import (
    PARTITIONS_PER_SLOT,
    Append,
    Commit,
    Put,
    TopicPartition,
    TopicSpec,
    Writer,
)
from headrace.core.shard import shard_of
from headrace.core.time import Clock, SystemClock, to_datetime
from headrace.gateway.answers import status_of
from headrace.gateway.catalog import Catalog, TopicEntry
from headrace.gateway.idempotency import Stored
from headrace.gateway.intake import Checked, dead_frame
from headrace.gateway.overflow import Room
from headrace.gateway.work import Change, Outcome, Rows, Work, answer, offset_range, repeated
from headrace.plan.graph import DEAD, DEAD_SCHEMA

_log = structlog.get_logger(__name__)

MAX_GROUP_BYTES: Final = 16 * 1024 * 1024
MAX_GROUP: Final = 2048
_IDLE_S: Final = 0.5


@dataclass(slots=True)
class _Group:
    """What one transaction will hold."""

    now: int
    appends: list[Append] = field(default_factory=list)
    expected: list[tuple[str, int, int]] = field(default_factory=list)
    puts: list[Put] = field(default_factory=list)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    followers: dict[str, tuple[Work, list[Work]]] = field(default_factory=dict)
    settled: list[Callable[[bool], None]] = field(default_factory=list)


class Committer:
    """Owns the gateway's writer; `submit` returns when the answer is durable.

    Args:
        writer: The gateway's writer; nobody else may use it.
        catalog: What is served.
        slot: The writer's slot; its partitions begin at `slot * 64`.
        room: Rows that fit into topics with an overflow policy.
        keep_us: How long the answer to an Idempotency-Key is kept.
        clock: Wall time.
        max_waiting_bytes: Bodies that may wait for the writer; more are refused with 429.
        on_idle: Called about twice a second from the writer's thread.
        on_commit: Called after each commit from the writer's thread; must return at once.
    """

    def __init__(  # noqa: PLR0913 - one place where the writer's surroundings meet
        self,
        writer: Writer,
        catalog: Catalog,
        *,
        slot: int = 0,
        room: Room | None = None,
        keep_us: int = 86_400_000_000,
        clock: Clock | None = None,
        max_waiting_bytes: int = 256 * 1024 * 1024,
        on_idle: Callable[[Writer], None] | None = None,
        on_commit: Callable[[], None] | None = None,
    ) -> None:
        self._writer = writer
        self._catalog = catalog
        self._first = slot * PARTITIONS_PER_SLOT
        self._room = room or Room()
        self._keep_us = keep_us
        self._clock = clock or SystemClock()
        self._max_waiting = max_waiting_bytes
        self._on_idle = on_idle
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._ends: dict[TopicPartition, int] = {}
        self._turn = 0
        self._closing = False
        self.failed: HeadraceError | None = None
        self.accepted: dict[str, int] = {}
        self.rejected: dict[str, int] = {}
        self.groups = 0
        self._idled = time.monotonic()
        specs = catalog.own_specs() + (catalog.control_specs() if slot == 0 else [])
        for spec in specs:
            self._create(spec)
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def _create(self, spec: TopicSpec) -> None:
        for info in self._writer.create(spec):
            self._ends[TopicPartition(info.topic, info.partition)] = info.end

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, answer it, release the writer."""
        self._closing = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()
        self._writer.close()

    async def submit(self, work: Work) -> Outcome:
        """Queue `work` and return its answer once it is durable.

        Raises:
            ThrottledError: Too much waits already.
            HeadraceError: The log failed; nothing of it was written.
        """
        if self.failed is not None:
            raise self.failed
        if self._closing:
            raise ThrottledError("the gateway is stopping", hint="try again in a moment")
        with self._lock:
            if self._waiting_bytes + work.size > self._max_waiting:
                raise ThrottledError(
                    "too many bytes wait to be written", hint="send less at once", retry_after=1
                )
            self._waiting_bytes += work.size
        work.done = asyncio.get_running_loop().create_future()
        self._queue.put(work)
        outcome = await work.done
        if outcome.error is not None:
            raise outcome.error
        return outcome

    # -- the writer's thread ------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            works = self._take()
            if works:
                self._process([work for work in works if work is not None])
            self._idle()
            if None in works:
                return

    def _take(self) -> list[Work | None]:
        """Return what waits, at least one if anything comes within half a second."""
        works: list[Work | None] = []
        size, wait = 0, _IDLE_S
        while len(works) < MAX_GROUP and size < MAX_GROUP_BYTES:
            try:
                work = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
            except queue.Empty:
                break
            works.append(work)
            if work is None:
                break
            size, wait = size + work.size, 0.0
        with self._lock:
            self._waiting_bytes -= sum(work.size for work in works if work is not None)
        return works

    def _idle(self) -> None:
        now = time.monotonic()
        if now - self._idled < _IDLE_S:
            return
        self._idled = now
        try:
            self._writer.maintain(self._clock.now())
            if self._on_idle is not None:
                self._on_idle(self._writer)
        except StorageFullError as error:
            _log.warning("gateway.maintain", error=str(error))
        except HeadraceError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a look that failed must not end the writing
            _log.error("gateway.look", exc_info=error)

    def _process(self, works: list[Work]) -> None:
        group = _Group(self._clock.now(), ends=dict(self._ends))
        try:
            self._prepare(group, works)
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - see below
            # Nothing was written yet: find whose body or answer function it was.
            self._abandon(group, works, _bug(error))
            if len(works) > 1:
                for work in works:
                    work.outcome = None
                    self._process([work])
                return
        else:
            self._write(group, works)
        self._deliver(works)

    def _write(self, group: _Group, works: list[Work]) -> None:
        try:
            self._commit(group)
        except StorageFullError as error:
            self._abandon(group, works, error)
        except HeadraceError as error:
            self._abandon(group, works, error)
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the outcome is unknown
            self._abandon(group, works, _bug(error))
            self._fail(_bug(error))

    def _prepare(self, group: _Group, works: list[Work]) -> None:
        fresh = [work for work in works if self._is_new(group, work)]
        by_intake: dict[int, list[Rows]] = {}
        for work in fresh:
            if isinstance(work, Rows):
                by_intake.setdefault(id(work.intake), []).append(work)
        for rows in by_intake.values():
            self._rows(group, rows)
        for work in fresh:
            if isinstance(work, Change):
                self._change(group, work)
        for work in fresh:
            if work.key is not None and work.outcome is not None and work.outcome.error is None:
                stored = Stored(work.key.digest, work.outcome.status, work.outcome.body)
                expires = group.now + self._keep_us
                group.puts.append(Put(work.key.name, stored.encode(), expires))

    def _change(self, group: _Group, work: Change) -> None:
        group.settled.append(work.settle)
        try:
            appends, work.outcome = work.prepare(group.now)
        except HeadraceError as error:
            # Refused by its own rules: the rest of the group goes on.
            work.outcome = Outcome(status_of(error), b"", error=error)
            return
        for append in appends:
            self._append(group, append)
        group.puts += work.puts

    def _is_new(self, group: _Group, work: Work) -> bool:
        """Say whether `work` was not done before; a repeated one gets the first answer."""
        key = work.key
        if key is None:
            return True
        if key.name in group.followers:
            group.followers[key.name][1].append(work)
            return False
        value = self._writer.get(key.name)
        if value is not None:
            stored = Stored.decode(value)
            work.outcome = repeated(key, stored.digest, Outcome(stored.status, stored.body))
            return False
        group.followers[key.name] = (work, [])
        return True

    def _rows(self, group: _Group, works: list[Rows]) -> None:
        """Check all rows sent to one topic together and prepare their batches."""
        intake = works[0].intake
        entry = intake.entry
        good, results = intake.check([(work.form, work.body) for work in works])
        kept = self._room.admit(entry.name, good, results)
        ranges = self._spread(group, entry, kept, results)
        letters = [letter for result in results for letter in result.rejected]
        if letters:
            arrival = to_datetime(group.now)
            dead = dead_frame(entry.name, letters, arrival, DEAD_SCHEMA)
            append = Append(entry.name + DEAD, self._first, dead, dead.height, None, group.now)
            self._append(group, append)
            self.rejected[entry.name] = self.rejected.get(entry.name, 0) + dead.height
        self.accepted[entry.name] = self.accepted.get(entry.name, 0) + kept.height
        for work, result, offsets in zip(works, results, ranges, strict=True):
            work.outcome = answer(work, result, offsets, kept)

    def _spread(
        self, group: _Group, entry: TopicEntry, rows: pl.DataFrame, results: list[Checked]
    ) -> list[list[dict[str, int]]]:
        """Append rows to the topic's partitions; return each body's offset ranges."""
        count = entry.declared.partitions if entry.declared is not None else 1
        if not rows.height:
            return [[] for _ in results]
        if count == 1:
            start = self._batch(group, entry.name, self._first, rows, group.now)
            return [
                [offset_range(self._first, start + r.start, start + r.start + r.accepted)]
                if r.accepted
                else []
                for r in results
            ]
        if entry.key:
            parts = shard_of(rows, entry.key) % count
        else:
            self._turn += 1
            parts = pl.Series([self._turn % count], dtype=pl.UInt8).new_from_index(0, rows.height)
        ranges: list[list[dict[str, int]]] = [[] for _ in results]
        for part in sorted(parts.unique().to_list()):
            mask = parts == part
            partition = self._first + part
            start = self._batch(group, entry.name, partition, rows.filter(mask), group.now)
            before = mask.cast(pl.UInt32).cum_sum()
            for index, result in enumerate(results):
                low = before[result.start - 1] if result.start else 0
                high = before[result.start + result.accepted - 1] if result.accepted else low
                if high > low:
                    ranges[index].append(offset_range(partition, start + low, start + high))
        return ranges

    def _batch(
        self, group: _Group, topic: str, partition: int, rows: pl.DataFrame, now: int
    ) -> int:
        return self._append(group, Append(topic, partition, rows, rows.height, None, now))

    def _append(self, group: _Group, append: Append) -> int:
        """Add a batch to the group and return the offset it will get: only we write there."""
        at = TopicPartition(append.topic, append.partition)
        start = group.ends[at]
        group.ends[at] = start + append.rows
        group.appends.append(append)
        group.expected.append((append.topic, append.partition, start))
        return start

    def _commit(self, group: _Group) -> None:
        if group.appends or group.puts:
            (appended,) = self._writer.commit([Commit(appends=group.appends, puts=group.puts)])
            self.groups += 1
            found = [(place.topic, place.partition, place.start) for place in appended]
            if found != group.expected:
                raise BugError("rows went to other offsets than were answered")
            self._ends = group.ends
            if self._on_commit is not None:
                self._on_commit()
        for settle in group.settled:
            settle(True)
        for first, others in group.followers.values():
            for other in others:
                if first.outcome is not None and first.key is not None and other.key is not None:
                    other.outcome = repeated(other.key, first.key.digest, first.outcome)

    def _abandon(self, group: _Group, works: list[Work], error: HeadraceError) -> None:
        for settle in group.settled:
            settle(False)
        for work in works:
            if work.outcome is None or not work.outcome.replayed:
                work.outcome = Outcome(0, b"", error=error)

    def _fail(self, error: HeadraceError) -> None:
        """Stop taking work: the outcome of the last commit is not known."""
        _log.error("gateway.log_failed", error=str(error))
        self.failed = error

    def _deliver(self, works: list[Work]) -> None:
        """Wake the event loop once for the whole group."""
        by_loop: dict[int, list[Work]] = {}
        for work in works:
            if work.done is not None:
                by_loop.setdefault(id(work.done.get_loop()), []).append(work)
        for group in by_loop.values():
            done = group[0].done
            assert done is not None  # noqa: S101 - only such works were grouped
            try:
                done.get_loop().call_soon_threadsafe(_resolve, group)
            except RuntimeError:
                # The loop is closed: nobody waits any more.
                continue


def _resolve(works: list[Work]) -> None:
    for work in works:
        if work.done is not None and work.outcome is not None and not work.done.done():
            work.done.set_result(work.outcome)


def _bug(error: BaseException) -> HeadraceError:
    if isinstance(error, HeadraceError):
        return error
    _log.error("gateway.committer", exc_info=error)
    return BugError(f"the gateway could not handle this request: {type(error).__name__}")
