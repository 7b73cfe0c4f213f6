"""Proximity at work: positions in, pairs that meet or part out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from headrace.core.protocols import LATE, MAIN, NEVER, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import (
    BEGINNING,
    EVENT_TIME,
    HIDDEN,
    HIDDEN_SCHEMA,
    TIME_DTYPE,
    micros,
)
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.geo.encounters import NO_TIME, Encounters, Event, Fixes
from headrace.operators.geo.sphere import Bools, Floats, Ints
from headrace.operators.key_runs import KeyRuns, key_runs, running_max

if TYPE_CHECKING:
    from headrace.operators.proximity import Proximity

_VEHICLES: Final = "vehicles"
_PAIRS: Final = "pairs"
_NEXT: Final = "next"
_WAITING: Final = "waiting"
_NUMBER: Final = "__number"
_TIME: Final = "__time"
_LON, _LAT = "__lon", "__lat"
_ONE, _OTHER = "__one", "__other"
_OLDEST: Final = "__oldest"
_FOUND: Final = "__found"
_MOST_LON, _MOST_LAT = 360.0, 90.0


def proximity_tables(proximity: Proximity, schema: pl.Schema) -> tuple[TableSpec, ...]:
    """Declare vehicles by number, near pairs of numbers, the next number, and waiting rows."""
    key = (*proximity.group, *proximity.by)
    vehicle = {**{name: schema[name] for name in key}, _NUMBER: pl.Int64(), _TIME: pl.Int64()}
    known = pl.Schema({**vehicle, _LON: pl.Float64(), _LAT: pl.Float64()})
    pairs = pl.Schema(dict.fromkeys((_ONE, _OTHER, _OLDEST), pl.Int64()))
    specs = [
        TableSpec(_VEHICLES, "keyed", known, key=key),
        TableSpec(_PAIRS, "keyed", pairs, key=(_ONE, _OTHER)),
        TableSpec(_NEXT, "blob"),
    ]
    if proximity.order == "event":
        waiting = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
        specs.append(TableSpec(_WAITING, "rows", waiting))
    return tuple(specs)


class ProximityTask(Task):
    """Vehicles and near pairs in tables; each batch is judged over all of them at once."""

    def __init__(self, proximity: Proximity, tables: Tables, schema: pl.Schema) -> None:
        self._proximity = proximity
        self._tables = tables
        self._columns = list(schema)
        self._key = [*proximity.group, *proximity.by]
        self._told = proximity.told(schema)
        self._forget_us = micros(proximity.forget)
        self._vehicles = tables.keyed(_VEHICLES)
        self._pairs = tables.keyed(_PAIRS)
        self._next = tables.blob(_NEXT)
        self._waiting = None
        if proximity.order == "event":
            self._waiting = EventOrderBuffer(tables.rows(_WAITING))

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        """Judge positions, or let them wait."""
        if frame.is_empty():
            return
        if self._waiting is None:
            yield from self._judge(frame)
            self._forget(self._tables.watermark)
            return
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        """Judge the positions that the watermark has passed."""
        ready = None if self._waiting is None else self._waiting.release(watermark)
        if ready is not None:
            yield from self._judge(ready)
            self._forget(watermark)

    def finish(self) -> Iterable[Out]:
        """Judge the positions that still wait."""
        ready = None if self._waiting is None else self._waiting.release_all()
        if ready is not None:
            yield from self._judge(ready)

    def wake(self) -> Wake:
        """Ask for the watermark that passes the oldest waiting position."""
        return NEVER if self._waiting is None else self._waiting.wake()

    def _forget(self, watermark: int) -> None:
        # A vehicle or pair so old plays no part in what is still to come, so nobody sees when.
        if watermark != BEGINNING:
            self._vehicles.expire(_TIME, watermark - self._forget_us)
            self._pairs.expire(_OLDEST, watermark - self._forget_us)

    def _judge(self, frame: pl.DataFrame) -> Iterable[Out]:
        lon, lat = _floats(frame[self._proximity.lon]), _floats(frame[self._proximity.lat])
        usable = (np.abs(lon) <= _MOST_LON) & (np.abs(lat) <= _MOST_LAT)
        if not usable.all():
            frame = frame.filter(pl.Series(usable))
            lon, lat = lon[usable], lat[usable]
        if not frame.height:
            return
        runs = key_runs(frame, self._key)
        known = self._vehicles.lookup(runs.keys)
        if self._waiting is None:
            late = self._late(frame, runs, known)
            if late.any():
                yield LATE, frame.filter(pl.Series(late))
                yield from self._judge(frame.filter(pl.Series(~late)))
                return
        number = self._numbered(known)
        beside = self._others(number, int(frame[EVENT_TIME].to_numpy().min()))
        thing = np.empty(frame.height, dtype=np.int64)
        thing[runs.order] = runs.key_of
        fixes = Fixes(thing, frame[EVENT_TIME].to_numpy(), lon, lat)
        numbers = np.concatenate([number, beside[_NUMBER].to_numpy()])
        encounters = Encounters(
            _groups(pl.concat([runs.keys, beside.select(self._key)]), self._proximity.group),
            _latest(known, beside),
            self._near(numbers),
            self._proximity.within_m,
            self._forget_us,
        )
        found = encounters.judge(fixes)
        self._store(runs.keys, number, numbers, encounters)
        if found:
            names = pl.concat([runs.keys, beside.select(self._key)]).select(self._proximity.by)
            yield MAIN, self._shown(frame, names, found)

    def _late(self, frame: pl.DataFrame, runs: KeyRuns, known: pl.DataFrame) -> Bools:
        times = frame[EVENT_TIME].to_numpy()
        along = times[runs.order]
        held = known[_TIME].fill_null(BEGINNING).to_numpy()[runs.key_of]
        reached = np.maximum(running_max(along, runs.key_of), held)
        late = np.empty(frame.height, dtype=np.bool_)
        late[runs.order] = along < reached
        return late | (times < self._tables.watermark)

    def _numbered(self, known: pl.DataFrame) -> Ints:
        """Return the number of each vehicle, giving numbers to those that are new."""
        number = known[_NUMBER].fill_null(-1).to_numpy().copy()
        fresh = np.flatnonzero(number < 0)
        if fresh.size:
            first = int(self._next.value or b"0")
            number[fresh] = np.arange(first, first + fresh.size)
            self._next.replace(str(first + fresh.size).encode())
        return number

    def _others(self, number: Ints, oldest: int) -> pl.DataFrame:
        """Return the vehicles that do not report but may still be met."""
        held = self._vehicles.frame()
        away = ~np.isin(held[_NUMBER].to_numpy(), number)
        away &= held[_TIME].to_numpy() >= oldest - self._forget_us
        return held.filter(pl.Series(away))

    def _near(self, numbers: Ints) -> Ints:
        """Return the near pairs among vehicles, by their places in `numbers`."""
        held = self._pairs.frame()
        order = np.argsort(numbers)
        ends = []
        for name in (_ONE, _OTHER):
            wanted = held[name].to_numpy()
            at = np.minimum(np.searchsorted(numbers[order], wanted), order.size - 1)
            ends.append(np.where(numbers[order][at] == wanted, order[at], -1))
        one, other = np.minimum(*ends), np.maximum(*ends)
        return np.column_stack([one, other])[one >= 0]

    def _store(
        self, keys: pl.DataFrame, number: Ints, numbers: Ints, encounters: Encounters
    ) -> None:
        size = number.size
        latest = encounters.latest
        self._vehicles.upsert(
            keys.hstack(
                [
                    pl.Series(_NUMBER, number),
                    pl.Series(_TIME, latest.time_us[:size]),
                    pl.Series(_LON, latest.lon[:size]),
                    pl.Series(_LAT, latest.lat[:size]),
                ]
            )
        )
        if not encounters.looked_at:
            return
        one, other, is_near, oldest = (
            np.concatenate(columns) for columns in zip(*encounters.looked_at, strict=True)
        )
        first, second = numbers[one], numbers[other]
        pairs = pl.DataFrame(
            {
                _ONE: np.minimum(first, second),
                _OTHER: np.maximum(first, second),
                _OLDEST: oldest,
                "is_near": is_near,
            }
        ).unique([_ONE, _OTHER], keep="last", maintain_order=True)
        self._pairs.delete(pairs.filter(~pl.col("is_near")))
        self._pairs.upsert(pairs.filter("is_near"))

    def _shown(self, frame: pl.DataFrame, names: pl.DataFrame, found: list[Event]) -> pl.DataFrame:
        row, other, is_near, metres, other_us, lon, lat = (
            np.concatenate(columns) for columns in zip(*found, strict=True)
        )
        columns = [names[name].gather(other) for name in self._proximity.by]
        columns += [
            pl.Series(lon),
            pl.Series(lat),
            pl.Series(other_us).cast(TIME_DTYPE),
            pl.Series(["far", "near"]).gather(is_near.astype(np.int64)),
            pl.Series(metres),
        ]
        told = [
            column.alias(name).cast(dtype)
            for column, (name, dtype) in zip(columns, self._told.items(), strict=True)
        ]
        theirs = list(self._told)[: len(self._proximity.by)]
        events = pl.DataFrame([pl.Series("__row", row), *told])
        # Those that part first, then by the other vehicle.
        events = events.sort("__row", "event", *theirs, maintain_order=True)
        shown = frame[events["__row"].to_numpy()]
        return shown.hstack(events.drop("__row")).select(*self._columns, *self._told, *HIDDEN)


def _latest(known: pl.DataFrame, beside: pl.DataFrame) -> Fixes:
    """Return the latest positions of those that report, then of the others."""

    def both(name: str, missing: Any) -> Any:
        values = pl.concat([known[name].fill_null(missing), beside[name]])
        return values.to_numpy().copy()

    time = both(_TIME, NO_TIME)
    return Fixes(np.arange(time.size), time, both(_LON, 0.0), both(_LAT, 0.0))


def _groups(keys: pl.DataFrame, group: tuple[str, ...]) -> Ints:
    """Return a number for each row's group, equal groups alike."""
    if not group:
        return np.zeros(keys.height, dtype=np.int64)
    runs = key_runs(keys, group)
    number = np.empty(keys.height, dtype=np.int64)
    number[runs.order] = runs.key_of
    return number


def _floats(values: pl.Series) -> Floats:
    """Return numbers, NaN for null."""
    return values.cast(pl.Float64).to_numpy()
