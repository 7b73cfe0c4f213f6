"""The geofence page: its example runs, and it names every event and zone column."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from headrace import testing
from headrace.operators.geo.visits import EVENTS
from headrace.operators.geofence import Geofence

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "geofence.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_example_reports_a_visit_of_two_minutes() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "geofence.md", "exec"), names)  # noqa: S102 - our own text
    ring = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    zones = pl.DataFrame(
        {
            "zone_id": ["quay"],
            "geometry": [json.dumps({"type": "Polygon", "coordinates": [ring]})],
            "kind": ["berth"],
        }
    )
    minutes = [0, 1, 2, 3]
    positions = pl.DataFrame(
        {
            "vessel": "v",
            "time": [NOON + timedelta(minutes=minute) for minute in minutes],
            "longitude": [0.5, 0.5, 0.5, 2.0],
            "latitude": 0.5,
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )

    events = testing.run(names["app"], {"zones": zones, "positions": positions})["zone_events"]
    assert events.select("zone_id", "event", "dwell_s", "kind").rows() == [
        ("quay", "enter", 60.0, "berth"),
        ("quay", "exit", 180.0, "berth"),
    ]


def test_every_event_and_parameter_is_described() -> None:
    assert [event for event in EVENTS if f"| `{event}` |" not in PAGE] == []
    known = {"by", "lon", "lat", "zones", "name", "depth", "detect", "attributes"}
    parameters = set(Geofence.model_fields) - known
    assert [name for name in sorted(parameters) if f"`{name}" not in PAGE] == []
