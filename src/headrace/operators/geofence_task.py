"""Geofence at work: positions in, events and positions out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from headrace.core.protocols import LATE, MAIN, NEVER, Out, Tables, Task, Wake
from headrace.core.time import BEGINNING, EVENT_TIME, HIDDEN, POSITION, TIME_DTYPE, micros
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.geo.visits import (
    BREACH,
    EVENTS,
    NO_TIME,
    RESTORE,
    Found,
    Latest,
    Positions,
    Rules,
    Visits,
    in_order,
    judge,
)
from headrace.operators.geo.zone_history import VERSION, ZoneHistory
from headrace.operators.geo.zone_set import REASONS, ZONE_ID, ZoneSet
from headrace.operators.lists import lists_of

if TYPE_CHECKING:
    from headrace.operators.geofence import Geofence

POSITIONS: Final = "positions"
FENCES: Final = "fences"
ZONES_PORT: Final = 1

BUFFER: Final = "buffer"
KEYS: Final = "keys"
ZONES: Final = "zones"
CHANGES: Final = "changes"
LAST: Final = "__last"
PLACE: Final = {"__lon": pl.Float64(), "__lat": pl.Float64(), "__depth": pl.Float64()}
VISITS: Final = "__visits"
VISIT: Final = pl.Struct(
    {ZONE_ID: pl.String, "entered_us": pl.Int64, "reported": pl.Boolean, "reason": pl.Int8}
)
EVENT_COLUMNS: Final[dict[str, pl.DataType]] = {
    ZONE_ID: pl.String(),
    "event": pl.String(),
    "entered_at": TIME_DTYPE,
    "dwell_s": pl.Float64(),
    "reason": pl.String(),
}
_KEY: Final = "__key"
_EVENT_NAMES: Final = pl.Series(EVENTS, dtype=pl.String)
_REASON_NAMES: Final = pl.Series(REASONS, dtype=pl.String)
# 16-bit numbers are sorted by radix.
_SHORT_KEYS: Final = 1 << 16
_STRAY_US: Final = 86_400_000_000
_FORGET_TIMES: Final = 64


class GeofenceTask(Task):
    """A geofence at work: zones in an index, vehicles in a table, rows that wait in a buffer."""

    def __init__(self, geofence: Geofence, tables: Tables, inputs: tuple[pl.Schema, ...]) -> None:
        self._geofence = geofence
        self._tables = tables
        self._by = list(geofence.by)
        self._columns = list(inputs[0])
        self._known = tables.keyed(KEYS)
        self._forgotten_us = BEGINNING
        self._rules = Rules(
            detect=frozenset({*map(EVENTS.index, geofence.detect), BREACH, RESTORE}),
            min_dwell_us=micros(geofence.min_dwell or timedelta(0)),
            border_m=geofence.border_m,
            forget_us=micros(geofence.forget),
        )
        self._buffer = None
        if geofence.order == "event":
            self._buffer = EventOrderBuffer(tables.rows(BUFFER))
        self._zones = self._zone_history()

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Change zones, or judge positions or let them wait."""
        if frame.is_empty():
            return
        if port == ZONES_PORT:
            waiting = 0 if self._buffer is None else self._buffer.rows
            self._zones.change(frame, waited_for=waiting > 0)
            return
        if self._buffer is None:
            yield from self._judge(frame, self._zones.now)
            self._forget(self._tables.watermark)
            return
        tagged = frame.with_columns(pl.lit(self._zones.newest, pl.Int64).alias(VERSION))
        late = self._buffer.add(tagged, self._tables.watermark)
        if late.height:
            yield LATE, late.drop(VERSION)

    def advance(self, watermark: int) -> Iterable[Out]:
        """Judge the positions that the watermark has passed."""
        if self._buffer is not None:
            ready = self._buffer.release(watermark)
            if ready is not None:
                yield from self._judge_waited(ready)
        self._forget(watermark)

    def finish(self) -> Iterable[Out]:
        """Judge the positions that still wait."""
        ready = None if self._buffer is None else self._buffer.release_all()
        if ready is not None:
            yield from self._judge_waited(ready)

    def wake(self) -> Wake:
        """Ask for the watermark that passes the oldest waiting position."""
        return NEVER if self._buffer is None else self._buffer.wake()

    def _zone_history(self) -> ZoneHistory:
        geofence, tables = self._geofence, self._tables
        if geofence.zones is not None:
            return ZoneHistory(geofence.static_zones, None, geofence.attributes, 0)
        if self._buffer is None:
            return ZoneHistory(tables.keyed(ZONES), None, geofence.attributes, 0)
        newest = max((_greatest(piece) for piece in tables.rows(BUFFER).pieces), default=0)
        changes = tables.rows(CHANGES)
        return ZoneHistory(tables.keyed(ZONES), changes, geofence.attributes, newest)

    def _forget(self, watermark: int) -> None:
        # A row of such a key that is still to come begins anew anyway, so when this happens
        # cannot be seen. By arrival it may lie behind the watermark, by up to a day unseen.
        if watermark < self._forgotten_us + self._rules.forget_us // _FORGET_TIMES:
            return
        slack = 0 if self._buffer is not None else _STRAY_US
        self._known.expire(LAST, watermark - self._rules.forget_us - slack)
        self._forgotten_us = watermark

    def _judge_waited(self, ready: pl.DataFrame) -> Iterable[Out]:
        """Judge rows in event-time order, each by the zones that it came under.

        A zone that changed while rows waited counts from each vehicle's first row on that came
        after the change, with no later one before it.
        """
        rows = ready.drop(VERSION)
        if self._zones.versions == 1:
            yield from self._judge(rows, self._zones.now)
            return
        waiting = self._tables.rows(BUFFER).frame()
        version = self._effective(ready, waiting)
        out: dict[str, list[pl.DataFrame]] = {}
        for number in version.unique().sort().to_list():
            for port, frame in self._judge(rows.filter(version == number), self._zones.at(number)):
                out.setdefault(port, []).append(frame)
        for port, frames in out.items():
            yield port, pl.concat(frames).sort(EVENT_TIME, POSITION, maintain_order=True)
        self._zones.forget(_least(waiting) if waiting.height else self._zones.newest)

    def _effective(self, ready: pl.DataFrame, waiting: pl.DataFrame) -> pl.Series:
        """Return for each row the oldest version under which it or a later row of its key came."""
        later = waiting.group_by(self._by, maintain_order=True).agg(
            pl.col(VERSION).min().alias("later")
        )
        return (
            ready.join(later, on=self._by, how="left", nulls_equal=True, maintain_order="left")
            .select(
                pl.min_horizontal(
                    pl.col(VERSION).cum_min(reverse=True).over(self._by), pl.col("later")
                )
            )
            .to_series()
        )

    def _judge(self, frame: pl.DataFrame, zones: ZoneSet) -> Iterable[Out]:
        if frame.is_empty():
            return
        keys, code = _numbered(frame.select(self._by))
        known = self._known.lookup(keys)
        time_us = frame[EVENT_TIME].to_numpy()
        order = np.argsort(
            code.astype(np.uint16) if keys.height < _SHORT_KEYS else code, kind="stable"
        )
        if self._geofence.order == "arrival":
            late = _overtaken(code[order], time_us[order], known)
            if late.any():
                is_late = np.zeros(frame.height, dtype=np.bool_)
                is_late[order[late]] = True
                yield LATE, frame.filter(pl.Series(is_late))
                frame = frame.filter(pl.Series(~is_late))
                yield from self._judge(frame, zones)
                return
        positions = Positions(
            key=code[order],
            time_us=time_us[order],
            lon=_floats(frame[self._geofence.lon])[order],
            lat=_floats(frame[self._geofence.lat])[order],
            depth_m=(_floats(frame[self._geofence.depth])[order] if self._geofence.depth else None),
        )
        latest = Latest(
            known=known["__found"].to_numpy(),
            time_us=known[LAST].fill_null(0).to_numpy(),
            lon=_floats(known["__lon"]),
            lat=_floats(known["__lat"]),
            depth_m=_floats(known["__depth"]),
        )
        names, visits = _open_visits(known, zones)
        found, latest, visits = judge(zones, self._rules, positions, latest, visits)
        self._store(keys, latest, visits, names)
        found = in_order(found._replace(row=order[found.row]), _ranks(names, zones))
        events = _events(found, names, zones)
        yield POSITIONS, self._with_fences(frame, found.row, events)
        if events.height:
            rows = frame[found.row]
            columns = [*self._columns, *events.columns, *HIDDEN]
            yield MAIN, rows.hstack(events).select(columns)

    def _store(self, keys: pl.DataFrame, latest: Latest, visits: Visits, names: pl.Series) -> None:
        stays = pl.DataFrame(
            {
                ZONE_ID: names[visits.zone],
                "entered_us": visits.entered_us,
                "reported": visits.reported,
                "reason": pl.Series(visits.reason, dtype=pl.Int8),
            }
        )
        self._known.upsert(
            keys.with_columns(
                pl.Series(LAST, latest.time_us),
                pl.Series("__lon", latest.lon),
                pl.Series("__lat", latest.lat),
                pl.Series("__depth", latest.depth_m),
                lists_of(visits.key, stays, keys.height).alias(VISITS),
            )
        )

    def _with_fences(self, frame: pl.DataFrame, row: Any, events: pl.DataFrame) -> pl.DataFrame:
        fences = lists_of(row, events, frame.height).alias(FENCES)
        return frame.with_columns(fences).select([*self._columns, FENCES, *HIDDEN])


