"""What every log promises, run against the one in memory and the one on disk."""

import threading
from dataclasses import replace

import polars as pl
import pytest
import structlog.testing

from headrace.core.errors import BugError, ConfigError, FencedError, LostRangeError, StateError
from headrace.core.log import (
    Append,
    Commit,
    Log,
    Position,
    Put,
    Reader,
    TopicPartition,
    Writer,
)
from headrace.core.rows import encode_rows
from headrace.log import check_position
from headrace.testing import TestClock
from tests.unit.log.samples import (
    AT,
    EVENTS,
    PLENTY,
    SCHEMA,
    append,
    numbered,
    numbers,
    read_all,
    write,
)


def test_rows_come_back_as_written_with_offsets_that_count_them(
    writer: Writer, reader: Reader
) -> None:
    writer.create(EVENTS)

    [[first], [second, third]] = writer.commit(
        [
            Commit([append(numbered(0, 3), watermark=7, arrival_us=11)]),
            Commit([append(numbered(3, 1)), append(numbered(4, 2))]),
        ]
    )

    assert (first, second, third) == (
        ("events", 0, 0, 3),
        ("events", 0, 3, 4),
        ("events", 0, 4, 6),
    )
    batches = reader.read(AT, 0, PLENTY, PLENTY)
    assert [(batch.start, batch.end) for batch in batches] == [(0, 3), (3, 4), (4, 6)]
    assert (batches[0].watermark, batches[0].arrival_us) == (7, 11)
    assert pl.concat([batch.frame for batch in batches]).equals(numbered(0, 6))
    assert batches[0].frame.schema == SCHEMA


def test_a_payload_may_be_bytes_or_a_frame(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)

    writer.commit([Commit([Append(*AT, encode_rows(numbered(0, 2)), 2), append(numbered(2, 2))])])

    assert read_all(reader) == [0, 1, 2, 3]


def test_reading_cuts_batches_to_the_offset_and_the_rows_asked_for(
    writer: Writer, reader: Reader
) -> None:
    writer.create(EVENTS)
    for start in (0, 10, 20):
        write(writer, start, 10)

    batches = reader.read(AT, 7, 15, PLENTY)

    assert [(batch.start, batch.end) for batch in batches] == [(7, 10), (10, 20), (20, 22)]
    assert numbers(batches) == list(range(7, 22))


