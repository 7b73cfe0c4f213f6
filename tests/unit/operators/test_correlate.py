from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.errors import HeadraceError, PlanError
from headrace.operators.cooccurrence.counts import Counts
from headrace.operators.correlate import Correlate
from headrace.stream.correlated import counts_of
from tests.unit.operators.drive import Drive, at, cut, timed

SCHEMA = pl.Schema({"t": pl.Float64(), "host": pl.String(), "kind": pl.String(), "n": pl.Int64()})
TIME = pl.Datetime("us", "UTC")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def events(*rows: tuple[float, str, str], start: int = 0) -> pl.DataFrame:
    numbered = [(*row, start + number) for number, row in enumerate(rows)]
    return timed(pl.DataFrame(numbered, schema=SCHEMA, orient="row"), start=start)


def correlate(**parameters: Any) -> Correlate:
    given = {"kinds": ("deploy", "error", "page"), "within": "10s", "on": "host", "id_column": "n"}
    return Correlate(**{**given, **parameters})


def pairs(rows: pl.DataFrame) -> list[tuple[int, list[int]]]:
    return [(row["id"], [member["id"] for member in row["members"]]) for row in rows.to_dicts()]


def test_an_event_names_the_newest_of_each_other_kind_before_it() -> None:
    run = Drive(correlate(), SCHEMA)
    run.step(
        events(
            (0, "a", "deploy"),
            (1, "a", "error"),
            (2, "a", "error"),
            (2, "b", "error"),
            (10, "a", "page"),
            (10.1, "a", "other"),
            (12.1, "a", "page"),
        )
    ).finish()

    assert pairs(run.rows()) == [(1, [0]), (2, [0]), (4, [0, 2])]
    last = run.rows().row(-1, named=True)
    assert (last["match_start"], last["match_end"]) == (at(0), at(10))
    assert [member["kind"] for member in last["members"]] == ["deploy", "error"]


def test_scores_are_those_of_an_association_rule_over_all_events_so_far() -> None:
    run = Drive(correlate(), SCHEMA)
    run.step(
        events((0, "a", "deploy"), (1, "a", "error"), (20, "b", "deploy"), (21, "b", "page"))
    ).finish()

    # Two of four events came after a deploy; one of them is a page, and so is one of all four.
    page = run.rows().row(-1, named=True)
    assert (page["support"], page["confidence"], page["lift"]) == (0.25, 0.5, 2.0)
    assert page["members"][0]["count"] == 1


def test_equal_times_follow_their_order_and_the_bound_is_included() -> None:
    run = Drive(correlate(), SCHEMA)
    run.step(events((5, "a", "error"), (5, "a", "deploy"), (15, "a", "error"))).finish()

    assert pairs(run.rows()) == [(1, [0]), (2, [1])]


@pytest.mark.parametrize("bounds", [[], [1], [2, 3], [1, 2, 3, 4, 5]])
def test_events_are_remembered_across_steps_for_as_long_as_they_count(bounds: list[int]) -> None:
    frame = events(
        (0, "a", "deploy"),
        (9, "b", "deploy"),
        (10, "a", "error"),
        (19, "b", "page"),
        (40, "b", "page"),
    )
    run = Drive(correlate(), SCHEMA, reopen=True)
    for part in cut(frame, bounds):
        run.step(part, watermark=part["t"][-1])

    assert pairs(run.finish().rows()) == [(2, [0]), (3, [1])]
    run = Drive(correlate(), SCHEMA)
    for part in cut(frame, [4]):
        run.step(part, watermark=part["t"][-1])
    assert run.step(watermark=41).tables.row_counts()["latest"] == 1


def test_rare_and_weak_pairs_are_left_out() -> None:
    frame = events(
        *((20 * n + d, "a", k) for n in range(4) for d, k in ((0, "deploy"), (1, "error")))
    )
    often = Drive(correlate(min_count=3), SCHEMA).step(frame).finish().rows()
    strong = Drive(correlate(min_lift=2.01), SCHEMA).step(frame).finish().rows()

    assert pairs(often) == [(5, [4]), (7, [6])]
    assert strong.height == 0
    assert often["lift"].to_list() == [2.0, 2.0]