def _open_visits(known: pl.DataFrame, zones: ZoneSet) -> tuple[pl.Series, Visits]:
    """Return the ids of zones by number, those that are gone at the end, and the visits."""
    names = zones.names
    held = (
        known.select(VISITS)
        .with_row_index(_KEY)
        .explode(VISITS, empty_as_null=False, keep_nulls=False)
        .unnest(VISITS)
        .join(
            names.to_frame().with_row_index("number"),
            on=ZONE_ID,
            how="left",
            maintain_order="left",
        )
    )
    if held["number"].null_count():
        gone = held.filter(pl.col("number").is_null()).select(ZONE_ID).unique().sort(ZONE_ID)
        names = pl.concat([names, gone[ZONE_ID]])
        numbers = names.to_frame().with_row_index("number")
        held = held.drop("number").join(numbers, on=ZONE_ID, how="left", maintain_order="left")
    return names, Visits(
        key=held[_KEY].to_numpy().astype(np.int64),
        zone=held["number"].to_numpy().astype(np.int64),
        entered_us=held["entered_us"].to_numpy(),
        reported=held["reported"].to_numpy(),
        reason=held["reason"].to_numpy().astype(np.int64),
    )


def _ranks(names: pl.Series, zones: ZoneSet) -> Any:
    """Return the rank of each zone by its id, and the last for events without a zone."""
    if names is zones.names:
        return np.arange(len(names) + 1)
    return np.append(names.rank("ordinal").to_numpy(), len(names) + 1)


