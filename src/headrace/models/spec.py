"""What a runtime is told of the model it loads; it crosses to another process as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from headrace.core.schema_field import dtype_from_text

if TYPE_CHECKING:
    from headrace.models.description import Artifact
    from headrace.models.source import Version


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one model. Two equal ones are loaded once.

    Attributes:
        kind: Of the model: `onnx`, `treelite`, `sklearn`, `mlflow`.
        name: The model's.
        source: Path or URI.
        version: What its answers name; None is found out when it is loaded.
        features: Names and dtypes of its inputs, in order.
        outputs: Names and dtypes of its answers.
        threads: Threads of one call.
        isolated: Whether it runs in a process of its own.
        options: What else its runtime must know.
        example: A row to warm it up with.
    """

    kind: str
    name: str
    source: str
    version: str | None
    features: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    threads: int = 1
    isolated: bool = True
    options: dict[str, Any] = {}
    example: dict[str, float | bool | str] | None = None

    @classmethod
    def of(cls, model: Artifact, features: pl.Schema, version: Version | None = None) -> LoadSpec:
        """Return what loads a version of a model; by default the one that its description names.

        Args:
            model: The model.
            features: The columns it is given.
            version: The version and where exactly it lies.
        """
        return cls(
            kind=model.kind,
            name=model.name,
            source=model.source if version is None else version.source,
            version=model.version if version is None else version.version,
            features=tuple((name, repr(dtype)) for name, dtype in features.items()),
            outputs=tuple((name, repr(dtype)) for name, dtype in model.outputs.items()),
            threads=model.threads,
            isolated=model.isolated,
            options=model.options(),
            example=model.example,
        )

    def key(self) -> bytes:
        """Return bytes that are equal where everything is equal."""
        return msgspec.json.encode(self, order="deterministic")

    def feature_schema(self) -> pl.Schema:
        """Return the columns of the frames it is given."""
        return pl.Schema({name: dtype_from_text(text) for name, text in self.features})

    def output_schema(self) -> pl.Schema:
        """Return the columns it answers."""
        return pl.Schema({name: dtype_from_text(text) for name, text in self.outputs})

    def warm_rows(self) -> pl.DataFrame:
        """Return a few rows to warm the model up with."""
        schema = self.feature_schema()
        row = {name: _plain(dtype) for name, dtype in schema.items()} | (self.example or {})
        return pl.DataFrame([row], schema=schema).select(pl.all().repeat_by(8).explode())


def _plain(dtype: pl.DataType) -> Any:
    if dtype.is_numeric():
        return 0
    return False if dtype == pl.Boolean else ""
