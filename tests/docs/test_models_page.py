"""The models page: its example runs, and it names every model and every reason for a fallback."""

import re
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest

from headrace import testing
from headrace.models.description import KINDS
from headrace.models.scorer import Reason
from headrace.operators.predict_task import MISSING

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text()
HOUR = 3_600_000_000


def test_the_example_prices_rides_and_says_how_far_off_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "models.md", "exec"), names)  # noqa: S102 - our own text
    utc = pl.Datetime("us", "UTC")
    rides = pl.DataFrame({"ride": [1, 2], "time": [0, 1], "km": [1.0, 9.0], "hour": [9, 22]})
    paid = pl.DataFrame({"ride": [2, 1], "time": [HOUR // 2, 2 * HOUR], "euro": [23.0, 5.0]})

    outputs = testing.run(
        names["app"], {"rides": rides.cast({"time": utc}), "paid": paid.cast({"time": utc})}
    )

    told = outputs["fares"]["prediction"].to_list()
    expected = names["trained"].predict(rides.select("km", "hour").to_numpy())
    assert told == pytest.approx(expected.tolist())
    assert outputs["fares"]["fallback"].null_count() == 2
    assert outputs["fare_errors"].select("model_name", "rows").rows() == [("fare", 1), ("fare", 1)]
    assert outputs["fare_errors"]["mae"].to_list() == pytest.approx([23.0 - told[1], told[0] - 5.0])


def test_every_model_and_reason_is_described() -> None:
    assert [
        kind for kind in KINDS if f"`{kind}" not in PAGE and f"hr.model.{kind}" not in PAGE
    ] == []
    assert [reason for reason in (*get_args(Reason), MISSING) if f"`{reason}`" not in PAGE] == []
