"""The columns of a join: those of the left side, then those of the right without its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import polars as pl
from pydantic import BeforeValidator

from headrace.core.errors import PlanError
from headrace.core.time import EVENT_TIME, HIDDEN, POSITION
from headrace.operators.columns import column_names
from headrace.operators.project import check_present

LATE_RIGHT: Final = "late_right"
"""The port of right rows that came too late; those of the left leave by `late`."""

SUFFIX: Final = "_right"


def key_pairs(value: Any) -> Any:
    """Return a join key as pairs (left column, right column).

    Takes None, one or several names or `pl.col`, a dict {left: right}, or the pairs themselves.
    """
    if isinstance(value, Mapping):
        return tuple(zip(column_names(value.keys()), column_names(value.values()), strict=True))
    if isinstance(value, Sequence) and value and all(isinstance(v, list | tuple) for v in value):
        return tuple((left, right) for left, right in value)
    return tuple((name, name) for name in column_names(value))


KeyPairs = Annotated[tuple[tuple[str, str], ...], BeforeValidator(key_pairs)]
"""The key of a join: pairs (left column, right column)."""


class JoinedColumns:
    """How the rows of two sides become rows of the result.

    Args:
        left: Columns of the left side.
        right: Columns of the right side.
        on: Key, as pairs (left column, right column); the right one is left out.
        suffix: Added to the name of a right column that the left side has too.

    Attributes:
        left: Columns of the left side.
        schema: Columns of the result.
        on_left: Key columns of the left side.
        on_right: Key columns of the right side.
        renamed: The right side's columns in the result, by the names they have there.

    Raises:
        PlanError: A key column is missing, of differing or nested dtype, or names clash.
    """

    def __init__(
        self, left: pl.Schema, right: pl.Schema, on: Sequence[tuple[str, str]], suffix: str
    ) -> None:
        self.on_left = [name for name, _ in on]
        self.on_right = [name for _, name in on]
        check_present(self.on_left, left)
        check_present(self.on_right, right)
        for ours, theirs in on:
            _check_key(ours, left[ours], theirs, right[theirs])
        self.renamed = {
            name: name + suffix if name in left else name
            for name in right
            if name not in self.on_right
        }
        names = [*left, *self.renamed.values()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PlanError(
                f"two columns of the join are called {', '.join(twice)}",
                hint="give another suffix=, or rename() before",
            )
        self.left = left
        added = {new: right[old] for old, new in self.renamed.items()}
        self.schema = pl.Schema({**left, **added})
        self._right = pl.Schema(added)

    def name_of(self, right: str) -> str:
        """Return the name in the result of a right column."""
        if right in self.on_right:
            return self.on_left[self.on_right.index(right)]
        return self.renamed[right]

    def pairs(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Put rows side by side; each pair has the event time and position of its later row."""
        ours, theirs = left[list(HIDDEN)], right[list(HIDDEN)]
        later = (theirs[EVENT_TIME] > ours[EVENT_TIME]) | (
            (theirs[EVENT_TIME] == ours[EVENT_TIME]) & (theirs[POSITION] > ours[POSITION])
        )
        hidden = [theirs[name].zip_with(later, ours[name]) for name in HIDDEN]
        return left[self.left.names()].hstack([*self._renamed(right), *hidden])

    def beside(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Put rows side by side; each has the event time and position of its left row."""
        hidden = [left[name] for name in HIDDEN]
        return left[self.left.names()].hstack([*self._renamed(right), *hidden])

    def only_left(self, left: pl.DataFrame) -> pl.DataFrame:
        """Return left rows with nulls on the right."""
        nulls = self._right.to_frame().clear(left.height)
        hidden = [left[name] for name in HIDDEN]
        return left[self.left.names()].hstack([*nulls.get_columns(), *hidden])

    def only_right(self, right: pl.DataFrame) -> pl.DataFrame:
        """Return right rows with nulls on the left, the key columns apart."""
        keys = dict(zip(self.on_left, self.on_right, strict=True))
        ours = [
            right[keys[name]].alias(name)
            if name in keys
            else pl.Series(name, dtype=dtype).extend_constant(None, right.height)
            for name, dtype in self.left.items()
        ]
        hidden = [right[name] for name in HIDDEN]
        return pl.DataFrame([*ours, *self._renamed(right), *hidden])

    def _renamed(self, right: pl.DataFrame) -> list[pl.Series]:
        return [right[old].alias(new) for old, new in self.renamed.items()]


def _check_key(left: str, ours: pl.DataType, right: str, theirs: pl.DataType) -> None:
    if ours != theirs:
        raise PlanError(
            f"{left!r} is {ours} on the left and {right!r} is {theirs} on the right",
            hint="cast one with with_columns() before the join",
        )
    if ours.is_nested() or ours in (pl.Object, pl.Unknown):
        raise PlanError(
            f"{left!r} of type {ours} cannot be a key",
            hint="take keys from plain columns: text, numbers, Booleans or times",
        )
