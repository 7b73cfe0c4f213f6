"""The control charts page: its example runs, and it names every chart, rule and parameter."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from headrace import testing
from headrace.operators.charts import CHARTS
from headrace.operators.charts.chart import Chart
from headrace.operators.charts.rules import RULES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "control-charts.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_example_raises_an_alarm_when_the_rings_grow() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "control-charts.md", "exec"), names)  # noqa: S102 - our own text
    rings = pl.DataFrame(
        {
            "press": "a",
            "time": [NOON + timedelta(seconds=n) for n in range(135)],
            "mm": [74 + 0.01 * (n * 7 % 5 - 2) for n in range(130)] + [74.1] * 5,
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )

    outputs = testing.run(names["app"], {"rings": rings})

    assert outputs["averages"]["phase"].to_list() == [1] * 25 + [2] * 2
    (alarm,) = outputs["alarms"].filter(pl.col("violations").list.contains("we1")).to_dicts()
    assert (alarm["number"], alarm["n"], alarm["sample_end"]) == (27, 5, rings["time"][-1])
    assert outputs["ranges"].height == 27


def test_every_chart_rule_and_parameter_is_described() -> None:
    assert [kind for kind in CHARTS if f"| `hr.chart.{kind}` |" not in PAGE] == []
    assert [name for name in RULES if f"`{name}`" not in PAGE] == []
    known = {name for kind in CHARTS.values() for name in kind.model_fields} - {"center"}
    assert [name for name in known if f"`{name}" not in PAGE] == []
    assert set(Chart.model_fields) - {"center"} <= known
