"""Conditions as people write them: one SQL boolean expression, compiled to a Polars expression.

Only what is listed here compiles; no text of a user ever reaches a SQL engine. So there are no
sub-queries, table functions, files, windows or aggregates, and a row decides alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final

import polars as pl
import sqlglot
from sqlglot import exp

from headrace.core.errors import DataError
from headrace.core.instants import times_from_text
from headrace.core.time import TIME_DTYPE

MAX_CHARACTERS: Final = 4000
MAX_NODES: Final = 400


class ConditionError(DataError):
    """A condition cannot be compiled, e.g. `where=depth_m >`."""

    code = "HR205"


def condition(text: str, columns: Mapping[str, Any]) -> pl.Expr:
    """Compile a SQL condition over `columns` to a Boolean Polars expression.

    Allowed are columns, numbers, text in single quotes, TRUE, FALSE, NULL; `AND OR NOT`,
    comparisons, `BETWEEN IN LIKE ILIKE IS NULL`, `+ - * / %`, `||`, `CASE`, and the functions
    `abs ceil coalesce exp floor greatest least length ln lower mod nullif pow round sign sqrt
    starts_with trim upper isnan`. Text compared with a time column is read as RFC 3339, and
    so is `TIMESTAMP '...'`. A
    condition that is null holds for no row.

    Args:
        text: The condition, at most 4000 characters.
        columns: Dtypes of the columns it may name.

    Raises:
        ConditionError: It is no such condition, names an unknown column, or compares what cannot
            be compared; the message says where.

    Example:
        >>> deep = condition("depth_m > 200 AND vehicle_id IN ('a', 'b')", {
        ...     "depth_m": pl.Float64(), "vehicle_id": pl.String()})
        >>> pl.DataFrame({"depth_m": [250.0, 50.0], "vehicle_id": ["a", "b"]}).filter(deep).height
        1
    """
    return _compiled(text, tuple(columns.items()))


@lru_cache(maxsize=1024)
def _compiled(text: str, columns: tuple[tuple[str, Any], ...]) -> pl.Expr:
    schema = pl.Schema(columns)
    expr = ExpressionCompiler(schema).expression(parsed(text))
    try:
        dtype = schema.to_frame().select(expr.alias("holds")).schema["holds"]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0]
        raise ConditionError(f"{text!r} does not fit the columns: {reason}") from error
    if dtype not in {pl.Boolean, pl.Null}:
        raise ConditionError(
            f"{text!r} is a {dtype}, not a condition", hint="compare it: depth_m > 200"
        )
    return expr.fill_null(value=False)


def parsed(text: str) -> Any:
    """Return the syntax tree of a condition, whatever it holds.

    Raises:
        ConditionError: It is too long, or no SQL; the message says where.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConditionError(f"a condition has at most {MAX_CHARACTERS} characters")
    try:
        return sqlglot.parse_one(text, dialect="duckdb")
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError) as error:
        raise ConditionError(
            f"{text!r} is no SQL condition{_stumbled(text, error)}",
            hint="e.g. depth_m > 200 AND kind = 'auv'",
        ) from error


def _stumbled(text: str, error: Exception) -> str:
    """Return where the parser gave up, as far as it says."""
    found = getattr(error, "errors", None)
    if not found or not found[0].get("line"):
        return ""
    at, word = found[0], found[0].get("highlight") or ""
    before = sum(len(line) + 1 for line in text.split("\n")[: at["line"] - 1])
    return f": at character {before + max(at['col'] - len(word) + 1, 1)}, {word!r} is unexpected"


def place(node: Any) -> str:
    """Return where a part begins in its text, as the end of a message; empty if unknown."""
    starts = [each.meta["start"] for each in node.walk() if "start" in each.meta]
    return f" at character {min(starts) + 1}" if starts else ""


