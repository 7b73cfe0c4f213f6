"""When phase I ends, and when each sample is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from headrace.core.time import END_OF_TIME
from headrace.operators.charts.chart import MAX_PHASE1
from headrace.operators.charts.lives import LIFE, Lives
from headrace.operators.key_runs import Bools, Ints

NUMBER: Final = "number"
CLOSED: Final = "__closed"
CLOSED_PLACE: Final = "__closed_place"
TRIAL: Final = "__trial"


@dataclass(frozen=True)
class Trial:
    """Which samples are of phase I, and when each sample is judged.

    Attributes:
        rows: Whether a sample is of phase I and its phase had not ended before.
        done: Whether a life's phase I has ended.
        time: Event time at which a sample is judged: a sample of phase I when that ends.
        place: Position that goes with it.
    """

    rows: Bools
    done: Bools
    time: Ints
    place: Ints

    @classmethod
    def of(
        cls, phase1: int | str | None, samples: pl.DataFrame, lives: Lives, done: Bools
    ) -> Trial:
        """Find where phase I ends: with sample number `phase1`, or before the first sample that
        is not marked.
        """
        life = lives_of(samples)
        number = samples[NUMBER].to_numpy()
        marked = samples[TRIAL].to_numpy() if isinstance(phase1, str) else np.ones_like(done[life])
        marked = marked & (number <= (phase1 if isinstance(phase1, int) else MAX_PHASE1))
        others = np.cumsum(~marked)
        first = np.searchsorted(life, np.arange(lives.count))
        before = np.append(0, others)[first]
        trial = (others == before[life]) & ~done[life]
        ends = ~trial if isinstance(phase1, str) else ~trial | (number == phase1)
        at = np.full(lives.count, life.size)
        np.minimum.at(at, life[ends], np.flatnonzero(ends))
        over = done | (at < life.size)
        closed = np.append(samples[CLOSED].to_numpy(), END_OF_TIME)
        place = np.append(samples[CLOSED_PLACE].to_numpy(), END_OF_TIME)
        until = np.where(at < life.size, closed[at], lives.end)
        where = np.where(at < life.size, place[at], lives.place)
        return cls(
            trial,
            over,
            np.where(trial, until[life], closed[:-1]),
            np.where(trial, where[life], place[:-1]),
        )


def lives_of(samples: pl.DataFrame) -> Ints:
    """Return the life of each sample."""
    return samples[LIFE].to_numpy()
