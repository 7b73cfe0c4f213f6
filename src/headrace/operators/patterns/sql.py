"""Read SQL's MATCH_RECOGNIZE into a pattern, its measures and what follows from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NoReturn

import polars as pl
import sqlglot
from sqlglot import exp

from headrace.core.errors import PlanError
from headrace.operators.patterns.matched import Matched, matched
from headrace.operators.patterns.pattern import Pattern
from headrace.operators.patterns.run import Skip
from headrace.plan.expressions import ConditionError, ExpressionCompiler

_SUBSET: Final = "docs/patterns.md lists the SQL that is understood"
_WITHIN = re.compile(
    r"\)\s*(WITHIN\s+INTERVAL\s+'(\d+(?:\.\d+)?)'\s+(\w+?)S?)(?=\s|\))", re.IGNORECASE
)
_UNITS: Final = {"SECOND": 1.0, "MINUTE": 60.0, "HOUR": 3_600.0, "DAY": 86_400.0}
_TOKEN = re.compile(r"\s*(?:(\w+)\s*([*+?]|\{\s*\d*\s*(?:,\s*\d*\s*)?\})?(\?)?)")
_SKIP = re.compile(
    r"AFTER MATCH SKIP (?:(PAST LAST ROW)|(TO NEXT ROW)|TO (FIRST|LAST)?\s*(\w+))$", re.IGNORECASE
)
_CLAUSES: Final = {"expressions", "from_", "match", "kind", "operation_modifiers"}


@dataclass(frozen=True, slots=True)
class Query:
    """One MATCH_RECOGNIZE over one table.

    Attributes:
        table: Name of the table.
        order: The column it is ordered by.
        by: Key columns.
        pattern: What to look for.
        skip: Which matches a match rules out.
        measures: Name and expression.
        select: The output's expressions over key, measures and match columns; none means all.
    """

    table: str
    order: str
    by: tuple[str, ...]
    pattern: Pattern
    skip: Skip
    measures: Mapping[str, pl.Expr]
    select: tuple[pl.Expr, ...]


def table_name(sql: str) -> str:
    """Return the table that a query reads.

    Raises:
        PlanError: It is not of the subset.
    """
    return _Reader(sql).table


def read(sql: str, schema: pl.Schema) -> Query:
    """Read a query over a table of columns `schema`.

    Raises:
        PlanError: It is not of the subset; the message says where in the text.
    """
    return _Reader(sql).query(schema)


class _Reader:
    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._within: timedelta | None = None
        text = sql
        if found := _WITHIN.search(sql):
            unit = _UNITS.get(found[3].upper())
            if unit is None:
                self._refuse(found[3])
            self._within = timedelta(seconds=float(found[2]) * unit)
            # The parser does not know the clause; spaces keep every position.
            text = sql[: found.start(1)] + " " * len(found[1]) + sql[found.end(1) :]
        try:
            # Of the dialects with the clause this one has the fewest words of its own.
            tree = sqlglot.parse_one(text, dialect="trino")
        except sqlglot.errors.SqlglotError as error:
            reason = re.sub(r"\x1b\[\d+m", "", str(error)).split("\n", 1)[0]
            raise PlanError(f"this SQL cannot be read: {reason}", hint=_SUBSET) from error
        clauses = {name for name, value in tree.args.items() if value}
        source = tree.args.get("from_")
        if not isinstance(tree, exp.Select) or clauses - _CLAUSES or source is None:
            extra = next((tree.args[name] for name in sorted(clauses - _CLAUSES)), tree)
            self._refuse(extra[0] if isinstance(extra, list) else extra)
        match = tree.args.get("match")
        if match is None or not isinstance(source.this, exp.Table):
            raise PlanError("there is no MATCH_RECOGNIZE over a table here", hint=_SUBSET)
        self._select = tree.expressions
        self._match = match
        self.table = source.this.name

    def query(self, schema: pl.Schema) -> Query:
        by = tuple(self._plain(one, schema) for one in self._match.args.get("partition_by") or ())
        order = self._order(schema)
        conditions = self._conditions(schema)
        pattern = self._pattern(conditions)
        names = [str(step.name) for step in pattern.leaves()]
        unknown = sorted(set(conditions) - set(names))
        if unknown:
            self._refuse(unknown[0], "is defined, but not in PATTERN")
        measures = {
            one.this.alias: self._compile(one.this.this, schema, names, order)
            for one in self._match.args.get("measures") or ()
            if self._is_measure(one)
        }
        columns = [*by, *measures, "match_start", "match_end"]
        return Query(
            self.table, order, by, pattern, self._skip(names), measures, self._selected(columns)
        )

    def _plain(self, node: Any, schema: pl.Schema) -> str:
        if not isinstance(node, exp.Column) or node.table or node.name not in schema:
            self._refuse(node, f"is none of the columns {', '.join(schema)}")
        return str(node.name)

    def _order(self, schema: pl.Schema) -> str:
        order = self._match.args.get("order")
        if order is None or len(order.expressions) != 1:
            raise PlanError("MATCH_RECOGNIZE needs ORDER BY the table's time alone", hint=_SUBSET)
        (by,) = order.expressions
        if by.args.get("desc"):
            self._refuse(by, "must ascend")
        return self._plain(by.this, schema)

    def _conditions(self, schema: pl.Schema) -> dict[str, pl.Expr]:
        defined = self._match.args.get("define") or ()
        names = self._variables()
        return {
            one.alias.upper(): self._compile(one.this, schema, names, None, one.alias.upper())
            for one in defined
        }

    def _variables(self) -> list[str]:
        return [found[1].upper() for found in _TOKEN.finditer(self._match.args["pattern"].name)]

    def _pattern(self, conditions: Mapping[str, pl.Expr]) -> Pattern:
        text: str = self._match.args["pattern"].name
        pattern: Pattern | None = None
        greedy, at, name = False, 0, ""
        while text[at:].strip():
            token = _TOKEN.match(text, at)
            if token is None:
                self._refuse(text[at:].split(maxsplit=1)[0], "is not understood in PATTERN")
            at = token.end()
            name = token[1].upper()
            least, most = _times(token[2])
            greedy = token[3] is None and (most is None or most != least)
            words: dict[str, Any] = {
                "times": (max(least, 1), most),
                "optional": least == 0,
                "greedy": greedy,
                "contiguity": "strict",
            }
            verb = Pattern.begin if pattern is None else pattern.next
            pattern = verb(name, conditions.get(name), **words)
        if pattern is None:
            raise PlanError("PATTERN is empty", hint=_SUBSET)
        if greedy:
            self._refuse(name, "ends PATTERN and is greedy: when is it complete? Make it reluctant")
        return pattern if self._within is None else pattern.within(self._within)

    def _is_measure(self, one: Any) -> bool:
        if one.args.get("window_frame") or not isinstance(one.this, exp.Alias):
            self._refuse(one, "needs AS name, and neither FINAL nor RUNNING")
        return True

    def _skip(self, names: list[str]) -> Skip:
        rows, after = self._match.args.get("rows"), self._match.args.get("after")
        if rows is not None and rows.name.upper() != "ONE ROW PER MATCH":
            self._refuse(rows.name)
        if after is None:
            return "past_last"
        found = _SKIP.match(after.name)
        if found is None:
            self._refuse(after.name)
        if found[1]:
            return "past_last"
        if found[2]:
            return "to_next"
        name = found[4].upper()
        if name not in names:
            self._refuse(found[4], "is not in PATTERN")
        return ("to_first" if (found[3] or "").upper() == "FIRST" else "to_last", name)

    def _selected(self, columns: list[str]) -> tuple[pl.Expr, ...]:
        if len(self._select) == 1 and isinstance(self._select[0], exp.Star):
            return tuple(pl.col(name) for name in columns)
        chosen = []
        for one in self._select:
            node = one.this if isinstance(one, exp.Alias) else one
            if not isinstance(node, exp.Column) or node.name not in columns:
                self._refuse(node, f"is none of {', '.join(columns)}")
            chosen.append(pl.col(node.name).alias(one.alias_or_name))
        return tuple(chosen)

    def _compile(
        self,
        node: Any,
        schema: pl.Schema,
        names: list[str],
        order: str | None,
        defining: str | None = None,
    ) -> pl.Expr:
        compiler = _Compiler(schema, names, order, defining)
        try:
            return compiler.expression(node)
        except ConditionError as error:
            raise PlanError(f"{error.message}, {self._where(node)}", hint=error.hint) from error

    def _refuse(self, node: Any, why: str = "is not understood") -> NoReturn:
        text = node if isinstance(node, str) else node.sql()
        raise PlanError(f"{text!r} {why}, {self._where(node)}", hint=_SUBSET)

    def _where(self, node: Any) -> str:
        at = -1
        if isinstance(node, exp.Expression):
            marked = [one.meta["start"] for one in node.find_all(exp.Identifier) if one.meta]
            at = min(marked, default=-1)
        if at < 0:
            text = node if isinstance(node, str) else node.sql()
            at = self._sql.upper().find(text.upper())
        if at < 0:
            return "somewhere in the text"
        line = self._sql.count("\n", 0, at)
        return f"line {line + 1}, column {at - self._sql.rfind(chr(10), 0, at)}"


class _Compiler(ExpressionCompiler):
    """Expressions of MEASURES, and of DEFINE, where the row under test counts as taken.

    Args:
        schema: The table's columns.
        names: The pattern's variables.
        order: The table's time in MEASURES.
        defining: The variable whose condition it is in DEFINE.
    """

    def __init__(
        self, schema: pl.Schema, names: list[str], order: str | None, defining: str | None
    ) -> None:
        super().__init__(schema)
        self._names = names
        self._order = order
        self._defining = defining

    def _column(self, node: exp.Column) -> pl.Expr:
        step, value = self._of(node)
        return value if self._counts(step) else matched(step).last(value)

    def _first(self, node: Any) -> pl.Expr:
        taken, value, counts, place = self._rows(node)
        if not counts:
            return taken.first(value, place)
        known = taken.count()
        return (
            pl.when(known > place).then(taken.first(value, place)).when(known == place).then(value)
        )

    def _last(self, node: Any) -> pl.Expr:
        taken, value, counts, place = self._rows(node)
        if not counts:
            return taken.last(value, place)
        return taken.last(value, place - 1) if place else value

    def _sum(self, node: Any) -> pl.Expr:
        taken, value, counts, _ = self._rows(node)
        total = taken.sum(value)
        if not counts:
            return total
        both = total + value
        return (
            pl.when(total.is_null()).then(value).when(value.is_null()).then(total).otherwise(both)
        )

    def _avg(self, node: Any) -> pl.Expr:
        taken, value, counts, _ = self._rows(node)
        if not counts:
            return taken.avg(value)
        number = taken.count(value) + value.is_not_null().cast(pl.Int64)
        total = taken.sum(value).fill_null(0) + value.fill_null(0)
        return pl.when(number > 0).then(total.cast(pl.Float64) / number)

    def _min(self, node: Any) -> pl.Expr:
        taken, value, counts, _ = self._rows(node)
        return pl.min_horizontal(taken.min(value), value) if counts else taken.min(value)

    def _max(self, node: Any) -> pl.Expr:
        taken, value, counts, _ = self._rows(node)
        return pl.max_horizontal(taken.max(value), value) if counts else taken.max(value)

    def _count(self, node: Any) -> pl.Expr:
        inner = node.this
        if isinstance(inner, exp.Star) or (
            isinstance(inner, exp.Column) and isinstance(inner.this, exp.Star)
        ):
            step = self._variable(inner.table) if isinstance(inner, exp.Column) else None
            return matched(step).count() + int(self._counts(step))
        taken, value, counts, _ = self._rows(node)
        known = taken.count(value)
        return known + value.is_not_null().cast(pl.Int64) if counts else known

    def _anonymous(self, node: exp.Anonymous) -> pl.Expr:
        if str(node.this).upper() == "MATCH_ROWTIME" and self._order and not node.expressions:
            return matched().last(self._order)
        return super()._anonymous(node)

    def _rows(self, node: Any) -> tuple[Matched, pl.Expr, bool, int]:
        """Return the rows a function speaks of, its value per row, whether the row under test
        is one of them, and the offset.
        """
        place = node.args.get("expression")
        if place is not None and not (isinstance(place, exp.Literal) and place.is_int):
            raise self._refuse(node)
        step, value = self._of(node.this)
        return matched(step), value, self._counts(step), int(place.name) if place else 0

    def _of(self, node: Any) -> tuple[str | None, pl.Expr]:
        """Return the variable of whose rows an expression speaks, None for all, and its value."""
        columns = list(node.find_all(exp.Column))
        steps = {self._variable(column.table) for column in columns}
        if len(steps) != 1:
            raise ConditionError(
                f"{node.sql()!r} speaks of the rows of {len(steps)} variables",
                hint="write a function of each, e.g. LAST(A.x) - LAST(B.x)",
            )
        bare = node.transform(
            lambda one: exp.column(one.this) if isinstance(one, exp.Column) else one
        )
        return steps.pop(), ExpressionCompiler(self._schema).expression(bare)

    def _variable(self, name: str) -> str | None:
        if not name:
            return None
        if name.upper() not in self._names:
            raise ConditionError(
                f"there is no variable {name!r}", hint=f"PATTERN has {', '.join(self._names)}"
            )
        return name.upper()

    def _counts(self, step: str | None) -> bool:
        return self._defining is not None and step in (None, self._defining)


def _times(quantifier: str | None) -> tuple[int, int | None]:
    if quantifier is None:
        return 1, 1
    if quantifier in ("*", "+", "?"):
        return int(quantifier == "+"), 1 if quantifier == "?" else None
    least, comma, most = quantifier.strip("{}").replace(" ", "").partition(",")
    if not comma:
        return int(least), int(least)
    return int(least or 0), int(most) if most else None
