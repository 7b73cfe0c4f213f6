"""The applications the benches run; `headrace run headrace.bench.apps:push` starts one by hand."""

from __future__ import annotations

import polars as pl

import headrace as hr
from headrace.bench.events import THRESHOLD
from headrace.core.time import TIME_DTYPE


def _window() -> hr.App:
    app = hr.App("bench-window")
    events = app.topic(
        "events",
        schema={"key": pl.String, "time": TIME_DTYPE, "value": pl.Float64},
        time="time",
        time_unit="us",
        delay="2s",
    )
    windows = (
        events.filter(pl.col("value") >= THRESHOLD)
        .window(hr.tumbling("10s"), by="key")
        .agg(count=hr.count(), mean=hr.mean("value"), max=hr.max("value"))
    )
    app.output("windows", windows)
    return app


def _ingest() -> hr.App:
    app = hr.App("bench-ingest")
    events = app.topic(
        "events",
        schema={"key": pl.String, "time": TIME_DTYPE, "value": pl.Float64},
        time="time",
        time_unit="us",
    )
    app.output("high", events.filter(pl.col("value") >= 99.0))  # noqa: PLR2004 - a plan needs an output
    return app


def _e2e() -> hr.App:
    app = hr.App("bench-e2e")
    events = app.topic(
        "events",
        schema={
            "key": pl.String,
            "time": TIME_DTYPE,
            "request": pl.Int64,
            "value": pl.Float64,
        },
        time="time",
        time_unit="us",
        delay="10s",
    )
    windows = (
        events.filter(pl.col("value") >= 0)
        .window(hr.tumbling("10s"), by="key", emit="update")
        .agg(count=hr.count(), mean=hr.mean("value"), request=hr.max("request"))
    )
    app.output("windows", windows)
    return app


def _push() -> hr.App:
    app = hr.App("bench-push")
    updates = app.topic(
        "updates",
        schema={"id": pl.String, "time": TIME_DTYPE, "value": pl.Float64},
        time="time",
        time_unit="us",
    )
    app.output("seen", updates.filter(pl.col("value") < 0))
    return app


def _recover() -> hr.App:
    app = hr.App("bench-recover")
    events = app.topic(
        "events",
        schema={"key": pl.String, "time": TIME_DTYPE, "value": pl.Float64},
        time="time",
        time_unit="us",
        delay="1h",
    )
    totals = events.window(hr.tumbling("1d"), by="key", emit="update").agg(
        count=hr.count(), total=hr.sum("value")
    )
    app.output("totals", totals)
    return app


window = _window()
ingest = _ingest()
e2e = _e2e()
push = _push()
recover = _recover()
