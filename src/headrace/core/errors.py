"""What can go wrong, who must act, and whether trying again helps."""

from __future__ import annotations

from typing import ClassVar, Literal

Blame = Literal["author", "data", "outside", "headrace"]

EXIT_CODES: dict[Blame, int] = {"author": 2, "data": 4, "outside": 3, "headrace": 1}
HTTP_STATUSES: dict[Blame, int] = {"author": 422, "data": 422, "outside": 503, "headrace": 500}


class HeadraceError(Exception):
    """Base of every error headrace raises on purpose.

    Args:
        message: What happened, in one sentence.
        hint: What the reader can do about it.

    Attributes:
        code: Stable identifier, documented in `docs/errors.md`.
        blame: Who must act; exit codes and HTTP statuses derive from it.
        retryable: Whether the same call may succeed later.
    """

    code: ClassVar[str] = "HR000"
    blame: ClassVar[Blame] = "headrace"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        tail = f" ({self.hint})" if self.hint else ""
        return f"[{self.code}] {self.message}{tail}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not survive a process border by themselves.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[HeadraceError], message: str, hint: str) -> HeadraceError:
    return kind(message, hint=hint)


class ConfigError(HeadraceError, ValueError):
    """The application or its settings are wrong; found before anything starts."""

    code = "HR100"
    blame = "author"


class PlanError(ConfigError):
    """The plan does not fit together, e.g. `stream.filter(pl.col("no_such_column"))`."""

    code = "HR101"


class SchemaError(ConfigError):
    """A declared schema is impossible, e.g. `app.topic("t", schema={"a": "text"})`."""

    code = "HR102"


class UnsupportedError(ConfigError):
    """This runner or log cannot do what was asked."""

    code = "HR103"


class MissingExtraError(ConfigError, ImportError):
    """An optional package is not installed; the hint is the install command."""

    code = "HR104"


class DataError(HeadraceError, ValueError):
    """One row or payload is bad; it goes to the dead letters and stops nothing."""

    code = "HR200"
    blame = "data"


class DecodeError(DataError):
    """A payload could not be read as rows."""

    code = "HR201"


class ConstraintError(DataError):
    """A row breaks a constraint of its model."""

    code = "HR202"


class ConflictError(DataError):
    """The row was changed since it was read, or the key was used for something else."""

    code = "HR203"


class NotFoundError(DataError):
    """What was asked for is not there, e.g. `GET /tables/no_such_table`."""

    code = "HR204"


class CheckFailedError(HeadraceError):
    """A row fails a quality gate that was told to stop the engine."""

    code = "HR207"
    blame = "data"


class OutsideError(HeadraceError):
    """A system outside headrace failed."""

    code = "HR300"
    blame = "outside"
    retryable = True


class ConnectError(OutsideError):
    """No connection to an outside system."""

    code = "HR301"


class AuthError(OutsideError):
    """An outside system refused our credentials."""

    code = "HR302"
    retryable = False


class ThrottledError(OutsideError):
    """Too much at once; `retry_after` says how many seconds to wait."""

    code = "HR303"

    def __init__(self, message: str, *, hint: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_throttled, (self.message, self.hint, self.retry_after))


def _rebuild_throttled(message: str, hint: str, retry_after: float) -> ThrottledError:
    return ThrottledError(message, hint=hint, retry_after=retry_after)


class StorageFullError(OutsideError):
    """The disk is full or read-only; nothing was written and the same commit may be retried."""

    code = "HR304"


class StateError(HeadraceError):
    """Log, journal or checkpoint contradict each other or the plan."""

    code = "HR400"


class SnapshotCorruptError(StateError):
    """A checkpoint part does not match its manifest."""

    code = "HR401"


class FencedError(StateError):
    """Another process took over this file; this one must end."""

    code = "HR402"


class LostRangeError(StateError):
    """A position lies outside what the log still holds, or in another incarnation of the topic."""

    code = "HR403"


class DriftError(StateError):
    """A replayed step gave other results than were recorded."""

    code = "HR404"


class BugError(HeadraceError):
    """A broken invariant inside headrace; please open an issue with the saved step."""

    code = "HR500"
