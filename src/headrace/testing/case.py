"""Case: one operator with the inputs and the reference answer that the laws need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import polars as pl
from hypothesis import strategies as st

from headrace.core.protocols import Operator, TableSpec
from headrace.core.time import Duration, micros

UNIQUE: Final = st.just(None)
"""Give this as the strategy of an Int64 column that numbers the rows from 0."""

Oracle = Callable[..., Mapping[str, pl.DataFrame]]


def _gaps() -> st.SearchStrategy[int]:
    """Return gaps that meet each other, whole seconds and their edges, and pass the delay.

    Listed, not drawn from a range: hypothesis prefers the numbers that loaded code names, nearly
    all of them far below a second, and event time would hardly move.
    """
    listed = [0, 0, 1, 999_999, 1_000_000, 2_500_001, 4_999_999, 5_000_000, 11_000_000]
    return st.sampled_from(listed)


@dataclass(frozen=True)
class InputSpec:
    """What one input of an operator may look like.

    Attributes:
        schema: Its visible columns.
        columns: How to make values, by column; others get a strategy that suits their type.
        delay: How late rows may come; sets the watermark.
        time: The column that holds the event time, where it is one of the columns.
        gap: Microseconds between one row and the next in event time.
        no_nulls: Columns whose default strategy must not give nulls.
        key: The columns whose values decide a row's shard; by default the operator's.
        min_rows: Fewest rows of an example.
        max_rows: Most rows of an example.
    """

    schema: pl.Schema
    columns: Mapping[str, st.SearchStrategy[Any]] = field(default_factory=dict)
    delay: Duration = "10s"
    time: str = "time"
    gap: st.SearchStrategy[int] = field(default_factory=_gaps)
    no_nulls: tuple[str, ...] = ()
    key: tuple[str, ...] | None = None
    min_rows: int = 0
    max_rows: int = 16

    @property
    def delay_us(self) -> int:
        """`delay` in microseconds."""
        return micros(self.delay)


@dataclass(frozen=True)
class Case:
    """One operator under the laws.

    Attributes:
        operator: The description to open.
        inputs: One spec per input, in order.
        oracle: Called with the whole inputs, each sorted by (event time, position) and with the
            hidden columns; returns the visible columns of the ports it speaks of, rows in any
            order, and `__event_time` where that is to be compared too.
        name: Tells cases of one kind apart.
        ignore: Output columns that count steps, so that they differ between cuts.
        shown: For operators that may take a late row in part: given the outputs by port, the
            values of the input column `id` that the result shows.
        relative: How far floats of different cuts may lie apart, relative to their size.
        absolute: The same for floats near zero.
    """

    operator: Operator
    inputs: tuple[InputSpec, ...]
    oracle: Oracle | None = None
    name: str = ""
    ignore: tuple[str, ...] = ()
    shown: Callable[[Mapping[str, pl.DataFrame]], pl.Series] | None = None
    relative: float = 1e-9
    absolute: float = 1e-9

    @property
    def title(self) -> str:
        """`kind` or `kind:name`."""
        return f"{self.operator.kind}:{self.name}" if self.name else self.operator.kind

    @property
    def schemas(self) -> tuple[pl.Schema, ...]:
        """The visible columns of the inputs."""
        return tuple(spec.schema for spec in self.inputs)

    # Asked of the operator once: it checks its plan each time, which takes longer than a run.
    @cached_property
    def declared(self) -> Mapping[str, pl.Schema]:
        """The visible columns of each output port."""
        return self.operator.output_schema(*self.schemas)

    @cached_property
    def state(self) -> tuple[TableSpec, ...]:
        """The tables that the operator keeps."""
        return self.operator.tables(*self.schemas)

    @property
    def data_ports(self) -> tuple[int, ...]:
        """The inputs that carry data rows rather than control changes."""
        controls = self.operator.control_ports
        return tuple(port for port in range(len(self.inputs)) if port not in controls)
