"""Notifications to a channel: a sink that delivers several at once and forgets none."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
import structlog

from headrace.alerts.backoff import pause_us
from headrace.alerts.channel import Connection
from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import Secrets
from headrace.connect.cursor import Cursor
from headrace.connect.trail import Attempt, Trail
from headrace.core.log import Commit, Position, Put, Reader, TopicPartition, Writer
from headrace.core.time import Clock, duration_text, micros
from headrace.stream.sinks import Delivery

_log = structlog.get_logger(__name__)

WINDOW: Final = 1000
"""Notifications of a channel that are known and not done; more are read when some are."""
READ_ROWS: Final = 1000
READ_BYTES: Final = 8 * 1024 * 1024
FULL_PAUSE_S: Final = 1.0
"""How long to wait for room on the disk before looking again."""
GRACE_S: Final = 5.0
"""How long attempts under way may still take when the role is asked to stop."""

_Lane = tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Pending:
    """A notification that is not done.

    Attributes:
        attempts: Those made and recorded.
        due_us: When the next may begin, by the wall clock.
        lane: Those of one lane leave one after the other.
    """

    at: TopicPartition
    place: Position
    row: pl.DataFrame
    notification: Notification
    lane: _Lane
    attempts: int = 0
    due_us: int = 0
    running: bool = False


@dataclass(frozen=True, slots=True)
class _Ended:
    pending: _Pending
    answer: Answer
    began_us: int
    took_us: int


@dataclass(slots=True)
class _Progress:
    """Notifications of a partition that were read: `open` are not done, `done` lie beyond one.

    Offsets of `open` rise.
    """

    incarnation: str
    open: dict[int, _Pending] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)


class DeliverySink:
    """One channel over its topic of notifications.

    Attempts run side by side, at most `channel.concurrency` at once and the most urgent first;
    those of one rule and key run one after the other. One that failed waits for its next attempt
    without taking a place. Every attempt is committed as a row of `deliveries` together with what
    it changes: the count of attempts, the time of the next one, the cursor, a dead letter. The
    cursor is the end of what is done without a gap; what is done beyond it is remembered by itself.

    A crash before that commit leaves the attempt unrecorded: it is repeated, under the same
    idempotency key.

    Cost: one commit for all attempts that end together; memory for `WINDOW` notifications.

    Args:
        delivery: Which channel and topic.
        connection: The open channel.
        reader: Where notifications are; used from the event loop's thread only.
        writer: Where attempts, cursor and dead letters go.
        clock: Says when the next attempt is due.
        secrets: Values that must not show in reasons.

    Attributes:
        counts: Attempts by outcome since the start.
        wake: Set when there may be something to do.
    """

    def __init__(
        self,
        delivery: Delivery,
        connection: Connection,
        reader: Reader,
        writer: Writer,
        clock: Clock,
        secrets: Secrets,
    ) -> None:
        self.channel = delivery.channel
        self.topic = delivery.topic
        self.counts: Counter[str] = Counter()
        self.wake = asyncio.Event()
        self._connection = connection
        self._reader = reader
        self._clock = clock
        self._trail = Trail(delivery.topic, self.channel.name, writer, clock, secrets)
        # A channel and a function of one name have cursors of their own.
        self._cursor = Cursor(f"channel.{self.channel.name}", delivery.topic, reader, writer)
        self._read_to = dict(self._cursor.positions)
        self._progress: dict[TopicPartition, _Progress] = {}
        self._lanes: defaultdict[_Lane, deque[_Pending]] = defaultdict(deque)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: list[_Ended] = []
        self._failing = ""
        self._remembered = self._recall(writer)

    @property
    def positions(self) -> dict[TopicPartition, Position]:
        """The next row of each partition that is not done; retention stops there."""
        return self._cursor.positions

    @property
    def waiting(self) -> int:
        """Notifications that are known and not done."""
        return sum(len(progress.open) for progress in self._progress.values())

    def status(self) -> dict[str, Any]:
        """Return what the role publishes of this channel."""
        return {
            "kind": self.channel.kind,
            **{outcome: self.counts[outcome] for outcome in ("delivered", "failed", "dead")},
            "waiting": self.waiting,
            "failing": self._failing,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set, then give attempts under way `GRACE_S` to end."""
        while not stop.is_set():
            self.wake.clear()
            pause_s = self.turn()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self.wake.wait()
        await self.close()

    async def close(self) -> None:
        """Let attempts under way end, and commit what they led to."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._record()
        self.rest()
        await self._connection.close()

    def turn(self) -> float | None:
        """Commit what ended, read what is new, begin what is due.

        Returns:
            Seconds until the next attempt is due; None if none waits for a time.
        """
        if not self._record():
            # What cannot be recorded is better not begun: after a restart it would be repeated.
            return FULL_PAUSE_S
        self._read()
        return self._begin()

    def rest(self) -> None:
        """Make the cursor durable where it moved over rows of other channels only."""
        self._trail.write(puts=self._moved())

    # -- reading ----------------------------------------------------------------------------------

    def _recall(self, writer: Writer) -> dict[str, list[Any]]:
        """Return what is remembered of notifications beyond the cursor, by key."""
        scanned = writer.scan(f"delivery/{self.channel.name}/")
        known = {key: json.loads(value) for key, value in scanned.items()}
        present = {place.incarnation for place in self._cursor.positions.values()}
        stale = [key for key, value in known.items() if present and value[0] not in present]
        if stale:
            writer.commit([Commit(puts=[Put(key, None) for key in stale])])
        return {key: value for key, value in known.items() if key not in stale}

    def _key(self, at: TopicPartition, offset: int) -> str:
        return f"delivery/{self.channel.name}/{at.topic}/{at.partition}/{offset}"

    def _read(self) -> None:
        for at, info in self._cursor.unread(self._read_to):
            progress = self._progress.get(at)
            if progress is None or progress.incarnation != info.incarnation:
                self._forget(progress)
                progress = self._progress[at] = _Progress(info.incarnation)
            while self.waiting < WINDOW and self._read_to[at].offset < info.end:
                batches = self._reader.read(at, self._read_to[at].offset, READ_ROWS, READ_BYTES)
                if not batches:
                    break
                for batch in batches:
                    self._take(progress, at, batch.start, batch.frame)
                self._read_to[at] = Position(info.incarnation, batches[-1].end)

    def _forget(self, progress: _Progress | None) -> None:
        """Drop what is pending of a topic that was deleted and made anew."""
        for pending in list(progress.open.values()) if progress is not None else ():
            if not pending.running:
                self._leave_lane(pending)

    def _take(
        self, progress: _Progress, at: TopicPartition, start: int, frame: pl.DataFrame
    ) -> None:
        ours = frame.with_row_index("__offset").filter(pl.col("channel") == self.channel.name)
        incarnation = progress.incarnation
        for index, offset in enumerate(ours["__offset"]):
            place = Position(incarnation, start + offset)
            row = ours[index : index + 1].drop("__offset")
            known = self._remembered.pop(self._key(at, place.offset), None)
            attempts, due_us, is_done = 0, 0, False
            if known is not None and known[0] == incarnation:
                _, attempts, due_us, is_done = known
            if is_done:
                progress.done.add(place.offset)
                continue
            notification = Notification.of(row.to_dicts()[0])
            lane = notification.lane or (str(at), str(place.offset))
            pending = _Pending(at, place, row, notification, lane, attempts, due_us)
            progress.open[place.offset] = pending
            self._lanes[lane].append(pending)

    # -- attempts ---------------------------------------------------------------------------------

    def _begin(self) -> float | None:
        now = self._clock.now()
        # Where the wall clock was set back, nobody waits longer than the longest pause.
        horizon = now + micros(self.channel.longest_pause)
        waiting = [lane[0] for lane in self._lanes.values() if not lane[0].running]
        due = [one for one in waiting if min(one.due_us, horizon) <= now]
        due.sort(key=lambda one: -one.notification.rank)
        for pending in due[: self.channel.concurrency - len(self._tasks)]:
            pending.running = True
            task = asyncio.get_running_loop().create_task(self._attempt(pending))
            self._tasks.add(task)
            task.add_done_callback(self._ended_task)
        later = [min(one.due_us, horizon) for one in waiting if min(one.due_us, horizon) > now]
        return (min(later) - now) / 1e6 if later else None

    def _ended_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.wake.set()

    async def _attempt(self, pending: _Pending) -> None:
        began_us, began = self._clock.now(), self._clock.monotonic()
        timeout = self.channel.timeout
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                answer = await self._connection.deliver(pending.notification)
        except TimeoutError:
            answer = Answer("failed", reason=f"no answer within {duration_text(timeout)}")
        except Exception as error:  # noqa: BLE001 - a client library may raise anything
            answer = Answer("failed", reason=f"{type(error).__name__}: {error}")
        took_us = self._clock.monotonic() - began
        self._ended.append(_Ended(pending, answer, began_us, took_us))

    # -- recording --------------------------------------------------------------------------------

    def _record(self) -> bool:
        """Write what ended and what it changes; return whether all is written."""
        ended, self._ended = self._ended, []
        attempts, puts = [], []
        for one in ended:
            outcome = self._judge(one)
            pending = one.pending
            self.counts[outcome] += 1
            attempts.append(
                Attempt(
                    notification_id=pending.notification.id,
                    row=pending.row,
                    at=pending.at,
                    offset=pending.place.offset,
                    number=pending.attempts,
                    outcome=outcome,
                    answer=one.answer,
                    began_us=one.began_us,
                    took_us=one.took_us,
                )
            )
            puts += self._remember(pending, is_done=outcome != "failed")
        if attempts:
            puts += self._moved()
        return self._trail.write(attempts, puts)

    def _judge(self, ended: _Ended) -> str:
        """Count an attempt and return its outcome; a failed one gets its next time."""
        pending, answer, channel = ended.pending, ended.answer, self.channel
        pending.attempts += 1
        pending.running = False
        if answer.outcome == "delivered":
            self._failing = ""
            return "delivered"
        self._failing = self._trail.reason(answer)
        is_last = pending.attempts >= channel.attempts
        outcome = "dead" if answer.outcome == "refused" or is_last else "failed"
        _log.warning(
            "delivery.failed",
            channel=channel.name,
            notification=pending.notification.id,
            attempt=pending.attempts,
            outcome=outcome,
            reason=self._failing,
        )
        pause = pause_us(
            pending.attempts,
            f"{channel.name}/{pending.notification.id}",
            first=channel.first_pause,
            longest=channel.longest_pause,
            retry_after_s=answer.retry_after_s,
        )
        pending.due_us = self._clock.now() + pause
        return outcome

    def _remember(self, pending: _Pending, *, is_done: bool) -> list[Put]:
        """Note where a notification stands; return what makes that durable."""
        offset = pending.place.offset
        if is_done:
            self._leave_lane(pending)
        progress = self._progress[pending.at]
        if progress.open.get(offset) is not pending:
            # Its topic was made anew meanwhile: there is no such row any more.
            return []
        if is_done:
            del progress.open[offset]
            progress.done.add(offset)
        value = [pending.place.incarnation, pending.attempts, pending.due_us, is_done]
        return [Put(self._key(pending.at, offset), json.dumps(value).encode())]

    def _leave_lane(self, pending: _Pending) -> None:
        lane = self._lanes[pending.lane]
        lane.remove(pending)
        if not lane:
            del self._lanes[pending.lane]

    def _moved(self) -> list[Put]:
        """Move the cursor; return what makes that durable, and forgets what lies before it."""
        puts: list[Put] = []
        for at, progress in self._progress.items():
            first = next(iter(progress.open), self._read_to[at].offset)
            place = Position(progress.incarnation, first)
            if self._cursor.positions.get(at) != place:
                self._cursor.positions[at] = place
                puts.append(self._cursor.put(at, place))
            passed = sorted(offset for offset in progress.done if offset < place.offset)
            progress.done.difference_update(passed)
            puts += [Put(self._key(at, offset), None) for offset in passed]
        return puts
