"""A loaded version of a model, in a process of its own or in this one, and what is asked of it.

A scorer has one thread. It starts the model, loads and warms it, hands it one batch at a time, and
starts it again, later each time, when it died, hung or could not be loaded. Whoever asks waits as
long as they like and no longer: the answer that comes too late is dropped.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Literal

import polars as pl
import structlog

from headrace.models.counts import count
from headrace.models.process import DiedError, HungError, ModelProcess, RefusedError
from headrace.models.runtime import Runtime
from headrace.models.spec import LoadSpec

_log = structlog.get_logger(__name__)

Reason = Literal["budget", "busy", "error", "died", "hung", "not loaded"]

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 30.0
_JOIN_S: Final = 5.0


@dataclass(slots=True)
class Ticket:
    """A batch that was handed in: its answer, or why there is none."""

    frame: pl.DataFrame
    done: threading.Event = field(default_factory=threading.Event)
    answer: pl.DataFrame | None = None
    reason: Reason | None = None
    given_up: bool = False

    def fail(self, reason: Reason) -> None:
        """End it without an answer."""
        self.reason = reason
        self.done.set()

    def wait(self, until: float) -> None:
        """Wait for the end until a time of the monotonic clock, then give it up."""
        if not self.done.wait(max(0.0, until - time.monotonic())):
            self.given_up = True
            self.reason = "budget"


class Scorer:
    """One version of one model.

    Args:
        spec: What to load.
        hang_after_s: A process that takes longer for one batch is killed.
        load_after_s: The same while it loads and warms the model.

    Attributes:
        version: What its answers name; what was asked for until it is loaded.
        was_ready: Whether it has ever been loaded and warm.
        error: Why it last failed.
        memory_bytes: Memory its process took to load; 0 in this process.
    """

    def __init__(self, spec: LoadSpec, hang_after_s: float, load_after_s: float) -> None:
        self.spec = spec
        self.version = spec.version or ""
        self.was_ready = False
        self.error = ""
        self.memory_bytes = 0
        self._hang_after_s = hang_after_s
        self._load_after_s = load_after_s
        self._ready = threading.Event()
        self._tried = threading.Event()
        self._closed = threading.Event()
        self._work: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._current: Ticket | None = None
        self._model: ModelProcess | Runtime | None = None
        self._thread = threading.Thread(target=self._run, name=f"model-{spec.name}", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether it is loaded and warm."""
        return self._ready.is_set()

    @property
    def tried(self) -> bool:
        """Whether loading it has succeeded or failed once."""
        return self._tried.is_set()

    @property
    def pid(self) -> int | None:
        """The process it runs in, None where that is this one or there is none."""
        model = self._model
        return model.pid if isinstance(model, ModelProcess) else None

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has been loaded, or failed to for the first time; return whether it is."""
        self._tried.wait(timeout_s)
        return self.ready

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until it is loaded and warm, the first time or again; return whether it is."""
        return self._ready.wait(timeout_s)

    def ask(self, frame: pl.DataFrame) -> Ticket:
        """Hand in a batch; the ticket says at once where it is not taken."""
        ticket, current = Ticket(frame), self._current
        if not self.ready:
            ticket.fail("not loaded")
        elif current is not None and current.given_up:
            ticket.fail("busy")
        else:
            self._work.put(ticket)
        return ticket

    def close(self) -> None:
        """End the process; what is asked later is not answered."""
        self._closed.set()
        self._ready.clear()
        model = self._model
        self._work.put(None)
        if isinstance(model, ModelProcess):
            model.kill()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._closed.is_set():
            if not self._load():
                self._closed.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            healthy_at = time.monotonic() + LONGEST_PAUSE_S
            self._serve()
            self._end_process()
            if self._closed.is_set():
                break
            if time.monotonic() > healthy_at:
                pause_s = FIRST_PAUSE_S
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            count("restarts", self.spec.name, self.version)
        self._end_process()

    def _end_process(self) -> None:
        self._ready.clear()
        if isinstance(self._model, ModelProcess):
            self._model.kill()
        self._model = None

    def _load(self) -> bool:
        """Start, load and warm the model; return whether it is ready."""
        model: ModelProcess | Runtime | None = None
        try:
            if self.spec.isolated:
                model = ModelProcess(self.spec.threads)
                self._model = model
                loaded = model.load(self.spec, self._load_after_s)
                self.memory_bytes, self.version = loaded.memory_bytes, loaded.version
            else:
                model = Runtime(self.spec)
                self.version = model.version
        except Exception as error:  # noqa: BLE001 - loading runs whatever the model is made of
            self.error = str(error)
            if isinstance(model, ModelProcess):
                model.kill()
            self._model = None
            count("failures", self.spec.name, self.version, "not loaded")
            _log.warning("model.not_loaded", model=self.spec.name, error=self.error)
            self._tried.set()
            return False
        self._model = model
        count("loads", self.spec.name, self.version)
        _log.info("model.ready", model=self.spec.name, version=self.version, pid=self.pid)
        self.was_ready = True
        self._ready.set()
        self._tried.set()
        return True

    def _serve(self) -> None:
        """Answer batches until the process is gone."""
        while (ticket := self._work.get()) is not None:
            if ticket.given_up:
                continue
            self._current = ticket
            reason: Reason | None = None
            try:
                ticket.answer = self._predict(ticket.frame)
            except DiedError as error:
                reason = self._failed("died", error)
            except HungError as error:
                reason = self._failed("hung", error)
            except Exception as error:  # noqa: BLE001 - a model may raise anything
                reason = self._failed("error", error)
            self._current = None
            if reason is None:
                ticket.done.set()
                continue
            gone = reason in ("died", "hung")
            if gone:
                # Before anybody is told, so that nobody asks what is gone.
                self._ready.clear()
            ticket.fail(reason)
            if gone:
                return

    def _predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        model = self._model
        if isinstance(model, ModelProcess):
            return model.predict(frame, self._hang_after_s)
        if model is None:
            raise RefusedError("nothing is loaded")
        return model.predict(frame)

    def _failed(self, reason: Reason, error: Exception) -> Reason:
        self.error = str(error)
        count("failures", self.spec.name, self.version, reason)
        _log.warning(
            "model.failed",
            model=self.spec.name,
            version=self.version,
            reason=reason,
            error=self.error,
        )
        return reason
