"""FeatureSource: what answers keys with the values of features."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Final, Protocol

import polars as pl
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from headrace.core.component import Component
from headrace.core.errors import ConfigError, PlanError
from headrace.core.schema_field import SchemaField
from headrace.core.time import TIME_DTYPE

FOUND: Final = "__found"
UPDATED: Final = "__updated"

KINDS: Final[dict[str, type[FeatureSource]]] = {}
"""Every kind of source, for reading what was serialised."""


class FeatureClient(Protocol):
    """A source at work. Used from one thread, which may not be the one that opened it."""

    def get(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return one row per row of `keys`, in its order: the features, `UPDATED` (when they
        were written, `Datetime("us", "UTC")`, null where that is not known) and `FOUND`.

        Args:
            keys: n different keys, none of them null, in the source's names.

        Raises:
            OutsideError: It cannot answer; the client translates what its library raises.
        """
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class FeatureSource(Component, ABC):
    """Describes where features are looked up.

    Attributes:
        key: Columns that identify an entity, as the source names them.
        features: Features it is asked for, with dtypes.
        updated: What the source calls the time of its values, where it keeps one.
    """

    key: tuple[str, ...] = Field(min_length=1)
    features: SchemaField
    updated: str | None = None

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        if "kind" in cls.__dict__:
            KINDS[cls.kind] = cls

    @model_validator(mode="before")
    @classmethod
    def _one_key(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("key"), str):
            return {**given, "key": (given["key"],)}
        return given

    @model_validator(mode="after")
    def _names(self) -> FeatureSource:
        if not len(self.features):
            raise PlanError("a feature source needs features", hint='{"visits": pl.Int64}')
        taken = [name for name in self.features if name in self.key]
        if taken:
            raise PlanError(f"{taken[0]!r} is both a key and a feature")
        return self

    @abstractmethod
    def open(self) -> FeatureClient:
        """Return a client; it connects when it is first asked.

        Raises:
            MissingExtraError: A library is not installed.
            ConfigError: A variable that it names is not set.
        """

    def shape(self) -> pl.Schema:
        """Return the columns of an answer."""
        return pl.Schema({**self.features, UPDATED: TIME_DTYPE, FOUND: pl.Boolean()})


def read_source(value: Any) -> Any:
    """Return a source, also from what `dump_source` wrote.

    Raises:
        ConfigError: There is no such kind.
    """
    if not isinstance(value, Mapping):
        return value
    given = dict(value)
    kind = KINDS.get(given.pop("kind", ""))
    if kind is None:
        raise ConfigError(f"no feature source of kind {value.get('kind')!r}")
    return kind(**given)


def dump_source(source: FeatureSource) -> dict[str, Any]:
    """Return a source as JSON data."""
    return {"kind": source.kind, **source.model_dump(mode="json")}


SourceField = Annotated[
    FeatureSource,
    BeforeValidator(read_source),
    PlainSerializer(dump_source, return_type=dict[str, Any]),
]
"""A feature source; what was serialised is read again."""


def revealed(text: str) -> str:
    """Return `text` with every `${NAME}` replaced by that environment variable, so that a plan
    holds no secret.

    Raises:
        ConfigError: It is not set.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in os.environ:
            raise ConfigError(
                f"the feature source names {name!r}, which is not set",
                hint=f"set the environment variable {name}",
            )
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", value, text)


def times_of(values: pl.Series) -> pl.Series:
    """Return times written as text or as seconds since 1970, as `Datetime("us", "UTC")`; null
    where they are neither.
    """
    if values.dtype == TIME_DTYPE:
        return values
    if isinstance(values.dtype, pl.Datetime):
        zone = values.dtype.time_zone
        utc = values.dt.convert_time_zone("UTC") if zone else values.dt.replace_time_zone("UTC")
        return utc.cast(TIME_DTYPE)
    if values.dtype == pl.String:
        seconds = values.cast(pl.Float64, strict=False)
        written = values.str.to_datetime(time_unit="us", time_zone="UTC", format="%+", strict=False)
    else:
        seconds = values.cast(pl.Float64, strict=False)
        written = pl.Series([None], dtype=TIME_DTYPE).new_from_index(0, values.len())
    numbers = (seconds.fill_nan(None) * 1e6).round().cast(pl.Int64, strict=False).cast(TIME_DTYPE)
    return numbers.zip_with(numbers.is_not_null(), written)


def parsed(texts: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Return text as values of `dtype`; null where it is none."""
    if dtype == pl.Boolean:
        lower = texts.str.to_lowercase()
        known = lower.is_in(["1", "true", "0", "false"])
        return lower.is_in(["1", "true"]).zip_with(
            known, pl.Series([None], dtype=pl.Boolean).new_from_index(0, texts.len())
        )
    if isinstance(dtype, pl.Datetime):
        return times_of(texts).cast(dtype)
    return texts if dtype == pl.String else texts.cast(dtype, strict=False)