def test_without_a_key_what_comes_together_more_often_than_by_chance_is_learnt() -> None:
    rows: list[tuple[float, str, str]] = []
    for number in range(200):
        start = 100.0 * number
        rows += [(start, f"h{number}", "deploy"), (start + 3, f"g{number}", "error")]
        rows += [(start + 50 + number % 7, "x", "page")]
    operator = correlate(on=None, min_lift=1.5, min_count=20)
    found = Drive(operator, SCHEMA).step(events(*rows)).finish().rows()

    kinds = {(row["kind"], member["kind"]) for row in found.to_dicts() for member in row["members"]}
    assert kinds == {("error", "deploy")}
    assert found.height == 200 - 19
    assert found["lift"][-1] == 599 / 200


def application(**parameters: Any) -> hr.App:
    app = hr.App("watch")
    columns = {"time": TIME, "host": pl.String, "kind": pl.String}
    stream = app.topic("events", columns, time="time")
    app.output(
        "linked", stream.correlate(["deploy", "error"], within="1m", on="host", **parameters)
    )
    return app


def history(count: int, start: datetime = NOON) -> pl.DataFrame:
    rows = [
        {"time": start + timedelta(minutes=5 * n, seconds=10 * part), "host": "a", "kind": kind}
        for n in range(count)
        for part, kind in enumerate(("deploy", "error"))
    ]
    return pl.DataFrame(rows, schema={"time": TIME, "host": pl.String, "kind": pl.String})


def test_counts_begin_with_those_of_the_history() -> None:
    past, present = history(5), history(3, NOON + timedelta(days=1))
    learnt = testing.run(
        application(history=past.sample(fraction=1, shuffle=True, seed=1)), {"events": present}
    )
    whole = testing.run(application(), {"events": pl.concat([past, present])})

    scores = ("match_end", "lift", "confidence", "support")
    assert learnt["linked"].select(scores).rows() == whole["linked"].select(scores).rows()[5:]
    with pytest.raises(PlanError, match="no column 'host'"):
        application(history=past.drop("host"))
    with pytest.raises(PlanError, match="needs the column 'time'"):
        application(history=past.drop("time"))
    empty = Correlate(kinds=("deploy", "error"), within="1m", on="host")
    assert counts_of(empty, past.clear(), "time") == ()


def test_counts_go_on_from_their_numbers() -> None:
    counts = Counts(2)
    frame = [(0, [False, False]), (1, [True, False]), (1, [True, True]), (0, [False, True])]
    for kind, before in frame:
        counts = Counts(2, counts.numbers)
        counts.add(pl.Series([kind]).to_numpy(), pl.DataFrame([before], orient="row").to_numpy())

    # All, of each kind, after each kind, and pairs by the kind before.
    assert counts.numbers.tolist() == [4, 2, 2, 2, 2, 0, 2, 1, 1]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kinds": ("a",)}, "kinds"),
        ({"kinds": ("a", "a")}, "named twice"),
        ({"within": "0s"}, "longer than zero"),
        ({"on": None}, "min_lift=2"),
        ({"learnt": (1, 2)}, "not those of 3 kinds"),
        ({"kind_column": "n"}, "is not text"),
        ({"id_column": "m"}, "no column 'm'"),
    ],
)
def test_a_correlation_that_cannot_be_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadraceError) as refused:
        correlate(**parameters).output_schema(SCHEMA)

    assert message in str(refused.value)


