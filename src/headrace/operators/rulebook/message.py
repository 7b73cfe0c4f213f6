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


def fill(templates: Sequence[tuple[Piece, ...]], which: Ints, rows: pl.DataFrame) -> pl.Series:
    """Return one text per hit.

    Args:
        templates: By number.
        which: The template of each hit.
        rows: One row per hit: the columns, and `key` and `value` under `__key` and `__value`.

    Cost: per hit O(pieces of the longest template); per distinct field one pass over the hits.
    """
    used, code = np.unique(which, return_inverse=True)
    chosen = [templates[number] for number in used.tolist()]
    fields = list(dict.fromkeys(p for one in chosen for p in one if isinstance(p, Field)))
    words = list(dict.fromkeys(p for one in chosen for p in one if isinstance(p, str)))
    place: dict[Piece, int] = {word: number + 1 for number, word in enumerate(words)}
    first = len(words) + 1
    place |= {field: first + number * rows.height for number, field in enumerate(fields)}
    texts = pl.concat(
        [pl.Series(["", *words], dtype=pl.String), *(_text(field, rows) for field in fields)]
    )
    row = np.arange(rows.height)
    columns = []
    for number in range(max((len(one) for one in chosen), default=0)):
        at = np.array([place[one[number]] if number < len(one) else 0 for one in chosen])
        moves = np.array([number < len(one) and isinstance(one[number], Field) for one in chosen])
        columns.append(texts.gather(at[code] + np.where(moves[code], row, 0)).alias(str(number)))
    if not columns:
        return pl.Series([""], dtype=pl.String).new_from_index(0, rows.height)
    return pl.DataFrame(columns).select(pl.concat_str(pl.all())).to_series()


def _text(field: Field, rows: pl.DataFrame) -> pl.Series:
    name = field.name if field.of_row else f"__{field.name}"
    column = rows[name]
    if field.decimals is None:
        text = column.cast(pl.String, strict=False)
    else:
        text = _rounded(column.cast(pl.Float64), field.decimals)
    return text.fill_null(_ABSENT).alias("text")


def _rounded(values: pl.Series, decimals: int) -> pl.Series:
    """Return numbers with exactly so many decimals; those that are no numbers as they are."""
    limit = 10.0**15
    scaled = (values.abs() * 10**decimals).round(mode="half_away_from_zero")
    whole = scaled.is_finite() & (scaled < limit)
    digits = scaled.fill_nan(0.0).clip(0, limit).cast(pl.Int64)
    sign = pl.select(
        pl.when((values < 0) & (digits > 0)).then(pl.lit("-")).otherwise(pl.lit(""))
    ).to_series()
    text = sign + (digits // 10**decimals).cast(pl.String)
    if decimals:
        text = text + "." + (digits % 10**decimals).cast(pl.String).str.zfill(decimals)
    shown: pl.Series = text.zip_with(whole.fill_null(value=False), values.cast(pl.String))
    return shown
