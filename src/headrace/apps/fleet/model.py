"""What the fleet application takes in: positions and zones."""

from __future__ import annotations

from datetime import datetime, time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

import headrace as hr

Identifier = Annotated[str, Field(min_length=1, max_length=128)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Metres = Annotated[float, Field(ge=-1000, le=12_000, allow_inf_nan=False)]

Severity = Literal["info", "warning", "high", "critical"]
FORBIDDEN_KINDS = ("no_entry", "protected", "apei")
"""Entering a zone of these kinds is a violation."""


class Position(BaseModel):
    """Where a vehicle was.

    Attributes:
        auv_id: The vehicle.
        time: When it was there.
        latitude: Degrees north, WGS84.
        longitude: Degrees east, WGS84.
        depth_m: Metres below the surface; negative above it.
        heading_deg: Degrees clockwise from north, where the vehicle says so.
        speed_ms: Metres per second over ground, where the vehicle says so.
    """

    model_config = ConfigDict(extra="ignore")

    auv_id: Identifier
    time: datetime
    latitude: Latitude
    longitude: Longitude
    depth_m: Metres | None = None
    heading_deg: Annotated[float, Field(ge=0, le=360, allow_inf_nan=False)] | None = None
    speed_ms: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None


class Zone(BaseModel):
    """A stretch of water with rules.

    Attributes:
        zone_id: Made from the name where it is not given.
        name: Shown on the map.
        kind: `no_entry`, `protected` and `apei` (areas of particular environmental interest) may
            not be entered; any other kind may.
        geometry: GeoJSON Polygon, MultiPolygon, or Point with `radius_m`.
        radius_m: Radius of a Point, metres.
        min_depth_m: Upper bound of the zone's depth band.
        max_depth_m: Lower bound of the zone's depth band.
        active_from: Time of day (UTC) from which the zone is active.
        active_to: Time of day (UTC) until which it is active; before `active_from` means overnight.
        rule: `volume`: the zone is only there within its band and hours. `limits`: vehicles inside
            must keep within band and hours; breaking them is a violation.
        severity: Of its violations.
    """

    model_config = ConfigDict(extra="forbid")

    zone_id: Identifier
    name: str = Field(default="", max_length=200)
    kind: str = Field(default="restricted", min_length=1, max_length=64)
    geometry: dict[str, Any]
    radius_m: Annotated[float, Field(gt=0, le=5_000_000, allow_inf_nan=False)] | None = None
    min_depth_m: Metres | None = None
    max_depth_m: Metres | None = None
    active_from: time | None = None
    active_to: time | None = None
    rule: Literal["volume", "limits"] = "volume"
    severity: Severity = "high"

    @model_validator(mode="after")
    def _outline_makes_sense(self) -> Zone:
        hr.check_geometry(self.geometry, self.radius_m)
        return self


class RuleChange(BaseModel):
    """A rule as another system sends it; what a rule may be is judged when it is taken over.

    Attributes:
        time: When it was decided.
        rule_id: The rule.
        gone: It is taken back; nothing else is read then.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    time: datetime
    rule_id: Identifier
    name: str | None = None
    condition: str | None = None
    conditions: list[Any] | None = None
    severity: Any = None
    for_: Annotated[str | None, Field(alias="for")] = None
    cooldown: str | None = None
    hysteresis: float | None = None
    message: str | None = None
    scope: dict[str, Any] | None = None
    enabled: bool | None = None
    group: str | None = None
    escalate_after: str | None = None
    gone: bool = False
