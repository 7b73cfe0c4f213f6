"""Pieces and Blob: state without keys."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headrace.core.errors import BugError, StateError
from headrace.core.protocols import TableSpec
from headrace.state.keyed import Part


class Pieces:
    """A rows table: immutable frames in the order they were appended.

    Args:
        spec: A spec of the kind `rows`.
    """

    def __init__(self, spec: TableSpec) -> None:
        self._spec = spec
        self._empty = pl.DataFrame(schema=spec.schema)
        self._pieces: tuple[pl.DataFrame, ...] = ()
        self._sizes: dict[int, int] = {}

    @property
    def rows(self) -> int:
        """Number of rows held."""
        return sum(piece.height for piece in self._pieces)

    @property
    def size_bytes(self) -> int:
        """Estimated memory."""
        # Sizes are kept by identity, which is safe because the pieces themselves are held.
        self._sizes = {
            id(piece): self._sizes.get(id(piece)) or int(piece.estimated_size())
            for piece in self._pieces
        }
        return sum(self._sizes.values())

    @property
    def pieces(self) -> tuple[pl.DataFrame, ...]:
        """The frames as they were appended."""
        return self._pieces

    def append(self, rows: pl.DataFrame) -> None:
        """Add `rows` as one piece; an empty frame adds nothing.

        Raises:
            BugError: A column is missing or has another dtype than declared.
        """
        if not rows.is_empty():
            self._pieces = (*self._pieces, self._checked(rows))

    def replace(self, pieces: Sequence[pl.DataFrame]) -> None:
        """Put `pieces` in the place of everything held. A piece held already stays the same
        object, so a checkpoint does not write it again.
        """
        held = {id(piece) for piece in self._pieces}
        self._pieces = tuple(
            piece if id(piece) in held else self._checked(piece)
            for piece in pieces
            if not piece.is_empty()
        )

    def frame(self) -> pl.DataFrame:
        """Return all rows as one frame with one chunk, in order. Cost: O(n)."""
        if not self._pieces:
            return self._empty
        if len(self._pieces) == 1:
            return self._pieces[0]
        return pl.concat(self._pieces, rechunk=True)

    def parts(self) -> tuple[Part, ...]:
        """Return the pieces a checkpoint writes."""
        return self._pieces

    def load(self, parts: Sequence[Part]) -> None:
        """Restore exactly the pieces that `parts` returned.

        Raises:
            StateError: The rows have other columns than this table declares.
        """
        pieces = []
        for part in parts:
            if isinstance(part, bytes) or part.schema != self._spec.schema:
                raise StateError(
                    f"table {self._spec.name!r} was stored with other columns",
                    hint="give the operator another name, or drop its state",
                )
            # The same object where it can be, so that the next checkpoint need not write it again.
            pieces.append(part if part.n_chunks() == 1 else part.rechunk())
        self._pieces = tuple(pieces)

    def snapshot(self) -> tuple[pl.DataFrame, ...]:
        """Return a reference to the present state. Cost: none."""
        return self._pieces

    def restore(self, snapshot: tuple[pl.DataFrame, ...]) -> None:
        """Go back to a state that `snapshot` returned. Cost: none."""
        self._pieces = snapshot

    def _checked(self, rows: pl.DataFrame) -> pl.DataFrame:
        missing = [name for name in self._spec.schema if name not in rows.columns]
        if missing:
            raise BugError(f"rows for table {self._spec.name!r} lack {missing}")
        # Not select(), which makes a query of it and waits for Polars' threads.
        frame = rows[self._spec.schema.names()].rechunk()
        if frame.schema != self._spec.schema:
            raise BugError(
                f"rows for table {self._spec.name!r} have {dict(frame.schema)}, "
                f"declared {dict(self._spec.schema)}"
            )
        return frame


class Blob:
    """A blob table: opaque bytes, replaced and never mutated.

    Args:
        spec: A spec of the kind `blob`.
    """

    def __init__(self, spec: TableSpec) -> None:
        self._spec = spec
        self._value: bytes | None = None

    @property
    def rows(self) -> int:
        """1 where something is stored, else 0."""
        return int(self._value is not None)

    @property
    def size_bytes(self) -> int:
        """Length of what is stored."""
        return len(self._value or b"")

    @property
    def value(self) -> bytes | None:
        """What was last stored, None at first."""
        return self._value

    def replace(self, value: bytes) -> None:
        """Store `value`."""
        self._value = bytes(value)

    def parts(self) -> tuple[Part, ...]:
        """Return the bytes a checkpoint writes."""
        return () if self._value is None else (self._value,)

    def load(self, parts: Sequence[Part]) -> None:
        """Restore what `parts` returned.

        Raises:
            StateError: The stored parts are not one piece of bytes.
        """
        values = [part for part in parts if isinstance(part, bytes)]
        if len(values) != len(parts) or len(values) > 1:
            raise StateError(
                f"table {self._spec.name!r} was not stored as a blob",
                hint="give the operator another name, or drop its state",
            )
        self._value = values[0] if values else None

    def snapshot(self) -> bytes | None:
        """Return a reference to the present state. Cost: none."""
        return self._value

    def restore(self, snapshot: bytes | None) -> None:
        """Go back to a state that `snapshot` returned. Cost: none."""
        self._value = snapshot
