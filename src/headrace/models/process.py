"""The engine's side of a model's process."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from typing import BinaryIO, Final

import msgspec
import polars as pl

from headrace.core.rows import decode_rows
from headrace.models.spec import LoadSpec
from headrace.models.wire import Head, body_of, raw, receive, send

_LOOK_S: Final = 0.25
_END_S: Final = 2.0


class RefusedError(Exception):
    """A model raised; the text is its own. Its process lives on."""


class DiedError(Exception):
    """A model's process ended while it was asked."""


class HungError(Exception):
    """A model's process gave no answer for so long that it was killed."""


class ModelProcess:
    """A process that runs one model. It ends when this process does.

    Args:
        threads: Threads it may use.
    """

    def __init__(self, threads: int = 1) -> None:
        few = {"OMP_NUM_THREADS": str(threads), "POLARS_MAX_THREADS": "1", "HEADRACE_LIFELINE": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "headrace.models.host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | few,
        )
        self._number = 0
        self._late_at: float | None = None
        self._hung = False
        self._ended = threading.Event()
        self._answers: queue.SimpleQueue[tuple[Head, bytes] | None] = queue.SimpleQueue()
        for work in (self._read, self._watch):
            threading.Thread(target=work, name=f"model-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def load(self, spec: LoadSpec, timeout_s: float) -> Head:
        """Load and warm a model; return its version and the memory it takes.

        Raises:
            RefusedError: It cannot be loaded; the message says why.
            DiedError: The process ended meanwhile.
            HungError: It took longer than `timeout_s`; the process is killed.
        """
        return self._ask(Head("load", spec=raw(spec)), b"", timeout_s)[0]

    def predict(self, frame: pl.DataFrame, timeout_s: float) -> pl.DataFrame:
        """Return the model's outputs for each row.

        Raises:
            RefusedError: The model raised.
            DiedError: The process ended meanwhile.
            HungError: It took longer than `timeout_s`; the process is killed.
        """
        return decode_rows(self._ask(Head("predict"), body_of(frame), timeout_s)[1])

    def kill(self) -> None:
        """End the process, whatever it does, and release what belongs to it."""
        self._process.kill()
        self._process.wait()
        # Not for ever: a process that the model forked may hold the pipe open.
        self._ended.wait(_END_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                _close(pipe)

    def _ask(self, head: Head, body: bytes, timeout_s: float) -> tuple[Head, bytes]:
        self._number += 1
        head.number = self._number
        self._late_at = time.monotonic() + timeout_s
        try:
            send(_pipe(self._process.stdin), head, body)
            answer = self._answers.get()
        except (OSError, ValueError) as error:
            answer, told = None, f": {error}"
        else:
            told = ""
        finally:
            self._late_at = None
        if answer is None and self._hung:
            raise HungError(f"no answer within {timeout_s:g} s; its process was killed")
        if answer is None:
            self._process.kill()
            raise DiedError(f"its process ended with exit code {self._process.wait()}{told}")
        done, rows = answer
        if done.verb == "failed":
            raise RefusedError(done.error)
        return done, rows

    def _read(self) -> None:
        try:
            while (message := receive(_pipe(self._process.stdout))) is not None:
                self._answers.put(message)
        except (OSError, ValueError, msgspec.MsgspecError):
            self._process.kill()
        self._ended.set()
        self._answers.put(None)

    def _watch(self) -> None:
        # Beside the thread that asks: that one may be held up in writing to a stopped process.
        while not self._ended.wait(_LOOK_S):
            if self._process.poll() is not None:
                self._answers.put(None)
                return
            late_at = self._late_at
            if late_at is not None and time.monotonic() > late_at:
                self._hung = True
                self._process.kill()


def _pipe(pipe: BinaryIO | object) -> BinaryIO:
    return pipe  # type: ignore[return-value]  # both were asked for when the process was started


def _close(pipe: BinaryIO | object) -> None:
    try:
        _pipe(pipe).close()
    except OSError:
        return  # what was still to be flushed has no reader any more
