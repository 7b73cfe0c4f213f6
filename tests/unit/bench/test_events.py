from pathlib import Path

import polars as pl
import pytest

from headrace.bench.events import (
    DISORDER_US,
    EVENT_SCHEMA,
    THRESHOLD,
    difference,
    events,
    reference,
    write_events,
)


def test_the_same_seed_gives_the_same_events() -> None:
    assert events(1_000, seed=3).equals(events(1_000, seed=3))
    assert not events(1_000, seed=3).equals(events(1_000, seed=4))


def test_no_event_is_late_for_a_watermark_with_the_stated_delay() -> None:
    frame = events(100_000)
    behind = (frame["time"].cum_max() - frame["time"]).to_list()
    assert DISORDER_US * 0.9 < max(behind) < DISORDER_US


def test_the_filter_keeps_about_nine_rows_of_ten() -> None:
    frame = events(100_000)
    kept = frame.filter(pl.col("value") >= THRESHOLD).height
    assert 0.89 < kept / frame.height < 0.91


def test_the_file_holds_the_events(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    frame = write_events(path, 5_000)
    assert pl.read_ndjson(path, schema=EVENT_SCHEMA).equals(frame)


def test_the_answer_does_not_depend_on_the_order_of_its_rows() -> None:
    right = reference(events(10_000))
    assert difference(right.sample(fraction=1, shuffle=True, seed=1), right) is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (pl.col("count") + (pl.col("key") == "k1").cast(pl.Int64), "count differs"),
        (pl.col("mean") * (1 + 1e-8), "mean differs"),
        (pl.when(pl.col("key") == "k1").then(None).otherwise("max").alias("max"), "max is null"),
    ],
)
def test_a_wrong_answer_is_noticed(change: pl.Expr, complaint: str) -> None:
    right = reference(events(10_000))
    wrong = difference(right.with_columns(change), right)
    assert wrong is not None
    assert complaint in wrong


def test_a_missing_window_is_noticed() -> None:
    right = reference(events(10_000))
    wrong = difference(right.slice(1), right)
    assert wrong == f"{right.height - 1} result rows, expected {right.height}"