class ExpressionCompiler:
    """Walks a parsed SQL expression; every node it does not know is an error.

    Args:
        schema: Dtypes of the columns it may name.
    """

    def __init__(self, schema: pl.Schema) -> None:
        self._schema = schema

    def expression(self, tree: Any) -> pl.Expr:
        """Return the expression as Polars says it.

        Raises:
            ConditionError: It has too many parts, or one that is not allowed.
        """
        if sum(1 for _ in tree.walk()) > MAX_NODES:
            raise ConditionError(f"a condition has at most {MAX_NODES} parts")
        return self._expr(tree)

    def _expr(self, node: Any) -> pl.Expr:
        kind = type(node)
        if kind in _BINARY:
            left, right = self._pair(node.this, node.expression)
            return _BINARY[kind](left, right)
        if kind in _FUNCTIONS:
            return _FUNCTIONS[kind](*(self._expr(each) for each in _arguments(node)))
        handler = getattr(self, f"_{kind.__name__.lower()}", None)
        if handler is None:
            raise self._refuse(node)
        result: pl.Expr = handler(node)
        return result

    def _pair(self, left: Any, right: Any) -> tuple[pl.Expr, pl.Expr]:
        """Compile two sides; text beside a time is a time."""
        return self._beside(left, right), self._beside(right, left)

    def _beside(self, node: Any, other: Any) -> pl.Expr:
        if isinstance(node, exp.Literal) and node.is_string and isinstance(other, exp.Column):
            dtype = self._schema.get(other.name)
            if dtype == TIME_DTYPE:
                return self._time(node.this)
            if dtype == pl.Date:
                return pl.lit(self._date(node.this))
        return self._expr(node)

    def _time(self, text: str) -> pl.Expr:
        time = times_from_text(pl.Series([text]))[0]
        if time is None:
            raise ConditionError(f"{text!r} is not a time", hint="write 2026-01-01T00:00:00Z")
        return pl.lit(time, TIME_DTYPE)

    def _date(self, text: str) -> date:
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise ConditionError(f"{text!r} is not a date", hint="write 2026-01-01") from error

    def _column(self, node: exp.Column) -> pl.Expr:
        if node.table or node.name not in self._schema:
            raise ConditionError(
                f"there is no column {node.sql()!r}{place(node)}",
                hint=f"there are {', '.join(self._schema)}",
            )
        return pl.col(node.name)

    def _literal(self, node: exp.Literal) -> pl.Expr:
        if node.is_string:
            return pl.lit(node.this)
        try:
            number = float(node.this)
        except ValueError:
            raise self._refuse(node) from None
        if not math.isfinite(number):
            raise self._refuse(node)
        is_whole = node.this.isdigit() and int(node.this) < 1 << 63
        return pl.lit(int(node.this) if is_whole else number)

    def _boolean(self, node: exp.Boolean) -> pl.Expr:
        return pl.lit(bool(node.this))

    def _null(self, _node: exp.Null) -> pl.Expr:
        return pl.lit(None)

    def _paren(self, node: exp.Paren) -> pl.Expr:
        return self._expr(node.this)

    def _not(self, node: exp.Not) -> pl.Expr:
        return ~self._expr(node.this)

    def _neg(self, node: exp.Neg) -> pl.Expr:
        return -self._expr(node.this)

    def _is(self, node: exp.Is) -> pl.Expr:
        value = self._expr(node.this)
        if isinstance(node.expression, exp.Null):
            return value.is_null()
        if isinstance(node.expression, exp.Boolean):
            return value.eq_missing(pl.lit(bool(node.expression.this)))
        raise self._refuse(node)

    def _between(self, node: exp.Between) -> pl.Expr:
        low = self._beside(node.args["low"], node.this)
        high = self._beside(node.args["high"], node.this)
        return self._expr(node.this).is_between(low, high)

    def _in(self, node: exp.In) -> pl.Expr:
        if not node.expressions or set(node.args) & {"query", "unnest", "field"} & {
            name for name, value in node.args.items() if value
        }:
            raise self._refuse(node)
        value = self._expr(node.this)
        options = [self._beside(option, node.this) for option in node.expressions]
        return pl.any_horizontal(value == option for option in options)

    def _like(self, node: exp.Like) -> pl.Expr:
        return self._matches(node, flags="(?s)")

    def _ilike(self, node: exp.ILike) -> pl.Expr:
        return self._matches(node, flags="(?si)")

    def _matches(self, node: Any, flags: str) -> pl.Expr:
        pattern = node.expression
        if not (isinstance(pattern, exp.Literal) and pattern.is_string):
            raise self._refuse(node)
        return self._expr(node.this).str.contains(flags + _like_pattern(pattern.this))

    def _cast(self, node: exp.Cast) -> pl.Expr:
        """Compile `TIMESTAMP '...'` and `DATE '...'`; other casts are refused."""
        kind, value = node.to.this, node.this
        if isinstance(value, exp.Literal) and value.is_string:
            if str(kind.value).startswith("TIMESTAMP"):
                return self._time(value.this)
            if kind == exp.DataType.Type.DATE:
                return pl.lit(self._date(value.this))
        raise self._refuse(node)

    def _case(self, node: exp.Case) -> pl.Expr:
        subject = node.this
        result: Any = None
        for branch in node.args["ifs"]:
            test = branch.this if subject is None else exp.EQ(this=subject, expression=branch.this)
            start = pl if result is None else result
            result = start.when(self._expr(test)).then(self._expr(branch.args["true"]))
        default = node.args.get("default")
        whole: pl.Expr = result.otherwise(pl.lit(None) if default is None else self._expr(default))
        return whole

    def _anonymous(self, node: exp.Anonymous) -> pl.Expr:
        function = _NAMED.get(str(node.this).lower())
        if function is None:
            raise self._refuse(node)
        return function(*(self._expr(each) for each in node.expressions))

    def _refuse(self, node: Any) -> ConditionError:
        return ConditionError(
            f"{node.sql()!r}{place(node)} is not allowed in a condition",
            hint="columns, values, comparisons, AND, OR, NOT and plain functions are",
        )


