"""ADWIN: a window that shrinks when its mean changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import Field

from headrace.operators.detectors.detector import TINY, Detector, Floats, Judged, Known, Share
from headrace.operators.key_runs import Bools, Ints

_PER_LEVEL: Final = 5
_LN_2: Final = 0.6931471805599453


class Adwin(Detector):
    """Adaptive windowing: drop the older part of a window when its mean differs from the newer.

    A. Bifet and R. Gavaldà, Learning from time-changing data with adaptive windowing (SDM
    2007): for every split of the window into n0 older and n1 newer values, with
    1 / m = 1 / n0 + 1 / n1, the means differ by more than
    √(2 s² ln(2 d) / m) + 2 r ln(2 d) / 3m with probability 1 / d at most, where s² is the
    window's variance and r the range of all values so far. Where the widest difference has
    d > ln(n) / `delta`, the oldest bucket goes, until none has. The score is 1 minus that
    probability, over all splits.

    Values lie in an exponential histogram: at most 5 buckets of each size 1, 2, 4, ...

    Attributes:
        delta: Probability of a cut where nothing has changed.
        levels: Sizes of buckets; a window has at most 5 (2^levels - 1) values.
        every: Values between two looks.

    State: 13 `levels` + 4 numbers per key. Cost: O(`levels`) per row, and per look, and again
    for each bucket that goes.
    """

    kind: ClassVar[str] = "adwin"
    reasons: ClassVar[tuple[str, ...]] = ("mean of the older part of the window",)
    delta: Share = 0.002
    levels: Annotated[int, Field(ge=2, le=30)] = 12
    every: Annotated[int, Field(ge=1, le=1000)] = 8

    def layout(self) -> Mapping[str, int]:
        """Return the buckets' sums, how many there are of each size, and the window's moments."""
        buckets = self.levels * (_PER_LEVEL + 1)
        kept = {"sums": buckets, "squares": buckets, "held": self.levels}
        return {**kept, **dict.fromkeys(("count", "origin", "low", "high"), 1)}

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:  # noqa: ARG002 - by rows
        """Add a bucket of one value, merge full sizes, and look for a cut."""
        keys = values.size
        # Sums of squares lose digits far from 0, so values are taken from the first one.
        np.copyto(known["origin"], values, where=known["count"] == 0)
        away = values - known["origin"]
        np.minimum(known["low"], away, out=known["low"])
        np.maximum(known["high"], away, out=known["high"])
        self._add(known, away)
        known["count"] += 1
        surprise, change = np.zeros(keys), np.zeros(keys, np.bool_)
        expected, spread = np.zeros(keys), np.zeros(keys)
        count = known["count"]
        looks = np.flatnonzero((count % self.every == 0) & (count >= self.warmup))
        if looks.size:
            part = {name: kept[..., looks].copy() for name, kept in known.items()}
            found, older, deviation = self._look(part)
            surprise[looks], spread[looks] = found, deviation
            expected[looks] = older + part["origin"]
            cut = found > -np.log(self.delta)
            change[looks] = cut
            while cut.any():
                self._drop_oldest(part, cut)
                again, _, _ = self._look(part)
                cut &= again > -np.log(self.delta)
            for name, kept in part.items():
                known[name][..., looks] = kept
        return Judged(surprise, change, expected, spread)

    def _add(self, known: Known, values: Floats) -> None:
        """Put a bucket in front, and merge the two oldest of each size that has one too many."""
        held = known["held"]
        shape = (self.levels, _PER_LEVEL + 1, values.size)
        sums, squares = known["sums"].reshape(shape), known["squares"].reshape(shape)
        carried = np.ones(values.size, np.bool_)
        total, square = values, values * values
        for level in range(self.levels):
            for kept, new in ((sums[level], total), (squares[level], square)):
                moved = np.concatenate([new[None, :], kept[:-1]])
                np.copyto(kept, moved, where=carried)
            held[level] += carried
            carried = held[level] > _PER_LEVEL
            if not carried.any():
                break
            total = sums[level, -1] + sums[level, -2]
            square = squares[level, -1] + squares[level, -2]
            # What leaves the last size is forgotten: the window is full.
            sums[level, -2:] = np.where(carried, 0.0, sums[level, -2:])
            squares[level, -2:] = np.where(carried, 0.0, squares[level, -2:])
            held[level] -= 2 * carried

    def _look(self, known: Known) -> tuple[Floats, Floats, Floats]:
        """Return the surprise of the most surprising split, the older mean there, and the
        window's deviation.
        """
        sums, squares = known["sums"], known["squares"]
        sizes = np.repeat(2.0 ** np.arange(self.levels), _PER_LEVEL + 1)[:, None]
        place = np.tile(np.arange(_PER_LEVEL + 1), self.levels)[:, None]
        there = place < np.repeat(known["held"], _PER_LEVEL + 1, axis=0)
        sizes = np.where(there, sizes, 0.0)
        newer, newer_sum = np.cumsum(sizes, axis=0), np.cumsum(sums, axis=0)
        n, total = newer[-1], newer_sum[-1]
        mean = total / np.maximum(n, 1)
        square = np.cumsum(squares, axis=0)[-1] / np.maximum(n, 1)
        variance = np.maximum(square - mean * mean, 0.0)
        older, older_sum = n - newer, total - newer_sum
        splits = there & (older >= 1) & (newer >= 1)
        some = np.maximum(older, 1)
        inverse = 1 / some + 1 / np.maximum(newer, 1)
        gap = np.abs(older_sum / some - newer_sum / np.maximum(newer, 1))
        reach = known["high"] - known["low"] + TINY
        deviation = np.sqrt(variance)
        # With y² = ln(2 d): b y² + a y = gap.
        a, b = deviation * np.sqrt(2 * inverse), 2 / 3 * reach * inverse
        y = np.where(splits, (np.sqrt(a * a + 4 * b * gap) - a) / (2 * b), 0.0)
        best = y.argmax(axis=0)
        at = (best, np.arange(n.size))
        logs = np.log(np.maximum(np.log(np.maximum(n, 3)), 1.0))
        surprise = np.maximum(y[at] ** 2 - _LN_2 - logs, 0.0)
        return surprise, older_sum[at] / some[at], deviation

    def _drop_oldest(self, known: Known, chosen: Bools) -> None:
        keys = chosen.size
        shape = (self.levels, _PER_LEVEL + 1, keys)
        sums, squares = known["sums"].reshape(shape), known["squares"].reshape(shape)
        held = known["held"]
        level = self.levels - 1 - (held[::-1] > 0).argmax(axis=0)
        key = np.flatnonzero(chosen)
        at = level[key]
        last = held[at, key].astype(np.int64) - 1
        sums[at, last, key] = 0.0
        squares[at, last, key] = 0.0
        held[at, key] -= 1
