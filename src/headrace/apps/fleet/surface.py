"""What the fleet application shows: its REST routes, metrics and the views of its page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from headrace import Data, NotFoundError, Published, Versioned
from headrace.apps.fleet.app import (
    SEVERITIES,
    activity,
    app,
    positions,
    presence,
    rules,
    status,
    violations,
    visits,
    zone_events,
    zone_stats,
    zones,
)
from headrace.apps.fleet.model import Severity

Limit = Annotated[int, Field(ge=1, le=10_000)]


class LastPosition(BaseModel):
    """Where a vehicle was last seen."""

    latitude: float
    longitude: float
    depth: float | None
    last_update: datetime


class VehicleStatus(BaseModel):
    """Whether a vehicle was heard of within the hour, and where."""

    auv_id: str
    status: Literal["active", "unknown"]
    position: LastPosition | None


class TelemetryAnswer(BaseModel):
    """What became of the positions that were sent; accepted ones are durable."""

    status: Literal["accepted", "rejected"]
    auv_id: str | None
    accepted: int
    rejected: int
    offsets: list[dict[str, int]]
    reasons: list[dict[str, Any]]


def _telemetry_answer(published: Published, first: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "status": "accepted" if published.accepted else "rejected",
        "auv_id": first.get("auv_id") if first is not None else None,
        **published.answer(),
    }


app.route(
    "POST",
    "/telemetry",
    to=positions,
    aliases={"depth": "depth_m", "timestamp": "time"},
    answer=_telemetry_answer,
    model=TelemetryAnswer,
    summary="Send one position, or an array of them",
    tags=("telemetry",),
)


def _status_answer(row: Mapping[str, Any] | None, path: Mapping[str, str]) -> dict[str, Any]:
    position = None
    if row is not None:
        position = {
            "latitude": row["latitude"],
            "longitude": row["longitude"],
            "depth": row["depth_m"],
            "last_update": row["time"],
        }
    return {
        "auv_id": path["auv_id"],
        "status": "unknown" if row is None else "active",
        "position": position,
    }


app.route(
    "GET",
    "/status/{auv_id}",
    table=status,
    answer=_status_answer,
    model=VehicleStatus,
    summary="Where a vehicle was last seen; unknown after an hour of silence",
    tags=("vehicles",),
)


# -- zones ------------------------------------------------------------------------------------


def _zone_answer(zone: Versioned | None, path: Mapping[str, str]) -> dict[str, Any]:
    if zone is None:
        return {"status": "deleted", "zone_id": path["zone_id"]}
    status = "created" if zone.created else "updated"
    return {"status": status, "zone_id": path["zone_id"], "version": zone.version}


@app.route("POST", "/zones", status=201, summary="Create a zone", tags=("zones",))
async def create_zone(zone: dict[str, Any], data: Data) -> dict[str, Any]:
    """Create a zone; it judges the very next position.

    `geometry` is a GeoJSON Polygon, MultiPolygon, or Point with `radius_m`. Without `zone_id`
    one is made from the rest of the body, so that the same zone twice is a conflict, not two.
    """
    row = {**zone, "zone_id": zone.get("zone_id") or _made_id(zone)}
    created = await data.put(zones.name, row, if_version=0)
    return {"status": "created", "zone_id": row["zone_id"], "version": created.version}


@app.route("GET", "/zones", summary="All zones", tags=("zones",))
def list_zones(data: Data) -> dict[str, Any]:
    """Return every zone with its version."""
    rows = data.scan(zones.name)
    return {"zones": rows, "total": len(rows)}


app.route("GET", "/zones/{zone_id}", control_table=zones, summary="One zone", tags=("zones",))
app.route(
    "PUT",
    "/zones/{zone_id}",
    control_table=zones,
    answer=_zone_answer,
    summary="Create or replace a zone",
    tags=("zones",),
)
app.route(
    "PATCH",
    "/zones/{zone_id}",
    control_table=zones,
    answer=_zone_answer,
    summary="Change parts of a zone",
    tags=("zones",),
)
app.route(
    "DELETE",
    "/zones/{zone_id}",
    control_table=zones,
    answer=_zone_answer,
    summary="Delete a zone; vehicles inside leave it with their next position",
    tags=("zones",),
)


@app.route("GET", "/zones/{zone_id}/intersections", summary="Who is inside", tags=("zones",))
def intersections(zone_id: str, data: Data) -> dict[str, Any]:
    """Return the vehicles that are in a zone now."""
    _zone(data, zone_id)
    inside = data.scan(presence.name, where=f"zone_id = {_quoted(zone_id)}")
    auvs = sorted(row["auv_id"] for row in inside)
    return {"zone_id": zone_id, "auv_count": len(auvs), "auvs": auvs}


@app.route("GET", "/zones/{zone_id}/visits", summary="Who was inside, and when", tags=("zones",))
def zone_visits(
    zone_id: str,
    data: Data,
    from_: Annotated[datetime | None, Field(alias="from")] = None,
    to: datetime | None = None,
    limit: Limit = 1000,
) -> dict[str, Any]:
    """Return visits of a zone that overlap [from, to), newest first."""
    _zone(data, zone_id)
    return {"zone_id": zone_id, **_visits(data, "zone_id", zone_id, from_, to, limit)}


@app.route("GET", "/vehicles/{auv_id}/visits", summary="Where a vehicle was", tags=("vehicles",))
def vehicle_visits(
    auv_id: str,
    data: Data,
    from_: Annotated[datetime | None, Field(alias="from")] = None,
    to: datetime | None = None,
    limit: Limit = 1000,
) -> dict[str, Any]:
    """Return a vehicle's visits to zones that overlap [from, to), newest first."""
    return {"auv_id": auv_id, **_visits(data, "auv_id", auv_id, from_, to, limit)}


