"""OpenRows: rows that were predicted and whose label may still come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from headrace.core.protocols import Tables, TableSpec
from headrace.core.time import EVENT_TIME

_OPEN: Final = "open"
_FOUND: Final = "__found"
_ID: Final = "__id"


class OpenRows:
    """Rows by id, with what was read of them and what was predicted.

    Args:
        tables: The operator's.
        within: Microseconds for which a row waits for its label.
    """

    def __init__(self, tables: Tables, within: int) -> None:
        self._table = tables.keyed(_OPEN)
        self._within = within

    @staticmethod
    def spec(
        ids: pl.DataType, kept: Mapping[str, pl.DataType], answers: Mapping[str, pl.DataType]
    ) -> TableSpec:
        """Declare the table."""
        schema = pl.Schema({_ID: ids, **kept, **answers, EVENT_TIME: pl.Int64()})
        return TableSpec(_OPEN, "keyed", schema, key=(_ID,))

    def find(self, ids: pl.Series) -> tuple[pl.DataFrame, list[bool]]:
        """Return for each id what is kept of its row, and whether there is one."""
        known = self._table.lookup(ids.alias(_ID).to_frame())
        return known.drop(_FOUND), (known[_FOUND] & ids.is_not_null()).to_list()

    def in_time(self, row: int, label: int) -> bool:
        """Whether a label of time `label` is for a row of time `row`."""
        return row <= label <= row + self._within

    def add(self, rows: pl.DataFrame, ids: pl.Series) -> None:
        """Keep rows; of equal ids the last."""
        self._table.upsert(rows.with_columns(ids.alias(_ID)))

    def close(self, ids: Sequence[Any], dtype: pl.DataType) -> None:
        """Forget rows that have their label."""
        if ids:
            self._table.delete(pl.DataFrame({_ID: ids}, schema={_ID: dtype}))

    def expire(self, watermark: int) -> None:
        """Forget rows whose label could only come too late."""
        self._table.expire(EVENT_TIME, watermark - self._within)
