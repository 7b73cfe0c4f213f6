"""Judge positions against zones: who enters, leaves, stays, crosses or breaks a rule.

A visit is the stay of one key in one zone: a run of successive positions inside. Everything
here works on flat arrays over (key, zone, position) triples; no loop runs over positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from headrace.operators.geo.sphere import Bools, Floats, Ints
from headrace.operators.geo.zone_set import NO_REASON, REMOVED, ZoneSet
from headrace.operators.geo.zones import is_place

EVENTS: Final = ("exit", "enter", "breach", "restore", "cross", "dwell", "inside", "outside")
EXIT, ENTER, BREACH, RESTORE, CROSS, DWELL, INSIDE, OUTSIDE = range(len(EVENTS))

# Per position exits come first, then enters, then all others.
_GROUP: Final = np.minimum(np.arange(len(EVENTS)), 2)
NO_ZONE: Final = -1
NO_TIME: Final = -(1 << 63)


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator asks for.

    Attributes:
        detect: Numbers of `EVENTS`.
        min_dwell_us: An entry is reported once the visit has lasted this long.
        border_m: A visit goes on this far outside the zone's border.
        forget_us: A key silent for longer begins anew.
    """

    detect: frozenset[int]
    min_dwell_us: int
    border_m: float
    forget_us: int


class Positions(NamedTuple):
    """n positions, sorted by key and within a key in the order they are judged.

    Attributes:
        key: Numbers of keys, from 0, each at least once.
        time_us: Event times, ascending within a key.
        lon: Degrees, NaN where unknown.
        lat: Degrees, NaN where unknown.
        depth_m: Metres, NaN where unknown; None where depth is not looked at.
    """

    key: Ints
    time_us: Ints
    lon: Floats
    lat: Floats
    depth_m: Floats | None


class Latest(NamedTuple):
    """What is remembered of each key; arrays by key number.

    Attributes:
        known: Whether the key was seen before.
        time_us: Event time of its last row.
        lon: Last known longitude, NaN if none.
        lat: Last known latitude, NaN if none.
        depth_m: Last known depth, NaN if none.
    """

    known: Bools
    time_us: Ints
    lon: Floats
    lat: Floats
    depth_m: Floats


class Visits(NamedTuple):
    """Open visits, sorted by key and zone.

    Attributes:
        key: Key numbers.
        zone: Zone numbers; those from the number of zones on are of zones that are gone.
        entered_us: Time of the first position inside.
        reported: Whether the entry was reported.
        reason: The rule broken at the last position, as a number of `REASONS`.
    """

    key: Ints
    zone: Ints
    entered_us: Ints
    reported: Bools
    reason: Ints


class Found(NamedTuple):
    """Events, sorted by row, group (exits, enters, others) and zone id.

    Attributes:
        row: Index into the positions.
        event: Number of `EVENTS`.
        zone: Zone number, `NO_ZONE` for none.
        entered_us: Start of the visit, `NO_TIME` for none.
        dwell_us: Length of the visit so far, `NO_TIME` for none.
        reason: Number of `REASONS`.
    """

    row: Ints
    event: Ints
    zone: Ints
    entered_us: Ints
    dwell_us: Ints
    reason: Ints


def judge(
    zones: ZoneSet, rules: Rules, positions: Positions, latest: Latest, open_visits: Visits
) -> tuple[Found, Latest, Visits]:
    """Judge positions and return the events, not yet `in_order`, and what to remember.

    Cost: O(n log n) for n positions, plus their hits; see `ZoneIndex.hits`.
    """
    track = _Track.of(rules, positions, latest)
    stays = _stays(zones, rules, track, open_visits)
    found = _visit_events(rules, track, stays)
    if CROSS in rules.detect:
        found.append(_crossings(zones, track, latest, stays))
    if OUTSIDE in rules.detect:
        found.append(_outside(track, stays))
    events = Found(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))
    return events, _remembered(track, latest), _still_open(track, stays)


