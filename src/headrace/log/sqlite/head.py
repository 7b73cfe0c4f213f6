"""The head file: its tables, how it is opened, and what its errors mean."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import structlog

from headrace.core.errors import FencedError, StateError, StorageFullError
from headrace.log.sqlite.files import FileLock, OwnerFiles, make_folder, not_writable, sync_folder
from headrace.log.sqlite.statements import query, read_error, storage_error

_log = structlog.get_logger("headrace.log")

FORMAT: Final = 1
PAGE_BYTES: Final = 8192
CHECKPOINT_PAGES: Final = 1024
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
BUSY_MS: Final = 10_000

# In a partition, rows before `sealed` lie in segments, the rest in batches; batches before
# `sealed` or `start` are garbage that is deleted bit by bit.
_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE topics (
    name TEXT PRIMARY KEY, schema BLOB NOT NULL, partitions INTEGER NOT NULL,
    retention_us INTEGER, retention_bytes INTEGER, archive INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    incarnation TEXT NOT NULL, start INTEGER NOT NULL, sealed INTEGER NOT NULL,
    end INTEGER NOT NULL, bytes INTEGER NOT NULL, UNIQUE (topic, partition)
);
CREATE TABLE segments (
    partition_id INTEGER NOT NULL, first INTEGER NOT NULL, end INTEGER NOT NULL,
    bytes INTEGER NOT NULL, arrival_us INTEGER NOT NULL, name TEXT NOT NULL,
    PRIMARY KEY (partition_id, first)
) WITHOUT ROWID;
CREATE TABLE batches (
    id INTEGER PRIMARY KEY, partition_id INTEGER NOT NULL, first INTEGER NOT NULL,
    rows INTEGER NOT NULL, bytes INTEGER NOT NULL, watermark INTEGER,
    arrival_us INTEGER NOT NULL, payload BLOB NOT NULL
);
CREATE UNIQUE INDEX batches_by_offset ON batches (partition_id, first);
CREATE TABLE streams (name TEXT PRIMARY KEY, base INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY, stream TEXT NOT NULL, number INTEGER NOT NULL, record BLOB NOT NULL
);
CREATE UNIQUE INDEX records_by_number ON records (stream, number);
CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires_us INTEGER) WITHOUT ROWID;
CREATE INDEX entries_by_expiry ON entries (expires_us) WHERE expires_us IS NOT NULL;
CREATE TABLE readers (name TEXT PRIMARY KEY, renewed_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE positions (
    reader TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    incarnation TEXT NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (reader, topic, partition)
) WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', 0);
"""


def open_for_writing(path: Path) -> apsw.Connection:
    """Open the head at `path`, creating it where there is none.

    Raises:
        StateError: It was written by a newer headrace, or is no head file.
        StorageFullError: It cannot be created or written.
    """
    try:
        db = apsw.Connection(str(path))
        db.set_busy_timeout(BUSY_MS)
        db.pragma("page_size", PAGE_BYTES)
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "full")
        db.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        db.pragma("journal_size_limit", WAL_LIMIT_BYTES)
        if sys.platform == "darwin":
            db.pragma("fullfsync", True)
            db.pragma("checkpoint_fullfsync", True)
        if _format(db, path) == 0:
            db.execute("BEGIN IMMEDIATE")
            for statement in _TABLES.strip().removesuffix(";").split(";\n"):
                db.execute(statement)
            db.pragma("user_version", FORMAT)
            db.execute("COMMIT")
    except apsw.Error as error:
        raise storage_error(error, f"open {path.parent.name}/{path.name}", sure=True) from error
    return db


def open_for_reading(path: Path) -> apsw.Connection | None:
    """Open the head at `path`; None where its writer has not finished creating it.

    Raises:
        StateError: It was written by a newer headrace, or is no head file.
    """
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        db.set_busy_timeout(BUSY_MS)
        if _format(db, path) == 0:
            db.close()
            return None
    except apsw.CantOpenError:
        return None
    except apsw.Error as error:
        raise read_error(error, path) from error
    return db


