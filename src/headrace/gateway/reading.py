"""Reads topics from the log in threads of its own: pages in log order, newest rows, counts."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
import polars as pl

from headrace.core.errors import DataError, LostRangeError
from headrace.core.log import Log, PartitionInfo, Reader, TopicPartition
from headrace.runners.embedded.sources import conform

T = TypeVar("T")

MAX_BYTES: Final = 8 * 1024 * 1024
Place = list[tuple[int, str, int]]
"""Partition, incarnation and offset, by partition."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in log order; `next` continues, and equals `end` when nothing more is committed."""

    rows: pl.DataFrame
    next: str
    end: str


class Readers:
    """A few threads, each with its own reader of the log."""

    def __init__(self, log: Log, threads: int = 2) -> None:
        self._log = log
        self._local = threading.local()
        self._all: list[Reader] = []
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")

    async def run(self, work: Callable[[Reader], T]) -> T:
        """Call `work` with a reader, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._call, work)

    def _call(self, work: Callable[[Reader], T]) -> T:
        reader = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = self._log.reader()
            self._all.append(reader)
        return work(reader)

    def close(self) -> None:
        """Wait for what runs and close the readers."""
        self._pool.shutdown()
        for reader in self._all:
            reader.close()


def read_page(
    reader: Reader,
    topic: str,
    columns: pl.Schema,
    *,
    token: str | None = None,
    limit: int = 1000,
    partition: int | None = None,
) -> Page:
    """Read rows of a topic in log order.

    Args:
        reader: The log.
        topic: Its name.
        columns: What rows look like now; older rows are brought to it.
        token: `next` of the page before; None begins at the oldest row.
        limit: Most rows to return.
        partition: Only this one.

    Raises:
        DataError: The token was not made by us.
        LostRangeError: The rows after the token are gone.
    """
    infos = {
        at.partition: info
        for at, info in reader.partitions([topic]).items()
        if partition is None or at.partition == partition
    }
    place = _start(infos, token)
    frames: list[pl.DataFrame] = []
    left = limit
    for number in sorted(infos):
        frames += _read(reader, infos[number], place, left, columns)
        left = limit - sum(frame.height for frame in frames)
    rows = pl.concat(frames) if frames else columns.to_frame()
    return Page(
        rows, encode_token(infos, place), encode_token(infos, {n: i.end for n, i in infos.items()})
    )


def _read(
    reader: Reader, info: PartitionInfo, place: dict[int, int], left: int, columns: pl.Schema
) -> list[pl.DataFrame]:
    frames = []
    at = TopicPartition(info.topic, info.partition)
    while left > 0 and place[info.partition] < info.end:
        batches = reader.read(at, place[info.partition], left, MAX_BYTES)
        for batch in batches:
            rows = conform(batch.frame, columns)[:left]
            frames.append(rows)
            place[info.partition] = batch.start + rows.height
            left -= rows.height
        if not batches:
            break
    return frames


def _start(infos: Mapping[int, PartitionInfo], token: str | None) -> dict[int, int]:
    place = {number: info.start for number, info in infos.items()}
    for number, incarnation, offset in decode_token(token) if token else []:
        info = infos.get(number)
        if info is None:
            continue
        if info.incarnation != incarnation or not info.start <= offset <= info.end:
            raise LostRangeError(
                f"rows of {info.topic!r} from offset {offset} on are no longer held",
                hint="begin again without from=",
            )
        place[number] = offset
    return place


def encode_token(infos: Mapping[int, PartitionInfo], place: Mapping[int, int]) -> str:
    """Return a place in every partition as text that says nothing to anybody else."""
    body = [(number, infos[number].incarnation, place[number]) for number in sorted(infos)]
    return base64.urlsafe_b64encode(msgspec.json.encode(body)).decode().rstrip("=")


def decode_token(token: str) -> Place:
    """Read what `encode_token` wrote.

    Raises:
        DataError: Somebody else wrote it.
    """
    try:
        padded = token + "=" * (-len(token) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=Place)
    except (msgspec.MsgspecError, ValueError) as error:
        raise DataError(
            "from= is not a token of this topic", hint="give `next` of an earlier answer"
        ) from error
