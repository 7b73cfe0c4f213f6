"""The patterns page: its example runs, and it names every verb and function."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import polars as pl

from headrace import testing
from headrace.operators.patterns.matched import Function
from headrace.operators.patterns.pattern import Verb

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "patterns.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_example_finds_a_password_that_was_guessed() -> None:
    code = "".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    names: dict[str, Any] = {}
    exec(compile(code, "patterns.md", "exec"), names)  # noqa: S102 - our own text
    kinds = ["login_failed"] * 3 + ["login_ok"] + ["login_failed"] * 3 + ["reset", "login_ok"]
    logins = pl.DataFrame(
        {
            "user": "ann",
            "time": [NOON + timedelta(seconds=second) for second in range(len(kinds))],
            "kind": kinds,
            "event_id": range(len(kinds)),
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )

    outputs = testing.run(names["app"], {"logins": logins})

    end = NOON + timedelta(seconds=3)
    assert outputs["guessed"].rows() == [("ann", NOON, end, 3, [0, 1, 2, 3], end)]
    assert outputs["failures"].select("user", "tries", "since").rows() == [("ann", 3, NOON)]


def test_every_verb_and_function_is_described() -> None:
    words = {*get_args(Verb), *get_args(Function)} - {"begin"}

    assert sorted(word for word in words if f"`{word}" not in PAGE) == []
    assert "`hr.Pattern.begin(" in PAGE