def test_one_batch_is_returned_whatever_the_byte_limit(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    write(writer, 0, 10)
    write(writer, 10, 10)

    assert numbers(reader.read(AT, 0, PLENTY, 0)) == list(range(10))
    assert numbers(reader.read(AT, 5, PLENTY, 1)) == list(range(5, 10))


def test_the_byte_limit_counts_stored_payload(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    for start in range(0, 100, 10):
        write(writer, start, 10)
    batch_bytes = reader.partitions()[AT].bytes // 10

    assert len(reader.read(AT, 0, PLENTY, 4 * batch_bytes + 20)) == 4


def test_the_end_of_a_partition_reads_as_nothing(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    write(writer, 0, 3)

    assert reader.read(AT, 3, PLENTY, PLENTY) == []
    assert reader.read(TopicPartition("unknown", 0), 0, PLENTY, PLENTY) == []


def test_a_position_beyond_the_end_is_a_lost_range(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    write(writer, 0, 3)

    with pytest.raises(LostRangeError, match="rows 3 to 8 of 'events' partition 0 do not exist"):
        reader.read(AT, 9, PLENTY, PLENTY)


def test_a_position_of_another_incarnation_is_a_lost_range(writer: Writer, reader: Reader) -> None:
    [old] = writer.create(EVENTS)
    write(writer, 0, 3)
    writer.drop("events")
    writer.create(EVENTS)
    write(writer, 100, 5)

    info = reader.partitions()[AT]

    assert read_all(reader) == list(range(100, 105))
    check_position(info, Position(info.incarnation, 5))
    with pytest.raises(LostRangeError, match="deleted and created again"):
        check_position(info, Position(old.incarnation, 2))


def test_a_dropped_topic_is_gone(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    write(writer, 0, 3)

    writer.drop("events")

    assert reader.partitions() == {}
    assert reader.spec("events") is None


def test_creating_again_keeps_rows_and_adds_partitions(writer: Writer, reader: Reader) -> None:
    [before] = writer.create(EVENTS)
    write(writer, 0, 3)

    kept, added = writer.create(replace(EVENTS, partitions=2, retention_us=5))

    assert (kept.incarnation, kept.end) == (before.incarnation, 3)
    assert (added.partition, added.end) == (1, 0)
    assert reader.spec("events") == replace(EVENTS, partitions=2, retention_us=5)


def test_a_slot_numbers_its_partitions_apart(log: Log, writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    other = log.writer("gateway-1", slot=1)
    other.create(EVENTS)
    write(other, 0, 2, TopicPartition("events", 64))

    owners = {at.partition: info.owner for at, info in reader.partitions(["events"]).items()}

    assert owners == {0: "gateway-0", 64: "gateway-1"}
    assert read_all(reader, TopicPartition("events", 64)) == [0, 1]
    other.close()


def test_two_owners_cannot_write_one_partition(log: Log, writer: Writer) -> None:
    writer.create(EVENTS)
    other = log.writer("engine-fleet", slot=0)

    with pytest.raises(ConfigError, match="'gateway-0' writes partition 0"):
        other.create(EVENTS)
    other.close()


def test_an_owner_has_one_writer_at_a_time(log: Log, writer: Writer) -> None:
    with pytest.raises(StateError, match="gateway-0"):
        log.writer("gateway-0")

    writer.close()
    again = log.writer("gateway-0")

    assert again.epoch == writer.epoch + 1
    again.close()


def test_rows_and_records_outlive_their_writer(log: Log, reader: Reader) -> None:
    first = log.writer("gateway-0")
    first.create(EVENTS)
    first.commit([Commit([append(numbered(0, 3))], [("steps", b"0")], [Put("k", b"v")])])
    first.close()

    second = log.writer("gateway-0")
    write(second, 3, 2)

    assert second.create(EVENTS)[0].end == 5
    assert read_all(reader) == [0, 1, 2, 3, 4]
    assert (second.records("steps"), second.get("k")) == ([(0, b"0")], b"v")
    second.close()


def test_a_failing_commit_writes_nothing(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    good = Commit([append(numbered(0, 3))], [("steps", b"0")], [Put("k", b"v")])

    with pytest.raises(BugError, match="did not create"):
        writer.commit([good, Commit([append(numbered(0, 1), TopicPartition("unknown", 0))])])
    with pytest.raises(BugError, match="an append of 2 rows holds 3"):
        writer.commit([good, Commit([Append(*AT, numbered(0, 3), 2)])])

    assert reader.partitions()[AT].end == 0
    assert (writer.records("steps"), writer.get("k")) == ([], None)


def test_a_closed_writer_writes_nothing(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    writer.close()

    with pytest.raises(FencedError):
        write(writer, 0, 3)

    assert reader.partitions()[AT].end == 0


def test_values_are_put_replaced_and_deleted(writer: Writer) -> None:
    writer.commit([Commit(puts=[Put("zone/b", b"1"), Put("zone/a", b"2"), Put("zonf", b"3")])])
    writer.commit([Commit(puts=[Put("zone/b", b"4"), Put("zonf", None), Put("absent", None)])])

    assert writer.get("zone/b") == b"4"
    assert writer.get("zonf") is None
    assert list(writer.scan("zone/").items()) == [("zone/a", b"2"), ("zone/b", b"4")]


def test_the_last_put_of_a_commit_counts(writer: Writer) -> None:
    writer.commit([Commit(puts=[Put("k", b"1")]), Commit(puts=[Put("k", None), Put("k", b"2")])])

    assert writer.get("k") == b"2"


def test_a_value_ends_at_its_expiry(writer: Writer, clock: TestClock) -> None:
    now = clock.now()
    writer.commit([Commit(puts=[Put("k", b"v", now + 10), Put("forever", b"v")])])
    assert writer.get("k") == b"v"

    clock.advance("10us")

    assert writer.get("k") is None
    assert writer.scan("") == {"forever": b"v"}
    writer.maintain(clock.now())
    assert writer.scan("") == {"forever": b"v"}


def test_records_are_numbered_from_0_per_stream(writer: Writer, reader: Reader) -> None:
    writer.commit([Commit(records=[("steps", b"a"), ("other", b"x"), ("steps", b"b")])])
    writer.commit([Commit(records=[("steps", b"c")])])

    assert writer.records("steps") == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert writer.records("steps", 2) == [(2, b"c")]
    assert writer.records("none") == []
    assert reader.owner_records("gateway-0", "steps", 1) == [(1, b"b"), (2, b"c")]
    assert reader.owner_records("nobody", "steps") == []


def test_trimmed_records_keep_their_numbers(log: Log, writer: Writer) -> None:
    writer.commit([Commit(records=[("steps", b"a"), ("steps", b"b"), ("other", b"x")])])

    writer.trim_records("steps", 1)
    assert writer.records("steps") == [(1, b"b")]

    writer.trim_records("steps", 100)
    writer.close()
    again = log.writer("gateway-0")
    again.commit([Commit(records=[("steps", b"c")])])
    assert again.records("steps") == [(2, b"c")]
    assert again.records("other") == [(0, b"x")]
    again.close()


def test_positions_are_replaced_and_forgotten_by_reader(
    log: Log, writer: Writer, reader: Reader
) -> None:
    sink = log.writer("connect", slot=2)
    here, there = TopicPartition("a", 0), TopicPartition("b", 1)
    writer.publish_positions("engine", {here: Position("i", 5)})
    sink.publish_positions("postgres", {here: Position("i", 3), there: Position("j", 1)})
    sink.publish_positions("postgres", {there: Position("j", 2)})

    assert reader.positions() == {
        "engine": {here: Position("i", 5)},
        "postgres": {there: Position("j", 2)},
    }

    sink.publish_positions("postgres", {})
    assert reader.positions() == {"engine": {here: Position("i", 5)}}
    sink.close()


def test_statuses_are_the_last_published(log: Log, writer: Writer, reader: Reader) -> None:
    other = log.writer("engine-fleet", slot=1)
    assert reader.statuses() == {}

    writer.publish_status(b"up")
    other.publish_status(b"recovering")
    other.publish_status(b"running")

    assert reader.statuses() == {"engine-fleet": b"running", "gateway-0": b"up"}
    other.close()


def test_old_rows_go_when_no_reader_needs_them(
    writer: Writer, reader: Reader, clock: TestClock
) -> None:
    writer.create(replace(EVENTS, retention_us=60_000_000))
    write(writer, 0, 10)
    clock.advance("30s")
    write(writer, 10, 10)
    clock.advance("31s")

    writer.maintain(clock.now())

    assert read_all(reader) == list(range(10, 20))
    with pytest.raises(LostRangeError, match="rows 4 to 9 of 'events' partition 0 are gone"):
        reader.read(AT, 4, PLENTY, PLENTY)


def test_everything_may_go_and_offsets_go_on(
    writer: Writer, reader: Reader, clock: TestClock
) -> None:
    writer.create(replace(EVENTS, retention_us=60_000_000))
    write(writer, 0, 10)
    clock.advance("2m")
    writer.maintain(clock.now())

    info = reader.partitions()[AT]
    assert (info.start, info.end, info.bytes) == (10, 10, 0)
    assert reader.read(AT, 10, PLENTY, PLENTY) == []

    write(writer, 10, 3)
    assert read_all(reader) == [10, 11, 12]


def test_the_oldest_rows_go_above_the_size_limit(
    writer: Writer, reader: Reader, clock: TestClock
) -> None:
    writer.create(EVENTS)
    for start in range(0, 100, 10):
        clock.advance("1s")
        write(writer, start, 10)
    total = reader.partitions()[AT].bytes
    writer.create(replace(EVENTS, retention_bytes=total // 2))

    writer.maintain(clock.now())

    info = reader.partitions()[AT]
    assert info.bytes <= total // 2
    assert 0 < info.start < 100
    assert read_all(reader) == list(range(info.start, 100))
    assert writer.blocked() == frozenset()


def test_retention_stops_at_the_slowest_reader(
    log: Log, writer: Writer, reader: Reader, clock: TestClock
) -> None:
    [info] = writer.create(replace(EVENTS, retention_us=1))
    for start in (0, 10, 20):
        write(writer, start, 10)
    sink = log.writer("connect", slot=2)
    sink.publish_positions("postgres", {AT: Position(info.incarnation, 12)})
    writer.publish_positions("engine", {AT: Position(info.incarnation, 25)})
    clock.advance("1h")

    writer.maintain(clock.now())

    assert reader.partitions()[AT].start == 10
    sink.close()


def test_a_reader_of_the_topic_needs_a_partition_it_has_yet_to_discover(
    writer: Writer, reader: Reader, clock: TestClock
) -> None:
    [first, _] = writer.create(replace(EVENTS, partitions=2, retention_us=1))
    write(writer, 0, 10)
    write(writer, 0, 10, TopicPartition("events", 1))
    writer.publish_positions("engine", {AT: Position(first.incarnation, 10)})
    clock.advance("1h")

    writer.maintain(clock.now())

    assert reader.partitions()[AT].start == 10
    assert reader.partitions()[TopicPartition("events", 1)].start == 0


def test_a_reader_not_renewed_for_7_days_is_forgotten_with_a_warning(
    writer: Writer, reader: Reader, clock: TestClock
) -> None:
    [info] = writer.create(replace(EVENTS, retention_us=1))
    write(writer, 0, 10)
    writer.publish_positions("engine", {AT: Position(info.incarnation, 0)})
    clock.advance("7d")
    writer.maintain(clock.now())
    assert reader.partitions()[AT].start == 0

    clock.advance("1s")
    with structlog.testing.capture_logs() as logged:
        writer.maintain(clock.now())
        writer.maintain(clock.now())

    assert reader.partitions()[AT].start == 10
    warnings = [entry for entry in logged if entry["event"] == "reader_forgotten"]
    assert [(entry["reader"], entry["log_level"]) for entry in warnings] == [("engine", "warning")]


def test_a_topic_too_big_because_of_a_reader_is_blocked_not_cut(
    writer: Writer, reader: Reader, clock: TestClock
) -> None:
    [info] = writer.create(replace(EVENTS, retention_bytes=1))
    write(writer, 0, 10)
    writer.publish_positions("engine", {AT: Position(info.incarnation, 5)})

    writer.maintain(clock.now())
    assert (writer.blocked(), reader.partitions()[AT].start) == (frozenset({"events"}), 0)

    writer.publish_positions("engine", {AT: Position(info.incarnation, 10)})
    writer.maintain(clock.now())
    assert (writer.blocked(), reader.partitions()[AT].start) == (frozenset(), 10)


def test_waiting_ends_with_the_next_commit(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    reader.partitions()
    assert not reader.wait(0.01)

    committing = threading.Thread(target=write, args=(writer, 0, 1))
    committing.start()

    assert reader.wait(10)
    committing.join()
    assert read_all(reader) == [0]
    assert not reader.wait(0.01)


def test_a_commit_before_the_wait_is_not_missed(writer: Writer, reader: Reader) -> None:
    writer.create(EVENTS)
    reader.partitions()
    write(writer, 0, 1)

    assert reader.wait(10)


def test_a_new_owner_is_noticed(log: Log, reader: Reader) -> None:
    assert reader.partitions() == {}

    late = log.writer("gateway-3", slot=3)
    late.create(EVENTS)

    assert reader.wait(10)
    assert set(reader.partitions()) == {TopicPartition("events", 192)}
    late.close()


def test_a_listener_is_called_after_commits_until_it_stops(log: Log, writer: Writer) -> None:
    writer.create(EVENTS)
    called = threading.Event()
    stop = log.listen(called.set)
    called.clear()

    write(writer, 0, 1)
    assert called.wait(10)

    stop()
    called.clear()
    other = threading.Event()
    log.listen(other.set)
    write(writer, 1, 1)
    assert other.wait(10)
    assert not called.is_set()


def test_readers_of_many_threads_see_the_same_log(log: Log, writer: Writer) -> None:
    writer.create(EVENTS)
    seen: list[list[int]] = []

    def follow() -> None:
        reader, offset, found = log.reader(), 0, list[int]()
        while len(found) < 50:
            reader.wait(5)
            for batch in reader.read(AT, offset, PLENTY, PLENTY):
                offset = batch.end
                found += batch.frame["number"].to_list()
        reader.close()
        seen.append(found)

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for start in range(50):
        write(writer, start, 1)
    for thread in threads:
        thread.join(30)

    assert seen == [list(range(50))] * 4


def test_there_is_room(writer: Writer) -> None:
    space = writer.space()

    assert space.free_bytes > 0
    assert not space.low
    assert space._replace(free_bytes=space.min_free_bytes - 1).low