def in_order(found: Found, zone_rank: Ints) -> Found:
    """Sort events by row, group, rank of their zone's id, and kind.

    Args:
        found: Events.
        zone_rank: Rank by zone number, then one more for events without a zone.
    """
    order = np.lexsort((found.event, zone_rank[found.zone], _GROUP[found.event], found.row))
    return Found(*(array[order] for array in found))


class _Track(NamedTuple):
    """Positions with what follows from their neighbours. A life ends when a key is forgotten.

    `valid` indexes the rows with a known place; arrays named v_... go along with it. `first`
    and `valid_rows` are per key over the valid rows; `start` and `stop` per key over all rows.
    """

    rows: Positions
    life: Ints
    valid: Ints
    v_key: Ints
    v_life: Ints
    first: Ints
    valid_rows: Ints
    start: Ints
    stop: Ints
    held_life: Ints

    @staticmethod
    def of(rules: Rules, positions: Positions, latest: Latest) -> _Track:
        key, time_us = positions.key, positions.time_us
        keys = np.arange(len(latest.known))
        start = np.searchsorted(key, keys)
        stop = np.searchsorted(key, keys, side="right")
        before = np.empty_like(time_us)
        before[1:] = time_us[:-1]
        before[start] = latest.time_us
        fresh = time_us - before > rules.forget_us
        fresh[start[~latest.known]] = True
        life: Ints = np.cumsum(fresh, dtype=np.int64)
        held_life: Ints = life[start] - fresh[start]
        valid = np.flatnonzero(is_place(positions.lon, positions.lat))
        v_key = key[valid]
        first = np.searchsorted(v_key, keys)
        count = np.searchsorted(v_key, keys, side="right") - first
        depth = positions.depth_m
        if depth is not None:
            depth = _carried(depth, life, key, start, held_life, latest.depth_m)
        rows = positions._replace(depth_m=depth)
        return _Track(rows, life, valid, v_key, life[valid], first, count, start, stop, held_life)

    def depth_at(self, v: Ints) -> Floats | None:
        return None if self.rows.depth_m is None else self.rows.depth_m[self.valid[v]]

    def time_at(self, v: Ints) -> Ints:
        return self.rows.time_us[self.valid[v]]

    def life_at(self, key: Ints, v: Ints) -> Ints:
        """Return each key's life at its valid row `v`, or before the first of them."""
        life = self.held_life[key]
        inner = np.flatnonzero(v >= self.first[key])
        life[inner] = self.v_life[v[inner]]
        return life


def _carried(
    values: Floats, life: Ints, key: Ints, start: Ints, held_life: Ints, held: Floats
) -> Floats:
    """Fill unknown values with the key's last known one of the same life."""
    place = np.where(np.isnan(values), -1, np.arange(len(values)))
    last = np.maximum.accumulate(place)
    # A life belongs to one key, except the one that began in an earlier batch.
    same = (last >= start[key]) & (life[last] == life)
    filled = np.where(same, values[last], np.nan)
    from_before = ~same & (life == held_life[key])
    return np.where(from_before, held[key], filled)


class _Stays(NamedTuple):
    """Triples (key, zone, v): the key's valid row v lies in the zone; sorted in this order.

    A visit held from before is a triple one before the key's first valid row. Successive
    triples of one visit make a run.
    """

    key: Ints
    zone: Ints
    v: Ints
    held: Bools
    first_of_run: Ints
    last_of_run: Bools
    entered_us: Ints
    reported: Bools
    is_entry: Bools
    reason: Ints
    out_reason: Ints


class _Triples(NamedTuple):
    """Triples before they are known to be visits; `visit` numbers the open visit held, or -1."""

    key: Ints
    zone: Ints
    v: Ints
    reason: Ints
    visit: Ints

    @staticmethod
    def of(track: _Track, v: Ints, zone: Ints, reason: Ints) -> _Triples:
        return _Triples(track.v_key[v], zone, v, reason, np.full(len(v), -1))

    def code(self, span: tuple[int, int]) -> Ints:
        """Return one number per triple that sorts by key, zone and v."""
        code: Ints = (self.key * span[1] + self.zone) * span[0] + self.v + 1
        return code


