"""Run SQLite statements, and say what their failures mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import apsw

from headrace.core.errors import HeadraceError, StateError, StorageFullError

# A failed sync leaves the commit's last frame in the file or not: only the next start can tell.
_UNSURE: Final = (
    apsw.SQLITE_IOERR_FSYNC,
    apsw.SQLITE_IOERR_DIR_FSYNC,
    apsw.SQLITE_IOERR_CORRUPTFS,
    apsw.SQLITE_IOERR_DATA,
)
_NOT_WRITTEN: Final = (apsw.FullError, apsw.ReadOnlyError, apsw.IOError, apsw.CantOpenError)


def query(db: apsw.Connection, sql: str, *values: apsw.SQLiteValue) -> list[Any]:
    """Return all rows of a statement as tuples; no read transaction outlives the call."""
    return db.execute(sql, values).fetchall()


def storage_error(error: apsw.Error, doing: str, *, sure: bool) -> HeadraceError:
    """Return what a failed write means.

    Args:
        error: SQLite's error, after a rollback.
        doing: What failed, as an infinitive.
        sure: Whether the error came before COMMIT, so that nothing can have been written.
    """
    code = getattr(error, "extendedresult", 0)
    if isinstance(error, _NOT_WRITTEN) and (sure or code not in _UNSURE):
        return StorageFullError(
            f"cannot {doing}: {error}; nothing was written",
            hint="free space on the disk, or make the data directory writable",
        )
    if sure and isinstance(error, apsw.BusyError):
        return StateError(
            f"cannot {doing}: another program holds the file's write lock",
            hint="headrace must be the only one that writes its data directory",
        )
    return StateError(
        f"cannot {doing}, and whether it was written is unknown: {error}",
        hint="start again: what was committed is read from the log",
    )


def read_error(error: apsw.Error, path: Path) -> StateError:
    """Return what a failed read means."""
    return StateError(
        f"cannot read {path.parent.name}/{path.name}: {error}",
        hint="the file is damaged or the disk fails; restore it from a copy",
    )
