"""The process of one model: loads it, warms it, answers until its engine is gone.

Started as `python -m headrace.models.host`. Standard input and output carry the messages; what the
model itself prints goes to standard error.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import BinaryIO

import msgspec

from headrace.core.rows import decode_rows
from headrace.models.runtime import Runtime
from headrace.models.spec import LoadSpec
from headrace.models.wire import Head, body_of, receive, send

ERROR_TEXT = 2000


def main() -> None:
    """Answer requests, one at a time."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    waiting: queue.SimpleQueue[tuple[Head, bytes]] = queue.SimpleQueue()
    # Read aside, so that a model at work ends as soon as its engine does.
    threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()
    runtime: Runtime | None = None
    while True:
        head, body = waiting.get()
        try:
            if head.verb == "load":
                runtime = Runtime(msgspec.json.decode(head.spec, type=LoadSpec))
                done = Head("done", head.number, version=runtime.version, memory_bytes=memory())
                answer = b""
            elif runtime is not None:
                answer = body_of(runtime.predict(decode_rows(body)))
                done = Head("done", head.number)
            else:
                raise RuntimeError("nothing is loaded")  # noqa: TRY301 - answered like any other
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            text = f"{type(error).__name__}: {error}"[:ERROR_TEXT]
            done, answer = Head("failed", head.number, error=text), b""
        send(answers, done, answer)


def memory() -> int:
    """Return the bytes of memory this process has taken at most; 0 where nobody says."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _read(requests: BinaryIO, waiting: queue.SimpleQueue[tuple[Head, bytes]]) -> None:
    while (message := receive(requests)) is not None:
        waiting.put(message)
    os._exit(0)


if __name__ == "__main__":
    main()
