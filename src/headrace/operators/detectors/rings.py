"""The last values of each key."""

from __future__ import annotations

import numpy as np

from headrace.operators.detectors.detector import Floats, Known
from headrace.operators.key_runs import Bools


class Ring:
    """The last `length` values of each key, in `Known`.

    Args:
        name: Its name in `Known`; the number of values taken is `<name>_count`.
        length: How many values are kept.
    """

    def __init__(self, name: str, length: int) -> None:
        self._name = name
        self._count = f"{name}_count"
        self._length = length

    def layout(self) -> dict[str, int]:
        """Return the names and sizes of what is kept."""
        return {self._name: self._length, self._count: 1}

    def count(self, known: Known) -> Floats:
        """Return how many values of each key were taken so far."""
        return known[self._count]

    def kept(self, known: Known) -> tuple[Floats, Bools]:
        """Return the values in no particular order, one column per key, and which there are."""
        place = np.arange(self._length)[:, None]
        return known[self._name], place < known[self._count]

    def oldest_first(self, known: Known) -> Floats:
        """Return the values of keys whose ring is full, the oldest first."""
        first = known[self._count].astype(np.int64) % self._length
        place = (np.arange(self._length)[:, None] + first) % self._length
        answer: Floats = np.take_along_axis(known[self._name], place, axis=0)
        return answer

    def before(self, known: Known, rows: int) -> Floats:
        """Return the value taken that many rows before the next; the first there is no longer
        ago, 0 without any.
        """
        count = known[self._count].astype(np.int64)
        back = np.minimum(rows, count)
        answer: Floats = known[self._name][(count - back) % self._length, np.arange(count.size)]
        return answer

    def learn(self, known: Known, values: Floats) -> None:
        """Take one value of each key."""
        count = known[self._count]
        at = count.astype(np.int64) % self._length
        known[self._name][at, np.arange(count.size)] = values
        count += 1


def sums(values: Floats) -> Floats:
    """Return the sum of each column, added from the top: it depends on no other column."""
    total = np.zeros(values.shape[1])
    for row in values:
        total += row
    return total
