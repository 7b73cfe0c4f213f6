"""Asker: asks a source from a thread of its own, and waits no longer than it is told to."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import Final, Literal

import polars as pl

from headrace.core.errors import OutsideError
from headrace.features.source import FeatureClient, FeatureSource

Failure = Literal["time-out", "error", "busy"]

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0


@dataclass(slots=True)
class _Question:
    keys: pl.DataFrame
    done: threading.Event = field(default_factory=threading.Event)
    answer: pl.DataFrame | None = None
    error: OutsideError | None = None


class Asker:
    """Asks one source. After a failure it is left alone for a second, after each further one
    twice as long, up to half a minute; meanwhile answers are `busy` at once.

    A question that was not answered in time is not awaited, but is still in the client's hands,
    whose own time-outs end it; until then the source is `busy` too.

    Args:
        source: Whom to ask.
    """

    def __init__(self, source: FeatureSource) -> None:
        self._source = source
        self._client = source.open()
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._open: _Question | None = None
        self._failures = 0
        self._not_before = 0.0
        self.reason = ""
        # Tasks are opened anew without being closed; the thread ends with whom it serves.
        weakref.finalize(self, self._questions.put, None)

    def ask(self, keys: pl.DataFrame, seconds: float) -> pl.DataFrame | Failure:
        """Return what the source says of `keys`, or why it says nothing; `reason` says more.

        Args:
            keys: Different keys in the source's names, none of them null.
            seconds: Longest time to wait.
        """
        if self._open is not None:
            if not self._open.done.is_set():
                return "busy"
            self._open = None
        if time.monotonic() < self._not_before:
            return "busy"
        if self._thread is None:
            self._thread = threading.Thread(
                target=_serve, args=(self._client, self._questions), daemon=True, name="features"
            )
            self._thread.start()
        question = _Question(keys)
        self._questions.put(question)
        if not question.done.wait(seconds):
            self._open = question
            return self._failed("time-out", f"no answer within {seconds} s")
        if question.answer is None:
            return self._failed("error", str(question.error))
        self._failures = 0
        return question.answer

    def _failed(self, failure: Failure, reason: str) -> Failure:
        pause = min(_FIRST_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
        self._failures += 1
        self._not_before = time.monotonic() + pause
        self.reason = reason
        return failure


def _serve(client: FeatureClient, questions: queue.SimpleQueue[_Question | None]) -> None:
    while (question := questions.get()) is not None:
        try:
            question.answer = client.get(question.keys)
        except OutsideError as error:
            question.error = error
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            question.error = OutsideError(f"{type(error).__name__}: {error}")
        question.done.set()
    client.close()
