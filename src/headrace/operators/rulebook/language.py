"""The language of rules: a SQL condition read as a tree of atoms."""

from __future__ import annotations

import math
from datetime import time
from functools import lru_cache
from typing import Any, Final, Literal

import polars as pl
from sqlglot import exp

from headrace.core.errors import ConfigError
from headrace.core.time import EVENT_TIME, TIME_DTYPE, micros, to_micros
from headrace.operators.rulebook.syntax import DIGITS, parse
from headrace.operators.rulebook.tree import (
    TRUE,
    AtLeast,
    Condition,
    Equals,
    Function,
    Holds,
    InZone,
    Metric,
    Not,
    Single,
    Tree,
    Unknown,
    Window,
    contrary,
    every,
    some,
)
from headrace.plan.expressions import ConditionError, ExpressionCompiler, place

Columns = tuple[tuple[str, Any], ...]

MIN_WINDOW_US: Final = 1_000_000
MAX_WINDOW_US: Final = 86_400_000_000
DAY_US: Final = 86_400_000_000
TIME_OF_DAY: Final = "time_of_day"
IN_ZONE: Final = "in_zone"

_LIMIT: Final = 1 << 63
_FUNCTIONS: Final[dict[type[Any], Function]] = {
    exp.Avg: "avg",
    exp.Sum: "sum",
    exp.Min: "min",
    exp.Max: "max",
    exp.Count: "count",
}
_WHOLE: Final = {pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32}
_MIRRORED: Final = {exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE}
_METHODS: Final = {
    exp.GT: "gt",
    exp.GTE: "ge",
    exp.LT: "lt",
    exp.LTE: "le",
    exp.EQ: "eq",
    exp.NEQ: "ne",
}
OPERATORS: Final = {
    "gt": exp.GT,
    "lt": exp.LT,
    "eq": exp.EQ,
    "gte": exp.GTE,
    "lte": exp.LTE,
    "ne": exp.NEQ,
}
_KINDS: Final = {
    "number": "a number",
    "whole": "a number",
    "text": "text",
    "truth": "true or false",
}
_WINDOW_ARGS: Final = {"this", "alias", "over"}


@lru_cache(maxsize=65_536)
def compile_text(text: str, columns: Columns, zones: str | None) -> Condition:
    """Compile a SQL condition.

    Args:
        text: At most 4000 characters, 400 parts and 32 levels.
        columns: Names and dtypes it may name.
        zones: The column that names the zones of a row; None refuses `in_zone`.

    Raises:
        ConditionError: It is no such condition; the message says where.
    """
    try:
        reader = Reader.over(columns, zones)
        tree = reader.tree(parse(text))
    except ConditionError as error:
        message, hint = (each.translate(DIGITS) for each in (error.message, error.hint))
        raise ConditionError(message, hint=hint) from error
    return reader.condition(tree)


@lru_cache(maxsize=64)
def _schema(columns: Columns) -> pl.Schema:
    return pl.Schema(columns)


