"""Geofence: entering, leaving, staying and crossing."""

from __future__ import annotations

import polars as pl

from tests.unit.operators.fence import SECOND, Fence, box, zone


def test_several_positions_of_one_vehicle_in_one_batch_are_judged_one_after_another() -> None:
    fence = Fence(zone("a"), zone("b", box(2, 0, 3, 1)))

    assert fence.move(
        ("v", 0, -1, 0.5, None),
        ("w", 0, 2.5, 0.5, None),
        ("v", 1, 0.5, 0.5, None),
        ("v", 2, 2.5, 0.5, None),
        ("w", 3, 0.5, 0.5, None),
        ("v", 4, 9, 9, None),
    ) == [
        ("w", 0, "b", "enter"),
        ("v", 1, "a", "enter"),
        ("v", 2, "a", "exit"),
        ("v", 2, "b", "enter"),
        ("w", 3, "b", "exit"),
        ("w", 3, "a", "enter"),
        ("v", 4, "b", "exit"),
    ]


def test_rows_out_of_order_are_judged_in_event_time_order() -> None:
    fence = Fence(zone("a"))

    assert fence.move(("v", 2, 5, 5, None), ("v", 0, 5, 5, None), watermark_s=1) == []
    assert fence.move(("v", 1, 0.5, 0.5, None), ("v", 3, 0.5, 0.5, None)) == [
        ("v", 1, "a", "enter"),
        ("v", 2, "a", "exit"),
        ("v", 3, "a", "enter"),
    ]


def test_a_row_waits_until_the_watermark_has_passed_it() -> None:
    fence = Fence(zone("a"))

    assert fence.move(("v", 1, 0.5, 0.5, None), watermark_s=1) == []
    assert fence.task.wake().event_time == SECOND + 1
    assert fence.move(("v", 5, 0.5, 0.5, None), watermark_s=2) == [("v", 1, "a", "enter")]


def test_a_row_before_the_watermark_goes_to_late() -> None:
    fence = Fence(zone("a"))
    fence.move(("v", 10, 5, 5, None), watermark_s=8)

    fence.tables.watermark = 8 * SECOND
    fence.move(("v", 7, 0.5, 0.5, None), watermark_s=20)
    assert fence.port("late")["time"].dt.epoch("s").to_list() == [7]
    assert fence.port("main").is_empty()


def test_by_arrival_a_row_older_than_its_vehicle_goes_to_late_and_an_equal_one_is_kept() -> None:
    fence = Fence(zone("a"), order="arrival")

    assert fence.move(("v", 5, 0.5, 0.5, None), ("v", 4, 5, 5, None), ("w", 1, 0.5, 0.5, None)) == [
        ("v", 5, "a", "enter"),
        ("w", 1, "a", "enter"),
    ]
    assert fence.move(("v", 5, 5, 5, None), ("v", 3, 0.5, 0.5, None)) == [("v", 5, "a", "exit")]
    assert fence.port("late")["time"].dt.epoch("s").to_list() == [4, 3]
    assert fence.port("positions").height == 3


def test_the_events_carry_entry_and_dwell_time_across_batches() -> None:
    fence = Fence(zone("a", kind="reserve"), attributes=("kind",), order="arrival")
    for row in [("v", 10, 0.5, 0.5, None), ("v", 20, 0.6, 0.5, None), ("v", 42.5, 5, 5, None)]:
        fence.move(row)

    events = fence.port("main").select(
        "event", pl.col("entered_at").dt.epoch("s"), "dwell_s", "reason", "kind"
    )
    assert events.rows() == [
        ("enter", 10, 0.0, None, "reserve"),
        ("exit", 10, 32.5, None, "reserve"),
    ]


def test_silence_is_no_exit_and_a_forgotten_vehicle_begins_anew() -> None:
    fence = Fence(zone("a"), order="arrival", forget="1h")

    assert fence.move(("v", 0, 0.5, 0.5, None)) == [("v", 0, "a", "enter")]
    assert fence.move(("v", 3600, 0.5, 0.5, None)) == []
    assert fence.move(("v", 7201, 0.5, 0.5, None)) == [("v", 7201, "a", "enter")]
    assert fence.move(("v", 20_000, 5, 5, None)) == []


def test_state_of_silent_vehicles_is_given_up() -> None:
    fence = Fence(zone("a"), forget="1h")
    fence.move(*((f"v{number}", number, 0.5, 0.5, None) for number in range(50)), watermark_s=100)
    assert fence.tables.keyed("keys").rows == 50

    fence.move(("w", 4000, 5, 5, None), watermark_s=3630)
    assert fence.tables.keyed("keys").rows == 20