def _arguments(node: Any) -> list[Any]:
    first = [node.this] if node.this is not None else []
    second = [node.expression] if node.args.get("expression") is not None else []
    decimals = [node.args["decimals"]] if node.args.get("decimals") is not None else []
    return [*first, *second, *decimals, *node.expressions]


def _like_pattern(pattern: str) -> str:
    special = set(".^$*+?{}[]|()\\")
    words = {"%": ".*", "_": "."}
    body = "".join(words.get(c) or (f"\\{c}" if c in special else c) for c in pattern)
    return f"^{body}$"


def _round(value: pl.Expr, *decimals: pl.Expr) -> pl.Expr:
    if decimals:
        raise ConditionError("round takes one argument in a condition")
    return value.round()


Function = Callable[..., pl.Expr]

_BINARY: Final[dict[type[Any], Function]] = {
    exp.And: lambda a, b: a & b,
    exp.Or: lambda a, b: a | b,
    exp.EQ: lambda a, b: a == b,
    exp.NEQ: lambda a, b: a != b,
    exp.GT: lambda a, b: a > b,
    exp.GTE: lambda a, b: a >= b,
    exp.LT: lambda a, b: a < b,
    exp.LTE: lambda a, b: a <= b,
    exp.Add: lambda a, b: a + b,
    exp.Sub: lambda a, b: a - b,
    exp.Mul: lambda a, b: a * b,
    exp.Div: lambda a, b: a / b,
    exp.Mod: lambda a, b: a % b,
    exp.Pow: lambda a, b: a**b,
    exp.DPipe: lambda a, b: pl.concat_str([a, b]),
    exp.NullSafeEQ: lambda a, b: a.eq_missing(b),
    exp.NullSafeNEQ: lambda a, b: a.ne_missing(b),
}

_FUNCTIONS: Final[dict[type[Any], Function]] = {
    exp.Abs: lambda a: a.abs(),
    exp.Ceil: lambda a: a.ceil(),
    exp.Coalesce: pl.coalesce,
    exp.Exp: lambda a: a.exp(),
    exp.Floor: lambda a: a.floor(),
    exp.Greatest: pl.max_horizontal,
    exp.IsNan: lambda a: a.is_nan(),
    exp.Least: pl.min_horizontal,
    exp.Length: lambda a: a.str.len_chars(),
    exp.Ln: lambda a: a.log(),
    exp.Lower: lambda a: a.str.to_lowercase(),
    exp.Nullif: lambda a, b: pl.when(a != b).then(a),
    exp.Round: _round,
    exp.Sign: lambda a: a.sign(),
    exp.Sqrt: lambda a: a.sqrt(),
    exp.StartsWith: lambda a, b: a.str.starts_with(b),
    exp.Trim: lambda a: a.str.strip_chars(),
    exp.Upper: lambda a: a.str.to_uppercase(),
}

_NAMED: Final[dict[str, Function]] = {
    "isnan": lambda a: a.is_nan(),
    "starts_with": lambda a, b: a.str.starts_with(b),
    "ends_with": lambda a, b: a.str.ends_with(b),
    "mod": lambda a, b: a % b,
}