def brute(frame: pl.DataFrame, reach: timedelta, key: str | None) -> dict[int, dict[str, Any]]:
    """Return by id of an event the newest event of each other kind, and counts of all so far."""
    latest: dict[Any, dict[str, dict[str, Any]]] = {}
    kinds: Counter[str] = Counter()
    after: Counter[str] = Counter()
    both: Counter[tuple[str, str]] = Counter()
    told: dict[int, dict[str, Any]] = {}
    for number, row in enumerate(frame.to_dicts(), start=1):
        held = latest.setdefault(row[key] if key else None, {})
        near = {kind: old for kind, old in held.items() if row["time"] - old["time"] <= reach}
        kinds[row["kind"]] += 1
        after.update(near.keys())
        both.update((kind, row["kind"]) for kind in near)
        told[row["id"]] = {
            kind: (
                old["id"],
                both[kind, row["kind"]],
                both[kind, row["kind"]] * number / (after[kind] * kinds[row["kind"]]),
            )
            for kind, old in near.items()
            if kind != row["kind"]
        }
        held[row["kind"]] = row
    return told


def test_recorded_rides_pair_pickups_with_dropoffs_of_their_driver(recorded: Path) -> None:
    path = recorded / "streams" / "arroyo" / "cars.jsonl.gz"
    rides = (
        pl.read_ndjson(path)
        .select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("id"),
            pl.col("timestamp").str.to_datetime(time_unit="us", time_zone="UTC").alias("time"),
            pl.col("driver_id").cast(pl.Int64),
            pl.col("event_type").alias("kind"),
        )
        .sort("time", maintain_order=True)
    )
    app = hr.App("rides")
    stream = app.topic("rides", dict(rides.schema), time="time", delay="10m")
    linked = stream.correlate(["pickup", "dropoff"], within="30m", on="driver_id", id="id")
    app.output("linked", linked)

    found = testing.run(app, {"rides": rides}, batch_rows=997)["linked"]

    told = brute(rides, timedelta(minutes=30), "driver_id")
    assert {row["id"]: [m["id"] for m in row["members"]] for row in found.to_dicts()} == {
        key: [place for place, _, _ in near.values()] for key, near in told.items() if near
    }
    for row in found.to_dicts():
        ((_, count, lift),) = told[row["id"]].values()
        assert row["members"][0]["count"] == count
        assert row["lift"] == pytest.approx(lift, rel=1e-12)
    assert found.height > 3000


def test_detectors_on_one_road_are_found_by_their_recorded_outliers(recorded: Path) -> None:
    parts = []
    for path in sorted((recorded / "sentry" / "nab" / "realTraffic").glob("*.csv.gz")):
        frame = pl.read_csv(path)
        apart = (pl.col("value") - pl.col("value").mean()).abs() > 1.5 * pl.col("value").std()
        parts.append(
            frame.filter(apart).select(
                pl.col("timestamp").str.to_datetime(time_unit="us", time_zone="UTC").alias("time"),
                pl.lit(path.name.removesuffix(".csv.gz")).alias("kind"),
            )
        )
    outliers = pl.concat(parts).sort("time", maintain_order=True)
    outliers = outliers.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"))
    app = hr.App("traffic")
    stream = app.topic("outliers", dict(outliers.schema), time="time")
    kinds = outliers["kind"].unique().sort().to_list()
    app.output(
        "linked", stream.correlate(kinds, within="15m", id="id", min_lift=1.01, min_count=10)
    )

    found = testing.run(app, {"outliers": outliers})["linked"]

    told = brute(outliers, timedelta(minutes=15), None)
    expected = {
        key: {kind for kind, (_, count, lift) in near.items() if count >= 10 and lift >= 1.01}
        for key, near in told.items()
    }
    members = {row["id"]: {m["kind"] for m in row["members"]} for row in found.to_dicts()}
    assert members == {key: near for key, near in expected.items() if near}
    last = found.select("kind", "members").explode("members").unnest("members", separator="_")
    newest = last.group_by("kind", "members_kind").agg(pl.col("members_lift").last())
    strongest = newest.sort("members_lift").row(-1)
    assert strongest[:2] == ("speed_t4013", "occupancy_t4013")
    assert strongest[2] > 2
