"""Read the files a person has: CSV (plain or gz), NDJSON, JSON, Parquet, GeoJSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from headrace.core.errors import ConfigError


def read_rows(path: Path) -> pl.DataFrame:
    """Return a file's rows; text stays text where it is no plain number.

    Raises:
        ConfigError: No such file, an unknown ending, or it cannot be read as what it says.
    """
    if not path.is_file():
        raise ConfigError(f"no file {path}")
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            return pl.read_parquet(path)
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if name.endswith((".csv", ".tsv")):
            separator = "\t" if name.endswith(".tsv") else ","
            return pl.read_csv(data, separator=separator, infer_schema_length=None)
        if name.endswith((".ndjson", ".jsonl")):
            return pl.read_ndjson(data, infer_schema_length=None)
        if name.endswith(".json"):
            return pl.read_json(data, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    raise ConfigError(
        f"{path.name}: unknown kind of file",
        hint="CSV, NDJSON, JSON (each also .gz) and Parquet are read",
    )


def read_features(path: Path) -> list[dict[str, Any]]:
    """Return a GeoJSON file's features: their properties, and `geometry`.

    Raises:
        ConfigError: It is no FeatureCollection.
    """
    if not path.is_file():
        raise ConfigError(f"no file {path}")
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        features = json.loads(data)["features"]
        return [{**(one["properties"] or {}), "geometry": one["geometry"]} for one in features]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no GeoJSON FeatureCollection: {error!r}") from error


def is_geojson(path: Path) -> bool:
    """Whether the file's name says GeoJSON."""
    return path.name.removesuffix(".gz").endswith(".geojson")


def mapped(rows: pl.DataFrame, mapping: Sequence[str], columns: Mapping[str, str]) -> pl.DataFrame:
    """Return `rows` with the topic's columns: `column=field` renames, equal names stay.

    Args:
        rows: The file's.
        mapping: `column=field` pairs.
        columns: Names of the topic's columns, with their types as text; a number in a column of
            text becomes text, since a CSV cannot say which it is.

    Raises:
        ConfigError: A pair is malformed, or names what is not there.
    """
    pairs = {}
    for text in mapping:
        column, equals, field = text.partition("=")
        if not equals:
            raise ConfigError(f"--map {text!r}", hint="write column=field")
        if column not in columns:
            raise ConfigError(
                f"--map {text!r}: the topic has no column {column!r}",
                hint=f"it has {', '.join(columns)}",
            )
        if field not in rows.columns:
            raise ConfigError(
                f"--map {text!r}: the file has no field {field!r}",
                hint=f"it has {', '.join(rows.columns)}",
            )
        pairs[column] = field
    for column in columns:
        if column not in pairs and column in rows.columns:
            pairs[column] = column
    if not pairs:
        raise ConfigError(
            "the file shares no column with the topic",
            hint=f"--map column=field, with columns {', '.join(columns)}"
            f" and fields {', '.join(rows.columns)}",
        )
    return rows.select(
        pl.col(field).cast(pl.String).alias(column)
        if columns[column] == "String" and rows.schema[field].is_integer()
        else pl.col(field).alias(column)
        for column, field in pairs.items()
    )


def json_lines(rows: pl.DataFrame) -> bytes:
    """Return rows as NDJSON, times as RFC 3339 with offset."""
    naive = [
        name
        for name, dtype in rows.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None
    ]
    rows = rows.with_columns(pl.col(naive).dt.replace_time_zone("UTC"))
    times = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.Datetime)]
    text = pl.col(times).dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return rows.with_columns(text).write_ndjson().encode()
