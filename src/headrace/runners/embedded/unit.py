"""One operator at work: its calls, its poison rows, its recorded answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import polars as pl

from headrace.codecs.arrow import decode_rows, encode_rows
from headrace.core.errors import BugError, DataError
from headrace.core.protocols import Operator, Out, Task, Wake
from headrace.core.time import BEGINNING
from headrace.plan.graph import Node
from headrace.runners.embedded.journal import Effect, Poison, Record
from headrace.runners.embedded.step import Result
from headrace.state.tables import StateSnapshot, StateTables

POISON_ERRORS = (
    DataError,
    ArithmeticError,
    ValueError,
    TypeError,
    KeyError,
    pl.exceptions.PolarsError,
)
"""What a row may make `process` raise; anything else, and anything elsewhere, is a bug."""

MIN_POISON = 100
"""More poison rows than this, or 1 % of a call, are a bug in the operator."""


class OperatorBug(BugError):  # noqa: N818 - a BugError, named for where it is
    """An operator raised where it must not; the step can be replayed.

    Attributes:
        node: Id of the operator's node.
    """

    code = "HR501"

    def __init__(self, message: str, *, hint: str = "", node: str = "") -> None:
        super().__init__(message, hint=hint)
        self.node = node


class Recorded:
    """Poison and effects of a record by (node, call), for replay."""

    def __init__(self, record: Record) -> None:
        self.poison = {(p.node, p.call): p for p in record.poison}
        self.effects = {(e.node, e.call): e for e in record.effects}


class Unit:
    """A node with its task, state, watermarks and wake-up.

    Attributes:
        out_watermark: What the nodes after this one may take as watermark.
        wake: When the task next wants time.
    """

    __slots__ = ("_calls", "controls", "node", "out_watermark", "ports", "tables", "task", "wake")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.tables = StateTables(node.operator.tables(*node.input_schemas))
        self.task: Task = self._open()
        self.wake: Wake = self.task.wake()
        self.out_watermark = BEGINNING
        self.controls = node.operator.control_ports
        self.ports = sorted(
            range(len(node.inputs)), key=lambda port: (port not in self.controls, port)
        )
        self._calls = 0

    @property
    def operator(self) -> Operator:
        """The description."""
        return self.node.operator

    def reopen(self) -> None:
        """Rebuild the task after its tables were restored."""
        self.task = self._open()
        self.wake = self.task.wake()

    def begin(self, clock: int) -> None:
        """Begin a step."""
        self._calls = 0
        self.tables.clock = clock

    def process(
        self, frame: pl.DataFrame, port: int, result: Result, recorded: Recorded | None
    ) -> tuple[list[Out], pl.DataFrame | None, Poison | None]:
        """Run the task over `frame`; return what left, and poison rows with their poison.

        Raises:
            OperatorBug: It raised something that no row may cause, or on too many rows.
        """
        call = self._next_call()
        poison = recorded.poison.get(call) if recorded is not None else None
        set_aside = None
        if poison is not None:
            result.poison.append(poison)
            set_aside, frame = frame[poison.rows], _without(frame, poison.rows)
        if recorded is not None and self.operator.recorded and port not in self.controls:
            # A change of a control port is taken again: it is state, and asks nobody outside.
            return self._from_record(call, result, recorded), set_aside, poison
        if frame.is_empty():
            return [], set_aside, poison
        before = self.tables.snapshot()
        try:
            out = list(self.task.process(frame, port))
        except POISON_ERRORS as error:
            if recorded is not None:
                raise self._bug(f"raised in replay: {error}") from error
            bad = self._isolate(before, frame, port, error)
            poison = Poison(*call, bad, f"{type(error).__name__}: {error}"[:500])
            result.poison.append(poison)
            set_aside, frame = frame[bad], _without(frame, bad)
            out = list(self.task.process(frame, port)) if frame.height else []
        except Exception as error:
            raise self._bug(f"raised {error!r}") from error
        self._done(call, out, result)
        return out, set_aside, poison

    def advance(self, result: Result, recorded: Recorded | None) -> list[Out]:
        """Tell the task that its watermark has moved."""
        return self._timed(lambda: self.task.advance(self.tables.watermark), result, recorded)

    def tick(self, result: Result, recorded: Recorded | None) -> list[Out]:
        """Tell the task that the step clock has moved."""
        return self._timed(lambda: self.task.tick(self.tables.clock), result, recorded)

    def finish(self, result: Result) -> list[Out]:
        """Tell the task that its input has ended."""
        return self._timed(self.task.finish, result, None)

    def _open(self) -> Task:
        return self.node.operator.open(self.tables, *self.node.input_schemas)

    def _next_call(self) -> tuple[str, int]:
        call = (self.node.id, self._calls)
        self._calls += 1
        return call

    def _timed(
        self, verb: Callable[[], Iterable[Out]], result: Result, recorded: Recorded | None
    ) -> list[Out]:
        call = self._next_call()
        if recorded is not None and self.operator.recorded:
            return self._from_record(call, result, recorded)
        try:
            out = list(verb())
        except Exception as error:
            raise self._bug(f"raised {error!r} on a timer") from error
        self._done(call, out, result)
        return out

    def _done(self, call: tuple[str, int], out: list[Out], result: Result) -> None:
        if self.operator.recorded and out:
            result.effects.append(Effect(*call, [(port, encode_rows(f)) for port, f in out]))
        self.wake = self.task.wake()

    def _from_record(self, call: tuple[str, int], result: Result, recorded: Recorded) -> list[Out]:
        effect = recorded.effects.get(call)
        if effect is None:
            return []
        result.effects.append(effect)
        return [(port, decode_rows(payload)) for port, payload in effect.frames]

    def _isolate(
        self, before: StateSnapshot, frame: pl.DataFrame, port: int, error: Exception
    ) -> list[int]:
        """Return the rows that make the task raise, by halves; state is as before after it."""
        limit = max(MIN_POISON, frame.height // 100)
        bad: list[int] = []

        def search(start: int, stop: int) -> None:
            self._back_to(before)
            try:
                list(self.task.process(frame.slice(start, stop - start), port))
            except POISON_ERRORS as found:
                if stop - start > 1:
                    middle = (start + stop) // 2
                    search(start, middle)
                    search(middle, stop)
                    return
                bad.append(start)
                if len(bad) > limit:
                    raise self._bug(f"raises on more than {limit} rows: {found}") from found

        search(0, frame.height)
        self._back_to(before)
        if not bad:
            raise self._bug(f"raises on the rows together but on none alone: {error}") from error
        return bad

    def _back_to(self, before: StateSnapshot) -> None:
        self.tables.restore(before)
        self.reopen()

    def _bug(self, what: str) -> OperatorBug:
        return OperatorBug(f"{self.node.id} {what}", node=self.node.id)


def _without(frame: pl.DataFrame, rows: list[int]) -> pl.DataFrame:
    index = pl.int_range(0, frame.height, eager=True)
    return frame.filter(~index.is_in(rows))
