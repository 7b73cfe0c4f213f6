"""Quality gates: what passes goes on, the rest is put aside, and both are told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final, Literal

import polars as pl
from pydantic import Field

from headrace.core.component import Expression
from headrace.core.errors import CheckFailedError
from headrace.core.protocols import MAIN, Operator, Out, Tables, Task
from headrace.core.time import EVENT_TIME, HIDDEN, to_datetime
from headrace.operators.columns import ColumnNames
from headrace.operators.filter import check_predicate
from headrace.operators.project import check_present

QUARANTINE: Final = "quarantine"
OUTCOMES: Final = "outcomes"
CHECK: Final = "check"
PASSED: Final = "passed"

Action = Literal["quarantine", "alert", "stop"]


class Check(Operator):
    """Let the rows pass for which a condition holds, and put the others aside.

    Port main gives the rows that pass, `quarantine` the others, unchanged; a condition that is
    null does not hold. Port `outcomes` gives for every row the name of the gate as `check` and
    whether it `passed`.

    Attributes:
        gate: Its name in outcomes and messages.
        predicate: A row-wise Boolean expression.
        action: `quarantine` and `alert` put rows aside; what follows tells them apart. With
            `stop` the first step with a row that does not pass ends the engine, and leaves nothing
            behind but the saved step.
        without: Columns that the condition reads and that do not leave.

    Stateless. Cost: that of the condition, and a filter per port.
    """

    kind: ClassVar[str] = "check"

    gate: str = Field(min_length=1)
    predicate: Expression
    action: Action = "quarantine"
    without: ColumnNames = ()

    def outputs(self) -> tuple[str, ...]:
        """Name main, quarantine and outcomes."""
        return (MAIN, QUARANTINE, OUTCOMES)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns for main and quarantine, and those of outcomes.

        Raises:
            PlanError: The condition is no row-wise Boolean.
        """
        (schema,) = inputs
        check_predicate(self.predicate, schema)
        outcomes = pl.Schema({CHECK: pl.String(), PASSED: pl.Boolean()})
        check_present(self.without, schema)
        left = pl.Schema({n: dtype for n, dtype in schema.items() if n not in self.without})
        return {MAIN: left, QUARANTINE: left, OUTCOMES: outcomes}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task without state."""
        return _CheckTask(self)


class _CheckTask(Task):
    def __init__(self, check: Check) -> None:
        self._check = check
        # In a frame of its own, so that the condition may read a column of the same name.
        self._passed = check.predicate.fill_null(value=False).alias(PASSED)

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        if frame.is_empty():
            return
        passed = frame.with_columns(self._passed)[PASSED]
        frame = frame.drop(self._check.without)
        failed = frame.filter(~passed)
        if failed.height and self._check.action == "stop":
            raise self._stop(failed, frame.height)
        if failed.height < frame.height:
            yield MAIN, frame.filter(passed)
        if failed.height:
            yield QUARANTINE, failed
        told = pl.lit(self._check.gate).alias(CHECK)
        yield OUTCOMES, frame.select(*HIDDEN).select(told, passed, *HIDDEN)

    def _stop(self, failed: pl.DataFrame, rows: int) -> CheckFailedError:
        first = to_datetime(failed[EVENT_TIME][0]).isoformat()
        return CheckFailedError(
            f"check {self._check.gate!r}: {failed.height} of {rows} rows fail it, "
            f"the first of {first}",
            hint="correct the rows at their source, or the condition; the step is saved",
        )
