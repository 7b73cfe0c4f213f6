"""From rows to samples: which rows belong together, and when a sample is complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from headrace.core.time import BEGINNING, EVENT_TIME, POSITION
from headrace.operators.key_runs import Bools, Ints, changes

LIFE: Final = "__life"
LABEL: Final = "__label"


@dataclass(frozen=True)
class Lives:
    """Stretches of rows of one key without a silence longer than `forget`, key after key.

    A key that is silent for longer begins anew: another life, with nothing known.

    Attributes:
        key: The key of each life.
        stored: The life that the state of a key is of, -1 for a key without state.
        of_row: The life of each new row.
        latest: Event time of a life's last row.
        place: Its position.
        over: Whether nothing can follow any more.
        end: Event time of that: `latest` + `forget`.
    """

    key: Ints
    stored: Ints
    of_row: Ints
    latest: Ints
    place: Ints
    over: Bools
    end: Ints

    @property
    def count(self) -> int:
        """Number of lives."""
        return self.key.size

    @classmethod
    def of(
        cls, state: pl.DataFrame, rows: pl.DataFrame, key_of: Ints, forget: int, watermark: int
    ) -> Lives:
        """Find the lives.

        Args:
            state: One row per key: `__found`, `__latest` and `__place`.
            rows: The hidden columns of the new rows, key after key in event order.
            key_of: Their keys, row numbers of `state`.
            forget: Longest silence within a life, microseconds.
            watermark: No row comes from before it.
        """
        found = state["__found"].to_numpy()
        latest = state["__latest"].fill_null(BEGINNING).to_numpy()
        times, places = rows[EVENT_TIME].to_numpy(), rows[POSITION].to_numpy()
        first = changes(key_of)
        before = np.roll(times, 1)
        before[first] = latest[key_of[first]]
        fresh = (times - before > forget) | (first & ~found[key_of])
        begun = np.bincount(key_of[fresh], minlength=found.size)
        per_key = begun + found
        base = np.cumsum(per_key) - per_key
        nth = np.cumsum(fresh) - (np.cumsum(begun) - begun)[key_of]
        of_row = base[key_of] + found[key_of] - 1 + nth
        key = np.repeat(np.arange(found.size), per_key)
        stored = np.where(found, base, -1)
        last = np.full(key.size, BEGINNING)
        place = np.full(key.size, BEGINNING)
        last[base[found]] = latest[found]
        place[base[found]] = state["__place"].fill_null(BEGINNING).to_numpy()[found]
        ends = np.flatnonzero(np.append(changes(of_row)[1:], True)) if of_row.size else of_row
        last[of_row[ends]] = times[ends]
        place[of_row[ends]] = places[ends]
        over = np.ones(key.size, dtype=np.bool_)
        newest = base + per_key - 1
        over[newest] = last[newest] + forget < watermark
        return cls(key, stored, of_row, last, place, over, last + forget)


@dataclass(frozen=True)
class Cut:
    """Rows cut into samples.

    Attributes:
        sample: Number of the sample of each row, ascending.
        first: The first row of each sample.
        last: Its last row.
        closed: Whether it is complete.
        at: Event time at which it was.
        place: Position that goes with it.
    """

    sample: Ints
    first: Ints
    last: Ints
    closed: Bools
    at: Ints
    place: Ints

    @classmethod
    def of(cls, rows: pl.DataFrame, lives: Lives, size: int) -> Cut:
        """Cut rows that lie life after life: a sample ends after `size` rows, before a row with
        another `LABEL`, and with its life.
        """
        life = rows[LIFE].to_numpy()
        times, places = rows[EVENT_TIME].to_numpy(), rows[POSITION].to_numpy()
        begins = changes(life)
        if LABEL in rows.columns:
            begins |= rows[LABEL].ne_missing(rows[LABEL].shift()).to_numpy()
        at = np.arange(life.size)
        run = np.maximum.accumulate(np.where(begins, at, 0))
        starts = (at - run) % size == 0
        sample = np.cumsum(starts) - 1
        first = np.flatnonzero(starts)
        last = np.append(first[1:], life.size) - 1 if life.size else first
        follower = np.minimum(last + 1, life.size - 1)
        of = life[last]
        full = last - first + 1 == size
        followed = (life[follower] == of) & (follower > last)
        time = np.where(full, times[last], np.where(followed, times[follower], lives.end[of]))
        place = np.where(full | ~followed, places[last], places[follower])
        return cls(sample, first, last, full | followed | lives.over[of], time, place)
