"""Notice commits of other processes: one thread per log looks for all who wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from headrace.core.errors import HeadraceError
from headrace.log.sqlite.owners import OwnerReader, Owners

# Seconds without a commit, and how long to sleep between looks until then.
_PACE: Final = ((0.2, 0.001), (1.0, 0.002), (10.0, 0.005))
_IDLE_S: Final = 0.01
_BROKEN_S: Final = 0.1
_DISCOVER_S: Final = 0.05

_log = structlog.get_logger("headrace.log")


class Tail:
    """Looks whether any owner of a data directory has committed; safe to use from any thread.

    The thread runs while somebody waits or listens. After a commit it looks every
    millisecond, without any for ten seconds every ten.

    Args:
        root: The data directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._changed = threading.Condition()
        self._generation = 0
        self._waiting = 0
        self._listeners: dict[int, Callable[[], None]] = {}
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def generation(self) -> int:
        """A number that grows with commits while somebody waits or listens."""
        return self._generation

    def wait(self, seen: int, timeout_s: float) -> int:
        """Block until the generation differs from `seen`, at most `timeout_s`; return it."""
        with self._changed:
            self._waiting += 1
            try:
                self._start()
                self._changed.wait_for(
                    lambda: self._generation != seen or self._is_closed, timeout_s
                )
                return self._generation
            finally:
                self._waiting -= 1

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after commits, from the tail's thread; what is returned ends that."""
        with self._changed:
            key = max(self._listeners, default=0) + 1
            self._listeners[key] = callback
            self._start()

        def stop() -> None:
            with self._changed:
                self._listeners.pop(key, None)

        return stop

    def close(self) -> None:
        """End the thread; nobody is called or woken by commits any more."""
        with self._changed:
            self._is_closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _start(self) -> None:
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._run, name="headrace-tail", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        owners = Owners(self._root)
        versions: dict[str, int] = {}
        moved, discovered, known = time.monotonic(), 0.0, list[OwnerReader]()
        failure = ""
        try:
            while self._is_wanted():
                try:
                    if time.monotonic() - discovered >= _DISCOVER_S:
                        known, discovered = owners.all(), time.monotonic()
                    now = {owner.files.owner: owner.version() for owner in known}
                except HeadraceError as error:
                    if str(error) != failure:
                        failure = str(error)
                        _log.warning("tail_failed", error=failure)
                    owners.close()
                    discovered = 0.0
                    time.sleep(_BROKEN_S)
                    continue
                if now != versions:
                    versions = now
                    moved = time.monotonic()
                    self._notify()
                time.sleep(_pause(time.monotonic() - moved))
        finally:
            owners.close()

    def _is_wanted(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or self._waiting > 0 or bool(self._listeners)
            )
            return not self._is_closed

    def _notify(self) -> None:
        with self._changed:
            self._generation += 1
            self._changed.notify_all()
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener()


def _pause(quiet_s: float) -> float:
    return next((pause for limit, pause in _PACE if quiet_s < limit), _IDLE_S)
