"""The log on disk: one folder per owner, SQLite underneath."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from headrace.core.time import Clock, Duration, SystemClock, micros
from headrace.log.sqlite.files import OwnerFiles
from headrace.log.sqlite.reader import SqliteReader
from headrace.log.sqlite.tail import Tail
from headrace.log.sqlite.upkeep import Limits
from headrace.log.sqlite.writer import SqliteWriter

SEGMENT_BYTES: Final = 64 * 1024 * 1024

__all__ = ["SqliteLog", "SqliteReader", "SqliteWriter"]


class SqliteLog:
    """Topics in a folder on a local disk, shared by all processes that open it.

    Args:
        path: The data directory; made with the first writer. Not on a network file system.
        clock: Where arrival times, expiry and renewals come from.
        min_free_bytes: What ingest leaves free, see `Writer.space`; None is the smaller of 1 GiB
            and 5 % of the disk.
        segment_bytes: Rows of a partition leave the head file when they take more than this.
        segment_age: Or when they are older than this and take a sixteenth of it.

    Example:
        >>> import tempfile
        >>> import polars as pl
        >>> from headrace.core.log import Append, Commit, TopicPartition, TopicSpec
        >>> folder = tempfile.TemporaryDirectory()
        >>> log = SqliteLog(folder.name)
        >>> writer = log.writer("gateway-0")
        >>> frame = pl.DataFrame({"speed_kn": [1.5, 2.5]})
        >>> _ = writer.create(TopicSpec("speeds", frame.schema))
        >>> writer.commit([Commit([Append("speeds", 0, frame, rows=2)])])
        [[Appended(topic='speeds', partition=0, start=0, end=2)]]
        >>> reader = log.reader()
        >>> [batch] = reader.read(TopicPartition("speeds", 0), 1, max_rows=10, max_bytes=1024)
        >>> batch.start, batch.frame["speed_kn"].to_list()
        (1, [2.5])
        >>> reader.close(), writer.close(), log.close(), folder.cleanup()
        (None, None, None, None)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock | None = None,
        min_free_bytes: int | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        segment_age: Duration = "1h",
    ) -> None:
        self.path = Path(path)
        self._clock = clock or SystemClock()
        self._limits = Limits(segment_bytes, micros(segment_age), min_free_bytes)
        self._tail = Tail(self.path)

    def writer(self, owner: str, slot: int = 0) -> SqliteWriter:
        """Open `owner` for writing.

        Raises:
            StateError: Another living process holds it.
            StorageFullError: Its files cannot be written.
        """
        files = OwnerFiles(self.path, owner)
        return SqliteWriter(files, slot, self._clock, self.reader(), self._limits)

    def reader(self) -> SqliteReader:
        """Open a reader."""
        return SqliteReader(self.path, self._tail)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after commits of any owner, from a thread of the log, until what is
        returned is called. It must return at once.
        """
        return self._tail.listen(callback)

    def close(self) -> None:
        """End the log's thread. Readers and writers are closed by themselves."""
        self._tail.close()
