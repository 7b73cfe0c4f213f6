"""Conditions as bits per row: what the row alone says, found for whole frames at once."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.time import HIDDEN
from headrace.operators.filter import check_predicate
from headrace.operators.key_runs import ALL
from headrace.operators.patterns.matched import Taken, references

BITS: Final = "__bits"
FIRST: Final = "__first"


class Conditions:
    """The conditions of a pattern over rows of one schema.

    Args:
        conditions: By number; some look at rows taken.
        by: Key columns.
        taken: Computes what they say of rows taken.
        schema: Visible columns of the rows.

    Attributes:
        asked: What those that look at rows taken want to know, by number.
        asking: Bits of these.
        schema: What `judge` returns, hidden columns included.

    """

    def __init__(
        self, conditions: Sequence[pl.Expr], by: Sequence[str], taken: Taken, schema: pl.Schema
    ) -> None:
        self._conditions = conditions
        self._taken = taken
        uses = {number: references(one) for number, one in enumerate(conditions)}
        self.asked = {n: [one.name for one in found] for n, found in uses.items() if found}
        self.asking = sum(1 << number for number in self.asked)
        self._full = pl.Schema({**schema, **taken.schema})
        read = {
            name
            for number in self.asked
            for name in conditions[number].meta.root_names()
            if name not in taken.schema and name not in HIDDEN
        }
        self._read = [name for name in schema if name in read]
        kept = {name: schema[name] for name in dict.fromkeys((*by, *self._read))}
        marks = {BITS: pl.Int64(), **({FIRST: pl.Int64()} if self.asking else {})}
        hidden = {name: pl.Int64() for name in HIDDEN}
        keys: dict[str, Any] = kept if by else {ALL: pl.Boolean(), **kept}
        self.schema = pl.Schema({**keys, **marks, **taken.kept, **hidden})
        self._bits = _bits([self._possible(number) for number in range(len(conditions))])
        self._first = _bits(conditions)

    def check(self) -> None:
        """Refuse a condition that is not a row-wise Boolean.

        Raises:
            PlanError: What it is instead.
        """
        for condition in self._conditions:
            check_predicate(condition, self._full)

    def judge(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return what a match needs of each row: key, bits of the conditions that it satisfies,
        values to keep.

        Where a condition looks at rows taken, its bit in `BITS` says whether the row may satisfy
        it, and in `FIRST` whether it does when nothing was taken.
        """
        marked = frame.with_columns(
            self._bits.alias(BITS),
            pl.lit(value=True).alias(ALL),
            *(of.alias(name) for name, of in self._taken.values.items()),
        )
        if self.asking:
            nothing = frame.with_columns(self._taken.of_none())
            marked = marked.with_columns(nothing.select(self._first.alias(FIRST))[FIRST])
        return marked.select(self.schema.names())

    def holds(self, number: int, under_test: pl.DataFrame, said: Sequence[pl.Series]) -> list[bool]:
        """Return whether condition `number` holds for each row under test.

        Args:
            number: Of a condition that looks at rows taken.
            under_test: The rows, as `judge` returned them.
            said: What it asks of the rows taken, for each row under test.
        """
        held = under_test.hstack(list(said)).select(self._conditions[number].alias("__holds"))
        answers: list[bool] = held["__holds"].fill_null(value=False).to_list()
        return answers

    def _possible(self, number: int) -> pl.Expr:
        """Return what a condition says of the row alone: its parts that ask for nothing else."""
        condition = self._conditions[number]
        if number not in self.asked:
            return condition
        alone = [part for part in conjuncts(condition) if not references(part)]
        return pl.all_horizontal(alone) if alone else pl.lit(value=True)


def conjuncts(expr: pl.Expr) -> list[pl.Expr]:
    """Return the parts of `a & b & c`; an expression without a JSON form is one part."""
    try:
        tree = json.loads(expr.meta.serialize(format="json"))
        return [
            pl.Expr.deserialize(io.StringIO(json.dumps(part)), format="json")
            for part in _parts(tree)
        ]
    except (pl.exceptions.PolarsError, ValueError):
        return [expr]


def _parts(tree: Any) -> list[Any]:
    node = tree.get("BinaryExpr") if isinstance(tree, dict) else None
    if node is not None and node["op"] in ("And", "LogicalAnd"):
        return [*_parts(node["left"]), *_parts(node["right"])]
    return [tree]


def _bits(conditions: Sequence[pl.Expr]) -> pl.Expr:
    bits = [
        pl.when(condition).then(pl.lit(1 << number, pl.Int64)).otherwise(pl.lit(0, pl.Int64))
        for number, condition in enumerate(conditions)
    ]
    return pl.sum_horizontal(bits)


def check_measures(measures: Sequence[tuple[str, pl.Expr]]) -> None:
    """Refuse measures that speak of columns rather than of rows taken.

    Raises:
        PlanError: Which column.
    """
    for name, measure in measures:
        known = {one.name for one in references(measure)}
        loose = [root for root in measure.meta.root_names() if root not in known]
        if loose:
            raise PlanError(
                f"the measure {name!r} names the column {loose[0]!r}, of which row?",
                hint=f'e.g. hr.matched().last("{loose[0]}")',
            )
