"""The application of the `alerts` bench: readings, rules, alerts, a webhook."""

from __future__ import annotations

import polars as pl

import headrace as hr
from headrace.core.time import TIME_DTYPE

BATCH_S = 2

app = hr.App("bench-alerts")
_readings = app.topic(
    "readings",
    schema={"sensor": pl.String, "time": TIME_DTYPE, "level": pl.String, "depth_m": pl.Float64},
    time="time",
)
_rules = app.control_table("rules", hr.Rule, key="rule_id")
_hook = hr.channel.webhook("${BENCH_HOOK}", allow_private=True)
_readings.rules(_rules, by="sensor").alerts([_hook], batch=f"{BATCH_S}s")
