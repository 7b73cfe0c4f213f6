"""Feature views: the same values online and over history, and never any from the future."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import headrace as hr
from headrace.core.errors import ConfigError, PlanError
from headrace.core.time import TIME_DTYPE

SCHEMA = pl.Schema({"k": pl.String(), "time": TIME_DTYPE, "x": pl.Float64()})
FEATURES: dict[str, Any] = {"rows": hr.count(), "most": hr.max("x"), "newest": hr.last("x")}


def frame(rows: list[tuple[str | None, int, float | None]]) -> pl.DataFrame:
    seconds = pl.col("time") * 1_000_000
    return pl.DataFrame(
        rows, schema={"k": pl.String, "time": pl.Int64, "x": pl.Float64}, orient="row"
    ).with_columns(seconds.cast(TIME_DTYPE))


def online_and_history(
    rows: pl.DataFrame, events: pl.DataFrame, **view: Any
) -> tuple[pl.DataFrame, pl.DataFrame]:
    app = hr.App("views")
    asked = app.topic("asked", SCHEMA, time="time", delay="1000s")
    happened = app.topic("happened", SCHEMA, time="time", delay="1000s")
    features = hr.feature_view("v", happened, entity="k", features=FEATURES, **view)
    app.output("read", asked.enrich(features))
    outputs = hr.testing.run(app, {"asked": rows, "happened": events})
    return outputs["read"], features.history(rows, events)


def by_hand(rows: pl.DataFrame, events: pl.DataFrame, over: int, ttl: int) -> list[Any]:
    """Return rows and newest value by looking at every event for every row."""
    found: list[Any] = []
    happened = sorted(events.rows(), key=lambda event: event[1])
    for key, time, _ in rows.rows():
        before = [e for e in happened if e[0] is not None and e[0] == key and e[1] < time]
        newest = before[-1][1] if before else None
        if newest is None or (time - newest).total_seconds() > ttl:
            found.append((None, None))
            continue
        covered = [e for e in before if 0 <= (newest - e[1]).total_seconds() < over]
        values = [e[2] for e in covered if e[2] is not None]
        found.append((len(covered), values[-1] if values else None))
    return found


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.integers(0, 40),
        st.sampled_from([1.0, 2.5, -3.0, None]),
    ),
    min_size=1,
    max_size=25,
).map(frame)


@given(ROWS, ROWS)
def test_what_is_read_is_what_history_says_and_what_was_known_before(
    rows: pl.DataFrame, events: pl.DataFrame
) -> None:
    online, history = online_and_history(rows, events, over="10s", ttl="15s")

    assert history.select("rows", "newest").rows() == by_hand(rows, events, 10, 15)
    assert_frame_equal(online, history.sort("time", maintain_order=True))


@given(ROWS, ROWS)
def test_windows_are_read_after_they_ended(rows: pl.DataFrame, events: pl.DataFrame) -> None:
    windows = hr.sliding("10s", every="5s")

    online, history = online_and_history(rows, events, over=windows)

    assert_frame_equal(online, history.sort("time", maintain_order=True))
    for (key, time, _), count in zip(rows.rows(), history["rows"], strict=True):
        end = time.timestamp() // 5 * 5
        same = [e[1].timestamp() for e in events.rows() if e[0] is not None and e[0] == key]
        inside = sum(end - 10 <= at < end for at in same)
        assert count == (inside or None)


def test_a_row_does_not_see_itself_nor_what_happens_at_its_time() -> None:
    app = hr.App("views")
    rows = app.topic("rows", SCHEMA, time="time")
    view = hr.feature_view("v", rows, entity="k", features={"n": hr.count()}, over="1h")
    app.output("read", rows.enrich(view, default={"n": 0}))
    given_rows = frame([("a", 0, 1.0), ("a", 0, 1.0), ("a", 1, 1.0), ("b", 1, 1.0)])

    outputs = hr.testing.run(app, {"rows": given_rows})

    assert outputs["read"]["n"].to_list() == [0, 0, 2, 0]
    assert view.history(given_rows, given_rows, default={"n": 0})["n"].to_list() == [0, 0, 2, 0]


def test_a_view_is_a_table_too() -> None:
    app = hr.App("views")
    rows = app.topic("rows", SCHEMA, time="time")
    view = hr.feature_view("spent", rows, entity="k", features={"x_1h": hr.sum("x")}, over="1h")
    view.table(app)

    outputs = hr.testing.run(app, {"rows": frame([("a", 0, 1.0), ("a", 9, 2.0), ("b", 5, 4.0)])})

    assert sorted(outputs["spent"].select("k", "x_1h").rows()) == [("a", 3.0), ("b", 4.0)]


def test_history_takes_other_names_and_keeps_the_order_of_its_rows() -> None:
    app = hr.App("views")
    events = frame([("a", 0, 1.0), ("b", 1, 2.0)])
    view = hr.feature_view(
        "v",
        app.topic("rows", SCHEMA, time="time"),
        entity="k",
        features={"n": hr.count()},
        over="1h",
    )
    rows = pl.DataFrame({"who": ["b", "a", "c"], "at": [5, 4, 3]}).with_columns(
        (pl.col("at") * 1_000_000).cast(TIME_DTYPE)
    )

    found = view.history(rows, events, on={"who": "k"}, time="at")

    assert found.select("who", "n").rows() == [("b", 1), ("a", 1), ("c", None)]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"entity": "who"}, "who"),
        ({"entity": ()}, "of an entity"),
        ({"features": {}}, "needs a feature"),
        ({"over": "0s"}, "over"),
        ({"features": {"k": hr.count()}}, "k"),
    ],
)
def test_a_view_that_cannot_be_is_refused(parameters: dict[str, Any], message: str) -> None:
    rows = hr.App("views").topic("rows", SCHEMA, time="time")
    view = {"entity": "k", "features": {"n": hr.count()}, "over": "1h", **parameters}

    with pytest.raises((PlanError, ConfigError), match=message):
        hr.feature_view("v", rows, **view)


def test_features_of_real_clicks_are_the_same_online_and_over_history(recorded: Path) -> None:
    clicks = pl.read_parquet(recorded / "analytics" / "obd_clicks_men_random.parquet").select(
        pl.col("timestamp")
        .str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit="us", time_zone="UTC")
        .alias("time"),
        "item_id",
        "click",
        "user_feature_0",
        "user_item_affinity",
    )
    app = hr.App("shop")
    shown = app.topic("shown", clicks.schema, time="time", delay="1h")
    rate = hr.feature_view(
        "item",
        shown,
        entity="item_id",
        features={
            "shown_6h": hr.count(),
            "clicks_6h": hr.sum("click"),
            "affinity_6h": hr.mean("user_item_affinity"),
        },
        over="6h",
    )
    visits = hr.feature_view(
        "visits",
        shown,
        entity="user_feature_0",
        features={"visits_1d": hr.count(), "last_item": hr.last("item_id")},
        over=hr.sliding("1d", every="1h"),
    )
    app.output("read", shown.enrich(rate, default={"shown_6h": 0}).enrich(visits))

    online = hr.testing.run(app, {"shown": clicks}, seed=3)["read"]
    history = visits.history(rate.history(clicks, clicks, default={"shown_6h": 0}), clicks)

    assert online.height == 10_000
    assert online["clicks_6h"].sum() > 100
    assert_frame_equal(online.select(history.columns), history, rel_tol=1e-9)
