"""How errors look over HTTP: one body for all, status from the kind of error."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from headrace.core.errors import (
    HTTP_STATUSES,
    ConflictError,
    HeadraceError,
    NotFoundError,
    StateError,
    StorageFullError,
    ThrottledError,
    UnsupportedError,
)

JSON: Final = (b"content-type", b"application/json")
Headers = list[tuple[bytes, bytes]]

_STATUSES: Final[list[tuple[type[HeadraceError], int]]] = [
    (NotFoundError, 404),
    (ConflictError, 409),
    (ThrottledError, 429),
    (StorageFullError, 507),
    (UnsupportedError, 501),
    (StateError, 503),
]
_STORAGE: Final = "there is no room to store rows; nothing of this request was written"


def status_of(error: HeadraceError) -> int:
    """Return the HTTP status of an error, by its kind or by who must act."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return HTTP_STATUSES[error.blame]


def error_body(code: str, message: str, hint: str = "") -> dict[str, Any]:
    """Return the one shape of all error answers."""
    return {"error": {"code": code, "message": message, "hint": hint}}


def error_answer(error: HeadraceError) -> tuple[int, Headers, bytes]:
    """Return status, headers and body for an error; the text of ours outside is kept inside."""
    status = status_of(error)
    headers = [JSON]
    if isinstance(error, ThrottledError):
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    message, hint = error.message, error.hint
    if isinstance(error, StorageFullError):
        message, hint = _STORAGE, "free disk space; the same request may be sent again"
        headers.append((b"retry-after", b"5"))
    elif status == HTTP_STATUSES["headrace"]:
        message, hint = "the gateway could not handle this request", "see the gateway's log"
    elif isinstance(error, StateError):
        message, hint = "the log cannot be written now", "see the gateway's log"
    return status, headers, msgspec.json.encode(error_body(error.code, message, hint))
