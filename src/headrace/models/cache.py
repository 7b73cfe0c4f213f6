"""The loaded models of this process: least recently used ones go, those in use never."""

from __future__ import annotations

import atexit
import threading
from collections import OrderedDict
from typing import Final
from weakref import WeakSet

from headrace.models.scorer import Scorer
from headrace.models.spec import LoadSpec

CACHE_SIZE: Final = 8
CACHE_BYTES: Final = 2 * 1024**3


class Lease:
    """The use of a loaded model; it ends when nobody holds the lease any more."""

    __slots__ = ("__weakref__", "scorer")

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer


class _Entry:
    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.leases: WeakSet[Lease] = WeakSet()


class ModelCache:
    """Loaded versions of models, each once however many steps use it.

    Args:
        size: Versions kept; more only while all of them are in use.
        max_bytes: Memory their processes may take, likewise.
    """

    def __init__(self, size: int = CACHE_SIZE, max_bytes: int = CACHE_BYTES) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[bytes, float, float], _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def limit(self, size: int, max_bytes: int) -> None:
        """Set new bounds; they count from the next model on."""
        self._size, self._max_bytes = size, max_bytes

    def lease(
        self, spec: LoadSpec, hang_after_s: float = 10.0, load_after_s: float = 60.0
    ) -> Lease:
        """Return the use of a version, which begins to load where it is not loaded yet."""
        key = (spec.key(), hang_after_s, load_after_s)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(Scorer(spec, hang_after_s, load_after_s))
            self._entries.move_to_end(key)
            lease = Lease(entry.scorer)
            entry.leases.add(lease)
            gone = self._surplus()
        for scorer in gone:
            # Aside: ending a process takes a moment, and a step waits for this lease.
            threading.Thread(target=scorer.close, name="model-close", daemon=True).start()
        return lease

    def loaded(self) -> list[Scorer]:
        """Return what is held, the least recently used first."""
        with self._lock:
            return [entry.scorer for entry in self._entries.values()]

    def clear(self) -> None:
        """Let everything go, in use or not."""
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
        for entry in entries:
            entry.scorer.close()

    def _surplus(self) -> list[Scorer]:
        """Take out what is above the bounds and not in use."""
        used = sum(entry.scorer.memory_bytes for entry in self._entries.values())
        gone: list[Scorer] = []
        for key, entry in list(self._entries.items()):
            if len(self._entries) <= self._size and used <= self._max_bytes:
                break
            if not len(entry.leases):
                used -= entry.scorer.memory_bytes
                gone.append(entry.scorer)
                del self._entries[key]
        return gone


CACHE: Final = ModelCache()
"""The one cache of this process: steps are opened anew after a restore, models are not."""

atexit.register(CACHE.clear)
