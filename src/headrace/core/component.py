"""Component: a frozen, serialisable description that `open` turns into a live worker."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from headrace.core.errors import ConfigError, HeadraceError
from headrace.core.time import duration, duration_text


def expression_text(expr: pl.Expr) -> str:
    """Return a stable text of `expr`: Polars' JSON, or for Python functions their source hash."""
    try:
        return expr.meta.serialize(format="json")
    except Exception:  # noqa: BLE001 - expressions with Python functions have no JSON form
        return f"python:{expr}"


def expression_from_text(text: str) -> pl.Expr:
    """Rebuild an expression stored by `expression_text`.

    Raises:
        ConfigError: The expression calls a Python function, or its column name is not text;
            such expressions come from the application's code only.
    """
    if text.startswith("python:") or '"Python' in text or "AnonymousFunction" in text:
        raise ConfigError(
            "an expression with a Python function cannot be read from a stored plan",
            hint="load the plan from the application's code instead",
        )
    return pl.Expr.deserialize(io.StringIO(text), format="json")


def function_text(function: Any) -> str:
    """Return `module:qualname` and a hash of the source of a user function."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = ""
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    return f"{function.__module__}:{getattr(function, '__qualname__', function)}#{digest}"


def _as_expression(value: Any) -> pl.Expr:
    if isinstance(value, pl.Expr):
        return value
    if isinstance(value, str):
        return expression_from_text(value) if value.startswith(("{", '"')) else pl.col(value)
    raise ConfigError(f"{value!r} is neither a column name nor a Polars expression")


Expression = Annotated[
    pl.Expr, BeforeValidator(_as_expression), PlainSerializer(expression_text, return_type=str)
]
"""A Polars expression; a plain string is read as a column name."""

DurationField = Annotated[
    timedelta,
    BeforeValidator(duration),
    PlainSerializer(duration_text, return_type=str),
]
"""A timedelta that also reads and writes `"5m"`."""


class Component(BaseModel):
    """A frozen description with a `kind`: its registry name, file name and docs page.

    Descriptions compare by value and serialise to JSON; nothing live hangs on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    kind: ClassVar[str]
    stability: ClassVar[Literal["experimental", "stable", "deprecated"]] = "experimental"

    if not TYPE_CHECKING:  # type checkers see the fields as parameters

        def __init__(self, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise _plain_error(type(self).__name__, error) from error

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when any parameter changes."""
        body = {"kind": self.kind, "parameters": self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        # By fingerprint: comparing expressions with `==` would make another expression.
        return type(other) is type(self) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash(self.fingerprint())


def _plain_error(name: str, error: ValidationError) -> HeadraceError:
    """Return what a validator of ours raised, or pydantic's first finding in one line."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, HeadraceError):
        return cause
    where = ".".join(str(part) for part in first["loc"])
    return ConfigError(f"{name}({where}=...): {first['msg']}")
