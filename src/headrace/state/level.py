"""Level: an immutable run of rows with unique keys, found by a sorted hash of the key."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_BLOCK = 4096
_NO_TIME = np.iinfo(np.int64).max


def same_keys(left: pl.DataFrame, right: pl.DataFrame) -> Mask:
    """Return for each row whether both frames hold the same key; null equals null."""
    same = np.ones(left.height, dtype=np.bool_)
    for a, b in zip(left.iter_columns(), right.iter_columns(), strict=True):
        same &= a.eq_missing(b).to_numpy()
    return same


@dataclass(frozen=True)
class Level:
    """Rows in the order of the calls that made them, and an index that is rebuilt at load.

    Attributes:
        frame: All rows, one chunk; keys are unique.
        key: Key columns.
        hashes: Key hashes, ascending.
        order: For each of `hashes`, its row in `frame`.
        live: Which rows of `frame` were neither replaced nor deleted since; None means all.
        live_rows: Their number.
        minima: Least value per block of rows, by column asked for; never above the true one.
    """

    frame: pl.DataFrame
    key: tuple[str, ...]
    hashes: Hashes
    order: npt.NDArray[np.uint32]
    live: Mask | None
    live_rows: int
    minima: dict[str, Places] = field(default_factory=dict)

    @classmethod
    def build(
        cls, frame: pl.DataFrame, key: tuple[str, ...], hashes: Hashes, live: Mask | None = None
    ) -> Level:
        """Index `frame`, whose row i has the key hash `hashes[i]`. Cost: O(n log n)."""
        order = np.argsort(hashes)
        alive = frame.height if live is None else int(np.count_nonzero(live))
        return cls(frame, key, hashes[order], order.astype(np.uint32), live, alive)

    @cached_property
    def keys(self) -> pl.DataFrame:
        """The key columns."""
        return self.frame[list(self.key)]

    @cached_property
    def mask_part(self) -> bytes | None:
        """`live` as packed bits, None where all rows are live."""
        return None if self.live is None else np.packbits(self.live).tobytes()

    @cached_property
    def size_bytes(self) -> int:
        """Estimated memory of rows and index."""
        mask = 0 if self.live is None else self.live.nbytes
        return int(self.frame.estimated_size()) + self.hashes.nbytes + self.order.nbytes + mask

    def find(self, keys: pl.DataFrame, hashes: Hashes, wanted: Places) -> Places:
        """Return for each of the rows `wanted` of `keys` its live row here, or -1.

        Cheapest when `hashes[wanted]` ascends: the searches then touch neighbouring memory.
        """
        found = np.full(wanted.size, -1, dtype=np.int64)
        targets = hashes[wanted]
        at = np.searchsorted(self.hashes, targets)
        open_ = np.arange(wanted.size)
        while True:
            inside = at < self.hashes.size
            at, open_ = at[inside], open_[inside]
            hit = self.hashes[at] == targets[open_]
            at, open_ = at[hit], open_[hit]
            if not open_.size:
                return found
            rows = self.order[at].astype(np.int64)
            good = same_keys(self.keys[rows], keys[wanted[open_]])
            if self.live is not None:
                good &= self.live[rows]
            found[open_[good]] = rows[good]
            # A different key may share the hash; its neighbour in the index is the next guess.
            at, open_ = at[~good] + 1, open_[~good]

    def without(self, rows: Places) -> Level:
        """Return this level with the live `rows` dead; the frame stays the same object."""
        live = np.ones(self.frame.height, dtype=np.bool_) if self.live is None else self.live.copy()
        live[rows] = False
        # Minima stay lower bounds when rows die, so they need not be found again.
        return replace(
            self, live=live, live_rows=self.live_rows - rows.size, minima=dict(self.minima)
        )

    def live_frame(self) -> pl.DataFrame:
        """Return the live rows, in order."""
        return self.frame if self.live is None else self.frame.filter(pl.Series(self.live))

    def live_hashes(self) -> Hashes:
        """Return the hashes of the live rows, in their order."""
        by_row = np.empty_like(self.hashes)
        by_row[self.order] = self.hashes
        return by_row if self.live is None else by_row[self.live]

    def older(self, column: str, before: int) -> tuple[Level, pl.DataFrame | None]:
        """Split off the live rows whose `column` is less than `before`; null never is.

        Cost: O(n / 4096) when there are none, else also the blocks of 4 096 rows that hold them.
        """
        minima = self.minima.get(column)
        values = self.frame[column].fill_null(_NO_TIME).to_numpy()
        if minima is None:
            minima = np.minimum.reduceat(values, np.arange(0, values.size, _BLOCK))
            self.minima[column] = minima
        blocks = np.flatnonzero(minima < before)
        if not blocks.size:
            return self, None
        rows = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
        rows = rows[rows < values.size]
        times = values[rows]
        if self.live is not None:
            times = np.where(self.live[rows], times, _NO_TIME)
        old = times < before
        kept = np.full(blocks.size * _BLOCK, _NO_TIME, dtype=np.int64)
        kept[: rows.size] = np.where(old, _NO_TIME, times)
        minima = minima.copy()
        minima[blocks] = kept.reshape(blocks.size, _BLOCK).min(axis=1)
        gone = rows[old]
        if not gone.size:
            self.minima[column] = minima
            return self, None
        return replace(self.without(gone), minima=self.minima | {column: minima}), self.frame[gone]
