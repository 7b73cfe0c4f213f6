"""Features given in the code."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import BeforeValidator, PlainSerializer, model_validator

from headrace.core.errors import PlanError
from headrace.core.schema_field import SchemaField
from headrace.features.source import FOUND, UPDATED, FeatureClient, FeatureSource, parsed, times_of


def _plain(rows: tuple[tuple[Any, ...], ...]) -> list[list[Any]]:
    return [[one.isoformat() if isinstance(one, date) else one for one in row] for row in rows]


def _column(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    """Return values, also times and dates written as text."""
    if isinstance(dtype, pl.Datetime | pl.Date) and any(isinstance(one, str) for one in values):
        texts = pl.Series(name, values, dtype=pl.String)
        return texts.str.to_date() if isinstance(dtype, pl.Date) else parsed(texts, dtype)
    return pl.Series(name, values, dtype=dtype)


def static(rows: pl.DataFrame, *, key: str | tuple[str, ...], updated: str | None = None) -> Static:
    """Describe features that are given in the code.

    Args:
        rows: One row per entity: its key and features.
        key: Key columns.
        updated: Column with the time of the values.

    Raises:
        PlanError: A column is missing, or a key is there twice.
    """
    keys = (key,) if isinstance(key, str) else tuple(key)
    features = {n: d for n, d in rows.schema.items() if n not in (*keys, updated)}
    return Static(
        key=keys,
        features=pl.Schema(features),
        updated=updated,
        rows=tuple(rows.rows()),
        columns=rows.schema,
    )


class Static(FeatureSource):
    """A table of a few thousand rows that is part of the application; made by `static`.

    Attributes:
        rows: The table.
        columns: Its columns.
    """

    kind: ClassVar[str] = "static"
    rows: Annotated[
        tuple[tuple[Any, ...], ...],
        BeforeValidator(lambda rows: tuple(tuple(row) for row in rows)),
        PlainSerializer(_plain, return_type=list[list[Any]]),
    ]
    columns: SchemaField

    @model_validator(mode="after")
    def _unique(self) -> Static:
        wanted = [*self.key, *self.features, *([self.updated] if self.updated else [])]
        missing = [name for name in wanted if name not in self.columns]
        if missing:
            raise PlanError(f"the table has no column {missing[0]!r}")
        if self._table().select(self.key).is_duplicated().any():
            raise PlanError(f"the table has two rows of one key ({', '.join(self.key)})")
        return self

    def open(self) -> FeatureClient:
        """Return a client of the table."""
        return _StaticClient(self, self._table())

    def _table(self) -> pl.DataFrame:
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        return pl.DataFrame(
            _column(name, list(values), dtype)
            for (name, dtype), values in zip(self.columns.items(), columns, strict=True)
        )


class _StaticClient:
    def __init__(self, source: Static, table: pl.DataFrame) -> None:
        updated = None if source.updated is None else times_of(table[source.updated])
        self._key = list(source.key)
        self._shape = source.shape()
        self._table = table.with_columns(
            pl.lit(None, self._shape[UPDATED]).alias(UPDATED)
            if updated is None
            else updated.alias(UPDATED),
            pl.lit(value=True).alias(FOUND),
        )

    def get(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of `keys`."""
        hit = keys.join(self._table, on=self._key, how="left", maintain_order="left")
        return hit.select(list(self._shape)).with_columns(pl.col(FOUND).fill_null(value=False))

    def close(self) -> None:
        """Nothing is open."""