@app.route("GET", "/violations", summary="The newest violations", tags=("violations",))
async def list_violations(
    data: Data,
    limit: Limit = 100,
    severity: Severity | None = None,
    before: str | None = None,
) -> dict[str, Any]:
    """Return violations, newest first; `total` counts all that match, `next` reads on."""
    where = f"severity = {_quoted(severity)}" if severity is not None else ""
    found = await data.recent("violations", where=where, limit=limit, before=before)
    rows = [json.loads(line) for line in found.rows.write_ndjson().splitlines() if line]
    return {"violations": rows, "total": found.total, "next": found.next}


def _visits(
    data: Data, column: str, value: str, since: datetime | None, until: datetime | None, limit: int
) -> dict[str, Any]:
    where = [f"{column} = {_quoted(value)}"]
    if since is not None:
        where.append(f"last_seen >= TIMESTAMP {_quoted(_utc(since))}")
    if until is not None:
        where.append(f"entered_at < TIMESTAMP {_quoted(_utc(until))}")
    rows = data.scan(visits.name, where=" AND ".join(where))
    rows.sort(key=lambda row: str(row["entered_at"]), reverse=True)
    return {"visits": rows[:limit], "total": len(rows)}


def _zone(data: Data, zone_id: str) -> dict[str, Any]:
    zone = data.get(zones.name, zone_id)
    if zone is None:
        raise NotFoundError(f"no zone {zone_id!r}", hint="GET /zones lists them")
    return zone


def _made_id(zone: Mapping[str, Any]) -> str:
    body = json.dumps(zone, sort_keys=True, default=str).encode()
    name = "".join(c if c.isalnum() else "-" for c in str(zone.get("name", "zone")).lower())
    return f"{name.strip('-')[:40] or 'zone'}-{hashlib.sha256(body).hexdigest()[:8]}"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _utc(when: datetime) -> str:
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(sep=" ")


# -- metrics ----------------------------------------------------------------------------------

app.metric(
    "fleet_positions_total",
    "counter",
    from_=positions,
    description="Positions taken in.",
)
app.metric(
    "fleet_violations_total",
    "counter",
    labels=("severity",),
    known={"severity": SEVERITIES},
    from_=violations,
    description="Violations found.",
)
app.metric("fleet_active_vehicles", "gauge", from_=status, description="Heard of in an hour.")
app.metric(
    "fleet_zone_events_total",
    "counter",
    labels=("event",),
    known={"event": ("enter", "exit", "cross", "breach", "restore")},
    from_=zone_events,
    description="Zones entered, left, crossed, limits broken and kept again.",
)

# -- the page ---------------------------------------------------------------------------------

app.view.map(
    "fleet",
    title="Fleet",
    table=status,
    key="auv_id",
    lon="longitude",
    lat="latitude",
    time="time",
    label="auv_id",
    heading="heading_deg",
    trail="3m",
    depth="depth_m",
    zones={
        "control_table": zones,
        "key": "zone_id",
        "geometry": "geometry",
        "label": "name",
        "kind": "kind",
    },
    occupancy={"table": presence, "key": "zone_id"},
    history={
        "table": visits,
        "key": "auv_id",
        "zone": "zone_id",
        "enter": "entered_at",
        "exit": "exited_at",
        "dwell": "dwell_s",
    },
    events=violations,
)
app.view.events(
    "violations",
    title="Violations",
    topic=violations,
    time="time",
    text="message",
    severity="severity",
    columns=["auv_id", "zone_name", "reason", "depth_m"],
)
app.view.alerts()
app.view.counter("vehicles", title="Active vehicles", table=status, aggregate="size")
app.view.counter(
    "violations_rate", title="Violations", topic=violations, aggregate="count", unit="since open"
)
app.view.chart(
    "positions",
    title="Positions",
    topic=activity,
    x="window_end",
    y="positions",
    unit="per 5 s",
    span="10m",
)
app.view.chart(
    "depth",
    title="Depth of the fleet",
    topic=activity,
    x="window_end",
    y=["mean_depth_m", "p95_depth_m", "max_depth_m"],
    unit="m",
    span="10m",
)
app.view.chart(
    "surfaced",
    title="At the surface",
    topic=activity,
    x="window_end",
    y="surfaced",
    unit="vehicles",
    span="10m",
)
app.view.table(
    "zone_stats",
    title="Zones, last five minutes",
    topic=zone_stats,
    columns=[
        "zone_id",
        "window_end",
        "vehicles",
        "entries",
        "exits",
        "mean_depth_m",
        "max_depth_m",
        "longest_stay_s",
    ],
)
app.view.table(
    "visits",
    title="Visits",
    table=visits,
    columns=["auv_id", "zone_id", "entered_at", "exited_at", "dwell_s", "max_depth_m"],
    key=["auv_id", "zone_id", "entered_at"],
)
app.view.records(
    "rules",
    title="Rules",
    control_table=rules,
    columns=["rule_id", "condition", "severity", "enabled"],
)
