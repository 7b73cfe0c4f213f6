"""Features in a PostgreSQL table."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any, ClassVar, Final

import polars as pl
from pydantic import Field, field_validator, model_validator

from headrace.core.errors import ConnectError, MissingExtraError, PlanError
from headrace.core.time import TIME_DTYPE
from headrace.features.source import (
    FOUND,
    UPDATED,
    FeatureClient,
    FeatureSource,
    revealed,
    times_of,
)

_TYPES: Final[dict[Any, str]] = {
    pl.String: "text",
    pl.Int16: "smallint",
    pl.Int32: "integer",
    pl.Int64: "bigint",
    pl.Float64: "double precision",
    pl.Boolean: "boolean",
}
_PLACE: Final = "__place"


class PostgresTable(FeatureSource):
    """A table or view with one row per entity. Needs headrace[postgres].

    Columns are named like key and features; `updated` names a `timestamptz` column. Cost: one
    query per batch, which joins the table with the keys; let an index begin with them.

    Attributes:
        url: `postgresql://user:${PASSWORD}@host:port/database`; `${NAME}` is an environment
            variable, read when the source opens.
        table: Its name, with its schema where that is not in the search path.
        seconds: Longest time of connecting and of a query.
    """

    kind: ClassVar[str] = "postgres"
    url: str
    table: str
    seconds: float = Field(default=5.0, gt=0)

    @field_validator("table")
    @classmethod
    def _is_name(cls, table: str) -> str:
        schema, _, name = table.rpartition(".")
        if not name or "." in schema or table.startswith(".") or "\0" in table:
            raise PlanError(f"{table!r} is no table", hint='table="features" or "schema.features"')
        return table

    @model_validator(mode="after")
    def _text(self) -> PostgresTable:
        if any("\0" in name for name in (*self.key, *self.features)):
            raise PlanError("a column name has a zero byte")
        return self

    def open(self) -> FeatureClient:
        """Return a client.

        Raises:
            MissingExtraError: The client library is not installed.
        """
        try:
            library = import_module("asyncpg")
        except ImportError as error:
            raise MissingExtraError(
                "PostgreSQL needs a client library", hint="pip install 'headrace[postgres]'"
            ) from error
        return _PostgresClient(self, library)

    def query(self, keys: pl.Schema) -> str:
        """Return the query for keys of these dtypes, which come as arrays.

        Raises:
            PlanError: A key has no type there.
        """
        arrays = []
        for place, (name, dtype) in enumerate(keys.items(), 1):
            kind = _TYPES.get(type(dtype))
            if kind is None:
                raise PlanError(
                    f"key {name!r} is {dtype}",
                    hint="a key is text, Boolean, Float64 or a signed integer of 16 bits or more",
                )
            arrays.append(f"${place}::{kind}[]")
        names = ", ".join(_quoted(name) for name in keys)
        wanted = [*self.features, *([self.updated] if self.updated else [])]
        table = ".".join(_quoted(part) for part in self.table.split("."))
        matched = " AND ".join(f"t.{_quoted(name)} = k.{_quoted(name)}" for name in keys)
        return (
            f"SELECT k.{_PLACE}, "  # noqa: S608 - names are quoted, values are parameters
            + ", ".join(f"t.{_quoted(name)}" for name in wanted)
            + f" FROM unnest({', '.join(arrays)}) WITH ORDINALITY AS k({names}, {_PLACE})"
            + f" JOIN {table} t ON {matched}"
        )


class _PostgresClient:
    """Keeps an event loop of its own, as it is used from one thread."""

    def __init__(self, source: PostgresTable, library: Any) -> None:
        self._source = source
        self._library = library
        self._failures = (
            library.PostgresError,
            library.InterfaceError,
            OSError,
            TimeoutError,
        )
        self._url = revealed(source.url)
        self._runner: asyncio.Runner | None = None
        self._connection: Any = None

    def get(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of `keys`.

        Raises:
            ConnectError: PostgreSQL does not answer, or refuses.
        """
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            records = self._runner.run(self._fetch(keys))
        except (
            self._library.PostgresError,
            self._library.InterfaceError,
            OSError,
            TimeoutError,
        ) as error:
            self._drop()
            raise ConnectError(
                f"PostgreSQL: {error or type(error).__name__}",
                hint="see url and table of the feature source",
            ) from error
        return self._read(keys.height, [tuple(record) for record in records])

    def close(self) -> None:
        """Close the connection and the event loop."""
        if self._runner is not None:
            self._drop()
            self._runner.close()
            self._runner = None

    async def _fetch(self, keys: pl.DataFrame) -> list[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._library.connect(
                self._url,
                timeout=self._source.seconds,
                command_timeout=self._source.seconds,
            )
        arrays = [column.to_list() for column in keys.iter_columns()]
        fetched: list[Any] = await self._connection.fetch(self._source.query(keys.schema), *arrays)
        return fetched

    def _read(self, asked: int, records: list[tuple[Any, ...]]) -> pl.DataFrame:
        columns = list(zip(*records, strict=True)) if records else []
        names = [_PLACE, *self._source.features]
        names += [self._source.updated] if self._source.updated else []
        given = dict(zip(names, columns, strict=True)) if columns else dict.fromkeys(names, ())
        made = [
            pl.Series(name, list(given[name]), dtype=dtype, strict=False)
            for name, dtype in self._source.features.items()
        ]
        times = pl.Series([None], dtype=TIME_DTYPE).new_from_index(0, len(records))
        if self._source.updated:
            times = times_of(pl.Series(list(given[self._source.updated]), dtype=TIME_DTYPE))
        place = pl.Series(_PLACE, list(given[_PLACE]), dtype=pl.Int64) - 1
        hits = pl.DataFrame([place, *made, times.alias(UPDATED)]).unique(
            _PLACE, keep="first", maintain_order=True
        )
        every = pl.DataFrame({_PLACE: range(asked)}, schema={_PLACE: pl.Int64})
        found = hits.with_columns(pl.lit(value=True).alias(FOUND))
        return (
            every.join(found, on=_PLACE, how="left", maintain_order="left")
            .drop(_PLACE)
            .with_columns(pl.col(FOUND).fill_null(value=False))
        )

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
