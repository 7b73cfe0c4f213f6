"""Peaks of surprise: how often one as high was seen before, and which rows are one anomaly."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from headrace.operators.detectors.detector import Floats, Known

_BINS: Final = 40
_WIDTH: Final = math.log(10) / 4
_LOWEST: Final = 1.2 * math.log(10)
_LOOKED: Final = 0.7
_OFTEN: Final = 1000.0
_LONGEST: Final = 20_000.0
_SHARE: Final = 0.05
_LEAST: Final = 150.0
CONTINUED: Final = math.log(10)
"""The most that a row which continues an anomaly may surprise: its score is 0.9."""


class Peaks:
    """Turns surprises of single rows into surprises of anomalies.

    A surprise is lowered by 0.7 times the logarithm of the rows seen, in thousands (at
    most 20): the strangest of many rows is strange by chance. An anomaly begins with a row that
    surprises (by odds of 16 to one) and lasts until no row was stranger for 5 % of the rows
    seen, at least 150. Its first row, and each that is stranger than all before it, is lowered
    once more by the logarithm of one plus the number of earlier anomalies about as strange; its
    others surprise by `CONTINUED` at most.
    """

    def layout(self) -> dict[str, int]:
        """Return the names and sizes of what is kept."""
        return {"peak": 1, "since": 1, "peaks": _BINS + 1}

    def step(self, known: Known, surprise: Floats, rows: Floats) -> Floats:
        """Return what surprises remain, and keep the peaks.

        Args:
            known: The keys' memory.
            surprise: Of this row of each key.
            rows: Number of this row within its key, from 1.
        """
        peak, since, peaks = known["peak"], known["since"], known["peaks"]
        looked = _LOOKED * np.log(np.minimum(rows, _LONGEST) / _OFTEN)
        s = np.where(surprise > 0, np.maximum(surprise - looked, 0.0), 0.0)
        over = (peak == 0) | (since > np.maximum(_LEAST, _SHARE * rows))
        leads = (s > _LOWEST) & (over | (s > peak))
        keys = np.arange(s.size)
        about = np.clip((s - _WIDTH) / _WIDTH, 0, _BINS).astype(np.int64)
        at_least = np.cumsum(peaks[::-1], axis=0)[::-1]
        lowered = np.maximum(s - np.log1p(at_least[about, keys]), 0.0)
        continues = leads & ~over
        before = np.clip(peak / _WIDTH, 0, _BINS).astype(np.int64)
        peaks[before, keys] -= continues
        now = np.clip(s / _WIDTH, 0, _BINS).astype(np.int64)
        peaks[now, keys] += leads
        np.copyto(peak, s, where=leads)
        since[:] = np.where(leads, 0.0, since + 1)
        answer: Floats = np.where(leads, lowered, np.minimum(s, CONTINUED))
        return answer
