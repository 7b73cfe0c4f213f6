"""Partials as pieces of a rows table: appended as they come, merged when they pile up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from headrace.core.protocols import RowsTable

Merge = Callable[[pl.DataFrame], pl.DataFrame]

_MAX_PIECES: Final = 32
_FEW_ROWS: Final = 65_536


def add_piece(table: RowsTable, piece: pl.DataFrame, merge: Merge) -> None:
    """Append `piece`; merge pieces when there are many, or rows twice those last merged.

    Only the pieces themselves decide, so that a restored table merges at the same moments and
    float sums keep their last bit. Each row is merged O(log n) times.
    """
    if piece.is_empty():
        return
    table.append(piece)
    pieces = table.pieces
    rows = table.rows
    if rows > 2 * pieces[0].height + _FEW_ROWS:
        table.replace([merge(_one(pieces))])
    elif len(pieces) > _MAX_PIECES:
        # The tail only, as far as the piece before it is not much larger than all of it.
        cut = len(pieces) - 1
        tail = pieces[cut].height
        while cut > 0 and pieces[cut - 1].height <= 2 * tail:
            cut -= 1
            tail += pieces[cut].height
        table.replace([*pieces[:cut], merge(_one(pieces[cut:]))])


def is_piled(table: RowsTable) -> bool:
    """Return whether the pieces are worth merging into one."""
    pieces = table.pieces
    return len(pieces) > _MAX_PIECES or (
        len(pieces) > 1 and table.rows > 2 * pieces[0].height + _FEW_ROWS
    )


def drop_below(table: RowsTable, column: str, bound: int) -> None:
    """Forget the rows whose Int64 `column` is below `bound`; untouched pieces stay as they are."""
    kept = []
    dropped = False
    for piece in table.pieces:
        lowest = piece[column].min()
        if isinstance(lowest, int) and lowest < bound:
            dropped = True
            kept.append(piece.filter(pl.col(column) >= bound))
        else:
            kept.append(piece)
    if dropped:
        table.replace([piece for piece in kept if piece.height])


def below(table: RowsTable, column: str, bound: int) -> pl.DataFrame | None:
    """Return the rows whose Int64 `column` is below `bound`, in order; None when there are none."""
    found = []
    for piece in table.pieces:
        lowest, highest = piece[column].min(), piece[column].max()
        if isinstance(lowest, int) and lowest < bound:
            whole = isinstance(highest, int) and highest < bound
            found.append(piece if whole else piece.filter(pl.col(column) < bound))
    return _one(found) if found else None


def _one(pieces: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pieces[0] if len(pieces) == 1 else pl.concat(pieces, rechunk=True)
