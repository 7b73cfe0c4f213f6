"""What models did in this process, counted by model and version; shown in /metrics."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Final, Literal

Counted = Literal["rows", "batches", "failures", "fallbacks", "overruns", "loads", "restarts"]

_COUNTS: Final[Counter[tuple[str, str, str, str]]] = Counter()
_LOCK: Final = threading.Lock()


def count(what: Counted, model: str, version: str, reason: str = "", *, by: int = 1) -> None:
    """Add to one counter.

    Args:
        what: `rows` and `batches` that were scored; `failures` of a model, by reason; rows that
            got a `fallbacks` instead, by reason; `overruns` of the budget; `loads` of a version;
            `restarts` of its process.
        model: The model's name.
        version: Its version, "" where none was loaded yet.
        reason: Why, for failures and fallbacks.
        by: How much.
    """
    with _LOCK:
        _COUNTS[(what, model, version, reason)] += by


def counted() -> list[dict[str, Any]]:
    """Return every counter as `{"what", "model", "version", "reason", "count"}`, sorted."""
    with _LOCK:
        found = sorted(_COUNTS.items())
    names = ("what", "model", "version", "reason")
    return [{**dict(zip(names, key, strict=True)), "count": number} for key, number in found]
