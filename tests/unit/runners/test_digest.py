from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from headrace.runners.embedded import digest
from headrace.runners.embedded.digest import frame_digest

FRAME = pl.DataFrame(
    {
        "text": ["a", None, "bc", ""],
        "number": [1, None, 3, 4],
        "value": [0.5, float("nan"), -0.0, None],
        "flag": [True, None, False, True],
        "time": [datetime(2026, 1, 1, tzinfo=UTC)] * 4,
        "many": [["x", None], [], None, ["y"]],
        "pair": [{"a": 1, "b": "p"}, {"a": None, "b": None}, {"a": 2, "b": ""}, None],
        "raw": [b"1", None, b"", b"23"],
        "nothing": [None] * 4,
    }
)


def test_chunks_do_not_matter() -> None:
    cut = pl.concat([FRAME.head(1), FRAME.slice(1)], rechunk=False)

    assert frame_digest([FRAME]) == frame_digest([cut])
    assert frame_digest([FRAME]) == frame_digest([FRAME.head(1), FRAME.slice(1)])


def test_short_and_long_columns_are_digested_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    short = frame_digest([FRAME])
    monkeypatch.setattr(digest, "SMALL", 0)

    assert frame_digest([FRAME]) == short


@pytest.mark.parametrize("column", FRAME.columns)
def test_every_column_counts(column: str) -> None:
    changed = FRAME.with_columns(pl.col(column).shift(1))
    if column in {"nothing", "time"}:
        changed = FRAME.rename({column: "other"})

    assert frame_digest([changed]) != frame_digest([FRAME])


def test_order_and_borders_between_texts_count() -> None:
    one, two = pl.DataFrame({"t": ["ab", "c"]}), pl.DataFrame({"t": ["a", "bc"]})

    assert frame_digest([one]) != frame_digest([two])
    assert frame_digest([one]) != frame_digest([one.reverse()])
    assert frame_digest([pl.DataFrame({"t": ["", None]})]) != frame_digest(
        [pl.DataFrame({"t": [None, ""]})]
    )
