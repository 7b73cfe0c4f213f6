"""The generated auction house, and the queries over it beside DuckDB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headrace import testing
from headrace.bench.nexmark.answers import answer, difference, normal
from headrace.bench.nexmark.contest import write_csv
from headrace.bench.nexmark.events import FIRST_ID, SCHEMAS, Events, generate
from headrace.bench.nexmark.ours import read, run
from headrace.bench.nexmark.queries import QUERIES
from headrace.bench.stepped import stretches


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Events, Path]:
    events, folder = generate(20_000), tmp_path_factory.mktemp("nexmark")
    events.write(folder)
    return events, folder


def test_events_come_one_to_three_to_forty_six_in_order_of_time() -> None:
    events = generate(5_000)

    assert (events.person.height, events.auction.height, events.bid.height) == (100, 300, 4600)
    for kind in SCHEMAS:
        assert events.of(kind)["date_time"].is_sorted()
        assert events.of(kind).schema == SCHEMAS[kind]
        assert not events.of(kind).null_count().sum_horizontal().item()
    assert events.person["id"].to_list() == list(range(FIRST_ID, FIRST_ID + 100))
    assert events.auction["id"].to_list() == list(range(FIRST_ID, FIRST_ID + 300))


def test_the_same_seed_gives_the_same_events() -> None:
    one, same, other = generate(1_000), generate(1_000), generate(1_000, seed=12)

    assert one.bid.equals(same.bid)
    assert not one.bid.equals(other.bid)


def test_fields_are_drawn_as_the_generator_draws_them() -> None:
    events = generate(200_000)
    bid, auction = events.bid, events.auction

    assert (bid["price"] >= 100).all()
    assert (bid["price"] <= 100_000_000).all()
    assert np.median(np.log10(bid["price"])) == pytest.approx(5, abs=0.05)
    assert set(auction["category"]) == set(range(10, 15))
    lasts_ms = (auction["expires"] - auction["date_time"]).dt.total_milliseconds()
    assert lasts_ms.min() == 2
    assert lasts_ms.max() == 332
    assert (auction["reserve"] > auction["initial_bid"]).all()
    hot = (auction["seller"] - FIRST_ID) % 100 == 0
    assert hot.mean() == pytest.approx(0.75, abs=0.02)
    hot = (bid["auction"] - FIRST_ID) % 100 == 0
    assert hot.mean() == pytest.approx(0.505, abs=0.01)
    hot = (bid["bidder"] - FIRST_ID) % 100 == 1
    assert hot.mean() == pytest.approx(0.75, abs=0.01)


def test_a_bid_is_for_one_of_the_newest_auctions_or_one_about_to_come() -> None:
    events = generate(100_000)
    known = events.bid.join_asof(
        events.auction.select("date_time", newest="id"), on="date_time"
    ).with_columns(behind=pl.col("newest") - pl.col("auction"))

    assert known["behind"].min() == -10
    assert known["behind"].max() == 100


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_answers_generated_events_like_duckdb(
    name: str, generated: tuple[Events, Path]
) -> None:
    events, folder = generated
    query = QUERIES[name]

    found, report = run(query, {kind: events.of(kind) for kind in query.reads})

    expected = answer(name, folder)
    assert difference(normal(name, found), expected) is None
    assert expected.height > 0
    assert report["rows"] == sum(events.of(kind).height for kind in query.reads)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_answers_the_published_events_like_duckdb(
    name: str, recorded: Path, tmp_path: Path
) -> None:
    query = QUERIES[name]
    events = {kind: published(recorded / "streams/nexmark", kind) for kind in SCHEMAS}
    for kind, frame in events.items():
        frame.write_parquet(tmp_path / f"{kind}.parquet")

    # The seed draws where batches are cut: the answer must not depend on it.
    found = testing.run(query.app(), {kind: events[kind] for kind in query.reads}, seed=5)

    assert difference(normal(name, found["answers"]), answer(name, tmp_path)) is None


def published(folder: Path, kind: str) -> pl.DataFrame:
    schema = SCHEMAS[kind]
    texts = {name: pl.String() if dtype.is_temporal() else dtype for name, dtype in schema.items()}
    return pl.read_csv(folder / f"{kind}.csv", schema=pl.Schema(texts)).with_columns(
        pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC")
        for name, dtype in schema.items()
        if dtype.is_temporal()
    )


def test_a_wrong_answer_is_told(generated: tuple[Events, Path]) -> None:
    right = answer("q8", generated[1])

    assert difference(right, right) is None
    assert difference(right[1:], right) == f"{right.height - 1} rows, expected {right.height}"
    moved = right.with_columns(pl.col("window_start") + 1)
    assert difference(moved, right) == f"window_start differs in {right.height} rows"


def test_stretches_hold_every_event_once() -> None:
    events = generate(150_000)
    cut = list(stretches({kind: events.of(kind) for kind in ("person", "bid")}, "date_time"))

    assert len(cut) == 3
    assert pl.concat([batch["bid"] for batch in cut]).equals(events.bid)
    assert pl.concat([batch["person"] for batch in cut]).equals(events.person)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_events_are_read_as_they_were_written(kind: str, tmp_path: Path) -> None:
    rows = generate(1_000).of(kind)
    write_csv(rows, tmp_path / f"{kind}.csv")

    assert read(tmp_path, kind).equals(rows)
