"""Encounters: who comes near whom as positions come in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from headrace.operators.geo.neighbours import cells_of, distinct_pairs, near_pairs
from headrace.operators.geo.sphere import Bools, Floats, Ints, haversine_m

NO_TIME: Final = -(1 << 62)
"""Stands for a thing that was never seen."""

_PORTION: Final = 8192
_MOST_MEETINGS: Final = 4_000_000
_GONE, _FAR, _NEAR = -1, 0, 1


@dataclass(frozen=True, slots=True)
class Fixes:
    """Positions, in the order they are judged.

    Attributes:
        thing: Number of what reports.
        time_us: When.
        lon: Degrees.
        lat: Degrees.
    """

    thing: Ints
    time_us: Ints
    lon: Floats
    lat: Floats

    def cut(self, start: int, end: int) -> Fixes:
        """Return those from `start` to `end`."""
        stretch = slice(start, end)
        return Fixes(
            self.thing[stretch], self.time_us[stretch], self.lon[stretch], self.lat[stretch]
        )


class Event(NamedTuple):
    """Encounters in no particular order, an array each.

    Attributes:
        row: Which position showed it.
        other: The thing that the one reporting is near, or far again.
        is_near: Whether they have come near.
        metres: Their distance.
        other_us: When the other one was where it is taken to be.
        other_lon: Where.
        other_lat: Where.
    """

    row: Ints
    other: Ints
    is_near: Bools
    metres: Floats
    other_us: Ints
    other_lon: Floats
    other_lat: Floats


class Pairs(NamedTuple):
    """What became of pairs that were looked at, an array each.

    Attributes:
        one: The lower number.
        other: The higher number.
        is_near: Whether they are near now.
        oldest_us: The older one of their latest positions.
    """

    one: Ints
    other: Ints
    is_near: Bools
    oldest_us: Ints


class Encounters:
    """Follows things by their latest positions.

    Args:
        group: Number of the group of each thing; only things of one group meet.
        latest: The last position of each thing by its number, time `NO_TIME` where unknown.
            It is brought up to date in place.
        near: Pairs that are near, as rows (lower number, higher number).
        within_m: How near near is.
        forget_us: A thing not seen for longer is not there, and begins anew.

    Attributes:
        latest: As given, with the positions taken since.
        looked_at: Pairs that positions decided on, in order; the last of equal ones counts.
    """

    def __init__(
        self, group: Ints, latest: Fixes, near: Ints, within_m: float, forget_us: int
    ) -> None:
        self.latest = latest
        self.looked_at: list[Pairs] = []
        self._group = group
        self._size = np.int64(group.size)
        self._near: Ints = np.unique(near[:, 0] * self._size + near[:, 1])
        self._within_m = within_m
        self._forget_us = forget_us
        self._cell = cells_of(latest.lon, latest.lat, within_m)

    def judge(self, fixes: Fixes) -> list[Event]:
        """Take positions in order. Cost: O(n log n), and O(log n) per position and neighbour."""
        found: list[Event] = []
        size = fixes.thing.size
        bounds = [(start, min(start + _PORTION, size)) for start in range(0, size, _PORTION)]
        while bounds:
            start, end = bounds.pop(0)
            portion = fixes.cut(start, end)
            cell = cells_of(portion.lon, portion.lat, self._within_m)
            pairs = self._pairs(portion, cell)
            reports = np.bincount(portion.thing, minlength=self._group.size)
            if int(reports[pairs].sum()) > _MOST_MEETINGS and end - start > 1:
                # As many as memory should hold; the halves give the same answer.
                middle = (start + end) // 2
                bounds[:0] = [(start, middle), (middle, end)]
                continue
            if pairs.size:
                event = self._meet(portion, pairs, reports)
                if event.row.size:
                    found.append(event._replace(row=event.row + start))
            self._move(portion, cell)
        return found

    def _pairs(self, portion: Fixes, cell: Ints) -> Ints:
        """Return the pairs that may be near, and those that were, of things that report."""
        group = self._group[portion.thing]
        asked = (portion.thing, group, cell)
        known = np.flatnonzero(self.latest.time_us != NO_TIME)
        held = (
            np.concatenate([portion.thing, known]),
            np.concatenate([group, self._group[known]]),
            np.concatenate([cell, self._cell[known]]),
        )
        reports = np.zeros(self._group.size, dtype=np.bool_)
        reports[portion.thing] = True
        one, other = np.divmod(self._near, self._size)
        moved = reports[one] | reports[other]
        pairs = near_pairs(asked, held)
        return distinct_pairs(
            np.concatenate([pairs[:, 0], one[moved]]), np.concatenate([pairs[:, 1], other[moved]])
        )

    def _meet(self, portion: Fixes, pairs: Ints, reports: Ints) -> Event:
        """Look at each pair whenever one of it reports, against the other's latest position."""
        size = portion.thing.size
        order = np.argsort(portion.thing, kind="stable")
        starts = np.cumsum(reports) - reports
        pair, turn = _each(reports[pairs[:, 0]])
        pair_too, turn_too = _each(reports[pairs[:, 1]])
        mover = np.concatenate([pairs[pair, 0], pairs[pair_too, 1]])
        other = np.concatenate([pairs[pair, 1], pairs[pair_too, 0]])
        pair, turn = np.concatenate([pair, pair_too]), np.concatenate([turn, turn_too])
        row = order[starts[mover] + turn]
        # Two ascending halves, which this kind of sort merges.
        sequence = np.argsort(pair * np.int64(size) + row, kind="stable")
        pair, turn, row = pair[sequence], turn[sequence], row[sequence]
        mover, other = mover[sequence], other[sequence]

        time = portion.time_us[row]
        before = order[starts[mover] + turn - 1]
        own = np.where(turn > 0, portion.time_us[before], self.latest.time_us[mover])
        silent = time - own > self._forget_us
        there = self._place_of(portion, order, starts, other, row)
        metres = haversine_m(portion.lon[row], portion.lat[row], there.lon, there.lat)
        status = np.where(metres <= self._within_m, _NEAR, _FAR)
        status[time - there.time_us > self._forget_us] = _GONE

        fresh = np.append(True, pair[1:] != pair[:-1])[: pair.size]
        last = np.append(pair[1:] != pair[:-1], True)[: pair.size]
        keys = pairs[:, 0] * self._size + pairs[:, 1]
        at_first = np.where(np.isin(keys, self._near), _NEAR, _FAR)
        was = np.where(fresh, at_first[pair], np.append(_FAR, status[:-1]))
        is_near = (status == _NEAR) & ((was != _NEAR) | silent)
        is_far = (status == _FAR) & (was == _NEAR) & ~silent

        self._near = np.union1d(
            np.setdiff1d(self._near, keys, assume_unique=True), keys[status[last] == _NEAR]
        )
        oldest = np.minimum(time, there.time_us)[last]
        self.looked_at.append(Pairs(pairs[:, 0], pairs[:, 1], status[last] == _NEAR, oldest))
        told = np.flatnonzero(is_near | is_far)
        return Event(
            row[told],
            other[told],
            is_near[told],
            metres[told],
            there.time_us[told],
            there.lon[told],
            there.lat[told],
        )

    def _place_of(self, portion: Fixes, order: Ints, starts: Ints, other: Ints, row: Ints) -> Fixes:
        """Return where things were when the positions `row` came."""
        width = np.int64(portion.thing.size + 1)
        lifted = portion.thing[order] * width + order
        at = np.searchsorted(lifted, other * width + row) - 1
        reported = at >= starts[other]
        place = order[at]
        latest = self.latest
        return Fixes(
            other,
            np.where(reported, portion.time_us[place], latest.time_us[other]),
            np.where(reported, portion.lon[place], latest.lon[other]),
            np.where(reported, portion.lat[place], latest.lat[other]),
        )

    def _move(self, portion: Fixes, cell: Ints) -> None:
        # Of equal places the last assignment stays.
        self.latest.time_us[portion.thing] = portion.time_us
        self.latest.lon[portion.thing] = portion.lon
        self.latest.lat[portion.thing] = portion.lat
        self._cell[portion.thing] = cell


def _each(counts: Ints) -> tuple[Ints, Ints]:
    """Return each number as often as its count says, and its turns from 0 on."""
    number = np.repeat(np.arange(counts.size, dtype=np.int64), counts)
    before = np.cumsum(counts) - counts
    return number, np.arange(number.size, dtype=np.int64) - before[number]
