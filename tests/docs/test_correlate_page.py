"""The page on correlated events: its example runs, and it names every score."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from headrace import testing
from headrace.operators.correlate import SCORES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "correlate.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_example_links_events_of_one_service_and_learns_of_others() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "correlate.md", "exec"), names)  # noqa: S102 - our own text
    rows = []
    for number in range(60):
        start = NOON + timedelta(hours=number)
        other = "billing" if number else "search"
        rows += [(f"b{number}", "search", start, "benchmark_completed")]
        rows += [(f"a{number}", other, start + timedelta(seconds=30), "anomaly_detected")]
        rows += [(f"c{number}", "crawler", start + timedelta(minutes=30), "competitive_update")]
    utc = pl.Datetime("us", "UTC")
    columns = ["event_id", "service", "time", "kind"]
    events = pl.DataFrame(rows, schema=columns, orient="row").cast({"time": utc})

    outputs = testing.run(names["app"], {"events": events})

    linked = outputs["linked"].select("service", "id", pl.col("members").list.first()).row(0)
    assert linked[:2] == ("search", "a0")
    assert linked[2]["id"] == "b0"
    assert outputs["linked"].height == 1
    learnt = outputs["surprising"]
    assert learnt.height == 60 - 19
    assert learnt["lift"].is_between(2.9, 3.0).all()


def test_every_score_is_explained() -> None:
    assert [score for score in SCORES if f"| `{score}` |" not in PAGE] == []
