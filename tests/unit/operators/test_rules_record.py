"""What a rule's record takes and refuses before any schema is known."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

import headrace as hr
from headrace.core.schema import RowSchema

DEEP: dict[str, Any] = {"rule_id": "deep", "condition": "depth_m > 200"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"condition": None}, "either condition or conditions"),
        ({"conditions": []}, "either condition or conditions"),
        ({"severity": "awful"}, "severity"),
        ({"severity": []}, "1 to 16 bands"),
        ({"severity": [{"when": "x > 1", "severity": "bad"}]}, "severity"),
        ({"for": "soon"}, "is not a duration"),
        ({"cooldown": "-5m"}, "less than no time"),
        ({"hysteresis": -1.0}, "hysteresis"),
        ({"rule_id": ""}, "rule_id"),
        ({"cooldwn": "5m"}, "cooldwn"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(words: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        hr.Rule.model_validate(DEEP | words)


def test_a_rule_is_read_back_as_it_was_written() -> None:
    rule = DEEP | {"for": "5m", "scope": {"vehicle_id": ["a", "b"]}, "labels": {"team": 1}}

    stored = hr.Rule.frame([rule])
    good, rejected = RowSchema.of(hr.Rule).validate(stored, key="rule_id")

    assert rejected.is_empty()
    assert good.equals(stored)
    assert stored["for_"].to_list() == ["5m"]
    assert stored["scope"].to_list() == ['{"vehicle_id": ["a", "b"]}']


def test_the_version_of_the_table_is_no_word_of_a_rule() -> None:
    rule = hr.Rule.model_validate(DEEP | {"version": 7})

    assert hr.Rule.frame([rule]).schema.get("version") is None
    assert hr.Rule.frame([rule]).schema["enabled"] == pl.Boolean()
