"""Find components by kind, through entry points, so plug-ins use the same door as built-ins."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from headrace.core.errors import ConfigError

GROUPS = ("headrace.operators", "headrace.codecs", "headrace.connectors", "headrace.apps")


@cache
def kinds(group: str) -> tuple[str, ...]:
    """Return the registered names of `group`, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


@cache
def load(group: str, kind: str) -> Any:
    """Import and return what is registered as `kind` in `group`.

    Raises:
        ConfigError: Nothing of that name is registered.
    """
    for point in entry_points(group=group):
        if point.name == kind:
            return point.load()
    raise ConfigError(f"unknown {group} {kind!r}", hint=f"have {', '.join(kinds(group))}")
