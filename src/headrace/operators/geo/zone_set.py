"""Zones with their rules: depth bands, active hours and the columns carried along."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import time
from typing import Any, Final

import numpy as np
import polars as pl

from headrace.core.errors import DataError, PlanError
from headrace.operators.geo.sphere import Bools, Floats, Ints
from headrace.operators.geo.zones import ZoneIndex

ZONE_ID: Final = "zone_id"
GEOMETRY: Final = "geometry"
RULE: Final = "rule"
VOLUME: Final = "volume"
LIMITS: Final = "limits"

NO_REASON: Final = 0
DEPTH: Final = 1
HOURS: Final = 2
REMOVED: Final = 3
REASONS: Final = (None, "depth", "hours", "zone removed")

_DAY_US: Final = 86_400_000_000
_NUMBERS: Final = ("radius_m", "min_depth_m", "max_depth_m")
_HOURS: Final = ("active_from", "active_to")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?")


def check_zone_columns(schema: pl.Schema, attributes: Iterable[str]) -> None:
    """Check that a table of zones has the columns that zones need.

    Raises:
        PlanError: A column is missing or of a type that cannot be read.
    """
    for column in (ZONE_ID, GEOMETRY):
        if schema.get(column) != pl.String:
            raise PlanError(
                f"the zones need a text column {column!r}", hint=f"they have {', '.join(schema)}"
            )
    for column in _NUMBERS:
        if column in schema and not schema[column].is_numeric():
            raise PlanError(f"the zones' {column} is {schema[column]}", hint="declare a number")
    for column in _HOURS:
        if column in schema and schema[column] not in {pl.String, pl.Time}:
            raise PlanError(
                f"the zones' {column} is {schema[column]}", hint='declare pl.Time, or text "22:00"'
            )
    if (
        RULE in schema
        and schema[RULE] not in {pl.String, pl.Categorical}
        and not isinstance(schema[RULE], pl.Enum)
    ):
        raise PlanError(f"the zones' rule is {schema[RULE]}", hint='"volume" or "limits"')
    for column in attributes:
        if column not in schema:
            raise PlanError(
                f"the zones have no column {column!r} to carry along",
                hint=f"they have {', '.join(schema)}",
            )


@dataclass(frozen=True, slots=True)
class Limits:
    """The depth bands and active hours of zones, by zone number.

    Attributes:
        low_m: Least depth in metres, -inf where open.
        high_m: Greatest depth in metres, inf where open.
        banded: Whether there is a band at all.
        from_us: Start of the active hours, microseconds of the UTC day.
        to_us: End of the active hours, exclusive; not after the start where they pass midnight.
        timed: Whether there are hours at all.
        is_rule: Whether breaking band or hours is an event; otherwise the zone then is not there.
    """

    low_m: Floats
    high_m: Floats
    banded: Bools
    from_us: Ints
    to_us: Ints
    timed: Bools
    is_rule: Bools

    @staticmethod
    def of(zones: pl.DataFrame) -> Limits:
        """Read the limits of zones, in their order.

        Raises:
            DataError: A band or hours make no sense; the message names the zone.
        """
        low, high = _numbers(zones, "min_depth_m"), _numbers(zones, "max_depth_m")
        wrong = low > high
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"zone {zones[ZONE_ID][row]!r}: min_depth_m {low[row]:g} is more than "
                f"max_depth_m {high[row]:g}",
                hint="depths are metres, positive down",
            )
        begins, ends = _hours(zones, "active_from"), _hours(zones, "active_to")
        timed = (begins >= 0) | (ends >= 0)
        return Limits(
            low_m=np.where(np.isnan(low), -np.inf, low),
            high_m=np.where(np.isnan(high), np.inf, high),
            banded=~(np.isnan(low) & np.isnan(high)),
            from_us=np.where(begins >= 0, begins, 0),
            to_us=np.where(ends >= 0, ends, _DAY_US),
            timed=timed,
            is_rule=_is_rule(zones),
        )

    def broken(self, zone: Ints, depth_m: Floats | None, time_us: Ints) -> Ints:
        """Return why each position is outside its zone's band or hours: a number of `REASONS`.

        Depth comes first where both are broken. An unknown depth (NaN) is in no band, but breaks
        no rule; without depths bands do not count.
        """
        reason = np.zeros(len(zone), dtype=np.int64)
        hours = np.flatnonzero(self.timed[zone])
        if len(hours):
            at, of = np.mod(time_us[hours], _DAY_US), zone[hours]
            begin, end = self.from_us[of], self.to_us[of]
            after, before = at >= begin, at < end
            active = np.where(begin < end, after & before, after | before)
            reason[hours[~active]] = HOURS
        if depth_m is not None:
            bands = np.flatnonzero(self.banded[zone])
            at_m, of = depth_m[bands], zone[bands]
            within = (at_m >= self.low_m[of]) & (at_m <= self.high_m[of])
            within |= np.isnan(at_m) & self.is_rule[of]
            reason[bands[~within]] = DEPTH
        return reason


class ZoneSet:
    """Zones as an operator sees them. Immutable.

    Attributes:
        index: Where they are.
        limits: Their bands and hours, by zone number.
        names: The zones' ids, by zone number.
        attributes: The columns carried along, by zone number, and a last row of nulls.
    """

    def __init__(self, index: ZoneIndex, zones: pl.DataFrame, attributes: tuple[str, ...]) -> None:
        ordered = zones.sort(ZONE_ID)
        self.index = index
        self.limits = Limits.of(ordered)
        self.names = pl.Series(ZONE_ID, index.zone_ids, dtype=pl.String)
        carried = ordered.select(attributes)
        self.attributes = pl.concat([carried, carried.clear(1)], rechunk=True)

    @staticmethod
    def of(zones: pl.DataFrame, attributes: tuple[str, ...] = ()) -> ZoneSet:
        """Index zones, a row each.

        Raises:
            DataError: A zone is invalid; the message names it.
        """
        return ZoneSet(ZoneIndex.of(zones), zones, attributes)


def zones_from_geojson(collection: Mapping[str, Any]) -> pl.DataFrame:
    """Return the features of a GeoJSON FeatureCollection as rows: `geometry` and the properties.

    The id is the property `zone_id`, or else the feature's own `id`.

    Raises:
        DataError: Not a FeatureCollection, a feature without id, or properties of mixed types.
    """
    import json

    features = collection.get("features")
    if collection.get("type") != "FeatureCollection" or not isinstance(features, list):
        raise DataError(
            "the zones are no GeoJSON FeatureCollection",
            hint="give a FeatureCollection with a property zone_id per feature",
        )
    rows = []
    for number, feature in enumerate(features, start=1):
        properties = dict(feature.get("properties") or {})
        zone = properties.get(ZONE_ID, feature.get("id"))
        if zone is None:
            raise DataError(
                f"feature {number} has no zone_id", hint="add a property zone_id, or an id"
            )
        geometry = json.dumps(feature.get("geometry"))
        rows.append({**properties, ZONE_ID: str(zone), GEOMETRY: geometry})
    try:
        frame = pl.DataFrame(rows, infer_schema_length=None)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"the zones' properties do not fit into columns: {error}",
            hint="give each property one type in all features",
        ) from error
    if not rows:
        return pl.DataFrame(schema={ZONE_ID: pl.String, GEOMETRY: pl.String})
    # A property that is null everywhere has no type of its own.
    return frame.with_columns(
        pl.col(name).cast(pl.Float64 if name in _NUMBERS else pl.String)
        for name, dtype in frame.schema.items()
        if dtype == pl.Null
    )


def _numbers(zones: pl.DataFrame, column: str) -> Floats:
    if column not in zones.columns:
        return np.full(zones.height, np.nan)
    return zones[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _is_rule(zones: pl.DataFrame) -> Bools:
    if RULE not in zones.columns:
        return np.zeros(zones.height, dtype=np.bool_)
    rule = zones[RULE].cast(pl.String).fill_null(VOLUME)
    unknown = ~rule.is_in([VOLUME, LIMITS])
    if unknown.any():
        row = int(unknown.arg_max() or 0)
        raise DataError(
            f"zone {zones[ZONE_ID][row]!r}: rule is {rule[row]!r}", hint='"volume" or "limits"'
        )
    return (rule == LIMITS).to_numpy()


def _hours(zones: pl.DataFrame, column: str) -> Ints:
    """Return times of day in microseconds, -1 where there is none."""
    if column not in zones.columns:
        return np.full(zones.height, -1, dtype=np.int64)
    values = zip(zones[ZONE_ID], zones[column], strict=True)
    return np.array([_time_of_day(zone, column, value) for zone, value in values], dtype=np.int64)


def _time_of_day(zone: str, column: str, value: str | time | None) -> int:
    if value is None or value == "":
        return -1
    if isinstance(value, time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + (
            value.microsecond
        )
    match = _CLOCK.fullmatch(value.strip().removesuffix("Z"))
    parts = [int(part or 0) for part in match.groups()[:3]] if match else [99, 0, 0]
    seconds = (parts[0] * 60 + parts[1]) * 60 + parts[2]
    if seconds * 1_000_000 > _DAY_US or parts[1] > 59 or parts[2] > 59:  # noqa: PLR2004 - a clock
        raise DataError(
            f"zone {zone!r}: {column} is {value!r}", hint='write a UTC time of day as "22:00"'
        )
    fraction = match[4] if match else None
    return seconds * 1_000_000 + int((fraction or "").ljust(6, "0") or 0)
