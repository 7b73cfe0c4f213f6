"""What models did, as an engine counted it, in the gateway's metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator

import polars as pl
import pytest

import headrace as hr
from headrace.core.log import Log, Writer
from headrace.core.time import TIME_DTYPE
from headrace.runners.embedded.engine import ENGINE_SLOT
from headrace.stream.app import App
from tests.unit.gateway.conftest import Serve


@pytest.fixture
def app() -> App:
    app = hr.App("shop")
    rows = app.topic("rows", {"time": TIME_DTYPE, "x": pl.Float64}, time="time")
    app.output("copy", rows)
    return app


@pytest.fixture
def engine(log: Log) -> Iterator[Writer]:
    writer = log.writer("engine-shop", ENGINE_SLOT)
    yield writer
    writer.close()


async def test_models_are_counted_by_name_and_version(
    app: App, serve: Serve, engine: Writer
) -> None:
    one = {"model": "fare", "version": "3", "reason": ""}
    counts = [
        {**one, "what": "rows", "count": 41},
        {**one, "what": "fallbacks", "reason": "budget", "count": 7},
        {**one, "what": "overruns", "reason": "budget", "count": 2},
    ]
    engine.publish_status(json.dumps({"role": "engine", "app": "shop", "models": counts}).encode())

    async with serve(app) as http:
        metrics = (await http.get("/metrics")).text

    about = 'model="fare"'
    assert f'headrace_model_rows_total{{{about},version="3"}} 41.0' in metrics
    for what, count in (("fallbacks", 7), ("overruns", 2)):
        labels = f'{about},reason="budget",version="3"'
        assert f"headrace_model_{what}_total{{{labels}}} {count}.0" in metrics.replace(
            'version="3",reason="budget"', 'reason="budget",version="3"'
        )
