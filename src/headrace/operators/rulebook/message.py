"""What a rule says when it holds: a template over the columns, filled for many rows at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from headrace.operators.rulebook.bits import Ints
from headrace.plan.expressions import ConditionError

KEY: Final = "key"
VALUE: Final = "value"
MAX_FIELDS: Final = 16
MAX_DECIMALS: Final = 6

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_FIELD = re.compile(r"([^:!.\[\]]+)(?::\.([0-6])f)?")
_ABSENT: Final = "-"


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the row, the key, or the value that was compared.

    Attributes:
        name: A column; `key` or `value` where `of_row` is false.
        decimals: How many to show of a number.
    """

    name: str
    decimals: int | None = None
    of_row: bool = True

    @property
    def column(self) -> str:
        """Where `fill` finds it."""
        return self.name if self.of_row else f"__{self.name}"


Piece = str | Field


def template(
    text: str, columns: Mapping[str, Any], known: Mapping[str, str], *, has_value: bool
) -> tuple[Piece, ...]:
    """Read a template.

    Args:
        text: Words with `{column}` or `{column:.2f}` in them; `{{` is a brace.
        columns: What it may name, with dtypes.
        known: Further names, with what stands for them.
        has_value: Whether `{value}` is one.

    Raises:
        ConditionError: A field is none; the message says where.
    """
    pieces: list[Piece] = []
    end = 0
    for found in _PART.finditer(text):
        pieces.append(text[end : found.start()])
        end = found.end()
        if found[0] in ("{{", "}}"):
            pieces.append(found[0][0])
        else:
            pieces.append(_field(found, columns, known, has_value))
    pieces.append(text[end:])
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece != "":
            joined.append(piece)
    if sum(isinstance(piece, Field) for piece in joined) > MAX_FIELDS:
        raise ConditionError(f"message has more than {MAX_FIELDS} fields")
    return tuple(joined)


def _field(
    found: re.Match[str], columns: Mapping[str, Any], known: Mapping[str, str], has_value: bool
) -> Piece:
    where = f"message: {found[0]} at character {found.start() + 1}"
    shape = _FIELD.fullmatch(found[1] or "")
    if shape is None:
        raise ConditionError(f"{where} is no field", hint="e.g. {depth_m} or {depth_m:.1f}")
    name, decimals = shape[1], None if shape[2] is None else int(shape[2])
    if name in columns:
        if decimals is not None and not columns[name].is_numeric():
            raise ConditionError(f"{where}: {name} is no number")
        if columns[name].is_nested():
            raise ConditionError(f"{where}: {name} is a list or record")
        return Field(name, decimals)
    if name == VALUE and has_value:
        return Field(VALUE, decimals, of_row=False)
    if decimals is None and name == KEY:
        return Field(KEY, of_row=False)
    if decimals is None and name in known:
        return known[name]
    have = [*columns, KEY, *([VALUE] if has_value else []), *known]
    raise ConditionError(f"{where} is no column", hint=f"there are {', '.join(have)}")


class Messages:
    """Templates laid out together.

    Args:
        templates: One per rule.
    """

    def __init__(self, templates: Sequence[tuple[Piece, ...]]) -> None:
        distinct = list(dict.fromkeys(piece for one in templates for piece in one))
        words = ["", *(piece for piece in distinct if isinstance(piece, str))]
        # By decimals: those that show as many are rounded together.
        self._fields = sorted(
            (piece for piece in distinct if isinstance(piece, Field)),
            key=lambda field: -1 if field.decimals is None else field.decimals,
        )
        self._words = pl.Series(words, dtype=pl.String)
        number = {piece: place for place, piece in enumerate([*words, *self._fields])}
        self._pieces = np.zeros((max(map(len, templates), default=0), len(templates)), np.int64)
        for rule, one in enumerate(templates):
            self._pieces[: len(one), rule] = [number[piece] for piece in one]

    def fill(self, rule: Ints, rows: pl.DataFrame) -> pl.Series:
        """Return one text per hit.

        Args:
            rule: Whose template, for each hit.
            rows: One row per hit: the columns, `__key` and `__value`.

        Cost: O(pieces of the longest template) per hit, and a few calls per distinct field.
        """
        columns = []
        count = len(self._words)
        for place, pieces in enumerate(self._pieces):
            here = pieces[rule]
            # Each field is made once, for the rows that say it here.
            order = np.argsort(np.maximum(here, count - 1), kind="stable")
            ends = np.arange(count, count + len(self._fields) + 1)
            bounds = np.searchsorted(np.maximum(here, count - 1)[order], ends)
            parts = [self._words[here[order[: bounds[0]]]]]
            values: dict[int | None, list[pl.Series]] = {}
            for field, start, stop in zip(self._fields, bounds[:-1], bounds[1:], strict=True):
                if start < stop:
                    shown = rows[field.column][order[start:stop]]
                    kind = pl.String() if field.decimals is None else pl.Float64()
                    values.setdefault(field.decimals, []).append(
                        shown.cast(kind, strict=False).alias("")
                    )
            for decimals, found in values.items():
                text = pl.concat(found)
                parts.append(text if decimals is None else _rounded(text, decimals))
            back = np.empty(order.size, dtype=np.int64)
            back[order] = np.arange(order.size)
            columns.append(pl.concat(parts)[back].fill_null(_ABSENT).alias(str(place)))
        if not columns:
            return pl.Series([""], dtype=pl.String).new_from_index(0, rows.height)
        return pl.DataFrame(columns).select(pl.concat_str(pl.all())).to_series()


def _rounded(values: pl.Series, decimals: int) -> pl.Series:
    """Return numbers with exactly so many decimals; those that are no numbers as they are."""
    limit = 10.0**15
    numbers = values.fill_null(float("nan")).to_numpy()
    # Half away from zero, as people round.
    scaled = np.floor(np.abs(numbers) * 10.0**decimals + 0.5)
    shown = scaled < limit
    digits = np.where(shown, scaled, 0).astype(np.int64)
    whole, part = np.divmod(digits, 10**decimals)
    sign = np.where((numbers < 0) & (digits > 0), "-", "")
    tail = [pl.lit("."), pl.col("part").cast(pl.String).str.zfill(decimals)] if decimals else []
    text = pl.concat_str([pl.col("sign"), pl.col("whole").cast(pl.String), *tail])
    columns = {"sign": sign, "whole": whole, "part": part, "shown": shown, "given": values}
    given = pl.col("given").cast(pl.String)
    return (
        pl.DataFrame(columns)
        .select(pl.when("shown").then(text).otherwise(given).alias("text"))
        .to_series()
    )