def _stays(zones: ZoneSet, rules: Rules, track: _Track, open_visits: Visits) -> _Stays:
    rows, count = track.rows, len(zones.index.zone_ids)
    v, zone = zones.index.hits(rows.lon[track.valid], rows.lat[track.valid])
    reason = zones.limits.broken(zone, track.depth_at(v), track.time_at(v))
    there = (reason == NO_REASON) | zones.limits.is_rule[zone]
    not_there = _Triples.of(track, v[~there], zone[~there], reason[~there])
    inside = _Triples.of(track, v[there], zone[there], reason[there])
    held = _Triples(
        open_visits.key,
        open_visits.zone,
        track.first[open_visits.key] - 1,
        open_visits.reason,
        np.arange(len(open_visits.key)),
    )
    span = (len(track.valid) + 2, max(count, int(held.zone.max(initial=-1)) + 1))
    triples = _merged([inside, held], span)
    if rules.border_m > 0:
        triples = _merged([triples, _lingering(zones, rules, track, triples)], span)
    out_reason = _out_reasons(triples, not_there, span, count)
    return _runs(rules, track, triples, open_visits, out_reason)


def _merged(groups: list[_Triples], span: tuple[int, int]) -> _Triples:
    joined = _Triples(*(np.concatenate(arrays) for arrays in zip(*groups, strict=True)))
    order = np.argsort(joined.code(span), kind="stable")
    return _Triples(*(array[order] for array in joined))


def _runs(
    rules: Rules, track: _Track, triples: _Triples, open_visits: Visits, out_reason: Ints
) -> _Stays:
    """Join successive triples to visits, and say when each began and whether it is reported."""
    n = len(triples.key)
    held = triples.visit >= 0
    begins = np.ones(n, dtype=np.bool_)
    begins[1:] = (
        (np.diff(triples.key) != 0)
        | (np.diff(triples.zone) != 0)
        | (np.diff(triples.v) != 1)
        | (np.diff(track.life_at(triples.key, triples.v)) != 0)
    )
    first_of_run = np.maximum.accumulate(np.where(begins, np.arange(n), 0))
    time_us, known = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    time_us[held] = open_visits.entered_us[triples.visit[held]]
    time_us[~held] = track.time_at(triples.v[~held])
    known[held] = open_visits.reported[triples.visit[held]]
    entered_us, known = time_us[first_of_run], known[first_of_run]
    # Times ascend within a visit, so that from the first such row on all are.
    long_enough = ~held & (time_us - entered_us >= rules.min_dwell_us)
    reported = long_enough | known
    return _Stays(
        key=triples.key,
        zone=triples.zone,
        v=triples.v,
        held=held,
        first_of_run=first_of_run,
        last_of_run=np.append(begins[1:], np.ones(min(n, 1), dtype=np.bool_)),
        entered_us=entered_us,
        reported=reported,
        is_entry=long_enough & ~known & (begins | ~np.roll(reported, 1)),
        reason=np.where(reported, triples.reason, NO_REASON),
        out_reason=out_reason,
    )


def _out_reasons(
    triples: _Triples, not_there: _Triples, span: tuple[int, int], zone_count: int
) -> Ints:
    """Return why the position after each triple is out, though inside the zone's outline."""
    out = np.zeros(len(triples.key), dtype=np.int64)
    if len(not_there.key):
        wanted, codes = triples._replace(v=triples.v + 1).code(span), not_there.code(span)
        order = np.argsort(codes, kind="stable")
        place = np.searchsorted(codes[order], wanted)
        place = order[np.minimum(place, len(codes) - 1)]
        out = np.where(codes[place] == wanted, not_there.reason[place], NO_REASON)
    out[triples.zone >= zone_count] = REMOVED
    return out


