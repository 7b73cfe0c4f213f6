"""A role ends when its supervisor does: by signal, or by the pipe between them closing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

LIFELINE = "HEADRACE_LIFELINE"


def stop_on_signal(stop: Callable[[], None]) -> None:
    """Call `stop` at SIGTERM, SIGINT or, on Windows, Ctrl-Break; main thread only."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, handle)


def stop_with_supervisor(stop: Callable[[], None], grace_s: float = 15.0) -> None:
    """Call `stop` when the supervisor's pipe on standard input closes, then insist.

    Does nothing where no supervisor started this process.
    """
    if not os.environ.get(LIFELINE):
        return

    def watch() -> None:
        # A raw read: a buffered reader would hold a lock that the interpreter wants at exit.
        while os.read(0, 1024):
            pass
        stop()
        threading.Event().wait(grace_s)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
