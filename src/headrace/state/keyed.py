"""KeyedLevels: one row per key, held as immutable levels of growing size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from headrace.core.errors import BugError, StateError
from headrace.core.protocols import TableSpec
from headrace.state.level import Hashes, Level, Places

FOUND = "__found"
Part = pl.DataFrame | bytes

_RATIO = 4
_SEED = 7


def hash_keys(keys: pl.DataFrame) -> Hashes:
    """Return one hash per row. Equal keys have equal hashes within this process, no more."""
    texts = [
        name for name, dtype in keys.schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)
    ]
    plain = keys.with_columns(pl.col(texts).cast(pl.String)) if texts else keys
    return plain.hash_rows(_SEED).to_numpy()


class KeyedLevels:
    """A keyed table: every upsert adds a level, and small levels are merged into larger ones.

    A level is never changed; a row that is replaced or deleted is marked dead in its level, so
    at most one row per key is live. A level is kept at least four times as large as the next
    newer one, so n keys lie in O(log n) levels and a row is copied O(log n) times. Hashes find
    rows and never decide an order: `frame` and `expire` follow the calls made.

    Null, NaN are keys like any other; -0.0 equals 0.0.

    Args:
        spec: A spec of the kind `keyed`.
        hasher: One hash per row of the key columns; a bad one is slow, not wrong.
    """

    def __init__(
        self, spec: TableSpec, hasher: Callable[[pl.DataFrame], Hashes] = hash_keys
    ) -> None:
        self._spec = spec
        self._key = list(spec.key)
        self._columns = spec.schema.names()
        self._values = [name for name in self._columns if name not in spec.key]
        self._empty = pl.DataFrame(schema=spec.schema)
        # Single-step Polars calls are dear next to a few rows of work, so these are made once.
        self._key_schema = self._empty[self._key].schema
        self._no_values = self._empty[self._values]
        self._null_values = self._no_values.clear(1)
        self._hasher = hasher
        self._levels: tuple[Level, ...] = ()

    @property
    def rows(self) -> int:
        """Number of keys held."""
        return sum(level.live_rows for level in self._levels)

    @property
    def size_bytes(self) -> int:
        """Estimated memory of rows, index and dead rows not merged away yet."""
        return sum(level.size_bytes for level in self._levels)

    def lookup(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return one row per row of `keys`: the stored values, null where absent, and `__found`.

        Cost: O(k log n) for k keys.
        """
        wanted = self._keys_of(keys)
        places, rows = self._find(wanted, self._hasher(wanted))
        found = pl.Series(FOUND, places >= 0)
        if not self._values:
            return found.to_frame()
        pieces: list[pl.DataFrame] = []
        gather = np.zeros(wanted.height, dtype=np.int64)
        start = 0
        for place in np.unique(places):
            mine = np.flatnonzero(places == place)
            if place < 0:
                pieces.append(self._null_values)
                gather[mine] = start
                start += 1
            else:
                pieces.append(self._levels[place].frame[self._values][rows[mine]])
                gather[mine] = np.arange(start, start + mine.size)
                start += mine.size
        if not pieces:
            return self._no_values.hstack([found])
        return pl.concat(pieces)[gather].hstack([found])

    def upsert(self, rows: pl.DataFrame) -> None:
        """Store `rows`; among equal keys the last row wins. Cost: O(k log n) amortised.

        Raises:
            BugError: A column is missing or has another dtype than declared.
        """
        if rows.is_empty():
            return
        frame = self._checked(rows)
        hashes = self._hasher(frame[self._key])
        level = Level.build(frame, self._spec.key, hashes)
        if bool((level.hashes[1:] == level.hashes[:-1]).any()):
            frame = frame.unique(self._key, keep="last", maintain_order=True).rechunk()
            hashes = self._hasher(frame[self._key])
            level = Level.build(frame, self._spec.key, hashes)
        self._forget(*self._find(level.keys, hashes))
        self._levels = (*self._levels, level)
        self._merge()

    def delete(self, keys: pl.DataFrame) -> None:
        """Forget `keys`; absent keys are no error. Cost: O(k log n) for k keys."""
        if keys.is_empty() or not self._levels:
            return
        gone = self._keys_of(keys).unique(maintain_order=True)
        self._forget(*self._find(gone, self._hasher(gone)))
        self._merge()

    def expire(self, column: str, before: int) -> pl.DataFrame:
        """Forget and return the rows whose Int64 `column` is less than `before`, oldest call
        first. A null never expires.

        Cost: O(n / 4096) when nothing expires.
        """
        if self._spec.schema.get(column) != pl.Int64:
            raise BugError(f"table {self._spec.name!r} has no Int64 column {column!r} to expire by")
        gone: list[pl.DataFrame] = []
        kept: list[Level] = []
        for level in self._levels:
            rest, old = level.older(column, before)
            if old is not None:
                gone.append(old)
            kept.append(rest)
        if not gone:
            return self._empty
        self._levels = tuple(kept)
        self._merge()
        return pl.concat(gone, rechunk=True)

    def frame(self) -> pl.DataFrame:
        """Return all rows, in the order of the calls that stored them. Cost: O(n)."""
        if not self._levels:
            return self._empty
        return pl.concat([level.live_frame() for level in self._levels], rechunk=True)

    def parts(self) -> tuple[Part, ...]:
        """Return the immutable pieces a checkpoint writes: each level's rows, followed by packed
        bits of its live rows where some are dead. A piece that did not change is the same object.
        """
        parts: list[Part] = []
        for level in self._levels:
            parts.append(level.frame)
            if level.mask_part is not None:
                parts.append(level.mask_part)
        return tuple(parts)

    def load(self, parts: Sequence[Part]) -> None:
        """Restore exactly the structure that `parts` described.

        Raises:
            StateError: The rows have other columns than this table declares.
        """
        levels: list[Level] = []
        for number, part in enumerate(parts):
            if isinstance(part, bytes):
                continue
            if part.schema != self._spec.schema:
                raise StateError(
                    f"table {self._spec.name!r} was stored with columns {dict(part.schema)}, "
                    f"now {dict(self._spec.schema)}",
                    hint="give the operator another name, or drop its state",
                )
            after = parts[number + 1] if number + 1 < len(parts) else None
            live = None
            if isinstance(after, bytes):
                bits = np.unpackbits(np.frombuffer(after, dtype=np.uint8), count=part.height)
                live = bits.astype(np.bool_)
            hashes = self._hasher(part[self._key])
            levels.append(Level.build(part, self._spec.key, hashes, live))
        self._levels = tuple(levels)

    def snapshot(self) -> tuple[Level, ...]:
        """Return a reference to the present state. Cost: none."""
        return self._levels

    def restore(self, snapshot: tuple[Level, ...]) -> None:
        """Go back to a state that `snapshot` returned. Cost: none."""
        self._levels = snapshot

    def _checked(self, rows: pl.DataFrame) -> pl.DataFrame:
        missing = [name for name in self._columns if name not in rows.columns]
        if missing:
            raise BugError(f"rows for table {self._spec.name!r} lack {missing}")
        frame = rows[self._columns].rechunk()
        if frame.schema != self._spec.schema:
            raise BugError(
                f"rows for table {self._spec.name!r} have {dict(frame.schema)}, "
                f"declared {dict(self._spec.schema)}"
            )
        return frame

    def _keys_of(self, frame: pl.DataFrame) -> pl.DataFrame:
        keys = frame[self._key].rechunk()
        return keys if keys.schema == self._key_schema else keys.cast(self._key_schema)

    def _find(self, keys: pl.DataFrame, hashes: Hashes) -> tuple[Places, Places]:
        """Return each key's level number (-1 where absent) and its row there."""
        places = np.full(keys.height, -1, dtype=np.int64)
        rows = np.zeros(keys.height, dtype=np.int64)
        wanted = np.argsort(hashes)
        for number in range(len(self._levels) - 1, -1, -1):
            if not wanted.size:
                break
            found = self._levels[number].find(keys, hashes, wanted)
            hit = found >= 0
            places[wanted[hit]] = number
            rows[wanted[hit]] = found[hit]
            wanted = wanted[~hit]
        return places, rows

    def _forget(self, places: Places, rows: Places) -> None:
        touched = np.unique(places[places >= 0])
        if not touched.size:
            return
        levels = list(self._levels)
        for number in touched:
            levels[number] = levels[number].without(rows[places == number])
        self._levels = tuple(levels)

    def _merge(self) -> None:
        merged: list[Level] = []
        for level in reversed(self._levels):
            if not level.live_rows:
                continue
            if merged and level.live_rows < _RATIO * merged[-1].live_rows:
                merged.append(self._joined([level, merged.pop()]))
            elif 2 * level.live_rows < level.frame.height:
                merged.append(self._joined([level]))
            else:
                merged.append(level)
        self._levels = tuple(reversed(merged))

    def _joined(self, levels: Sequence[Level]) -> Level:
        frame = pl.concat([level.live_frame() for level in levels], rechunk=True)
        hashes = np.concatenate([level.live_hashes() for level in levels])
        return Level.build(frame, self._spec.key, hashes)
