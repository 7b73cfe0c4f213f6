"""The fleet application: positions in, zone events, violations and visits out."""

from __future__ import annotations

import os
from typing import Final

import polars as pl

import headrace as hr
from headrace.apps.fleet.model import FORBIDDEN_KINDS, Position, RuleChange, Zone

SIGNED_WITH: Final = "FLEET_WEBHOOK_SECRET"
"""Name of the secret with which alerts are signed, where FLEET_WEBHOOK says where to send them."""

SEVERITIES: Final = ("info", "warning", "high", "critical")

app = hr.App("fleet", title="Fleet compliance", version="1.0.0")

positions = app.topic(
    "positions",
    Position,
    time="time",
    key="auv_id",
    delay="5s",
    idle_after="10s",
    max_ahead="5m",
    aliases={"depth": "depth_m", "timestamp": "time"},
    retention="7d",
    archive=True,
    description="Where vehicles were, as they sent it.",
)
zones = app.control_table(
    "zones", Zone, key="zone_id", description="Stretches of water with rules."
)
rules = app.control_table(
    "rules",
    hr.Rule,
    key="rule_id",
    feed=app.topic(
        "compliance_rules",
        RuleChange,
        time="time",
        key="rule_id",
        aliases={"for": "for_"},
        description="Rules that other systems set or, where `gone`, take back.",
    ),
    delete=pl.col("gone"),
    description="What people demand of vehicles beside the zones.",
)

# A vehicle is judged at once: an alert must not wait for stragglers. Rows older than what a
# vehicle has already shown cannot change its visits any more; they are analysed as late.
fence = positions.geofence(
    zones,
    by="auv_id",
    depth="depth_m",
    detect=("enter", "exit", "cross", "inside"),
    order="arrival",
    attributes=("name", "kind", "severity"),
    name="fence",
)
_event = pl.col("event")
_is_change = _event.is_in(["enter", "exit", "cross", "breach", "restore"])

zone_events = app.output(
    "zone_events",
    fence.filter(_is_change)
    .drop("heading_deg", "speed_ms")
    .with_columns(name=pl.coalesce(pl.col("name").replace("", None), pl.col("zone_id"))),
    key="auv_id",
    retention="30d",
    description="A vehicle entered, left or crossed a zone, or broke its limits.",
)

# -- every position goes to exactly one of violations and analytics ---------------------------

_fence_event = pl.element().struct.field("event")
_breaks_rules = (_fence_event == "breach") | (
    _fence_event.is_in(["enter", "cross"])
    & pl.element().struct.field("kind").is_in(FORBIDDEN_KINDS)
)
_rank = (
    pl.element()
    .struct.field("severity")
    .replace_strict(
        {severity: rank for rank, severity in enumerate(SEVERITIES)},
        default=0,
        return_dtype=pl.Int8,
    )
)
_place = ("auv_id", "time", "latitude", "longitude", "depth_m")

judged = fence.positions.with_columns(
    broken=pl.col("fences").list.eval(
        pl.element()
        .filter(_breaks_rules)
        .sort_by(_rank.filter(_breaks_rules), descending=True, maintain_order=True)
    )
)
breaking, compliant = judged.split(pl.col("broken").list.len() > 0)

_worst = pl.col("broken").list.first().struct
_zone_name = pl.coalesce(_worst.field("name").replace("", None), _worst.field("zone_id"))
_what = (
    pl.when(_worst.field("event") == "breach")
    .then(
        pl.when(_worst.field("reason") == "hours")
        .then(pl.lit("is outside the active hours of"))
        .otherwise(pl.lit("left the permitted depths of"))
    )
    .when(_worst.field("event") == "cross")
    .then(pl.lit("crossed"))
    .otherwise(pl.lit("entered"))
)

violations = app.output(
    "violations",
    breaking.select(
        *_place,
        violation_id=pl.format(
            "{}/{}/{}",
            pl.col("auv_id"),
            pl.col("time").dt.timestamp("us"),
            _worst.field("zone_id"),
        ),
        zone_id=_worst.field("zone_id"),
        zone_name=_zone_name,
        kind=_worst.field("kind"),
        severity=_worst.field("severity"),
        reason=pl.when(_worst.field("event") == "breach")
        .then(_worst.field("reason"))
        .otherwise(_worst.field("event")),
        message=pl.format("{} {} {}", pl.col("auv_id"), _what, _zone_name),
        zone_ids=pl.col("broken").list.eval(pl.element().struct.field("zone_id")),
    ),
    key="auv_id",
    retention="90d",
    archive=True,
    description="Positions with which a rule began to be broken; the worst rule is named.",
)

