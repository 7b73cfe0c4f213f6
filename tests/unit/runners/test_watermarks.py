from __future__ import annotations

from headrace.core.time import BEGINNING
from headrace.runners.embedded.watermarks import TopicProgress

SECOND = 1_000_000
IDLE = 30 * SECOND


def topic(delay_s: int = 5) -> TopicProgress:
    return TopicProgress(delay=delay_s * SECOND, idle_after=IDLE)


def test_a_watermark_follows_the_rows_less_the_delay() -> None:
    progress = topic()
    progress.take(0, 100 * SECOND, clock=1000 * SECOND)

    assert progress.reached(1000 * SECOND, engine_start=0) == 95 * SECOND


def test_a_row_from_the_future_makes_nobody_late() -> None:
    progress = topic()
    progress.take(0, 400 * SECOND, clock=100 * SECOND)

    assert progress.reached(100 * SECOND, engine_start=0) == 95 * SECOND


def test_the_slowest_partition_holds_the_watermark_until_it_is_idle() -> None:
    progress = topic(0)
    progress.take(0, 100 * SECOND, clock=100 * SECOND)
    progress.take(1, 40 * SECOND, clock=100 * SECOND)

    assert progress.reached(100 * SECOND, engine_start=0) == 40 * SECOND
    progress.take(0, 131 * SECOND, clock=131 * SECOND)
    assert progress.reached(131 * SECOND, engine_start=0) == 131 * SECOND


def test_a_partition_with_unread_rows_is_never_idle() -> None:
    progress = topic(0)
    progress.take(0, 40 * SECOND, clock=100 * SECOND)
    progress.partition(0).end = 10

    assert progress.reached(10_000 * SECOND, engine_start=0) == 40 * SECOND
    assert progress.due_at(41 * SECOND, 100 * SECOND, engine_start=0) is None


def test_an_idle_topic_moves_at_the_pace_of_the_clock_from_where_rows_left_it() -> None:
    progress = topic()
    progress.take(0, 100 * SECOND, clock=1000 * SECOND)

    assert progress.reached(1029 * SECOND, engine_start=0) == 95 * SECOND
    assert progress.reached(1030 * SECOND, engine_start=0) == 125 * SECOND


def test_an_outage_ages_nothing() -> None:
    progress = topic()
    progress.take(0, 100 * SECOND, clock=100 * SECOND)
    restarted = 100_000 * SECOND

    assert progress.reached(restarted + 29 * SECOND, engine_start=restarted) == 95 * SECOND
    assert progress.reached(restarted + 30 * SECOND, engine_start=restarted) == 125 * SECOND


def test_a_watermark_never_goes_back() -> None:
    progress = topic(0)
    progress.watermark = 500 * SECOND
    progress.take(0, 100 * SECOND, clock=600 * SECOND)

    assert progress.reached(600 * SECOND, engine_start=0) == 500 * SECOND


def test_a_topic_without_rows_is_unknown_once_it_is_idle() -> None:
    progress = topic()
    progress.partition(0)

    assert progress.reached(29 * SECOND, engine_start=0) == BEGINNING
    assert progress.reached(30 * SECOND, engine_start=0) is None
    assert progress.due_at(1, 5 * SECOND, engine_start=0) == 30 * SECOND


def test_silence_is_due_when_it_really_brings_the_watermark_there() -> None:
    progress = topic()
    progress.take(0, 100 * SECOND, clock=100 * SECOND)
    for wanted in (96, 110, 200):
        due = progress.due_at(wanted * SECOND, 100 * SECOND, engine_start=0)

        assert due is not None
        reached = progress.reached(due, engine_start=0)
        assert reached is not None
        assert reached >= wanted * SECOND
        before = progress.reached(due - 1, engine_start=0)
        assert before is not None
        assert before < wanted * SECOND


def test_one_partition_falling_idle_may_be_enough() -> None:
    progress = topic(0)
    progress.take(0, 40 * SECOND, clock=100 * SECOND)
    progress.take(1, 120 * SECOND, clock=120 * SECOND)

    due = progress.due_at(110 * SECOND, 120 * SECOND, engine_start=0)

    assert due == 130 * SECOND
    assert progress.reached(130 * SECOND, engine_start=0) == 120 * SECOND


def test_progress_survives_a_checkpoint() -> None:
    progress = topic()
    progress.take(3, 100 * SECOND, clock=100 * SECOND)
    progress.partition(3).position = 7
    restored = topic()
    restored.load_state(progress.to_state())

    assert restored == progress
