"""The page on learning: its example runs and its model learns from what comes later."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from headrace import testing

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "learning.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
UTC_TIME = {"time": pl.Datetime("us", "UTC")}


def example() -> dict[str, Any]:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "learning.md", "exec"), names)  # noqa: S102 - our own text
    return names


def test_the_example_learns_from_clicks_that_come_later() -> None:
    ads = range(60)
    liked = [ad % 3 == 0 for ad in ads]
    shown = pl.DataFrame(
        {
            "ad": [f"ad{ad}" for ad in ads],
            "time": [NOON + timedelta(minutes=ad) for ad in ads],
            "rank": 1,
            "affinity": [float(like) for like in liked],
        },
        schema_overrides=UTC_TIME,
    )
    clicks = shown.select(
        "ad", pl.col("time") + pl.duration(minutes=2), click=pl.col("affinity") > 0
    )
    stray = pl.DataFrame({"ad": "ad99", "time": NOON, "click": True}, schema_overrides=UTC_TIME)

    outputs = testing.run(example()["app"], {"shown": shown, "clicks": pl.concat([stray, clicks])})

    last = outputs["expected"].tail(6)
    assert (last["prediction"] == (last["affinity"] > 0)).all()
    assert outputs["expected"]["probability"].head(3).to_list() == [0.5, 0.5, 0.5]
    assert outputs["quality"]["rows"].sum() == 60
    assert outputs["never_shown"]["ad"].to_list() == ["ad99"]
