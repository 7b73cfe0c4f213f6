"""One rule as the engine judges it, and what is wrong with one that cannot be judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from headrace.operators.rulebook.language import Columns, come_back, compile_text
from headrace.operators.rulebook.message import Piece, template
from headrace.operators.rulebook.rule import SEVERITIES
from headrace.operators.rulebook.structured import compile_list, compile_scope
from headrace.operators.rulebook.tree import TRUE, Condition, Single, Tree
from headrace.plan.expressions import ConditionError

MAX_DECODED: Final = 100_000


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule over columns.

    Attributes:
        name: Shown to people.
        condition: When it holds.
        scope: Where it is judged.
        bands: Conditions with the severities (numbers on the ladder) they give, the first that
            holds counts.
        severity: Where no band holds.
        message: What to say.
        back: When a value has come back, where the rule has a hysteresis.
    """

    rule_id: str
    name: str
    version: int
    condition: Condition
    scope: Condition
    bands: tuple[tuple[Condition, int], ...]
    severity: int
    message: tuple[Piece, ...]
    back: Tree | None

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Everything it reads."""
        return (self.condition, self.scope, *(band for band, _ in self.bands))

    @property
    def single(self) -> Single | None:
        """The comparison, where the condition is one."""
        return self.condition.single


EVERYWHERE: Final = Condition(TRUE, {}, {}, ())


def compile_rule(row: Mapping[str, Any], columns: Columns, zones: str | None) -> CompiledRule:
    """Compile a row of a table of rules, JSON columns as text.

    Args:
        row: Its columns, and `version`.
        columns: Those of the stream, with dtypes.
        zones: The column that names the zones of a row.

    Raises:
        ConditionError: It does not fit the columns; the message says which word, and where in it.
    """
    rule_id = row["rule_id"]
    try:
        return _compiled(row, columns, zones)
    except ConditionError as error:
        raise ConditionError(f"rule {rule_id!r}: {error.message}", hint=error.hint) from error


def _compiled(row: Mapping[str, Any], columns: Columns, zones: str | None) -> CompiledRule:
    condition = _condition(row, columns, zones)
    scope = _json(row, "scope")
    name = row["name"] or row["rule_id"]
    bands, severity = _severity(_json(row, "severity"), columns, zones)
    back = None
    if row["hysteresis"] is not None:
        if condition.single is None:
            raise ConditionError(
                "hysteresis needs a condition that is one comparison with a number",
                hint="e.g. depth_m > 200",
            )
        metric = condition.metrics[condition.single.metric]
        back = come_back(condition.single, metric, row["hysteresis"])
    return CompiledRule(
        rule_id=row["rule_id"],
        name=name,
        version=row["version"],
        condition=condition,
        scope=EVERYWHERE if scope is None else compile_scope(scope, columns),
        bands=bands,
        severity=severity,
        message=_message(row, name, condition, columns),
        back=back,
    )


def _condition(row: Mapping[str, Any], columns: Columns, zones: str | None) -> Condition:
    text = row["condition"]
    items = _json(row, "conditions")
    if (text is None) == (items is None):
        raise ConditionError("it has either condition or conditions")
    if text is None:
        return compile_list(items, columns, zones)
    return _named("condition", text, columns, zones)


def _named(word: str, text: Any, columns: Columns, zones: str | None) -> Condition:
    if not isinstance(text, str):
        raise ConditionError(f"{word} is no text")
    try:
        return compile_text(text, columns, zones)
    except ConditionError as error:
        raise ConditionError(f"{word}: {error.message}", hint=error.hint) from error


def _severity(
    given: Any, columns: Columns, zones: str | None
) -> tuple[tuple[tuple[Condition, int], ...], int]:
    if isinstance(given, str):
        return (), _rung(given, "severity")
    if not isinstance(given, list):
        raise ConditionError("severity is neither a word nor bands")
    bands = []
    for number, band in enumerate(given):
        where = f"severity[{number}]"
        if not isinstance(band, Mapping) or set(band) != {"when", "severity"}:
            raise ConditionError(f"{where} has not exactly when and severity")
        when = _named(f"{where}.when", band["when"], columns, zones)
        bands.append((when, _rung(band["severity"], where)))
    return tuple(bands), 0


def _rung(word: Any, where: str) -> int:
    if word not in SEVERITIES:
        raise ConditionError(f"{where} is {word!r}", hint=f"have {', '.join(SEVERITIES)}")
    return SEVERITIES.index(word)


def _message(
    row: Mapping[str, Any], name: str, condition: Condition, columns: Columns
) -> tuple[Piece, ...]:
    single = condition.single
    text = row["message"]
    if text is None:
        said = name.replace("{", "{{").replace("}", "}}")
        text = f"{said}: {{value}} ({{threshold}})" if single is not None else said
    known = {"rule_id": row["rule_id"], "rule_name": name}
    if single is not None:
        known["threshold"] = _plain(single.threshold)
    return template(text, dict(columns), known, has_value=single is not None)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) and abs(number) < MAX_DECODED else str(number)


def _json(row: Mapping[str, Any], word: str) -> Any:
    """Return what a column of JSON text holds."""
    if row[word] is None:
        return None
    try:
        return json.loads(row[word])
    except (ValueError, RecursionError) as error:
        raise ConditionError(f"{word} is no JSON") from error


def columns_of(schema: pl.Schema) -> Columns:
    """Return a schema in the form conditions are compiled against."""
    return tuple(schema.items())
