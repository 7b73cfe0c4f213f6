"""Conditions as structured lists, and the scope of a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from headrace.operators.rulebook.language import OPERATORS, Columns, Reader, is_number
from headrace.operators.rulebook.syntax import DIGITS, MAX_DEPTH
from headrace.operators.rulebook.tree import Condition, Tree, every, some
from headrace.plan.expressions import ConditionError

MAX_ENTRIES: Final = 100
TOLERANCE: Final = 0.001
_ENTRY: Final = 'e.g. {"metric": "depth_m", "operator": "gt", "threshold": 200}, or any or all'


def compile_scope(scope: Any, columns: Columns) -> Condition:
    """Compile the restriction of a rule: each column has one of its values.

    Raises:
        ConditionError: It is no mapping of columns to values.
    """
    reader = Reader.over(columns, None)
    if not isinstance(scope, Mapping):
        raise ConditionError("scope is no mapping of columns to values")
    parts = []
    for column, given in scope.items():
        values = given if isinstance(given, list) else [given]
        if column not in dict(columns):
            have = ", ".join(name for name, _ in columns)
            raise ConditionError(f"scope.{column} is no column", hint=f"there are {have}")
        if not 1 <= len(values) <= MAX_ENTRIES:
            raise ConditionError(f"scope.{column} has not 1 to {MAX_ENTRIES} values")
        parts.append(some(reader.entry(str(column), "eq", value, 0.0) for value in values))
    return reader.condition(every(parts))


def compile_list(items: Any, columns: Columns, zones: str | None) -> Condition:
    """Compile a structured list: all of its conditions must hold.

    Args:
        items: `{metric, operator, threshold, tolerance}`, `{"any": [...]}`, `{"all": [...]}`.
        columns: Names and dtypes it may name.
        zones: As for `compile_text`.

    Raises:
        ConditionError: It is no such list; the message says which entry.
    """
    reader = Reader.over(columns, zones)
    return reader.condition(_entries(items, "conditions", reader))


def _entries(items: Any, where: str, reader: Reader) -> Tree:
    """Read a nested list without recursion of its own: it may be as deep as it likes."""
    depth, count = _size(items)
    if depth > MAX_DEPTH:
        raise ConditionError(f"{where} nest at most {MAX_DEPTH} levels deep")
    if count > MAX_ENTRIES:
        raise ConditionError(f"{where}: a rule has at most {MAX_ENTRIES} conditions")
    return every(_parts(items, where, reader))


def _size(items: Any) -> tuple[int, int]:
    """Return how deep a structure nests, as far as it matters, and how many entries it has."""
    depth, count, level = 0, 0, [items]
    while level and depth <= MAX_DEPTH and count <= MAX_ENTRIES:
        lists = [one for one in level if isinstance(one, list)]
        entries = [entry for one in lists for entry in one]
        depth, count = depth + 1, count + len(entries)
        level = [one for entry in entries if isinstance(entry, Mapping) for one in entry.values()]
    return depth, count


def _parts(items: Any, where: str, reader: Reader) -> list[Tree]:
    if not isinstance(items, list) or not items:
        raise ConditionError(f"{where} is no list of conditions", hint=_ENTRY)
    return [_entry(item, f"{where}[{number}]", reader) for number, item in enumerate(items)]


def _entry(item: Any, where: str, reader: Reader) -> Tree:
    if not isinstance(item, Mapping):
        raise ConditionError(f"{where} is no condition", hint=_ENTRY)
    if len(item) == 1 and "any" in item:
        return some(_parts(item["any"], f"{where}.any", reader))
    if len(item) == 1 and "all" in item:
        return every(_parts(item["all"], f"{where}.all", reader))
    words = {"metric", "operator", "threshold"}
    if not words <= set(item) <= words | {"tolerance"}:
        raise ConditionError(f"{where} has {', '.join(map(str, item))}", hint=_ENTRY)
    operator, tolerance = item["operator"], item.get("tolerance", TOLERANCE)
    if operator not in OPERATORS:
        have = ", ".join(OPERATORS)
        raise ConditionError(f"{where}.operator is {operator!r}", hint=f"have {have}")
    if not is_number(tolerance) or tolerance < 0:
        raise ConditionError(f"{where}.tolerance is {tolerance!r}, no number from 0 on")
    try:
        return reader.entry(item["metric"], operator, item["threshold"], tolerance)
    except ConditionError as error:
        message, hint = (each.translate(DIGITS) for each in (error.message, error.hint))
        raise ConditionError(f"{where}: {message}", hint=hint) from error
