"""The operators page: its example runs, and it names every operator, assigner and aggregate."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.registry import kinds
from headrace.operators import assigners
from headrace.operators.aggregates import AGGREGATES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operators.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def example(words: str) -> dict[str, Any]:
    """Run the page's one example that has these words, and return what it defines."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if words in block]
    names: dict[str, Any] = {"hr": hr, "pl": pl}
    exec(compile(code, "operators.md", "exec"), names)  # noqa: S102 - our own text
    return names


def test_the_example_counts_the_deep_rows_of_each_minute() -> None:
    names = example('hr.App("dives")')
    dives = pl.DataFrame(
        {
            "auv": "a",
            "time": [NOON + timedelta(seconds=seconds) for seconds in (0, 30, 59, 120, 130)],
            "depth_m": [100.0, 250.0, 350.0, 450.0, -1.0],
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )

    outputs = testing.run(names["app"], {"dives": dives})

    assert outputs["deep"]["depth_m"].to_list() == [250.0, 350.0, 450.0]
    columns = ("readings", "deep", "spread_m")
    assert outputs["per_minute"].select(columns).rows() == [(3, 2, 250.0), (1, 1, 0.0)]
    assert outputs["per_minute"]["p95_m"].to_list() == pytest.approx([250.0, 450.0], rel=0.01)
    assert outputs["impossible"]["depth_m"].to_list() == [-1.0]
    assert outputs["quality"].select("rows", "failed").rows() == [(3, 0), (2, 1)]
    assert outputs["every_minute"].select("readings", "is_filled").rows() == [
        (3, False),
        (3, True),
        (1, False),
    ]
    assert outputs["so_far_today"]["deepest_m"].to_list() == [450.0] * 12
    assert outputs["latest"]["depth_m"].to_list() == [450.0]


def test_the_example_finds_what_was_paid_in_time() -> None:
    app = example('hr.App("shop")')["app"]
    utc = pl.Datetime("us", "UTC")
    hour = timedelta(hours=1)
    orders = {"order": [1, 2, 3], "time": [NOON] * 3, "euro": [10.0, 20.0, 30.0]}
    late = [NOON + hour, NOON + hour, NOON + hour + timedelta(microseconds=1)]
    payments = {"order": [1, 2, 3], "time": late, "paid": [10.0, 19.0, 30.0]}
    rates = {"time": [NOON - hour, NOON + hour], "dollar": [1.1, 1.2]}
    given = {"orders": orders, "payments": payments, "rates": rates}
    frames = {name: pl.DataFrame(rows) for name, rows in given.items()}

    outputs = testing.run(app, {name: rows.cast({"time": utc}) for name, rows in frames.items()})

    found = outputs["paid"].select("order", "paid").sort("order").rows()
    assert found == [(1, 10.0), (2, None), (3, None)]
    assert outputs["in_dollars"]["dollar"].to_list() == [1.1] * 3


def test_the_example_prices_what_is_not_blocked_as_of_its_time() -> None:
    app = example('hr.App("sales")')["app"]
    utc = pl.Datetime("us", "UTC")
    times = [NOON + timedelta(minutes=minute) for minute in (0, 10, 20, 30)]
    sold = {"sku": ["a", "a", "b", "a"], "time": times, "pieces": [1, 2, 3, 4]}
    offers = {"sku": ["a", "a"], "time": [times[1], times[3]], "euro": [1.0, 2.0]}
    inputs = {"sold": pl.DataFrame(sold), "offers": pl.DataFrame(offers)}

    frames = {name: rows.cast({"time": utc}) for name, rows in inputs.items()}
    outputs = testing.run(app, {**frames, "blocked": pl.DataFrame({"sku": ["b"]})})

    assert outputs["priced"]["total"].to_list() == [None, 2.0, 8.0]


def test_every_operator_assigner_and_aggregate_is_described() -> None:
    assert [kind for kind in kinds("headrace.operators") if f"`{kind}`" not in PAGE] == []
    makers = [one.kind for one in vars(assigners).values() if hasattr(one, "kind")]
    named = [kind for kind in makers if isinstance(kind, str)]
    assert len(named) >= 5
    assert [kind for kind in named if f"| `hr.{kind}(" not in PAGE] == []
    spoken = set(AGGREGATES) - {"expression"}
    assert sorted(kind for kind in spoken if f"`hr.{kind}" not in PAGE) == []
