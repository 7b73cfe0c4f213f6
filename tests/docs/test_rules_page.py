"""The rules page: its example runs with its own rule, and it names every word of a rule."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

import headrace as hr
from headrace import testing

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def block(language: str, number: int = 0) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(blocks[number])


def telemetry(*given: tuple[str, float, str]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "vehicle": vehicle,
                "time": NOON + timedelta(seconds=number),
                "depth_m": 250.0,
                "battery": battery,
                "mode": mode,
            }
            for number, (vehicle, battery, mode) in enumerate(given)
        ],
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )


def run(rules: list[dict[str, Any]], rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    names: dict[str, Any] = {}
    exec(compile(block("python"), "rules.md", "exec"), names)  # noqa: S102 - our own text
    return testing.run(names["app"], {"rules": hr.Rule.frame(rules), "telemetry": rows})


def test_the_example_tells_of_empty_batteries() -> None:
    rows = telemetry(
        ("auv-1", 35.0, "survey"),
        ("auv-2", 15.0, "survey"),
        ("auv-3", 15.0, "survey"),
        ("auv-1", 25.0, "survey"),
        ("auv-1", 25.0, "charging"),
    )

    outputs = run([json.loads(block("json"))], rows)

    assert outputs["violations"].select("message", "severity").rows() == [
        ("auv-1: 35 % left", "info"),
        ("auv-2: 15 % left", "critical"),
        ("auv-1: 25 % left", "high"),
    ]
    assert outputs["cleared"].select("key", "is_back").rows() == [("auv-1", True)]


def test_the_structured_example_is_a_rule() -> None:
    rule = {"rule_id": "listed", "conditions": json.loads(block("json", 1))}
    rows = telemetry(("auv-1", 35.0, "idle"), ("auv-1", 20.0, "idle"), ("auv-2", 90.0, "survey"))

    outputs = run([rule], rows)

    assert outputs["violations"].select("key", "battery").rows() == [
        ("auv-1", 20.0),
        ("auv-2", 90.0),
    ]


def test_every_word_of_a_rule_is_described() -> None:
    for word, field in hr.Rule.model_fields.items():
        assert f"`{field.alias or word}`" in PAGE, word
