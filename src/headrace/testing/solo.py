"""Run one operator alone, step by step, as an engine does."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl

from headrace.core.protocols import Out, Task, Wake
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, HIDDEN_SCHEMA
from headrace.state.keyed import Part
from headrace.state.tables import StateTables
from headrace.testing.case import Case

CHUNK = 65_536


@dataclass(frozen=True)
class Step:
    """What one step brings: the clock, rows by port, and the watermark after them."""

    clock: int
    watermark: int
    frames: Mapping[int, pl.DataFrame]


@dataclass(frozen=True)
class Emitted:
    """A frame that left in step `step`, when the operator downstream had reached `downstream`."""

    step: int
    port: str
    frame: pl.DataFrame
    downstream: int


@dataclass
class Solo:
    """One open task with its state and everything that left it.

    Args:
        case: What to run.
    """

    case: Case
    emitted: list[Emitted] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tables = self._new_tables()
        self.task = self._open()
        self.wake = self.task.wake()
        self.out_watermark = BEGINNING
        self.steps = 0
        controls = self.case.operator.control_ports
        self._ports = sorted(range(len(self.case.inputs)), key=lambda p: (p not in controls, p))
        self._hold = self.case.operator.hold() // timedelta(microseconds=1)

    def step(self, step: Step, *, isolate: bool = False) -> None:
        """Take one step.

        Args:
            step: Its rows and times.
            isolate: Make each `process` call twice, the first time only to undo it, as an engine
                does that looks for the row that made an operator raise.
        """
        self.tables.clock = step.clock
        for port in self._ports:
            frame = step.frames.get(port)
            if frame is None:
                continue
            for start in range(0, frame.height, CHUNK):
                chunk = frame.slice(start, CHUNK).rechunk()
                if isolate:
                    self._undo(chunk, port)
                self._take(self.task.process(chunk, port))
        if self.wake.clock is not None and self.wake.clock <= step.clock:
            self._take(self.task.tick(step.clock))
        self.tables.watermark = max(self.tables.watermark, step.watermark)
        if self.wake.event_time is not None and self.wake.event_time <= self.tables.watermark:
            self._take(self.task.advance(self.tables.watermark))
        if self.tables.watermark != BEGINNING:
            held = self.tables.watermark - self._hold
            self.out_watermark = max(self.out_watermark, held)
        self.steps += 1

    def finish(self) -> None:
        """End the input: everything still held leaves."""
        self.tables.watermark = END_OF_TIME
        if self.wake.event_time is not None:
            self._take(self.task.advance(END_OF_TIME))
        self._take(self.task.finish())

    def parts(self) -> dict[str, tuple[Part, ...]]:
        """Return the state as a checkpoint would store and read it."""
        return {
            name: tuple(part if isinstance(part, bytes) else _stored(part) for part in parts)
            for name, parts in self.tables.parts().items()
        }

    def resume(self) -> None:
        """Go on as a new process would from a checkpoint of now."""
        parts, watermark, clock = self.parts(), self.tables.watermark, self.tables.clock
        self.tables = self._new_tables()
        self.tables.load(parts)
        self.tables.watermark, self.tables.clock = watermark, clock
        self._reopen("a checkpoint")

    def outputs(self) -> dict[str, pl.DataFrame]:
        """Return everything that left, by port, in order; ports without rows are empty."""
        answer = {}
        for port in self.case.operator.outputs():
            frames = [one.frame for one in self.emitted if one.port == port]
            nothing = with_hidden(self.case.declared[port].to_frame())
            answer[port] = pl.concat([nothing, *frames], how="diagonal")
        return answer

    def _new_tables(self) -> StateTables:
        return StateTables(self.case.state)

    def _open(self) -> Task:
        return self.case.operator.open(self.tables, *self.case.schemas)

    def _take(self, out: Iterable[Out]) -> None:
        for port, frame in out:
            if frame.height:
                self.emitted.append(Emitted(self.steps, port, frame, self.out_watermark))
        self.wake = self.task.wake()

    def _undo(self, chunk: pl.DataFrame, port: int) -> None:
        before = self.tables.snapshot()
        list(self.task.process(chunk, port))
        self.tables.restore(before)
        self._reopen("an undone call")

    def _reopen(self, after: str) -> None:
        self.task = self._open()
        wake = self.task.wake()
        if due(wake) != due(self.wake):
            raise AssertionError(f"wake was {self.wake}, after {after} it is {wake}")
        self.wake = wake


def due(wake: Wake) -> Wake:
    """Return `wake`, any time at or before the beginning read as the beginning."""
    at = None if wake.event_time is None else max(wake.event_time, BEGINNING)
    return Wake(at, wake.clock)


def run(case: Case, steps: Sequence[Step], *, finish: bool = True) -> Solo:
    """Run `steps` over a new task of the case's operator."""
    solo = Solo(case)
    for step in steps:
        solo.step(step)
    if finish:
        solo.finish()
    return solo


def _stored(frame: pl.DataFrame) -> pl.DataFrame:
    file = io.BytesIO()
    frame.write_ipc(file, compression="lz4")
    file.seek(0)
    return pl.read_ipc(file)


def with_hidden(empty: pl.DataFrame) -> pl.DataFrame:
    """Return an empty frame with the hidden columns added."""
    return empty.hstack([pl.Series(name, dtype=dtype) for name, dtype in HIDDEN_SCHEMA.items()])


def oldest(frame: pl.DataFrame) -> int:
    """Return the least event time of `frame`."""
    least = frame[EVENT_TIME].min()
    return least if isinstance(least, int) else END_OF_TIME