def _lingering(zones: ZoneSet, rules: Rules, track: _Track, triples: _Triples) -> _Triples:
    """Find the positions just outside a zone that prolong a visit: near all the way since.

    Each gap between two positions inside is followed from its start in growing strides, until a
    position is too far, so far-away positions cost one look each.
    """
    alive = triples.zone < len(zones.index.zone_ids)
    begin = triples.v + 1
    end = track.first[triples.key] + track.valid_rows[triples.key]
    same = (np.diff(triples.key) == 0) & (np.diff(triples.zone) == 0)
    end[:-1] = np.where(same, triples.v[1:], end[:-1])
    gap = np.flatnonzero(alive & (begin < end))
    found = [_Triples(*(np.empty(0, dtype=np.int64) for _ in _Triples._fields))]
    at, stride = begin[gap], 1
    # A key forgotten meanwhile does not linger.
    life = track.life_at(triples.key[gap], triples.v[gap])
    while len(gap):
        length = np.minimum(end[gap] - at, stride)
        index = np.repeat(np.arange(len(gap)), length)
        v = at[index] + np.arange(len(index)) - np.repeat(np.cumsum(length) - length, length)
        zone, row = triples.zone[gap][index], track.valid[v]
        reason = zones.limits.broken(zone, track.depth_at(v), track.time_at(v))
        near = (reason == NO_REASON) | zones.limits.is_rule[zone]
        near &= track.v_life[v] == life[index]
        asked = np.flatnonzero(near)
        away = zones.index.outside_m(
            zone[asked], track.rows.lon[row[asked]], track.rows.lat[row[asked]]
        )
        near[asked] = away <= rules.border_m
        stop = np.where(near, np.iinfo(np.int64).max, v)
        first_far = np.minimum.reduceat(stop, np.cumsum(length) - length)
        kept = v < first_far[index]
        found.append(_Triples.of(track, v[kept], zone[kept], reason[kept]))
        at = at + length
        going = (first_far == np.iinfo(np.int64).max) & (at < end[gap])
        gap, at, life = gap[going], at[going], life[going]
        stride *= 2
    return _Triples(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def _visit_events(rules: Rules, track: _Track, stays: _Stays) -> list[Found]:
    found = []
    here = np.flatnonzero(~stays.held & stays.reported)
    if ENTER in rules.detect:
        found.append(_at(track, stays, here[stays.is_entry[here]], ENTER))
    if EXIT in rules.detect:
        found.append(_exits(track, stays))
    if INSIDE in rules.detect:
        found.append(_at(track, stays, here, INSIDE))
    if DWELL in rules.detect:
        found.append(_at(track, stays, here[~stays.is_entry[here]], DWELL))
    starts = stays.first_of_run[here] == here
    before = np.where(starts, NO_REASON, stays.reason[here - 1])
    now = stays.reason[here]
    if BREACH in rules.detect:
        chosen = (now != NO_REASON) & (now != before)
        found.append(_at(track, stays, here[chosen], BREACH, now[chosen]))
    if RESTORE in rules.detect:
        chosen = (now == NO_REASON) & (before != NO_REASON)
        found.append(_at(track, stays, here[chosen], RESTORE, before[chosen]))
    return found


def _at(
    track: _Track, stays: _Stays, chosen: Ints, event: int, reason: Ints | None = None
) -> Found:
    time_us, entered = track.time_at(stays.v[chosen]), stays.entered_us[chosen]
    return Found(
        row=track.valid[stays.v[chosen]],
        event=np.full(len(chosen), event),
        zone=stays.zone[chosen],
        entered_us=entered,
        dwell_us=time_us - entered,
        reason=np.zeros(len(chosen), dtype=np.int64) if reason is None else reason,
    )


def _exits(track: _Track, stays: _Stays) -> Found:
    ended = np.flatnonzero(stays.last_of_run & stays.reported)
    key, after = stays.key[ended], stays.v[ended] + 1
    ended = ended[after < track.first[key] + track.valid_rows[key]]
    after = stays.v[ended] + 1
    # A key forgotten meanwhile begins anew, its visits are forgotten with it.
    same = track.life_at(stays.key[ended], stays.v[ended]) == track.v_life[after]
    ended, after = ended[same], after[same]
    entered = stays.entered_us[ended]
    return Found(
        row=track.valid[after],
        event=np.full(len(ended), EXIT),
        zone=stays.zone[ended],
        entered_us=entered,
        dwell_us=track.time_at(after) - entered,
        reason=stays.out_reason[ended],
    )


def _crossings(zones: ZoneSet, track: _Track, latest: Latest, stays: _Stays) -> Found:
    """Find legs through zones: straight from the key's last known position to each."""
    lon, lat = track.rows.lon[track.valid], track.rows.lat[track.valid]
    from_lon, from_lat = np.roll(lon, 1), np.roll(lat, 1)
    begun = track.first[track.valid_rows > 0]
    from_lon[begun] = latest.lon[track.v_key[begun]]
    from_lat[begun] = latest.lat[track.v_key[begun]]
    before = np.roll(track.v_life, 1)
    before[begun] = track.held_life[track.v_key[begun]]
    from_lon[before != track.v_life] = np.nan
    v, zone = zones.index.crossings(from_lon, from_lat, lon, lat)
    there = zones.limits.broken(zone, track.depth_at(v), track.time_at(v)) == NO_REASON
    there |= zones.limits.is_rule[zone]
    v, zone = v[there], zone[there]
    # With a wide border a visit may go on at either end.
    span = max(len(zones.index.zone_ids), int(stays.zone.max(initial=-1)) + 1)
    follows = stays.v + 1 < track.first[stays.key] + track.valid_rows[stays.key]
    at_end = (stays.v * span + stays.zone)[~stays.held]
    at_start = ((stays.v + 1) * span + stays.zone)[follows]
    outside = ~np.isin(v * span + zone, np.concatenate([at_end, at_start]))
    v, zone = v[outside], zone[outside]
    nothing = np.full(len(v), NO_TIME)
    return Found(
        row=track.valid[v],
        event=np.full(len(v), CROSS),
        zone=zone,
        entered_us=nothing,
        dwell_us=nothing,
        reason=np.zeros(len(v), dtype=np.int64),
    )


def _outside(track: _Track, stays: _Stays) -> Found:
    inside = np.zeros(len(track.valid), dtype=np.bool_)
    inside[stays.v[~stays.held & stays.reported]] = True
    row = track.valid[~inside]
    nothing, zero = np.full(len(row), NO_TIME), np.zeros(len(row), dtype=np.int64)
    return Found(row, np.full(len(row), OUTSIDE), zero + NO_ZONE, nothing, nothing, zero)


def _remembered(track: _Track, latest: Latest) -> Latest:
    end = track.stop - 1
    life = track.life[end]
    old = track.held_life == life
    last = np.maximum(track.first + track.valid_rows - 1, 0)
    has = track.valid_rows > 0
    if len(track.valid):
        has &= track.v_life[last] == life
        row = track.valid[last]
    else:
        row = np.zeros(len(end), dtype=np.int64)
    kept_lon, kept_lat = np.where(old, latest.lon, np.nan), np.where(old, latest.lat, np.nan)
    depth = track.rows.depth_m
    return Latest(
        known=np.ones(len(end), dtype=np.bool_),
        time_us=track.rows.time_us[end],
        lon=np.where(has, track.rows.lon[row], kept_lon),
        lat=np.where(has, track.rows.lat[row], kept_lat),
        depth_m=latest.depth_m if depth is None else depth[end],
    )


def _still_open(track: _Track, stays: _Stays) -> Visits:
    final = track.first[stays.key] + track.valid_rows[stays.key] - 1
    current = track.life_at(stays.key, stays.v) == track.life[track.stop[stays.key] - 1]
    kept = np.flatnonzero(stays.last_of_run & (stays.v == final) & current)
    return Visits(
        key=stays.key[kept],
        zone=stays.zone[kept],
        entered_us=stays.entered_us[kept],
        reported=stays.reported[kept],
        reason=stays.reason[kept],
    )
