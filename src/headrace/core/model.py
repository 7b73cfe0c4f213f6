"""Read a pydantic model as columns and vectorised checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import polars as pl
from pydantic import BaseModel

from headrace.core.errors import SchemaError
from headrace.core.time import TIME_DTYPE

Core = Mapping[str, Any]
"""A node of pydantic's own description of a model."""

_PLAIN: Final[dict[str, pl.DataType]] = {
    "str": pl.String(),
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "datetime": TIME_DTYPE,
    "date": pl.Date(),
    "time": pl.Time(),
    "uuid": pl.String(),
    "url": pl.String(),
    "decimal": pl.Float64(),
}
_VALIDATED: Final = {"uuid", "url", "decimal"}
_WRAPPERS: Final = {"function-after", "function-before", "function-wrap", "function-plain"}
_IGNORED: Final = {
    "type",
    "metadata",
    "ref",
    "serialization",
    "microseconds_precision",
    "tz_constraint",
    "strict",
    "coerce_numbers_to_str",
}
_SIZES: Final = {"min_length", "max_length"}


@dataclass(frozen=True, slots=True)
class Check:
    """A condition each row must meet; null meets it.

    Attributes:
        column: The column it is about.
        reason: What is wrong where it does not hold, e.g. `must be at least 0`.
        holds: Boolean expression, true where the row is right.
    """

    column: str
    reason: str
    holds: pl.Expr


@dataclass(slots=True)
class ModelColumns:
    """What a pydantic model says, as columns.

    Attributes:
        columns: Polars dtypes by column name.
        required: Columns whose null is refused.
        defaults: What a missing value becomes.
        aliases: Other names of columns at the edge.
        json_columns: String columns that hold JSON text (free-form values, unions of models).
        checks: Constraints as expressions.
        validated: Something could not be compiled; rows must also pass the model itself.
    """

    columns: dict[str, pl.DataType] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    defaults: dict[str, Any] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    json_columns: set[str] = field(default_factory=set)
    checks: list[Check] = field(default_factory=list)
    validated: bool = False
    forbids_unknown: bool = False


class _NotColumnar(Exception):  # noqa: N818 - a signal inside this file, no error
    """A value has no column type; its column holds JSON text."""


def read_model(model: type[BaseModel]) -> ModelColumns:
    """Return the columns and checks of `model`.

    Numbers, text, booleans, times, enumerations, literals, nested models and lists of these
    become columns; anything else (free dictionaries, unions) a column of JSON text. Validators,
    and constraints without an expression, set `validated`.

    Raises:
        SchemaError: The model has no fields, or is a root model.
    """
    return _Reader(model).read()