# -- rules that people write while it runs ------------------------------------------------------

broken = (
    fence.positions.select(*_place, "speed_ms", "heading_deg", "fences")
    .rules(rules, by="auv_id", zones="fences", name="rules")
    .drop("fences")
)
broken_rules = app.output(
    "broken_rules",
    broken,
    key="auv_id",
    retention="90d",
    archive=True,
    description="Positions for which a rule holds, with the rule and its version.",
)
# Where to is a matter of the place the application runs in, not of its code.
_webhook = os.environ.get("FLEET_WEBHOOK")
_hooks = [hr.channel.webhook(_webhook, secret=SIGNED_WITH)] if _webhook else []
broken.alerts(
    channels=[hr.channel.websocket("/ws/alerts", name="page"), *_hooks],
    keep=("latitude", "longitude"),
    name="alerts",
)

analytics = app.output(
    "analytics",
    compliant.select(
        *_place,
        zone_ids=pl.col("fences").list.eval(
            pl.element().filter(_fence_event == "inside").struct.field("zone_id")
        ),
        is_late=pl.lit(value=False),
    ).union(
        fence.late.select(
            *_place,
            zone_ids=pl.lit([], pl.List(pl.String)),
            is_late=pl.lit(value=True),
        )
    ),
    key="auv_id",
    retention="7d",
    description="All other positions, with the zones they lie in.",
)

# -- what a page and a query want to know -------------------------------------------------------

status = app.table(
    "status",
    positions,
    key="auv_id",
    ttl="1h",
    description="Each vehicle's newest position; gone after an hour of silence.",
)

presence = app.table(
    "presence",
    fence.filter(_event.is_in(["enter", "exit", "inside"])).select(
        "zone_id", "auv_id", "entered_at", "dwell_s", "time", "depth_m", left=_event == "exit"
    ),
    key=("zone_id", "auv_id"),
    delete=pl.col("left"),
    ttl="24h",
    description="Who is in which zone now, and since when.",
)

visits = app.table(
    "visits",
    fence.filter(_event.is_in(["enter", "exit", "inside"]))
    .window(
        hr.forever(forget="25h"),
        by=["auv_id", "zone_id", "entered_at"],
        emit="update",
        name="visits",
    )
    .agg(
        zone_name=hr.last("name"),
        kind=hr.last("kind"),
        last_seen=hr.max("time"),
        exited_at=hr.max("time", where=_event == "exit"),
        dwell_s=hr.max("dwell_s"),
        min_depth_m=hr.min("depth_m", where=_event == "inside"),
        mean_depth_m=hr.mean("depth_m", where=_event == "inside"),
        max_depth_m=hr.max("depth_m", where=_event == "inside"),
        positions=hr.count(where=_event == "inside"),
    )
    .drop("window_start", "window_end", "is_final"),
    key=("auv_id", "zone_id", "entered_at"),
    ttl="30d",
    description="Who was in which zone, when, how deep and how long.",
)

zone_stats = app.output(
    "zone_stats",
    fence.window(hr.sliding("5m", every="1m"), by="zone_id", name="zone_stats").agg(
        vehicles=hr.n_unique("auv_id", where=_event == "inside"),
        positions=hr.count(where=_event == "inside"),
        entries=hr.count(where=_event == "enter"),
        exits=hr.count(where=_event == "exit"),
        mean_depth_m=hr.mean("depth_m", where=_event == "inside"),
        max_depth_m=hr.max("depth_m", where=_event == "inside"),
        longest_stay_s=hr.max("dwell_s", where=_event == "inside"),
    ),
    retention="30d",
    description="Per zone, the last five minutes, every minute.",
)

activity = app.output(
    "activity",
    positions.window(hr.tumbling("5s"), name="activity").agg(
        positions=hr.count(),
        vehicles=hr.n_unique("auv_id"),
        mean_depth_m=hr.mean("depth_m"),
        max_depth_m=hr.max("depth_m"),
        p95_depth_m=hr.quantile("depth_m", 0.95),
        surfaced=hr.count(where=pl.col("depth_m") < 1),
    ),
    retention="30d",
    description="The whole fleet, every five seconds.",
)

# What users of the application call and see; declared in a file of its own.
from headrace.apps.fleet import surface  # noqa: E402, F401 - it declares on `app`
