"""The page on proximity: its example runs."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from headrace import testing

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "proximity.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_example_tells_who_meets_and_who_parts() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "proximity.md", "exec"), names)  # noqa: S102 - our own text
    given = [
        ("a", "north", 0.0),
        ("b", "south", 0.001),
        ("c", "north", 0.0011),
        ("b", "south", 1.0),
    ]
    positions = pl.DataFrame(
        {
            "ship": [ship for ship, _, _ in given],
            "convoy": [convoy for _, convoy, _ in given],
            "time": [NOON + timedelta(seconds=second) for second in range(4)],
            "longitude": [longitude for _, _, longitude in given],
            "latitude": 0.0,
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )

    outputs = testing.run(names["app"], {"positions": positions})

    assert outputs["meetings"].select("ship", "ship_other", "event").rows() == [
        ("b", "a", "near"),
        ("c", "a", "near"),
        ("c", "b", "near"),
        ("b", "a", "far"),
        ("b", "c", "far"),
    ]
    assert outputs["convoys"].select("ship", "ship_other", "event").rows() == [("c", "a", "near")]
    assert outputs["meetings"]["metres"][1] < 123