class _Reader:
    """Walks pydantic's core schema once."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model
        self.found = ModelColumns()
        self.definitions: dict[str, Core] = {}

    def read(self) -> ModelColumns:
        core: Core = self.model.__pydantic_core_schema__
        fields = self._fields(core)
        if not fields:
            raise SchemaError(
                f"{self.model.__name__} has no fields", hint="declare at least one column"
            )
        config = self.model.model_config
        self.found.forbids_unknown = config.get("extra") == "forbid"
        if any(config.get(option) for option in ("str_strip_whitespace", "str_to_lower")):
            self.found.validated = True
        for name, entry in fields.items():
            self._field(name, entry)
        return self.found

    def _fields(self, core: Core) -> Mapping[str, Core]:
        """Return the fields of a model's core schema, noting validators around it."""
        kind = core["type"]
        if kind == "definitions":
            self.definitions.update({entry["ref"]: entry for entry in core["definitions"]})
            return self._fields(core["schema"])
        if kind == "definition-ref":
            return self._fields(self.definitions[core["schema_ref"]])
        if kind in _WRAPPERS:
            self.found.validated = True
            return self._fields(core["schema"]) if "schema" in core else {}
        if kind == "model":
            if core.get("root_model"):
                raise SchemaError(
                    f"{self.model.__name__} is a root model, which has no columns",
                    hint="use a model with named fields",
                )
            if core.get("custom_init") or core.get("post_init"):
                self.found.validated = True
            return self._fields(core["schema"])
        if kind == "model-fields":
            fields: Mapping[str, Core] = core["fields"]
            return fields
        raise _NotColumnar

    def _field(self, name: str, entry: Core) -> None:
        inner: Core = entry["schema"]
        self._aliases(name, entry.get("validation_alias"))
        if inner["type"] == "default":
            self._default(name, inner)
            inner = inner["schema"]
        elif inner["type"] != "nullable":
            self.found.required.add(name)
        checks = len(self.found.checks)
        validated = self.found.validated
        try:
            dtype = self._column(inner, name, lambda: pl.col(name), name)
        except _NotColumnar:
            del self.found.checks[checks:]
            self.found.validated = validated or not _free(inner)
            self.found.json_columns.add(name)
            dtype = pl.String()
        self.found.columns[name] = dtype

    def _aliases(self, name: str, alias: Any) -> None:
        for option in alias if isinstance(alias, list) else [alias]:
            path = option if isinstance(option, list) else [option]
            if len(path) > 1:
                self.found.validated = True
            elif isinstance(path[0], str) and path[0] != name:
                self.found.aliases[path[0]] = name

    def _default(self, name: str, core: Core) -> None:
        if "default" in core:
            value = core["default"]
        elif core.get("default_factory_takes_data"):
            raise SchemaError(
                f"the default of {name!r} is computed from other fields",
                hint="use a plain default, or a validator",
            )
        else:
            value = core["default_factory"]()
        if value is not None:
            self.found.defaults[name] = value.value if isinstance(value, Enum) else value

    def _column(
        self, core: Core, column: str, expr: Callable[[], pl.Expr], path: str
    ) -> pl.DataType:
        """Return the dtype of a value; `expr` builds the expression that reaches it."""
        kind = core["type"]
        if kind in _PLAIN:
            self.found.validated |= kind in _VALIDATED
            self._constraints(core, column, expr, path)
            return _PLAIN[kind]
        if kind == "union" and {c["type"] for c in core["choices"]} == {"int", "float"}:
            return pl.Float64()
        handlers = {
            "literal": self._choice,
            "enum": self._choice,
            "list": self._list,
            "set": self._list,
            "frozenset": self._list,
            "tuple": self._list,
            "model": self._struct,
        }
        if kind in handlers:
            return handlers[kind](core, column, expr, path)
        return self._column(self._inside(core), column, expr, path)

    def _inside(self, core: Core) -> Core:
        """Return what a wrapper wraps."""
        kind = core["type"]
        if kind == "definition-ref":
            return self.definitions[core["schema_ref"]]
        if kind in _WRAPPERS:
            self.found.validated = True
        if kind not in {"nullable", *_WRAPPERS} or "schema" not in core:
            raise _NotColumnar
        inner: Core = core["schema"]
        return inner

    def _choice(
        self, core: Core, column: str, expr: Callable[[], pl.Expr], path: str
    ) -> pl.DataType:
        members = core["expected"] if core["type"] == "literal" else core["members"]
        values = [member.value if isinstance(member, Enum) else member for member in members]
        for python, dtype in ((str, pl.String()), (bool, pl.Boolean()), (int, pl.Int64())):
            if all(type(value) is python for value in values):
                options = ", ".join(repr(value) for value in values)
                self._check(column, f"{path} must be one of {options}", expr().is_in(values))
                return dtype
        raise _NotColumnar

    def _list(self, core: Core, column: str, expr: Callable[[], pl.Expr], path: str) -> pl.DataType:
        items = core.get("items_schema")
        if core["type"] in {"set", "frozenset"}:
            self.found.validated = True
        if core["type"] == "tuple":
            if not isinstance(items, list) or any(item != items[0] for item in items):
                raise _NotColumnar
            if "variadic_item_index" not in core:
                self._check(
                    column,
                    f"{path} must have {len(items)} elements",
                    expr().list.len() == len(items),
                )
            items = items[0]
        if items is None or items["type"] == "any":
            raise _NotColumnar
        self._constraints(core, column, expr, path)
        start = len(self.found.checks)
        inner = self._column(items, column, pl.element, f"an element of {path}")
        for index in range(start, len(self.found.checks)):
            check = self.found.checks[index]
            every = expr().list.eval(check.holds.fill_null(value=True)).list.all()
            self.found.checks[index] = Check(column, check.reason, every)
        return pl.List(inner)

    def _struct(
        self, core: Core, column: str, expr: Callable[[], pl.Expr], path: str
    ) -> pl.DataType:
        fields = {}
        for name, entry in self._fields(core).items():
            inner: Core = entry["schema"]
            if entry.get("validation_alias") or inner["type"] == "default":
                # Names and defaults inside a value are the model's own business.
                self.found.validated = True
            inner = inner["schema"] if inner["type"] == "default" else inner
            here = f"{path}.{name}"

            def reach(name: str = name) -> pl.Expr:
                return expr().struct.field(name)

            fields[name] = self._column(inner, column, reach, here)
            if entry["schema"]["type"] not in {"default", "nullable"}:
                whole = expr().is_null() | reach().is_not_null()
                self._check(column, f"{here} is missing", whole)
        return pl.Struct(fields)

    def _constraints(self, core: Core, column: str, expr: Callable[[], pl.Expr], path: str) -> None:
        kind = core["type"]
        # "Must be finite" says more than a bound that NaN or infinity also breaks.
        for name, bound in sorted(core.items(), key=lambda item: item[0] != "allow_inf_nan"):
            if name in _IGNORED or name in {"items_schema", "variadic_item_index"}:
                continue
            if name in _SIZES:
                size = expr().list.len() if kind not in _PLAIN else expr().str.len_chars()
                what = "characters" if kind in _PLAIN else "elements"
                low = name == "min_length"
                word = "at least" if low else "at most"
                holds = size >= bound if low else size <= bound
                self._check(column, f"{path} must have {word} {bound} {what}", holds)
            elif name == "pattern" and _compiles(bound):
                self._check(column, f"{path} must match {bound}", expr().str.contains(bound))
            elif name == "allow_inf_nan":
                if not bound:
                    self._check(column, f"{path} must be finite", expr().is_finite())
            elif name in _COMPARISONS:
                word, holds_for = _COMPARISONS[name]
                holds = holds_for(expr(), bound)
                if kind == "float" and name in {"ge", "gt"}:
                    # NaN compares as the largest number in Polars.
                    holds &= expr().is_not_nan()
                self._check(column, f"{path} must be {word} {bound}", holds)
            elif name == "multiple_of" and kind == "int":
                self._check(column, f"{path} must be a multiple of {bound}", expr() % bound == 0)
            else:
                self.found.validated = True

    def _check(self, column: str, reason: str, holds: pl.Expr) -> None:
        self.found.checks.append(Check(column, reason, holds))


_COMPARISONS: Final[dict[str, tuple[str, Callable[[pl.Expr, Any], pl.Expr]]]] = {
    "ge": ("at least", pl.Expr.ge),
    "gt": ("greater than", pl.Expr.gt),
    "le": ("at most", pl.Expr.le),
    "lt": ("less than", pl.Expr.lt),
}


def _compiles(pattern: Any) -> bool:
    """Say whether Polars takes the pattern; pydantic's engine has the same syntax by default."""
    if not isinstance(pattern, str):
        return False
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError:
        return False
    return True


def _unwrapped(core: Core) -> Core:
    inner: Core = core["schema"] if core["type"] == "nullable" else core
    return inner


def _free(core: Core) -> bool:
    """Say whether any JSON value is right."""
    return bool(_unwrapped(core)["type"] == "any")
