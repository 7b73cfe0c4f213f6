"""Where the log's files lie, who may write them, and how they reach the disk."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from headrace.core.errors import ConfigError, StateError, StorageFullError

ARCHIVE: Final = "archive"
TEMPORARY: Final = ".tmp"

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class OwnerFiles:
    """The files of one owner, all in one folder.

    Args:
        root: The data directory.
        owner: Its folder's name.
    """

    root: Path
    owner: str

    def __post_init__(self) -> None:
        if _OWNER.fullmatch(self.owner) is None or self.owner == ARCHIVE:
            raise ConfigError(
                f"{self.owner!r} cannot name a folder of the log",
                hint="use letters, digits, '_', '-' and '.'",
            )

    @property
    def folder(self) -> Path:
        """The owner's folder."""
        return self.root / self.owner

    @property
    def head(self) -> Path:
        """The SQLite file that takes every commit."""
        return self.folder / "head.db"

    @property
    def wal(self) -> Path:
        """The head's write-ahead log."""
        return self.folder / "head.db-wal"

    @property
    def lock(self) -> Path:
        """The file whose lock its writer holds."""
        return self.folder / "lock"

    @property
    def status(self) -> Path:
        """The status text."""
        return self.folder / "status.json"

    @property
    def segments(self) -> Path:
        """The folder of sealed segments."""
        return self.folder / "segments"


def archive_file(root: Path, topic: str, partition: int, start: int, end: int) -> Path:
    """Return where the rows [start, end) of a partition are archived.

    Example:
        >>> archive_file(Path("data"), "positions", 0, 0, 5000).as_posix()
        'data/archive/positions/0/00000000000000000000-00000000000000004999.parquet'
    """
    return archive_folder(root, topic, partition) / f"{start:020d}-{end - 1:020d}.parquet"


def archive_folder(root: Path, topic: str, partition: int) -> Path:
    """Return where a partition's archive files lie."""
    return root / ARCHIVE / quote(topic, safe="") / str(partition)


def is_owner(name: str) -> bool:
    """Return whether a folder of the data directory may be an owner's."""
    return _OWNER.fullmatch(name) is not None and name != ARCHIVE


def make_folder(folder: Path) -> None:
    """Create `folder` and its missing parents so that they survive a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


def not_writable(path: Path, error: OSError) -> StorageFullError:
    """Return the error for a file or folder that cannot be made or written."""
    return StorageFullError(
        f"cannot write {path}: {error.strerror}",
        hint="free space on the disk, or make the data directory writable",
    )


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable; Windows does that by itself."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name, in one durable step."""
    handle = os.open(temporary, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(final)
    sync_folder(final.parent)


class FileLock:
    """An exclusive lock on a file, released by the system when the process ends in any way.

    Args:
        path: The file; it is created and never deleted.
        wait: Wait for another holder instead of raising.

    Raises:
        StateError: Another process holds the lock and `wait` is False.
        StorageFullError: The file cannot be made.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise not_writable(path, error) from error
        try:
            _lock(self._handle, wait=wait)
        except OSError as error:
            os.close(self._handle)
            raise StateError(
                f"{path.parent.name!r} is held by another process",
                hint="stop that one first; a lock never outlives its process",
            ) from error

    def release(self) -> None:
        """Let go; safe to call again."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int, *, wait: bool) -> None:
        msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int, *, wait: bool) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
