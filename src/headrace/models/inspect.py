"""What a model's file says of its inputs, before anything runs."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import polars as pl

from headrace.core.errors import HeadraceError, PlanError
from headrace.models.description import Artifact
from headrace.models.source import local_path
from headrace.models.spec import LoadSpec

MOST_BYTES: Final = 64 * 1024**2
"""Larger files are loaded by their own process only: every role makes the plan."""


def check_file(model: Artifact, features: pl.Schema, *, needed: bool) -> None:
    """Load a model whose file holds no code, and give it one plain row.

    Models whose loading runs code, and very large ones, are not touched here; what is wrong with
    them is found when their process loads them, and rows get the fallback meanwhile.

    Args:
        model: The model.
        features: The columns it is given.
        needed: Whether the file must be there; not where a table brings versions.

    Raises:
        PlanError: The file is missing, is no model, or takes other features.
        MissingExtraError: The library it needs is not installed.
    """
    if model.runs_code:
        return
    path = local_path(model.source)
    if not path.exists():
        if needed:
            raise PlanError(
                f"there is no file {model.source} for model {model.name!r}",
                hint="paths are relative to where the application is started",
            )
        return
    status = path.stat()
    if status.st_size > MOST_BYTES:
        return
    _try_once(_Key(LoadSpec.of(model, features)), status.st_mtime_ns, status.st_size)


class _Key:
    """A spec that can be remembered by; its options are a dictionary."""

    def __init__(self, spec: LoadSpec) -> None:
        self.spec = spec
        self._key = spec.key()

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other._key == self._key


@lru_cache(maxsize=64)
def _try_once(key: _Key, _mtime_ns: int, _size: int) -> None:
    from headrace.models.runtime import Runtime

    try:
        Runtime(key.spec)
    except HeadraceError as error:
        if isinstance(error, ImportError):
            raise
        raise PlanError(f"model {key.spec.name!r}: {error.message}", hint=error.hint) from error
    except Exception as error:
        raise PlanError(
            f"model {key.spec.name!r} at {key.spec.source} cannot be used: {error}",
            hint="is it the right kind of file, and are these its features, in its order?",
        ) from error
