"""What a condition says, as data: few kinds of atoms under AND and NOT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import polars as pl

Function = Literal["avg", "sum", "min", "max", "count"]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A number is not less than a threshold; every order comparison is this or its negation."""

    metric: str
    threshold: float


@dataclass(frozen=True, slots=True)
class Equals:
    """A text equals one."""

    metric: str
    value: str


@dataclass(frozen=True, slots=True)
class InZone:
    """The row lies in a zone."""

    zone_id: str


@dataclass(frozen=True, slots=True)
class Holds:
    """An expression is true; one that only Polars can judge."""

    metric: str


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary; what is unknown stays so."""

    part: Tree


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; false as soon as one part is."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Never decided: `NULL`."""


Tree = AtLeast | Equals | InZone | Holds | Not | All | Unknown

TRUE: Final = All(())


@dataclass(frozen=True, slots=True)
class Window:
    """An aggregate over the last rows of a key.

    Attributes:
        name: As it is shown: `avg(depth_m) over 5m`.
        function: Which aggregate.
        value: Name of what is aggregated; empty where rows are counted.
        length_us: How far back, in microseconds.
    """

    name: str
    function: Function
    value: str
    length_us: int


@dataclass(frozen=True, slots=True)
class Metric:
    """Something read from each row.

    Attributes:
        expr: Over the row's columns, the hidden event time, and window aggregates by name; null
            where absent, and NaN too.
        kind: `number` (Float64), `whole` (Int64), `text` (String) or `truth` (Boolean).
    """

    expr: pl.Expr = field(compare=False)
    kind: Literal["number", "whole", "text", "truth"]


@dataclass(frozen=True, slots=True)
class Single:
    """A condition that is one comparison of a number with a constant.

    Attributes:
        direction: Where the value lies when the condition holds.
        back: With a hysteresis: the value has come back past it.
    """

    metric: str
    threshold: float
    direction: Literal["above", "below"]
    back: Tree | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition compiled against a schema.

    Attributes:
        tree: What must hold.
        metrics: Everything that atoms read, by name.
        windows: Everything that is aggregated, by name; also the values of windows are `metrics`.
        reads: Columns and window aggregates of the condition, in their order in it.
        single: Where it is one comparison.
    """

    tree: Tree
    metrics: Mapping[str, Metric]
    windows: Mapping[str, Window]
    reads: tuple[str, ...]
    single: Single | None = None


def every(parts: Iterable[Tree]) -> Tree:
    """Return the tree that holds where all parts do."""
    flat: dict[Tree, None] = {}
    for part in parts:
        for one in part.parts if isinstance(part, All) else (part,):
            flat[one] = None
    return next(iter(flat)) if len(flat) == 1 else All(tuple(flat))


def some(parts: Iterable[Tree]) -> Tree:
    """Return the tree that holds where any part does."""
    return contrary(every(contrary(part) for part in parts))


def contrary(part: Tree) -> Tree:
    """Return the tree that holds where `part` is false."""
    return part.part if isinstance(part, Not) else Not(part)
