"""SQL as rules may write it, with `over 5m` after an aggregate; bounded in size and depth."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlglot import exp

from headrace.plan.expressions import MAX_NODES, ConditionError, parsed, place

MAX_DEPTH: Final = 32

# SQL has no `over 5m`. Written with letters for digits it is a named window of the same length, so
# that places in the text stay what they are.
_OVER = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(\)\s*over\s+)(\d[\d.]*[a-z]+)\b", re.IGNORECASE
)
_LETTERS: Final = str.maketrans("0123456789.", "αβγδεζηθικλ")
DIGITS: Final = str.maketrans("αβγδεζηθικλ", "0123456789.")
"""Turns what was read back into what was written, for messages."""


def parse(text: str) -> Any:
    """Return the syntax tree of a condition.

    Raises:
        ConditionError: It is no SQL, has too many parts, or nests too deep.
    """
    tree = parsed(
        _OVER.sub(lambda m: m[0] if m[1] is None else m[1] + m[2].translate(_LETTERS), text)
    )
    if sum(1 for _ in tree.walk()) > MAX_NODES:
        raise ConditionError(f"a condition has at most {MAX_NODES} parts")
    depth, level = 0, [tree]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ConditionError(
                f"a condition nests at most {MAX_DEPTH} levels deep{place(level[0])}"
            )
        level = [child for node in level for child in _below(node)]
    return tree


def _below(node: Any) -> list[Any]:
    """Return the parts of a node; a chain of ANDs, which SQL nests, is one level."""
    below = []
    waiting = list(node.iter_expressions())
    while waiting:
        child = waiting.pop()
        if isinstance(node, exp.And | exp.Or) and type(child) is type(node):
            waiting.extend(child.iter_expressions())
        else:
            below.append(child)
    return below
