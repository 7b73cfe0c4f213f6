"""What only the log on disk does: segments, archives, fencing, space, damage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import polars as pl
import pytest

from headrace.core.errors import ConfigError, FencedError, LostRangeError, StateError
from headrace.core.log import Append, Commit, Position, Put, TopicPartition
from headrace.log import SqliteLog, open_log
from headrace.log.memory import MemoryLog
from headrace.log.sqlite import SqliteReader, SqliteWriter
from headrace.testing import TestClock
from tests.unit.log.samples import (
    AT,
    EVENTS,
    PLENTY,
    append,
    numbered,
    numbers,
    read_all,
    write,
)

SEGMENT_BYTES = 20_000


@pytest.fixture
def log(tmp_path: Path, clock: TestClock) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "data", clock=clock, segment_bytes=SEGMENT_BYTES)
    yield log
    log.close()


def keep_up(writer: SqliteWriter, clock: TestClock, times: int = 1) -> None:
    for _ in range(times):
        writer.maintain(clock.now())
        writer.settle()


def segment_files(log: SqliteLog) -> list[str]:
    return sorted(path.name for path in (log.path / "gateway-0" / "segments").iterdir())


def head_rows(log: SqliteLog) -> int:
    db = apsw.Connection(str(log.path / "gateway-0" / "head.db"))
    count = db.execute("SELECT coalesce(sum(rows), 0) FROM batches").get
    db.close()
    assert isinstance(count, int)
    return count


def fill(writer: SqliteWriter, batches: int, rows: int = 10) -> None:
    for number in range(batches):
        write(writer, number * rows, rows)


def test_a_full_partition_is_sealed_with_small_batches_merged(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(EVENTS)
    write(writer, 0, 10)
    batch_bytes = reader.partitions()[AT].bytes
    for number in range(1, 50):
        write(writer, number * 10, 10)

    keep_up(writer, clock, 3)

    after = reader.partitions()[AT]
    assert (after.start, after.end) == (0, 500)
    assert after.bytes < 50 * batch_bytes
    assert segment_files(log) != []
    assert read_all(reader) == list(range(500))
    assert len(reader.read(AT, 0, PLENTY, PLENTY)) < 50


def test_sealed_rows_leave_the_head(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 100)

    keep_up(writer, clock, 6)

    assert head_rows(log) < 1000
    assert read_all(reader) == list(range(1000))


def test_any_cut_of_sealed_rows_reads_the_same(
    writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 60, rows=7)
    keep_up(writer, clock, 3)
    fill(writer, 5, rows=7)

    for step in (1, 13, 100, 1000):
        offset, found = 0, list[int]()
        while batches := reader.read(AT, offset, step, PLENTY):
            assert sum(batch.frame.height for batch in batches) <= step
            assert batches[0].start == offset
            found += numbers(batches)
            offset = batches[-1].end
        assert found == [*range(420), *range(35)]


def test_merging_keeps_where_the_watermark_changed(
    writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(EVENTS)
    for number in range(60):
        frame = numbered(number * 10, 10)
        writer.commit([Commit([append(frame, watermark=number // 4, arrival_us=number + 1)])])
    keep_up(writer, clock, 3)

    batches = reader.read(AT, 0, 120, PLENTY)

    assert [(batch.start, batch.end, batch.watermark) for batch in batches] == [
        (0, 40, 0),
        (40, 80, 1),
        (80, 120, 2),
    ]
    assert batches[0].arrival_us == 4


def test_rows_of_two_schemas_are_not_merged(
    writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 20)
    wider = pl.DataFrame({"number": [200], "name": ["x"], "depth_m": [1.5]})
    writer.create(replace(EVENTS, schema=wider.schema))
    writer.commit([Commit([Append(*AT, wider, 1)])])
    fill(writer, 40)

    keep_up(writer, clock, 3)

    [batch] = reader.read(AT, 200, 1, PLENTY)
    assert batch.frame.equals(wider)
    assert reader.read(AT, 199, 1, PLENTY)[0].frame.width == 2


def test_old_rows_are_sealed_when_they_fill_a_sixteenth(
    log: SqliteLog, writer: SqliteWriter, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 4)
    keep_up(writer, clock, 2)
    assert segment_files(log) == []

    clock.advance("1h")
    keep_up(writer, clock, 2)

    assert len(segment_files(log)) == 1


def test_commits_seal_a_full_head_without_maintenance(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader
) -> None:
    writer.create(EVENTS)

    for number in range(300):
        write(writer, number * 10, 10)
        writer.settle()

    assert len(segment_files(log)) > 5
    assert head_rows(log) < 1000
    assert read_all(reader) == list(range(3000))


def test_retention_drops_whole_segments_and_their_files(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(replace(EVENTS, retention_us=3_600_000_000))
    fill(writer, 60)
    keep_up(writer, clock, 3)
    sealed = segment_files(log)
    clock.advance("61m")
    write(writer, 600, 10)

    keep_up(writer, clock, 2)

    assert sealed != []
    assert segment_files(log) == []
    assert reader.partitions()[AT].start == 600
    assert read_all(reader) == list(range(600, 610))
    with pytest.raises(LostRangeError, match="rows 0 to 599"):
        reader.read(AT, 0, PLENTY, PLENTY)


def test_a_reader_goes_on_while_the_segment_it_reads_is_dropped(
    writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(replace(EVENTS, retention_us=3_600_000_000))
    fill(writer, 60)
    keep_up(writer, clock, 3)
    assert numbers(reader.read(AT, 0, 5, PLENTY)) == [0, 1, 2, 3, 4]
    clock.advance("2h")
    write(writer, 600, 10)
    keep_up(writer, clock, 2)

    with pytest.raises(LostRangeError):
        reader.read(AT, 5, 5, PLENTY)
    assert numbers(reader.read(AT, 600, 5, PLENTY)) == [600, 601, 602, 603, 604]


def test_expired_rows_are_archived_to_parquet_before_they_go(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(replace(EVENTS, retention_us=3_600_000_000, archive=True))
    fill(writer, 60)
    keep_up(writer, clock, 3)
    clock.advance("3h")

    keep_up(writer, clock, 10)

    folder = log.path / "archive" / "events" / "0"
    files = sorted(folder.iterdir())
    assert {path.suffix for path in files} == {".parquet"}
    assert pl.concat([pl.read_parquet(path) for path in files]).equals(numbered(0, 600))
    spans = [tuple(int(part) for part in path.stem.split("-")) for path in files]
    assert [first for first, _ in spans] == [0, *(last + 1 for _, last in spans[:-1])]
    assert reader.partitions()[AT].start == 600


def test_the_archive_of_a_dropped_topic_is_kept_apart(
    log: SqliteLog, writer: SqliteWriter, clock: TestClock
) -> None:
    [old] = writer.create(replace(EVENTS, retention_us=1, archive=True))
    write(writer, 0, 10)
    clock.advance("2h")
    keep_up(writer, clock, 4)

    writer.drop("events")
    writer.create(replace(EVENTS, retention_us=1, archive=True))
    write(writer, 100, 10)
    clock.advance("2h")
    keep_up(writer, clock, 4)

    folder = log.path / "archive" / "events"
    kept = {path.parent.name: pl.read_parquet(path) for path in folder.rglob("*.parquet")}
    assert sorted(kept) == ["0", f"0-{old.incarnation}"]
    assert kept["0"].equals(numbered(100, 10))
    assert kept[f"0-{old.incarnation}"].equals(numbered(0, 10))


def test_a_topic_dropped_while_it_is_sealed_leaves_nothing(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 60)
    writer.maintain(clock.now())
    writer.drop("events")
    writer.create(EVENTS)
    write(writer, 900, 5)

    keep_up(writer, clock, 3)

    assert read_all(reader) == list(range(900, 905))
    assert segment_files(log) == []
    assert head_rows(log) == 5


def test_a_segment_file_that_was_removed_is_named(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 60)
    keep_up(writer, clock, 3)
    for name in segment_files(log):
        (log.path / "gateway-0" / "segments" / name).unlink()

    with pytest.raises(StateError, match=r"segments/1-0+\.db is missing"):
        reader.read(AT, 0, PLENTY, PLENTY)


def test_an_archive_waits_for_the_slowest_reader(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    [info] = writer.create(replace(EVENTS, retention_us=3_600_000_000, archive=True))
    fill(writer, 60)
    writer.publish_positions("engine", {AT: Position(info.incarnation, 0)})
    clock.advance("3h")
    keep_up(writer, clock, 6)
    assert not (log.path / "archive").exists()
    assert reader.partitions()[AT].start == 0

    writer.publish_positions("engine", {AT: Position(info.incarnation, 600)})
    keep_up(writer, clock, 10)

    assert reader.partitions()[AT].start == 600


def test_a_stale_epoch_is_fenced_and_writes_nothing(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader
) -> None:
    writer.create(EVENTS)
    write(writer, 0, 3)
    usurper = apsw.Connection(str(log.path / "gateway-0" / "head.db"))
    usurper.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
    usurper.close()

    with pytest.raises(FencedError, match="gateway-0"):
        write(writer, 3, 3)
    with pytest.raises(FencedError):
        writer.publish_positions("engine", {AT: Position("x", 0)})

    assert read_all(reader) == [0, 1, 2]


def test_another_process_cannot_open_a_held_owner(log: SqliteLog, writer: SqliteWriter) -> None:
    script = (
        "import sys\n"
        "from headrace.core.errors import StateError\n"
        "from headrace.log import SqliteLog\n"
        "try:\n"
        "    SqliteLog(sys.argv[1]).writer('gateway-0')\n"
        "except StateError as error:\n"
        "    sys.exit(str(error))\n"
    )

    found = subprocess.run(
        [sys.executable, "-c", script, str(log.path)], capture_output=True, text=True, check=False
    )

    assert "'gateway-0' is held by another process" in found.stderr
    assert writer.epoch == 1


def test_leftovers_of_a_killed_writer_are_removed(log: SqliteLog) -> None:
    log.writer("gateway-0").close()
    leftover = log.path / "gateway-0" / "segments" / "1-00000000000000000000.tmp"
    leftover.write_bytes(b"half a segment")
    orphan = leftover.with_name("7-00000000000000000000.db")
    orphan.write_bytes(b"a segment that no catalogue names")

    log.writer("gateway-0").close()

    assert segment_files(log) == []


def test_readers_wait_for_a_head_that_is_being_created(
    log: SqliteLog, reader: SqliteReader
) -> None:
    (log.path / "gateway-0").mkdir(parents=True)
    (log.path / "archive").mkdir()
    (log.path / "notes.txt").write_text("not an owner")
    assert reader.partitions() == {}

    writer = log.writer("gateway-0")
    writer.create(EVENTS)

    assert set(reader.partitions()) == {AT}
    writer.close()


def test_a_folder_without_a_head_may_have_a_status(
    log: SqliteLog, reader: SqliteReader, writer: SqliteWriter
) -> None:
    writer.publish_status(b"up")
    (log.path / "supervisor").mkdir()
    (log.path / "supervisor" / "status.json").write_bytes(b"{}")

    assert reader.statuses() == {"gateway-0": b"up", "supervisor": b"{}"}
    assert reader.partitions() == {}


def test_a_head_of_a_newer_headrace_is_refused(log: SqliteLog, reader: SqliteReader) -> None:
    log.writer("gateway-0").close()
    db = apsw.Connection(str(log.path / "gateway-0" / "head.db"))
    db.pragma("user_version", 99)
    db.close()

    with pytest.raises(StateError, match="format 99"):
        log.writer("gateway-0")
    with pytest.raises(StateError, match="format 99"):
        reader.partitions()


def test_damaged_rows_are_named(log: SqliteLog, writer: SqliteWriter, reader: SqliteReader) -> None:
    writer.create(EVENTS)
    write(writer, 0, 10)
    db = apsw.Connection(str(log.path / "gateway-0" / "head.db"))
    db.execute("UPDATE batches SET payload = x'00ff'")
    db.close()

    with pytest.raises(StateError, match="rows 0 to 9 of 'events' partition 0 are damaged"):
        reader.read(AT, 0, PLENTY, PLENTY)


def test_two_owners_of_one_partition_are_noticed_by_readers(
    log: SqliteLog, writer: SqliteWriter, reader: SqliteReader
) -> None:
    writer.create(EVENTS)
    other = SqliteLog(log.path.parent / "copy")
    copied = other.writer("gateway-1")
    copied.create(EVENTS)
    copied.close()
    other.close()
    (other.path / "gateway-1").rename(log.path / "gateway-1")

    with pytest.raises(StateError, match="'gateway-0' and 'gateway-1' both write"):
        reader.partitions()


def test_the_wal_is_truncated_once_nothing_is_committed(
    writer: SqliteWriter, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 20)
    assert writer.space().wal_bytes > 0

    writer.maintain(clock.now())
    assert writer.space().wal_bytes > 0
    writer.maintain(clock.now())

    assert writer.space().wal_bytes == 0


def test_readers_never_hold_back_the_wal(
    writer: SqliteWriter, reader: SqliteReader, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 20)

    assert len(reader.read(AT, 0, PLENTY, PLENTY)) == 20
    reader.positions()
    writer.maintain(clock.now())
    writer.maintain(clock.now())

    assert writer.space().wal_bytes == 0


def test_idle_maintenance_writes_nothing(
    log: SqliteLog, writer: SqliteWriter, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 3)
    keep_up(writer, clock, 3)
    head = log.path / "gateway-0" / "head.db"
    before = head.stat().st_mtime_ns

    keep_up(writer, clock, 5)

    assert head.stat().st_mtime_ns == before
    assert writer.space().wal_bytes == 0


def test_expired_values_leave_the_file(
    log: SqliteLog, writer: SqliteWriter, clock: TestClock
) -> None:
    expires = clock.now() + 1
    for number in range(50):
        writer.commit([Commit(puts=[Put(f"key {number}", b"answer", expires)])])
    clock.advance("1s")

    for number in range(10):
        writer.commit([Commit(puts=[Put(f"new {number}", b"answer")])])
    keep_up(writer, clock)

    db = apsw.Connection(str(log.path / "gateway-0" / "head.db"))
    [(count,)] = db.execute("SELECT count(*) FROM entries").fetchall()
    db.close()
    assert count == 10


def test_a_dropped_topic_leaves_no_rows_behind(
    log: SqliteLog, writer: SqliteWriter, clock: TestClock
) -> None:
    writer.create(EVENTS)
    fill(writer, 60)
    keep_up(writer, clock, 3)
    fill(writer, 5)

    writer.drop("events")
    keep_up(writer, clock, 3)
    writer.close()
    log.writer("gateway-0").close()

    assert head_rows(log) == 0
    assert segment_files(log) == []


def test_room_is_low_below_what_was_set(tmp_path: Path) -> None:
    free = SqliteLog(tmp_path / "a", min_free_bytes=0).writer("gateway-0")
    full = SqliteLog(tmp_path / "b", min_free_bytes=1 << 60).writer("gateway-0")
    default = SqliteLog(tmp_path / "c").writer("gateway-0")

    assert (free.space().low, full.space().low) == (False, True)
    assert 0 < default.space().min_free_bytes <= 1024**3
    for writer in (free, full, default):
        writer.close()


@pytest.mark.parametrize("owner", ["", "archive", "../up", "a/b", ".hidden"])
def test_a_name_that_is_no_folder_is_refused(log: SqliteLog, owner: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a folder"):
        log.writer(owner)


def test_topics_with_any_name_are_archived(
    log: SqliteLog, writer: SqliteWriter, clock: TestClock
) -> None:
    at = TopicPartition("a/../b c", 0)
    writer.create(replace(EVENTS, name=at.topic, retention_us=1, archive=True))
    write(writer, 0, 10, at)
    clock.advance("2h")

    keep_up(writer, clock, 4)

    [path] = (log.path / "archive").rglob("*.parquet")
    assert path.parent.parent.name == "a%2F..%2Fb%20c"


def test_a_url_says_which_log() -> None:
    memory, folder, drive = open_log("memory:"), open_log("some/data"), open_log("C:\\data")

    assert isinstance(memory, MemoryLog)
    assert isinstance(folder, SqliteLog)
    assert folder.path == Path("some/data")
    assert isinstance(drive, SqliteLog)
    with pytest.raises(ConfigError, match="kafka"):
        open_log("kafka://broker:9092")
