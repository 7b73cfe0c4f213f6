"""Python functions as sinks: `app.on(topic, fn)`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence

import polars as pl
import structlog

from headrace.connect.cursor import Cursor
from headrace.core.errors import OutsideError
from headrace.core.log import (
    Append,
    Batch,
    Commit,
    PartitionInfo,
    Position,
    Reader,
    TopicPartition,
    TopicSpec,
    Writer,
)
from headrace.core.time import Clock
from headrace.plan.graph import DEAD, DEAD_SCHEMA
from headrace.runners.embedded.dead_letters import dead_letters
from headrace.stream.sinks import Handler

_log = structlog.get_logger(__name__)

CONNECT_SLOT = 48
MAX_BYTES = 8 * 1024 * 1024
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


class HandlerSink:
    """One handler over all partitions of its topic.

    The cursor is committed after the call returned, so every row is given at least once. A batch
    whose call keeps raising is written to `<handler>.dead` in the commit that moves the cursor.

    Args:
        handler: What to call.
        reader: Where the rows are.
        writer: Where the cursor and the dead letters go.
        clock: Stamps dead letters.
    """

    def __init__(self, handler: Handler, reader: Reader, writer: Writer, clock: Clock) -> None:
        self.handler = handler
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._dead = handler.name + DEAD
        self._partition = writer.create(TopicSpec(self._dead, DEAD_SCHEMA))[0].partition
        self._cursor = Cursor(handler.name, handler.topic, reader, writer)

    @property
    def positions(self) -> dict[TopicPartition, Position]:
        """The next row of each partition that was not given yet; retention stops there."""
        return self._cursor.positions

    async def turn(self) -> bool:
        """Give one batch of each partition to the handler; return whether there was any."""
        due = self._cursor.unread(self.positions)
        gate = asyncio.Semaphore(self.handler.concurrency)

        async def one(at: TopicPartition, info: PartitionInfo) -> None:
            async with gate:
                await self._give(at, info)

        await asyncio.gather(*(one(at, info) for at, info in due))
        return bool(due)

    async def _give(self, at: TopicPartition, info: PartitionInfo) -> None:
        start = self.positions[at].offset
        batches = self._reader.read(at, start, self.handler.batch, MAX_BYTES)
        if not batches:
            return
        frame = pl.concat([batch.frame for batch in batches])
        error = await self._call(frame)
        appends = [] if error is None else [self._letters(frame, at, batches, error)]
        place = Position(info.incarnation, batches[-1].end)
        self._writer.commit([Commit(appends=appends, puts=[self._cursor.put(at, place)])])
        self.positions[at] = place

    async def _call(self, frame: pl.DataFrame) -> Exception | None:
        pause = FIRST_PAUSE_S
        last: Exception | None = None
        for attempt in range(self.handler.attempts):
            if attempt:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            try:
                if inspect.iscoroutinefunction(self.handler.fn):
                    await self.handler.fn(frame)
                else:
                    await asyncio.to_thread(self.handler.fn, frame)
            except Exception as error:  # noqa: BLE001 - a user's function may raise anything
                last = error
                _log.warning(
                    "handler.raised",
                    handler=self.handler.name,
                    attempt=attempt + 1,
                    error=repr(error),
                )
                if isinstance(error, OutsideError) and not error.retryable:
                    return error
            else:
                return None
        return last

    def _letters(
        self, frame: pl.DataFrame, at: TopicPartition, batches: Sequence[Batch], error: Exception
    ) -> Append:
        now = self._clock.now()
        offsets = pl.int_range(frame.height, eager=True) + batches[0].start
        reason = f"{type(error).__name__}: {error}"[:500]
        letters = dead_letters(
            frame, at.topic, reason, now, partition=at.partition, offsets=offsets
        )
        return Append(self._dead, self._partition, letters, letters.height, arrival_us=now)
