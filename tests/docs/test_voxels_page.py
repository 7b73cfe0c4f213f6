"""The page on voxels: its example runs."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from headrace import testing

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "voxels.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_example_keeps_a_grid_with_its_views() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "voxels.md", "exec"), names)  # noqa: S102 - our own text
    given = [(10.2, 0.1, 1600.0), (10.9, 0.9, 1700.0), (10.9, 1.1, 1800.0), (-1.0, 0.0, 20.0)]
    points = pl.DataFrame(
        {
            "build": "b1",
            "time": [NOON + timedelta(seconds=second) for second in range(4)],
            "x": [x for x, _, _ in given],
            "y": 20.0,
            "z": [z for _, z, _ in given],
            "kelvin": [value for _, _, value in given],
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )

    outputs = testing.run(names["app"], {"points": points})

    shown = outputs["voxels"].select("ix", "iy", "iz", "value", "count").sort("iz").rows()
    assert shown == [(10, 20, 0, 1650.0, 2), (10, 20, 1, 1800.0, 1)]
    assert outputs["overview"].select("ix", "iy", "iz", "count").rows() == [(1, 2, 0, 3)]
    assert outputs["floor"]["iz"].unique().to_list() == [0]
    corners = outputs["regions"].select("min_index", "max_index").rows()
    assert (min(low for low, _ in corners), max(high for _, high in corners)) == (
        [10, 20, 0],
        [10, 20, 1],
    )
    assert outputs["outside"]["reason"].to_list() == ["outside"]
    assert outputs["outside_counts"]["points"].to_list() == [1]