def _events(found: Found, names: pl.Series, zones: ZoneSet) -> pl.DataFrame:
    count = len(zones.names)
    carried = zones.attributes
    row = np.where((found.zone < 0) | (found.zone >= count), count, found.zone)
    none = found.zone < 0
    zone_ids = pl.concat([names, pl.Series(ZONE_ID, [None], dtype=pl.String)])
    events = pl.DataFrame(
        {
            ZONE_ID: zone_ids[np.where(none, len(names), found.zone)],
            "event": _EVENT_NAMES[found.event],
            "entered_at": _microseconds(found.entered_us).cast(TIME_DTYPE),
            "dwell_s": _microseconds(found.dwell_us) / 1e6,
            "reason": _REASON_NAMES[found.reason],
        }
    )
    return events.hstack(carried[row]) if carried.width else events


def _numbered(keys: pl.DataFrame) -> tuple[pl.DataFrame, Any]:
    """Return the distinct keys in order of appearance, and each row's place among them."""
    distinct = keys.unique(maintain_order=True)
    places = distinct.with_row_index(_KEY)
    joined = keys.join(places, on=keys.columns, how="left", nulls_equal=True, maintain_order="left")
    return distinct, joined[_KEY].cast(pl.Int64).to_numpy()


def _overtaken(key: Any, time_us: Any, known: pl.DataFrame) -> Any:
    """Tell which rows, sorted by key, are older than what their key has already shown."""
    held = known[LAST].fill_null(BEGINNING).to_numpy()[key]
    steps_back = (np.diff(time_us) < 0) & (np.diff(key) == 0)
    if not steps_back.any():
        return time_us < held
    shown = pl.DataFrame({"key": key, "time": time_us}).select(pl.col("time").cum_max().over("key"))
    return time_us < np.maximum(held, shown.to_series().to_numpy())


def _greatest(piece: pl.DataFrame) -> int:
    return int(piece[VERSION].to_numpy().max())


def _least(piece: pl.DataFrame) -> int:
    return int(piece[VERSION].to_numpy().min())


def _floats(values: pl.Series) -> Any:
    """Return numbers, NaN for null."""
    return values.cast(pl.Float64).to_numpy()


def _microseconds(values: Any) -> pl.Series:
    """Return times or lengths, null where there is none."""
    series = pl.Series(values, dtype=pl.Int64)
    return series.set(series == NO_TIME, None)