class Reader(ExpressionCompiler):
    """Reads one condition: connectives and comparisons as a tree, the rest as expressions."""

    def __init__(self, schema: pl.Schema, zones: str | None) -> None:
        super().__init__(schema)
        self._zones = zones
        self._metrics: dict[str, Metric] = {}
        self._windows: dict[str, Window] = {}
        self._reads: dict[str, None] = {}
        # Constants that numbers, not times, were compared with in order.
        self._compared: list[float] = []

    @classmethod
    def over(cls, columns: Columns, zones: str | None) -> Reader:
        """Return a reader of conditions over some columns."""
        return cls(_schema(columns), zones)

    def condition(self, tree: Tree) -> Condition:
        """Return what was read."""
        atom = tree.part if isinstance(tree, Not) else tree
        single = None
        if isinstance(atom, AtLeast) and len(self._compared) == 1:
            direction: Literal["above", "below"] = "above" if atom is tree else "below"
            single = Single(atom.metric, self._compared[0], direction)
        return Condition(tree, self._metrics, self._windows, tuple(self._reads), single)

    def tree(self, node: Any) -> Tree:
        """Return a Boolean expression as a tree.

        Raises:
            ConditionError: A part is not allowed, or does not fit the columns.
        """
        return self._tree(node)

    def _tree(self, node: Any) -> Tree:
        match node:
            case exp.Paren():
                result = self._tree(node.this)
            case exp.And():
                result = every(self._tree(part) for part in node.flatten())
            case exp.Or():
                result = some(self._tree(part) for part in node.flatten())
            case exp.Not():
                result = contrary(self._tree(node.this))
            case exp.Boolean():
                result = TRUE if node.this else contrary(TRUE)
            case exp.GT() | exp.GTE() | exp.LT() | exp.LTE() | exp.EQ() | exp.NEQ():
                result = self._comparison(node, type(node), node.this, node.expression)
            case exp.Between():
                result = self._range(node)
            case exp.In() if node.expressions and not _has_query(node):
                options = node.expressions
                result = some(self._comparison(node, exp.EQ, node.this, one) for one in options)
            case exp.Anonymous() if str(node.this).lower() == IN_ZONE:
                result = self._zone(node)
            case _:
                result = self._holds(node)
        return result

    def _comparison(self, node: Any, operator: Any, left: Any, right: Any) -> Tree:
        left, right = left.unnest(), right.unnest()
        if _is_constant(left) and not _is_constant(right):
            left, right, operator = right, left, _MIRRORED.get(operator, operator)
        if not _is_constant(right) or _is_constant(left):
            return self._both_read(node, operator, left, right)
        if _is_time_of_day(left):
            return self._number(node, operator, left, self._day_time(right))
        name, metric = self._metric(left)
        if metric is None or (metric.kind == "text" and operator not in (exp.EQ, exp.NEQ)):
            return self._both_read(node, operator, left, right)
        value = self._constant(node, right, metric, left)
        if isinstance(value, float | int) and not isinstance(value, bool):
            return self._number(node, operator, left, value)
        if operator not in (exp.EQ, exp.NEQ):
            raise self._mismatch(node, "true and false have no order")
        self._metrics[name] = metric
        equal: Tree = Equals(name, value) if isinstance(value, str) else Holds(name)
        return equal if (operator is exp.EQ) == (value is not False) else contrary(equal)

    def _number(self, node: Any, operator: Any, left: Any, value: float) -> Tree:
        name, metric = self._metric(left)
        assert metric is not None  # noqa: S101 - the caller has asked
        self._metrics[name] = metric
        if metric.kind == "whole" and not -_LIMIT <= value < _LIMIT - 1:
            raise self._mismatch(node, f"{value:g} is more than the column holds")
        if isinstance(left, exp.Anonymous) or self._is_time(left):
            # More than one is no single comparison: a time is no value to come back.
            self._compared.append(math.nan)
        return self._order(name, metric, operator, value)

    def entry(self, text: Any, operator: str, threshold: Any, tolerance: float) -> Tree:
        """Return one comparison of a structured list.

        Raises:
            ConditionError: It does not fit the columns.
        """
        if not isinstance(text, str):
            raise ConditionError(f"the metric is {text!r}, no name")
        node = exp.column(text, quoted=True) if text in self._schema else parse(text)
        if isinstance(threshold, bool):
            return self._comparison(node, OPERATORS[operator], node, exp.Boolean(this=threshold))
        if isinstance(threshold, str):
            constant = exp.Literal.string(threshold)
            return self._comparison(node, OPERATORS[operator], node, constant)
        if not is_number(threshold):
            raise ConditionError(f"the threshold is {threshold!r}, no number, text or truth")
        name, metric = self.number(node)
        self._metrics[name] = metric
        if operator not in ("eq", "ne"):
            return self._order(name, metric, OPERATORS[operator], threshold)
        # Whole numbers are exact, beyond what a float holds too.
        near = 0 if metric.kind == "whole" and tolerance < 1 else tolerance
        low = AtLeast(name, _from(metric, threshold - near))
        high = AtLeast(name, _beyond(metric, threshold + near))
        equal = every([low, Not(high)])
        return equal if operator == "eq" else contrary(equal)

    def _order(self, name: str, metric: Metric, operator: Any, value: float) -> Tree:
        low, high = AtLeast(name, _from(metric, value)), AtLeast(name, _beyond(metric, value))
        if operator in (exp.EQ, exp.NEQ):
            equal = every([low, Not(high)])
            return equal if operator is exp.EQ else contrary(equal)
        self._compared.append(float(value))
        ordered: dict[Any, Tree] = {
            exp.GT: high,
            exp.GTE: low,
            exp.LT: Not(low),
            exp.LTE: Not(high),
        }
        return ordered[operator]

    def _range(self, node: Any) -> Tree:
        low, high = node.args["low"], node.args["high"]
        parts = [
            self._comparison(node, exp.GTE, node.this, low),
            self._comparison(node, exp.LTE, node.this, high),
        ]
        passes_midnight = (
            _is_time_of_day(node.this.unnest())
            and all(isinstance(each, exp.Literal) for each in (low, high))
            and self._day_time(low) > self._day_time(high)
        )
        return some(parts) if passes_midnight else every(parts)

    def _zone(self, node: Any) -> Tree:
        (zone,) = node.expressions if len(node.expressions) == 1 else (None,)
        if not (isinstance(zone, exp.Literal) and zone.is_string):
            raise self._mismatch(node, "in_zone takes the id of one zone", "in_zone('harbour')")
        if self._zones is None:
            raise self._mismatch(
                node,
                "the rows of this stream name no zones",
                'the application gives rules(..., zones="fences")',
            )
        self._reads[self._zones] = None
        return InZone(zone.this)

    def _both_read(self, node: Any, operator: Any, left: Any, right: Any) -> Tree:
        """Compare two sides that both depend on the row, or neither."""
        sides = self._pair(left, right)
        for side in (left, right):
            if _is_time_of_day(side):
                raise self._mismatch(node, "time_of_day() compares with a time", "'22:00'")
        kinds = [self._dtype(side, part) for side, part in zip(sides, (left, right), strict=True)]
        if pl.Null in kinds:
            return Unknown()
        if kinds[0] != kinds[1] and not all(kind.is_numeric() for kind in kinds):
            raise self._mismatch(node, f"{kinds[0]} and {kinds[1]} do not compare")
        whole = operator(this=left.copy(), expression=right.copy())
        compare = getattr(pl.Expr, _METHODS[operator])
        return self._expression(whole, compare(*(map(_without_nan, sides, kinds))))

    def _holds(self, node: Any) -> Tree:
        if _is_time_of_day(node):
            raise self._mismatch(node, "time_of_day() compares with a time", "'22:00'")
        return self._expression(node, self._expr(node))

    def _expression(self, node: Any, expr: pl.Expr) -> Tree:
        dtype = self._dtype(expr, node)
        if dtype == pl.Null:
            return Unknown()
        if dtype != pl.Boolean:
            raise self._mismatch(
                node, f"{node.sql()!r} is a {dtype}, not a condition", "depth_m > 200"
            )
        name = _name(node)
        self._metrics[name] = Metric(expr, "truth")
        return Holds(name)

    def _metric(self, node: Any) -> tuple[str, Metric | None]:
        """Return the name of a value and how it is read; None where it has no order here."""
        if _is_time_of_day(node):
            return f"{TIME_OF_DAY}()", Metric(pl.col(EVENT_TIME) % DAY_US, "whole")
        expr = self._expr(node)
        if isinstance(node, exp.Column):
            # Asking Polars takes a millisecond, and most conditions name plain columns.
            expr, dtype = pl.col(node.name), self._schema[node.name]
        else:
            dtype = self._dtype(expr, node)
        name = expr.meta.output_name() if isinstance(node, exp.Window) else _name(node)
        if dtype in _WHOLE or dtype == TIME_DTYPE:
            return name, Metric(expr.to_physical().cast(pl.Int64), "whole")
        if dtype.is_numeric():
            return name, Metric(expr.cast(pl.Float64), "number")
        if dtype == pl.String:
            return name, Metric(expr, "text")
        if dtype == pl.Boolean:
            return name, Metric(expr, "truth")
        return name, None

    def number(self, node: Any) -> tuple[str, Metric]:
        """Return a value that must be a number.

        Raises:
            ConditionError: It is none.
        """
        name, metric = self._metric(node)
        if metric is None or metric.kind not in ("number", "whole"):
            kind = "no number" if metric is None else f"{_KINDS[metric.kind]}, no number"
            raise self._mismatch(node, f"{_name(node)!r} is {kind}")
        return name, metric

    def _constant(self, node: Any, right: Any, metric: Metric, left: Any) -> str | bool | float:
        if isinstance(right, exp.Boolean) and metric.kind == "truth":
            return bool(right.this)
        is_text = isinstance(right, exp.Literal) and right.is_string
        if is_text and metric.kind == "text":
            return str(right.this)
        if is_text and self._is_time(left):
            return to_micros(pl.select(self._time(right.this)).item())
        is_number = not is_text and not isinstance(right, exp.Boolean) and not self._is_time(left)
        if metric.kind in ("number", "whole") and is_number:
            return self._plain(right)
        raise self._mismatch(node, f"{_name(left)!r} is {_KINDS[metric.kind]}, not {right.sql()}")

    def _plain(self, node: Any) -> float:
        """Return a literal number; one that is none is refused by the compiler it comes from."""
        if isinstance(node, exp.Neg):
            return -self._plain(node.this)
        self._literal(node)
        return int(node.this) if node.this.isdigit() else float(node.this)

    def _is_time(self, node: Any) -> bool:
        return isinstance(node, exp.Column) and self._schema.get(node.name) == TIME_DTYPE

    def _day_time(self, node: Any) -> int:
        if isinstance(node, exp.Literal) and node.is_string:
            try:
                at = time.fromisoformat(node.this)
            except ValueError:
                at = None
            if at is not None and at.tzinfo is None:
                seconds = at.hour * 3600 + at.minute * 60 + at.second
                return seconds * 1_000_000 + at.microsecond
        raise self._mismatch(node, f"{node.sql()} is no time of day", "'22:00'")

    def _dtype(self, expr: pl.Expr, node: Any) -> pl.DataType:
        windows = {name: pl.Float64() for name in self._windows}
        schema = pl.Schema({**self._schema, **windows, EVENT_TIME: pl.Int64()})
        try:
            return schema.to_frame().select(expr.alias("__value")).schema["__value"]
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            reason = str(error).splitlines()[0]
            raise self._mismatch(node, f"{node.sql()!r} does not fit: {reason}") from error

    def _column(self, node: exp.Column) -> pl.Expr:
        column = super()._column(node)
        self._reads[node.name] = None
        return _without_nan(column, self._schema[node.name])

    def _window(self, node: exp.Window) -> pl.Expr:
        function = _FUNCTIONS.get(type(node.this))
        others = [name for name, value in node.args.items() if value and name not in _WINDOW_ARGS]
        if function is None or others or "alias" not in node.args:
            raise self._mismatch(node, f"{node.sql()!r} is no window", "avg(depth_m) over 5m")
        length = self._length(node)
        inner = node.this.this
        before = dict(self._reads)
        if function == "count" and (inner is None or isinstance(inner, exp.Star)):
            value, inside = "", "*"
        else:
            if any(isinstance(each, exp.Window) for each in inner.walk()):
                raise self._mismatch(node, "a window holds no window")
            value, metric = self._counted(inner) if function == "count" else self.number(inner)
            inside = _name(inner)
            self._metrics[value] = metric
        self._reads = before
        name = f"{function}({inside}) over {node.alias.translate(DIGITS)}"
        if name in self._schema:
            raise self._mismatch(node, f"{name!r} is a column too")
        self._windows[name] = Window(name, function, value, length)
        self._reads[name] = None
        return pl.col(name)

    def _counted(self, inner: Any) -> tuple[str, Metric]:
        name, metric = self._metric(inner)
        if metric is None:
            raise self._mismatch(inner, f"{inner.sql()!r} cannot be counted")
        if metric.kind in ("number", "whole"):
            return name, metric
        return f"presence of {name}", Metric(
            pl.when(metric.expr.is_not_null()).then(pl.lit(1.0)), "number"
        )

    def _length(self, node: exp.Window) -> int:
        text = str(node.alias).translate(DIGITS)
        try:
            length = micros(text)
        except ConfigError as error:
            raise self._mismatch(node, error.message, error.hint) from error
        if not MIN_WINDOW_US <= length <= MAX_WINDOW_US:
            raise self._mismatch(node, f"a window of {text} is not between 1s and 1d")
        return length

    def _mismatch(self, node: Any, what: str, hint: str = "") -> ConditionError:
        return ConditionError(f"{what}{place(node)}", hint=f"e.g. {hint}" if hint else "")


