"""Control tables fed from a topic: every row there is a record to keep, or to remove."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import polars as pl
import structlog

from headrace.codecs.json import rows_json
from headrace.connect.cursor import Cursor
from headrace.core.errors import DataError, HeadraceError, NotFoundError, ThrottledError
from headrace.core.log import Append, Batch, Log, Position, Reader, TopicPartition, Writer
from headrace.core.schema import RowSchema
from headrace.gateway.control import ControlTable, Key
from headrace.gateway.work import Change, Outcome
from headrace.plan.graph import DEAD, FeedDecl
from headrace.runners.embedded.dead_letters import dead_letters

_log = structlog.get_logger(__name__)

_ROWS: Final = 1000
_MAX_BYTES: Final = 8 * 1024 * 1024
_WAIT_S: Final = 0.5

Submit = Callable[[Change], Awaitable[Outcome]]
Prepare = Callable[[int], tuple[Sequence[Append], Outcome]]


class Feed:
    """Follows a topic in a thread and changes a control table by its rows.

    A batch's changes, the dead letters of its bad records and the cursor are one transaction, so
    every row counts once, after a crash too. A record is checked as if it had been sent.

    Args:
        table: What the rows change.
        feed: Where they come from.
        schema: Their columns.
        log: Where they lie.
        writer: Holds the cursor; read here, before its own thread begins.
    """

    def __init__(
        self, table: ControlTable, feed: FeedDecl, schema: RowSchema, log: Log, writer: Writer
    ) -> None:
        self._table = table
        self._feed = feed
        self._schema = schema
        self._columns = [name for name in schema.columns if name in table.decl.schema.columns]
        self._reader: Reader = log.reader()
        self._cursor = Cursor(f"feed-{table.name}", feed.topic, self._reader, writer)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feed-{table.name}", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._submit: Submit

    def start(self, submit: Submit) -> None:
        """Begin to follow; called in the event loop that `submit` belongs to."""
        self._loop, self._submit = asyncio.get_running_loop(), submit
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in hand; the loop must go on until then."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                busy = self._turn()
            except ThrottledError:
                busy = False
            except HeadraceError as error:
                # The gateway itself has failed or is closing, and says so.
                _log.warning("feed.ended", table=self._table.name, error=error.message)
                return
            if not busy:
                self._reader.wait(_WAIT_S)

    def _turn(self) -> bool:
        """Take one batch of each partition; return whether there was any."""
        places = self._cursor.positions
        due = self._cursor.unread(places)
        for at, info in due:
            batches = self._reader.read(at, places[at].offset, _ROWS, _MAX_BYTES)
            if not batches:
                continue
            place = Position(info.incarnation, batches[-1].end)
            change = Change(
                self._prepared(at, batches),
                self._table.settle,
                puts=(self._cursor.put(at, place),),
            )
            asyncio.run_coroutine_threadsafe(self._wait(change), self._loop).result()
            places[at] = place
        return bool(due)

    async def _wait(self, change: Change) -> Outcome:
        return await self._submit(change)

    def _prepared(self, at: TopicPartition, batches: Sequence[Batch]) -> Prepare:
        rows = pl.concat([batch.frame for batch in batches])
        works, wrong = self._works(rows)

        def prepare(now: int) -> tuple[Sequence[Append], Outcome]:
            appends: list[Append] = []
            for work in works:
                try:
                    appends += work(now)[0]
                except NotFoundError:
                    # To remove what is not there is no change.
                    continue
            if wrong:
                numbers = list(wrong)
                letters = dead_letters(
                    rows[numbers],
                    at.topic,
                    pl.Series(wrong.values(), dtype=pl.String),
                    now,
                    partition=at.partition,
                    offsets=pl.Series(numbers, dtype=pl.Int64) + batches[0].start,
                )
                dead = self._table.name + DEAD
                appends.append(Append(dead, 0, letters, letters.height, arrival_us=now))
            return appends, Outcome(200, b"")

        return prepare

    def _works(self, rows: pl.DataFrame) -> tuple[list[Prepare], dict[int, str]]:
        """Return what each row changes, and by number why some change nothing."""
        works: list[Prepare] = []
        wrong: dict[int, str] = {}
        gone = self._gone(rows)
        given = rows_json(rows.select(self._columns), self._schema.json_columns)
        for number, values in enumerate(given):
            # What a row does not say is as if it had not been sent: the model's default counts.
            said = {name: value for name, value in values.items() if value is not None}
            try:
                if gone[number]:
                    works.append(self._table.delete(self._key_of(rows, number), None))
                else:
                    works.append(self._table.put(self._table.parse_named(said), None))
            except DataError as error:
                wrong[number] = error.message
        return works, wrong

    def _gone(self, rows: pl.DataFrame) -> pl.Series:
        if self._feed.delete is None:
            return pl.Series([False]).new_from_index(0, rows.height)
        return rows.select(self._feed.delete.fill_null(value=False)).to_series()

    def _key_of(self, rows: pl.DataFrame, number: int) -> Key:
        key = tuple(rows[name][number] for name in self._table.key)
        if None in key:
            raise DataError(f"{self._table.name}: the key is null")
        return key
