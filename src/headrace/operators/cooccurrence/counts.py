"""Counts: how often an event of one kind has come soon after one of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.operators.key_runs import Bools, Ints

Floats = npt.NDArray[np.float64]

_SINGLES: Final = 2


@dataclass(frozen=True, slots=True)
class Scores:
    """How strongly each event is tied to each kind before it; n events by k kinds.

    Attributes:
        count: Events of its kind so far that had that kind before them.
        support: Share of all events so far that are such.
        confidence: Of the events that had that kind before them, the share that is of its kind.
        lift: Confidence by the share of its kind among all events: 1 is chance.
    """

    count: Ints
    support: Floats
    confidence: Floats
    lift: Floats


class Counts:
    """Running counts over events in order.

    An event is one transaction of an association rule A -> B: A says that an event of kind A
    came before it within the time, B that it is of kind B. Support, confidence and lift are
    those of Agrawal, Imielinski and Swami, "Mining association rules between sets of items in
    large databases" (1993), and of Brin, Motwani, Ullman and Tsur (1997).

    Args:
        kinds: How many kinds there are, k.
        numbers: What `numbers` returned before, k * k + 2 k + 1 of them; none begins at zero.
    """

    def __init__(self, kinds: int, numbers: Ints | None = None) -> None:
        self._kinds = kinds
        size = self.size(kinds)
        held = np.zeros(size, dtype=np.int64) if numbers is None else numbers.astype(np.int64)
        self._total = int(held[0])
        self._of_kind = held[1 : kinds + 1].copy()
        self._after = held[kinds + 1 : 2 * kinds + 1].copy()
        self._pairs = held[2 * kinds + 1 :].reshape(kinds, kinds).copy()

    @staticmethod
    def size(kinds: int) -> int:
        """Return how many numbers hold the counts of so many kinds."""
        return kinds * kinds + _SINGLES * kinds + 1

    @property
    def numbers(self) -> Ints:
        """All events, those of each kind, those after each kind, those of kind b after kind a."""
        return np.concatenate([[self._total], self._of_kind, self._after, self._pairs.ravel()])

    def add(self, kind: Ints, before: Bools) -> Scores:
        """Count events in order; return the scores of each as of itself, included.

        Args:
            kind: Kind of each of n events, 0 to k - 1.
            before: n by k: whether that kind came before it within the time.

        Cost: O(n k).
        """
        total = self._total + np.arange(1, kind.size + 1)
        own = np.empty(kind.size, dtype=np.int64)
        after = self._after + np.cumsum(before, axis=0, dtype=np.int64)
        count = np.empty(before.shape, dtype=np.int64)
        for number in range(self._kinds):
            rows = np.flatnonzero(kind == number)
            own[rows] = self._of_kind[number] + np.arange(1, rows.size + 1)
            count[rows] = self._pairs[:, number] + np.cumsum(before[rows], axis=0, dtype=np.int64)
            self._of_kind[number] += rows.size
            self._pairs[:, number] += before[rows].sum(axis=0)
        self._total += kind.size
        self._after = self._after + before.sum(axis=0)
        known = np.maximum(after, 1)
        # Products of whole numbers are exact, so a lift of 6/5 is the double 1.2.
        ours, theirs = total.astype(np.float64)[:, None], own.astype(np.float64)[:, None]
        return Scores(count, count / ours, count / known, count * ours / (known * theirs))