def is_number(value: Any) -> bool:
    """Return whether a value is a number that is one: neither NaN nor infinite, no truth."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_constant(node: Any) -> bool:
    inner = node.this if isinstance(node, exp.Neg) else node
    return isinstance(inner, exp.Literal | exp.Boolean)


def _is_time_of_day(node: Any) -> bool:
    return isinstance(node, exp.Anonymous) and str(node.this).lower() == TIME_OF_DAY


def _has_query(node: exp.In) -> bool:
    return any(node.args.get(word) for word in ("query", "unnest", "field"))


def _name(node: Any) -> str:
    """Return what a value is called: a plain column by its name, the rest as SQL."""
    if isinstance(node, exp.Column) and node.name.isidentifier():
        return str(node.name)
    return str(node.sql(dialect="duckdb"))


def _without_nan(expr: pl.Expr, dtype: Any) -> pl.Expr:
    return expr.fill_nan(None) if dtype.is_float() else expr


def _from(metric: Metric, value: float) -> float:
    """Return the threshold of `metric >= value`."""
    return math.ceil(value) if metric.kind == "whole" else value + 0.0


def _beyond(metric: Metric, value: float) -> float:
    """Return the threshold of `metric > value`."""
    return math.floor(value) + 1 if metric.kind == "whole" else math.nextafter(value, math.inf)


def come_back(single: Single, metric: Metric, hysteresis: float) -> Tree:
    """Return when a value has come back past its threshold by at least `hysteresis`."""
    if single.direction == "above":
        return Not(AtLeast(single.metric, _beyond(metric, single.threshold - hysteresis)))
    return AtLeast(single.metric, _from(metric, single.threshold + hysteresis))
