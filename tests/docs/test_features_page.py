"""The page on features: its example reads online what it reads over history."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from headrace import testing

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "features.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def example() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        exec(compile(code, "features.md", "exec"), names)  # noqa: S102 - our own text
    return names


def test_the_example_reads_what_was_known_before_each_payment() -> None:
    names = example()
    minutes = (0, 10, 30, 90, 24 * 60)
    paid = pl.DataFrame(
        {
            "card": ["a", "a", "b", "a", "b"],
            "shop": "s",
            "time": [NOON + timedelta(minutes=minute) for minute in minutes],
            "euro": [5.0, 15.0, 1.0, 2.0, 3.0],
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )

    outputs = testing.run(names["app"], {"paid": paid})

    known = outputs["known"]
    assert known["times_1h"].to_list() == [0, 1, 0, 0, 0]
    assert known["mean_euro_1h"].to_list() == [None, 5.0, None, None, None]
    assert known["cards"].to_list() == [None, None, None, None, 2]
    assert_frame_equal(known, names["training_set"](paid, paid))
    assert dict(outputs["spent"].select("card", "times_1h").rows()) == {"a": 1, "b": 1}


def test_the_example_goes_on_without_a_source_that_is_not_there() -> None:
    visits = pl.DataFrame(
        {"user": "nobody", "city": ["Oslo", "Rome"], "time": NOON},
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )

    known = testing.run(example()["visitors"], {"visits": visits})["known"]

    assert known["people"].to_list() == [724_000, None]
    assert known["city_from"].to_list() == ["source", "missing"]
    assert known["visits"].to_list() == [0, 0]
    assert "source" not in known["features_from"].to_list()