def test_a_position_without_coordinates_changes_nothing() -> None:
    fence = Fence(zone("a"), order="arrival", detect=("enter", "exit", "outside", "cross"))

    assert fence.move(
        ("v", 0, 0.5, 0.5, None),
        ("v", 1, None, 0.5, None),
        ("v", 2, 0.5, float("nan"), None),
        ("v", 3, 0.5, 95, None),
        ("v", 4, 2000, 0.5, None),
        ("v", 5, 0.5, 0.5, None),
    ) == [("v", 0, "a", "enter")]
    assert fence.port("positions")["fences"].list.len().to_list() == [1, 0, 0, 0, 0, 0]


def test_every_position_leaves_once_with_its_events() -> None:
    fence = Fence(zone("a"), zone("b"), order="arrival")
    fence.move(("v", 0, 5, 5, 1.0), ("v", 1, 0.5, 0.5, 2.0))

    positions = fence.port("positions")
    assert positions["depth_m"].to_list() == [1.0, 2.0]
    assert [[fence["zone_id"] for fence in row] for row in positions["fences"].to_list()] == [
        [],
        ["a", "b"],
    ]


def test_a_visit_is_reported_once_it_has_lasted_min_dwell() -> None:
    fence = Fence(zone("a"), order="arrival", min_dwell="10s")

    assert (
        fence.move(("v", 0, 0.5, 0.5, None), ("v", 5, 0.5, 0.5, None), ("v", 8, 5, 5, None)) == []
    )
    assert fence.move(("v", 20, 0.5, 0.5, None)) == []
    assert fence.move(("v", 29, 0.5, 0.5, None)) == []
    assert fence.move(("v", 31, 0.5, 0.5, None)) == [("v", 31, "a", "enter")]
    assert fence.move(("v", 33, 5, 5, None)) == [("v", 33, "a", "exit")]
    assert fence.port("main")["dwell_s"].to_list() == [11.0, 13.0]


def test_a_noisy_position_at_the_border_does_not_flicker() -> None:
    # 0.001 degrees of longitude at the equator are 111 m.
    fence = Fence(zone("a"), order="arrival", border_m=150)
    east = [1.001, 0.999, 1.001, 0.9995, 1.0012, 1.002, 1.001, 0.999]

    events = fence.move(*(("v", second, lon, 0.5, None) for second, lon in enumerate(east)))
    assert events == [("v", 1, "a", "enter"), ("v", 5, "a", "exit"), ("v", 7, "a", "enter")]


def test_drifting_along_the_border_is_one_visit_however_long() -> None:
    fence = Fence(zone("a"), order="arrival", border_m=150)
    drift = [("v", second, 1.0005, 0.5, None) for second in range(1, 3000)]

    events = fence.move(("v", 0, 0.5, 0.5, None), *drift, ("v", 4000, 1.01, 0.5, None))
    assert events == [("v", 0, "a", "enter"), ("v", 4000, "a", "exit")]


def test_a_leg_through_a_zone_is_a_cross() -> None:
    fence = Fence(zone("a"), order="arrival", detect=("enter", "exit", "cross"))

    assert fence.move(("v", 0, -1, 0.5, None), ("v", 1, 2, 0.5, None)) == [("v", 1, "a", "cross")]
    assert fence.move(("v", 2, -1, 5, None)) == []
    assert fence.move(("v", 3, 2, 0, None), ("w", 3, -1, 0.5, None)) == []
    assert fence.move(("v", 4, 0.5, 0.5, None), ("v", 5, 2, 0.5, None)) == [
        ("v", 4, "a", "enter"),
        ("v", 5, "a", "exit"),
    ]
    assert fence.port("main")["entered_at"].null_count() == 1


def test_per_position_exits_come_first_then_enters_then_others_by_zone() -> None:
    fence = Fence(
        zone("left", box(-2, 0, -1, 1)),
        zone("b", box(1, 0, 2, 1)),
        zone("a", box(1, 0, 2, 1)),
        zone("wide", box(-2, 0, 2, 1)),
        zone("passed", box(-0.5, 0, 0.5, 1)),
        zone("c-left", box(-2, 0, -1, 1)),
        order="arrival",
        detect=("enter", "exit", "cross", "inside", "outside", "dwell"),
    )
    fence.move(("v", 0, -1.5, 0.5, None))

    assert [event[2:] for event in fence.move(("v", 1, 1.5, 0.5, None))] == [
        ("c-left", "exit"),
        ("left", "exit"),
        ("a", "enter"),
        ("b", "enter"),
        ("a", "inside"),
        ("b", "inside"),
        ("passed", "cross"),
        ("wide", "dwell"),
        ("wide", "inside"),
    ]
    assert [event[2:] for event in fence.move(("v", 2, 9, 9, None))] == [
        ("a", "exit"),
        ("b", "exit"),
        ("wide", "exit"),
        (None, "outside"),
    ]


def test_a_vehicle_without_a_name_is_a_vehicle_of_its_own() -> None:
    fence = Fence(zone("a"), order="arrival")

    assert fence.move((None, 0, 0.5, 0.5, None), ("v", 1, 5, 5, None), (None, 2, 5, 5, None)) == [
        (None, 0, "a", "enter"),
        (None, 2, "a", "exit"),
    ]
