"""What a `rules` step knows of keys, between its tables and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl

from headrace.core.protocols import KeyedTable
from headrace.operators.lists import lists_of
from headrace.operators.rulebook.bits import Bools, Floats, Ints
from headrace.operators.rulebook.judge import Held
from headrace.operators.rulebook.windows import Pane

LAST: Final = "__last"
VALUES: Final = "__values"
PAIRS: Final = "__pairs"
PANES: Final = "__panes"
SOURCE: Final = "__source"
PAIR: Final = pl.Struct({"rule": pl.String, "version": pl.Int64, "near": pl.Boolean})

_KEY: Final = "__key"
_NUMBER: Final = "__number"
_FOUND: Final = "__found"


def key_text(by: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """Return a key as text: parts joined by `/`, which is `%2F` inside a part; null is `null`."""
    parts = []
    for name in by:
        part = pl.col(name) + 0.0 if schema[name].is_float() else pl.col(name)
        text = part.cast(pl.String).fill_null("null")
        if len(by) > 1:
            text = text.str.replace_all("%", "%25", literal=True)
            text = text.str.replace_all("/", "%2F", literal=True)
        parts.append(text)
    return pl.concat_str(parts, separator="/").alias("key")


class Values:
    """The last known values of keys, one place per metric that a rule compares.

    Args:
        table: One row per key.
        width: Number of metrics.
    """

    def __init__(self, table: KeyedTable, width: int) -> None:
        self._table = table
        self._width = width

    def of(self, keys: pl.DataFrame) -> tuple[Bools, Ints, Floats]:
        """Return which keys are known, when they were last seen, and their values; NaN is none."""
        found = self._table.lookup(keys)
        known = found[_FOUND].to_numpy()
        last = found[LAST].fill_null(0).to_numpy()
        values = np.full((keys.height, self._width), np.nan)
        if self._width and known.any():
            lists = found[VALUES].filter(found[_FOUND])
            values[known] = lists.explode().to_numpy().reshape(-1, self._width)
        return known, last, values

    def store(self, keys: pl.DataFrame, last: Ints, values: Floats) -> None:
        """Keep what is known of keys."""
        self._table.upsert(
            keys.with_columns(
                pl.Series(LAST, last, dtype=pl.Int64), _as_lists(values).alias(VALUES)
            )
        )

    @staticmethod
    def rearrange(table: KeyedTable, old: Sequence[str], new: Sequence[str]) -> None:
        """Move the values of every key from the places `old` to the places `new`."""
        frame = table.frame()
        if frame.is_empty():
            return
        before = np.full((frame.height, len(old)), np.nan)
        if old:
            before = frame[VALUES].explode().to_numpy().reshape(-1, len(old))
        after = np.full((frame.height, len(new)), np.nan)
        for place, name in enumerate(new):
            if name in old:
                after[:, place] = before[:, old.index(name)]
        table.upsert(frame.with_columns(_as_lists(after).alias(VALUES)))


def _as_lists(values: Floats) -> pl.Series:
    if not values.shape[1]:
        empty = pl.Series([[]], dtype=pl.List(pl.Float64))
        return empty.new_from_index(0, values.shape[0])
    return pl.Series(np.ascontiguousarray(values)).cast(pl.List(pl.Float64))


def held_of(table: KeyedTable, keys: pl.DataFrame, numbers: Mapping[str, int]) -> Held:
    """Return the pairs of keys, with rules by number; rules that are gone are left out."""
    if not table.rows or not numbers:
        return Held()
    names = pl.DataFrame(
        {"rule": list(numbers), _NUMBER: list(numbers.values())},
        schema={"rule": pl.String(), _NUMBER: pl.Int64()},
    )
    pairs = opened(table.lookup(keys).select(PAIRS).with_row_index(_KEY)).join(
        names, on="rule", how="inner", maintain_order="left"
    )
    return Held(
        pairs[_KEY].to_numpy().astype(np.int64),
        pairs[_NUMBER].to_numpy(),
        pairs["version"].to_numpy(),
        pairs["near"].to_numpy(),
    )


def opened(lists: pl.DataFrame) -> pl.DataFrame:
    """Return one row per pair of the column of lists."""
    return lists.explode(PAIRS, empty_as_null=False, keep_nulls=False).unnest(PAIRS)


def store_held(
    table: KeyedTable, keys: pl.DataFrame, last: Ints, held: Held, rule_ids: pl.Series
) -> None:
    """Keep the pairs of keys; those without any are not kept."""
    if not held.key.size and not table.rows:
        return
    held = held.take(np.lexsort((held.rule, held.key)))
    some = np.unique(held.key)
    none = np.ones(keys.height, dtype=np.bool_)
    none[some] = False
    table.delete(keys.filter(none))
    if some.size:
        pairs = pl.DataFrame(
            {
                "rule": rule_ids.gather(held.rule),
                "version": pl.Series(held.version, dtype=pl.Int64),
                "near": pl.Series(held.near, dtype=pl.Boolean),
            }
        )
        lists = lists_of(np.searchsorted(some, held.key), pairs, some.size)
        table.upsert(
            keys[some].with_columns(pl.Series(LAST, last[some], dtype=pl.Int64), lists.alias(PAIRS))
        )


def panes_of(table: KeyedTable, keys: pl.DataFrame, source: str) -> Pane:
    """Return the partial results kept for keys."""
    wanted = keys.with_columns(pl.lit(source).alias(SOURCE))
    rows = (
        table.lookup(wanted)
        .select(PANES)
        .with_row_index(_KEY)
        .explode(PANES, empty_as_null=False, keep_nulls=False)
        .unnest(PANES)
    )
    key, *others = (rows[name].to_numpy() for name in (_KEY, *Pane._fields[1:]))
    return Pane(key.astype(np.int64), *others)


def store_panes(
    table: KeyedTable, keys: pl.DataFrame, source: str, last: Ints, panes: Pane
) -> None:
    """Keep partial results of keys, all of which have some."""
    rows = pl.DataFrame({name: getattr(panes, name) for name in Pane._fields[1:]})
    table.upsert(
        keys.with_columns(
            pl.lit(source).alias(SOURCE),
            pl.Series(LAST, last, dtype=pl.Int64),
            lists_of(panes.key, rows, keys.height).alias(PANES),
        )
    )
