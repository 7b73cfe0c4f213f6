"""The alerts page: its example runs, and it names every column and option."""

import inspect
import re
from pathlib import Path
from typing import Any

import polars as pl

import headrace as hr
from headrace.core.time import TIME_DTYPE
from headrace.operators.alerting.silence import Silence
from headrace.operators.alerting.transitions import TRANSITION

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "alerts.md").read_text()


def example() -> Any:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "alerts.md", "exec"), names)  # noqa: S102 - our own text
    return names["app"]


def dives(*rows: tuple[int, str, float]) -> pl.DataFrame:
    """Rows of (second, vehicle, depth)."""
    frame = pl.DataFrame(rows, schema=["time", "auv", "depth_m"], orient="row")
    seconds = (pl.col("time") * 1_000_000).cast(TIME_DTYPE)
    return frame.with_columns(seconds, site=pl.lit("north"))


def test_the_example_makes_alerts_and_notifications() -> None:
    rules = hr.Rule.frame(
        [
            {"rule_id": "deep", "condition": "depth_m > 200", "severity": "critical", "for": "5s"},
            {"rule_id": "wet", "condition": "depth_m > 1", "severity": "warning"},
        ]
    )
    rows = dives((1, "a", 250.0), (4, "a", 260.0), (9, "a", 255.0), (10, "a", 0.0))

    outputs = hr.testing.run(example(), {"rules": rules, "dives": rows}, batch_rows=1)

    moves = outputs["alert_transitions"].filter(pl.col("rule_id") == "deep")
    assert moves.select("state", "transition").rows() == [
        ("pending", 1),
        ("firing", 2),
        ("resolved", 3),
    ]
    assert [moment.timestamp() for moment in moves["timestamp"]] == [1, 6, 10]
    assert moves["site"].unique().to_list() == ["north"]
    told = outputs["notifications"].select("notification_id", "channel").rows()
    # It is night in Lisbon.
    assert told == [
        ("deep/a/2", "webhook"),
        ("deep/a/3", "webhook"),
        ("batch/webhook/north/1970-01-01T00:05:00Z", "webhook"),
    ]
    assert outputs["alerts"].sort("rule_id")["state"].to_list() == ["resolved", "resolved"]


def test_every_column_and_option_is_described() -> None:
    options = set(inspect.signature(hr.Stream.alerts).parameters)
    named = {"routes", "escalate_to", "group", "keep", "batch", "order", "forget"}

    assert named <= options
    assert [name for name in named if f"`{name}" not in PAGE] == []
    assert [name for name in TRANSITION if f"`{name}`" not in PAGE] == []
    plain = {"silence_id", "rule", "key", "severity", "labels", "zone", "by", "note"}
    assert [name for name in set(Silence.model_fields) - plain if f"`{name}`" not in PAGE] == []
