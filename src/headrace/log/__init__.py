"""Durable, ordered, replayable topics, and where they live."""

from __future__ import annotations

from pathlib import Path

from headrace.core.errors import ConfigError
from headrace.log.batches import check_position
from headrace.log.memory import MemoryLog
from headrace.log.sqlite import SqliteLog

__all__ = ["MemoryLog", "SqliteLog", "check_position", "open_log"]


def open_log(url: str | Path) -> MemoryLog | SqliteLog:
    """Open the log at `url`: `memory:`, or a folder, as a path or `file:` URL.

    Raises:
        ConfigError: Nothing here opens such a URL.

    Example:
        >>> open_log("file:data").path.as_posix()
        'data'
    """
    if isinstance(url, Path):
        return SqliteLog(url)
    scheme, colon, rest = url.partition(":")
    # A single letter is a drive of Windows.
    if not colon or len(scheme) == 1 or "/" in scheme:
        return SqliteLog(url)
    if scheme == "memory":
        return MemoryLog()
    if scheme == "file":
        return SqliteLog(rest.removeprefix("//"))
    raise ConfigError(f"no log for {url!r}", hint="give a folder, or memory:")
