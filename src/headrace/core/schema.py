"""What a row must look like: columns, constraints, and how bad rows are told from good ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

import polars as pl
from pydantic import BaseModel, ValidationError

from headrace.core.errors import HeadraceError, SchemaError
from headrace.core.instants import (
    TimeUnit,
    times_from_datetimes,
    times_from_numbers,
    times_from_text,
)
from headrace.core.json_types import json_type
from headrace.core.model import Check, read_model
from headrace.core.time import TIME_DTYPE

Declaration = Mapping[str, Any] | pl.Schema | type[BaseModel]
"""How an author says what rows look like."""

REASONS_SCHEMA: Final = pl.Schema({"index": pl.UInt32, "reason": pl.String})


class Validated(NamedTuple):
    """The outcome of a check.

    Attributes:
        good: Rows with exactly the schema's columns and dtypes, in input order.
        rejected: `index` (UInt32, the row's place in the input, ascending) and `reason` (String).
    """

    good: pl.DataFrame
    rejected: pl.DataFrame


@dataclass(frozen=True)
class RowSchema:
    """Columns of a stream and what their values must satisfy.

    Make one with `RowSchema.of`. Every time is `Datetime("us", "UTC")`; at the edge a time is
    RFC 3339 text (without an offset it is UTC) or, where `time_unit` is declared, a number.

    Attributes:
        columns: Names and dtypes, in order.
        required: Columns whose null is refused. A Polars schema requires none.
        defaults: What a missing or null value becomes.
        aliases: Other names accepted for columns.
        json_columns: String columns that hold JSON text.
        checks: Constraints as Polars expressions.
        model: The pydantic model it was read from.
        validated: Good rows must also pass `model` one by one: it has validators or constraints
            that have no expression (about 200 k rows/s).
        forbids_unknown: Unknown columns make a row bad; otherwise they are ignored.
        time_unit: Unit of times given as numbers; None refuses numbers.
    """

    columns: pl.Schema
    required: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    json_columns: frozenset[str] = frozenset()
    checks: tuple[Check, ...] = field(default=(), compare=False)
    model: type[BaseModel] | None = None
    validated: bool = False
    forbids_unknown: bool = False
    time_unit: TimeUnit | None = None

    @classmethod
    def of(
        cls,
        declaration: Declaration | RowSchema,
        *,
        time_unit: TimeUnit | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> RowSchema:
        """Read a Polars schema, a mapping of names to dtypes, or a pydantic model class.

        Args:
            declaration: What rows look like. A RowSchema is taken as it is.
            time_unit: Unit of times given as numbers: s, ms, us or ns.
            aliases: Further names accepted for columns, {outside name: column}.

        Raises:
            SchemaError: A column has no dtype, a reserved name, or an alias leads nowhere.

        Example:
            >>> from pydantic import BaseModel, Field
            >>> class Reading(BaseModel):
            ...     sensor: str
            ...     celsius: float = Field(ge=-273.15)
            >>> readings = pl.DataFrame({"sensor": ["a", "b"], "celsius": [20.0, -300.0]})
            >>> RowSchema.of(Reading).validate(readings).rejected.rows()
            [(1, 'celsius must be at least -273.15')]
        """
        if isinstance(declaration, RowSchema):
            schema = declaration
        elif isinstance(declaration, type) and issubclass(declaration, BaseModel):
            found = read_model(declaration)
            schema = cls(
                columns=pl.Schema(found.columns),
                required=frozenset(found.required),
                defaults=found.defaults,
                aliases=found.aliases,
                json_columns=frozenset(found.json_columns),
                checks=tuple(found.checks),
                model=declaration,
                validated=found.validated,
                forbids_unknown=found.forbids_unknown,
            )
        elif isinstance(declaration, Mapping):
            schema = cls(columns=_columns(declaration))
        else:
            raise SchemaError(
                f"{declaration!r} does not say what rows look like",
                hint='give {"name": pl.Float64, ...}, a pl.Schema or a pydantic model class',
            )
        return schema._finished(
            time_unit or schema.time_unit, {**schema.aliases, **(aliases or {})}
        )

    def _finished(self, time_unit: TimeUnit | None, aliases: Mapping[str, str]) -> RowSchema:
        if not self.columns:
            raise SchemaError("a schema needs at least one column")
        for name in self.columns:
            if name.startswith("__"):
                raise SchemaError(f"column {name!r}: names beginning with __ are reserved")
        for outside, column in aliases.items():
            if column not in self.columns:
                raise SchemaError(
                    f"alias {outside!r} stands for {column!r}, which is no column",
                    hint=f"have {', '.join(self.columns)}",
                )
        return RowSchema(
            columns=self.columns,
            required=self.required,
            defaults=self.defaults,
            aliases=dict(aliases),
            json_columns=self.json_columns,
            checks=self.checks,
            model=self.model,
            validated=self.validated,
            forbids_unknown=self.forbids_unknown,
            time_unit=time_unit,
        )

    def validate(
        self,
        frame: pl.DataFrame,
        *,
        key: str | Sequence[str] | None = None,
        time: str | None = None,
    ) -> Validated:
        """Split `frame` into rows that fit and rows that do not.

        Columns may be in any order, under their name or an alias; missing ones become their
        default or null, unknown ones are left out. Values are converted where nothing is lost
        (other widths and units, text to times); what cannot be converted is a bad row.

        Args:
            frame: Rows as they arrived.
            key: Columns whose null makes a row bad.
            time: A column whose null makes a row bad.

        Returns:
            The good rows and, for the others, the first thing that is wrong with each.

        Cost: about 0.1 ms plus one pass over each column with a constraint.
        """
        rows = frame.height
        bad: list[tuple[pl.Series, str]] = []
        converted = [self._column(frame, name, bad) for name in self.columns]
        fitted = pl.DataFrame(converted)
        if not frame.width:
            fitted = fitted.clear(rows)
        keys = () if key is None else (key,) if isinstance(key, str) else tuple(key)
        needed = dict.fromkeys([*keys, *([time] if time else []), *sorted(self.required)])
        bad.extend(
            (fitted[name].is_null(), f"{name} is missing")
            for name in needed
            if fitted[name].null_count()
        )
        bad.extend(self._broken(fitted))
        reasons = _first_reasons(rows, bad)
        if not self.validated:
            if reasons is None:
                return Validated(fitted, REASONS_SCHEMA.to_frame())
            return _split(fitted, reasons)
        if reasons is None:
            reasons = pl.Series("reason", [None] * rows, dtype=pl.String)
        return self._by_model(fitted, reasons)

    def _column(
        self, frame: pl.DataFrame, name: str, bad: list[tuple[pl.Series, str]]
    ) -> pl.Series:
        """Return column `name` of `frame` in its declared dtype, null where it does not fit."""
        dtype = self.columns[name]
        source = name if name in frame.columns else self._alias_in(frame, name)
        if source is None:
            default = self._filler(name)
            return pl.Series(name, [default], dtype=dtype).new_from_index(0, frame.height)
        given = frame[source]
        value = given if given.dtype == dtype else _converted(given, dtype, self.time_unit)
        if dtype == TIME_DTYPE and given.dtype == TIME_DTYPE:
            value = times_from_datetimes(given)
        if value is not given and value.null_count() > given.null_count():
            lost = value.is_null() & given.is_not_null()
            bad.append((lost, f"{name} {self._expected(dtype)}"))
        default = self._filler(name)
        if default is not None and value.null_count():
            fill = pl.Series(name, [default], dtype=dtype)
            absent = given.is_null()
            value = value.zip_with(~absent, fill.new_from_index(0, value.len()))
        return value.alias(name)

    def _filler(self, name: str) -> Any:
        default = self.defaults.get(name)
        if default is not None and name in self.json_columns:
            return json.dumps(_plain(default))
        return _plain(default) if isinstance(default, BaseModel | tuple | set) else default

    def _alias_in(self, frame: pl.DataFrame, name: str) -> str | None:
        for outside, column in self.aliases.items():
            if column == name and outside in frame.columns:
                return outside
        return None

    def _expected(self, dtype: pl.DataType) -> str:
        if dtype == TIME_DTYPE:
            unit = f" or a number of {self.time_unit}" if self.time_unit else ""
            return f"is not a time: write RFC 3339, 2026-01-01T00:00:00Z{unit}"
        return f"is not {_word(dtype)}"

    def _broken(self, frame: pl.DataFrame) -> list[tuple[pl.Series, str]]:
        """Return the masks and reasons of the checks that some row breaks."""
        if not self.checks or not frame.height:
            return []
        held = frame.select(self._all_hold).row(0)
        broken = [check for check, holds in zip(self.checks, held, strict=True) if not holds]
        if not broken:
            return []
        masks = frame.select(
            check.holds.not_().fill_null(value=False).alias(str(index))
            for index, check in enumerate(broken)
        )
        return [(masks[str(index)], check.reason) for index, check in enumerate(broken)]

    @cached_property
    def _all_hold(self) -> list[pl.Expr]:
        return [check.holds.all().alias(str(index)) for index, check in enumerate(self.checks)]

    def _by_model(self, frame: pl.DataFrame, reasons: pl.Series) -> Validated:
        """Let the model judge each row that is still good, and take its values."""
        if self.model is None:
            return _split(frame, reasons)
        found = reasons.to_list()
        good: list[BaseModel] = []
        for index, row in enumerate(frame.iter_rows(named=True)):
            if found[index] is not None:
                continue
            given = {
                name: json.loads(value) if name in self.json_columns else value
                for name, value in row.items()
                if value is not None
            }
            try:
                good.append(self.model.model_validate(given, by_name=True, by_alias=True))
            except ValidationError as error:
                found[index] = model_reason(error)
        reasons = pl.Series("reason", found, dtype=pl.String)
        return Validated(self.frame_of(good), _rejected(reasons))

    def frame_of(self, models: Sequence[BaseModel]) -> pl.DataFrame:
        """Return instances of the model as rows.

        Raises:
            SchemaError: A value does not fit its column, e.g. a time beyond the year 9999.
        """
        rows = [model.model_dump(mode="python") for model in models]
        columns = []
        for name, dtype in self.columns.items():
            values = [row[name] for row in rows]
            if name in self.json_columns:
                values = [None if value is None else json.dumps(_plain(value)) for value in values]
            elif dtype == pl.String:
                values = [None if value is None else str(_plain(value)) for value in values]
            elif dtype == pl.Float64:
                values = [None if value is None else float(value) for value in values]
            elif isinstance(dtype, pl.List | pl.Struct):
                values = [_plain(value) for value in values]
            try:
                columns.append(pl.Series(name, values, dtype=dtype))
            except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
                raise SchemaError(f"{name} {self._expected(dtype)}") from error
        return pl.DataFrame(columns)

    def json_schema(self, *, title: str = "", required: Sequence[str] = ()) -> dict[str, Any]:
        """Return the JSON schema of one row, as OpenAPI and forms show it.

        Args:
            title: Its title; a model has its own.
            required: Further columns that must be there (key and time of a topic).
        """
        if self.model is not None:
            return self.model.model_json_schema(ref_template="#/$defs/{model}")
        needed = [name for name in self.columns if name in self.required or name in required]
        properties = {
            name: json_type(dtype, self.time_unit, nullable=name not in needed)
            for name, dtype in self.columns.items()
        }
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if title:
            schema["title"] = title
        if needed:
            schema["required"] = needed
        return schema


def model_reason(error: ValidationError) -> str:
    """Return what pydantic found wrong first, with the field's path."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, HeadraceError):
        # Raised by a validator: its own words, without the code in front.
        message = f"{cause.message} ({cause.hint})" if cause.hint else cause.message
    return f"{path}: {message}" if path else message


def _columns(declaration: Mapping[str, Any]) -> pl.Schema:
    columns = {}
    for name, dtype in declaration.items():
        if not name:
            raise SchemaError("a column needs a name")
        try:
            whole = TIME_DTYPE if dtype is pl.Datetime else dtype
            columns[name] = _dtype(pl.Schema({name: whole})[name])
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise SchemaError(
                f"column {name!r}: {dtype!r} is no dtype", hint="e.g. pl.Float64, pl.String"
            ) from error
    return pl.Schema(columns)


def _dtype(dtype: Any) -> pl.DataType:
    """Return a dtype as an instance, with every time in microseconds UTC."""
    instance = dtype() if isinstance(dtype, type) else dtype
    if not isinstance(instance, pl.DataType) or isinstance(instance, pl.Object | pl.Unknown):
        raise TypeError(dtype)
    if isinstance(instance, pl.Datetime):
        return TIME_DTYPE
    if isinstance(instance, pl.List):
        return pl.List(_dtype(instance.inner))
    if isinstance(instance, pl.Array):
        return pl.Array(_dtype(instance.inner), shape=instance.size)
    if isinstance(instance, pl.Struct):
        return pl.Struct({entry.name: _dtype(entry.dtype) for entry in instance.fields})
    return instance


def _converted(given: pl.Series, dtype: pl.DataType, unit: TimeUnit | None) -> pl.Series:
    """Return `given` as `dtype`; what would lose or change meaning becomes null."""
    nulls = pl.Series(given.name, [None], dtype=dtype).new_from_index(0, given.len())
    if dtype == TIME_DTYPE:
        return _times(given, unit, nulls)
    if not _convertible(given.dtype, dtype):
        return nulls
    if given.dtype == pl.String and dtype.is_temporal():
        return _calendar(given, dtype) if dtype in {pl.Date, pl.Time} else nulls
    try:
        value = given.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        return nulls
    if given.dtype.is_float() and dtype.is_integer():
        return value.set(value.cast(given.dtype) != given, None)
    return value


def _convertible(given: pl.DataType, dtype: pl.DataType) -> bool:
    """Say whether values of `given` may mean values of `dtype`."""
    if given == pl.Null:
        return True
    if (given == pl.Boolean) != (dtype == pl.Boolean):
        return False
    if given.is_temporal() and dtype.is_numeric():
        return False
    text = given in {pl.String, pl.Categorical} or isinstance(given, pl.Enum)
    return text or dtype != pl.String


def _times(given: pl.Series, unit: TimeUnit | None, nulls: pl.Series) -> pl.Series:
    if given.dtype == pl.String:
        return times_from_text(given)
    if isinstance(given.dtype, pl.Datetime):
        return times_from_datetimes(given)
    if given.dtype.is_numeric() and unit is not None:
        return times_from_numbers(given, unit)
    return nulls


def _calendar(given: pl.Series, dtype: pl.DataType) -> pl.Series:
    if dtype == pl.Date:
        return given.str.to_date("%Y-%m-%d", strict=False)
    return given.str.to_time("%H:%M:%S%.f", strict=False)


def _word(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return f"an integer ({dtype})"
    if dtype.is_numeric():
        return f"a number ({dtype})"
    return f"of type {dtype}"


def _first_reasons(rows: int, bad: list[tuple[pl.Series, str]]) -> pl.Series | None:
    """Return for each row the first reason that applies, None when all rows are good."""
    if not bad:
        return None
    reasons = pl.Series("reason", [None], dtype=pl.String).new_from_index(0, rows)
    for mask, reason in reversed(bad):
        reasons = reasons.set(mask, reason)
    return reasons


def _rejected(reasons: pl.Series) -> pl.DataFrame:
    indices = pl.Series("index", range(reasons.len()), dtype=pl.UInt32)
    return pl.DataFrame([indices, reasons.alias("reason")]).filter(pl.col("reason").is_not_null())


def _split(frame: pl.DataFrame, reasons: pl.Series) -> Validated:
    return Validated(frame.filter(reasons.is_null()), _rejected(reasons))


def _plain(value: Any) -> Any:
    """Return a value as JSON-like Python data."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(entry) for entry in value]
    return getattr(value, "value", value)
