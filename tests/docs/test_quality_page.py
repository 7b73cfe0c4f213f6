"""The page on quality: its example parts good from bad, and it names every gate."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from headrace import testing
from headrace.stream import quality

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "quality.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_example_parts_good_readings_from_bad() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "quality.md", "exec"), names)  # noqa: S102 - our own text
    readings = pl.DataFrame(
        {
            "pump": "a",
            "time": [NOON + timedelta(seconds=at) for at in (0, 10, 20, 30, 70, 1200)],
            "id": [1, 2, 2, 4, 5, 6],
            "bar": [1.0, 2.0, 2.0, 99.0, 3.0, 30.0],
            "mode": ["on", "on", "on", "on", None, "off"],
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )

    outputs = testing.run(names["app"], {"readings": readings})

    assert outputs["good"]["id"].to_list() == [1, 2, 5, 6]
    assert sorted(outputs["bad"]["id"].to_list()) == [2, 4]
    assert outputs["incomplete"].select("rows", "missing").rows() == [(1, 1.0), (1, 0.0)]
    since = outputs["silent"]["since"]
    assert since.to_list()[0] == NOON + timedelta(seconds=70, minutes=5)
    failed = outputs["quality"].group_by("check").agg(pl.col("failed").sum()).rows()
    assert dict(failed) == {"bar": 1, "once": 1, "complete": 2}
    drift = outputs["drift"].filter(feature="bar")
    assert drift["is_reference"].to_list() == [True, False]
    assert drift["ks"].to_list() == [None, 1.0]


def test_every_gate_is_described() -> None:
    spoken = set(quality.__all__) - {"Gate"}

    assert sorted(one for one in spoken if f"`hr.quality.{one}(" not in PAGE) == []