def _format(db: apsw.Connection, path: Path) -> int:
    found = db.pragma("user_version")
    if found not in (0, FORMAT):
        raise StateError(
            f"{path.parent.name}/{path.name} has format {found}, this headrace writes {FORMAT}",
            hint="use the headrace that wrote it, or a newer one",
        )
    return int(found)


class Head:
    """An owner's head file, locked and at a new epoch, through which all writes go.

    Args:
        files: Where it lies; the folder is made where missing.

    Raises:
        StateError: Another process holds the owner.
        StorageFullError: It cannot be written.
    """

    def __init__(self, files: OwnerFiles) -> None:
        self.files = files
        self._failed = False
        self._is_closed = False
        self._lock = _locked(files)
        try:
            self.db = open_for_writing(files.head)
            sync_folder(files.folder)
            self.epoch = self._raise_epoch()
        except BaseException:
            self._lock.release()
            raise

    @contextmanager
    def transaction(self, doing: str) -> Iterator[apsw.Connection]:
        """Run the block in one durable transaction, if this process is still the owner.

        Args:
            doing: What it does, as an infinitive, for the error's text.

        Raises:
            FencedError: Another process raised the epoch.
            StorageFullError: Nothing was written.
            StateError: The outcome is unknown; every later transaction is refused.
        """
        if self._is_closed:
            raise FencedError(f"this writer of {self.files.owner!r} is closed")
        if self._failed:
            raise StateError(
                f"cannot {doing}: the outcome of an earlier commit is unknown",
                hint="start again: what was committed is read from the log",
            )
        sure = True
        try:
            self.db.execute("BEGIN IMMEDIATE")
            self._check_epoch()
            yield self.db
            sure = False
            self.db.execute("COMMIT")
        except apsw.Error as error:
            self._rollback()
            meaning = storage_error(error, f"{doing} in {self.files.owner!r}", sure=sure)
            if not isinstance(meaning, StorageFullError):
                self._failed = True
            raise meaning from error
        except BaseException:
            self._rollback()
            raise

    def query(self, sql: str, *values: apsw.SQLiteValue) -> list[Any]:
        """Return all rows of a statement.

        Raises:
            StateError: The file cannot be read.
        """
        try:
            return query(self.db, sql, *values)
        except apsw.Error as error:
            raise read_error(error, self.files.head) from error

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return self.files.wal.stat().st_size
        except FileNotFoundError:
            return 0

    def truncate_wal(self) -> None:
        """Move the write-ahead log into the head file, unless a reader or a full disk forbids."""
        self.db.set_busy_timeout(0)
        try:
            self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.LockedError):
            pass
        except apsw.Error as error:
            _log.warning("wal_not_truncated", owner=self.files.owner, error=str(error))
        finally:
            self.db.set_busy_timeout(BUSY_MS)

    def close(self) -> None:
        """Close the file and release the lock."""
        self._is_closed = True
        try:
            self.db.close()
        finally:
            self._lock.release()

    def _check_epoch(self) -> None:
        if query(self.db, "SELECT value FROM meta WHERE name = 'epoch'") != [(self.epoch,)]:
            raise FencedError(
                f"another process took over {self.files.owner!r}", hint="end this process"
            )

    def _raise_epoch(self) -> int:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
            [(epoch,)] = query(self.db, "SELECT value FROM meta WHERE name = 'epoch'")
            self.db.execute("COMMIT")
        except apsw.Error as error:
            self.db.close()
            raise storage_error(error, f"take over {self.files.owner!r}", sure=True) from error
        return int(epoch)

    def _rollback(self) -> None:
        if not self.db.in_transaction:
            return
        try:
            self.db.execute("ROLLBACK")
        except apsw.Error as error:
            self._failed = True
            raise StateError(
                f"cannot roll back in {self.files.owner!r}: {error}",
                hint="start again: what was committed is read from the log",
            ) from error


def _locked(files: OwnerFiles) -> FileLock:
    try:
        make_folder(files.segments)
    except OSError as error:
        raise not_writable(files.folder, error) from error
    return FileLock(files.lock)
