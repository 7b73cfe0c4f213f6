"""Full disks, read-only files and failed syncs: nothing is lost, and it is said which it was."""

from __future__ import annotations

import hashlib
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import polars as pl
import pytest
import structlog.testing

from headrace.core.errors import StateError, StorageFullError
from headrace.core.log import Append, Commit, Put, TopicPartition, TopicSpec
from headrace.log import SqliteLog
from headrace.log.sqlite import SqliteWriter
from headrace.log.sqlite.statements import storage_error
from headrace.testing import TestClock
from tests.unit.log.samples import EVENTS, PLENTY, append, numbered, read_all, write

MOUNT = "/bin/mount"
UNMOUNT = "/bin/umount"
FILLER = TopicSpec("filler", pl.Schema({"text": pl.String}))
FILLING = TopicPartition("filler", 0)


@pytest.fixture
def heads() -> Iterator[list[apsw.Connection]]:
    """Every connection opened during the test, in order; a writer's head is its first."""
    opened: list[apsw.Connection] = []
    apsw.connection_hooks.append(opened.append)
    yield opened
    apsw.connection_hooks.remove(opened.append)


@pytest.fixture
def log(tmp_path: Path, clock: TestClock) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "data", clock=clock)
    yield log
    log.close()


@pytest.fixture
def writer(heads: list[apsw.Connection], log: SqliteLog) -> Iterator[SqliteWriter]:
    assert heads == []
    writer = log.writer("gateway-0")
    writer.create(EVENTS)
    write(writer, 0, 3)
    yield writer
    writer.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 3 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = [MOUNT, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run([UNMOUNT, "-l", str(place)], check=True)


@contextmanager
def no_file_longer_than(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def long_commit(size: int = 200_000) -> Commit:
    # Digests, because lz4 cannot shorten them.
    texts = [hashlib.shake_256(str(i).encode()).hexdigest(500) for i in range(size // 1000)]
    frame = pl.DataFrame({"text": texts})
    return Commit([Append(*FILLING, frame, frame.height)], [("steps", b"x")], [Put("k", b"v")])


def fill(writer: SqliteWriter) -> Iterator[int]:
    """Commit until there is no room; yield the rows written so far after each commit."""
    rows = 0
    while True:
        [[appended]] = writer.commit([long_commit(100_000)])
        rows = appended.end
        yield rows


def test_a_commit_that_finds_no_room_writes_nothing_and_may_be_repeated(
    log: SqliteLog, writer: SqliteWriter, heads: list[apsw.Connection]
) -> None:
    writer.create(FILLER)
    commits = [Commit([append(numbered(3, 2))]), long_commit()]
    pages = heads[0].pragma("page_count")
    assert isinstance(pages, int)
    heads[0].pragma("max_page_count", pages + 4)

    with pytest.raises(StorageFullError, match="nothing was written"):
        writer.commit(commits)

    reader = log.reader()
    assert read_all(reader) == [0, 1, 2]
    assert (writer.records("steps"), writer.get("k")) == ([], None)
    heads[0].pragma("max_page_count", 1 << 30)
    assert writer.commit(commits)[0][0] == ("events", 0, 3, 5)
    assert read_all(reader) == [0, 1, 2, 3, 4]
    assert writer.records("steps") == [(0, b"x")]
    reader.close()


def test_a_failed_write_of_the_system_writes_nothing_and_may_be_repeated(
    log: SqliteLog, writer: SqliteWriter
) -> None:
    writer.create(FILLER)

    with no_file_longer_than(writer.space().wal_bytes + 50_000), pytest.raises(StorageFullError):
        writer.commit([long_commit()])

    assert writer.commit([long_commit()])[0][0] == ("filler", 0, 0, 200)
    writer.close()
    reopened = log.writer("gateway-0")
    assert reopened.records("steps") == [(0, b"x")]
    reopened.close()


def test_a_read_only_file_takes_nothing_and_says_so(
    log: SqliteLog, writer: SqliteWriter, heads: list[apsw.Connection]
) -> None:
    heads[0].pragma("query_only", True)

    with pytest.raises(StorageFullError, match="readonly"):
        write(writer, 3, 2)
    with pytest.raises(StorageFullError):
        writer.create(FILLER)

    heads[0].pragma("query_only", False)
    write(writer, 3, 2)
    reader = log.reader()
    assert read_all(reader) == [0, 1, 2, 3, 4]
    reader.close()


def test_an_unknown_outcome_stops_the_writer_for_good(
    log: SqliteLog, writer: SqliteWriter, heads: list[apsw.Connection]
) -> None:
    heads[0].set_commit_hook(lambda: True)

    with pytest.raises(StateError, match="whether it was written is unknown"):
        write(writer, 3, 2)

    heads[0].set_commit_hook(None)
    with pytest.raises(StateError, match="an earlier commit is unknown"):
        write(writer, 3, 2)
    writer.close()
    reader = log.reader()
    assert read_all(reader) == [0, 1, 2]
    reader.close()


@pytest.mark.parametrize(
    ("code", "sure", "kind"),
    [
        (apsw.SQLITE_FULL, False, StorageFullError),
        (apsw.SQLITE_READONLY_DBMOVED, False, StorageFullError),
        (apsw.SQLITE_CANTOPEN, True, StorageFullError),
        (apsw.SQLITE_IOERR_WRITE, False, StorageFullError),
        (apsw.SQLITE_IOERR_FSYNC, True, StorageFullError),
        (apsw.SQLITE_IOERR_FSYNC, False, StateError),
        (apsw.SQLITE_IOERR_DIR_FSYNC, False, StateError),
        (apsw.SQLITE_BUSY, True, StateError),
        (apsw.SQLITE_CORRUPT, True, StateError),
    ],
)
def test_each_error_says_whether_the_commit_may_be_repeated(
    code: int, sure: bool, kind: type[Exception]
) -> None:
    error = apsw.exception_for(code)
    assert isinstance(error, apsw.Error)

    assert type(storage_error(error, "commit", sure=sure)) is kind


def test_an_interrupted_commit_leaves_the_writer_usable(
    log: SqliteLog, writer: SqliteWriter, heads: list[apsw.Connection]
) -> None:
    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    heads[0].set_commit_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(writer, 3, 2)
    heads[0].set_commit_hook(None)

    write(writer, 3, 2)

    reader = log.reader()
    assert read_all(reader) == [0, 1, 2, 3, 4]
    reader.close()


def test_a_full_disk_refuses_rows_and_goes_on_once_there_is_room(small_disk: Path) -> None:
    log = SqliteLog(small_disk / "data", min_free_bytes=1 << 20)
    writer, reader = log.writer("gateway-0"), log.reader()
    writer.create(FILLER)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    written: list[int] = []
    assert not writer.space().low

    with pytest.raises(StorageFullError):
        written.extend(fill(writer))

    assert writer.space().low
    assert written != []
    with pytest.raises(StorageFullError):
        writer.commit([long_commit(100_000)])
    assert reader.partitions()[FILLING].end == written[-1]
    ballast.unlink()
    writer.commit([long_commit(100_000)])
    writer.close()

    again = log.writer("gateway-0")
    assert len(again.records("steps")) == len(written) + 1
    [*_, last] = reader.read(FILLING, 0, PLENTY, PLENTY)
    assert last.end == written[-1] + 100
    again.close()
    reader.close()
    log.close()


def test_a_read_only_disk_refuses_writers_and_rows(small_disk: Path) -> None:
    log = SqliteLog(small_disk / "data")
    writer = log.writer("gateway-0")
    writer.create(EVENTS)
    write(writer, 0, 3)
    reader = log.reader()
    assert read_all(reader) == [0, 1, 2]
    writer.close()

    # Readers hold files open for writing (shared memory), so they must go before a remount.
    reader.close()
    subprocess.run([MOUNT, "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(StorageFullError):
        log.writer("gateway-0")
    with pytest.raises(StorageFullError):
        log.writer("gateway-1")
    log.close()


def test_sealing_without_room_loses_nothing_and_is_tried_again(
    tmp_path: Path, clock: TestClock
) -> None:
    log = SqliteLog(tmp_path / "data", clock=clock, segment_bytes=300_000)
    writer, reader = log.writer("gateway-0"), log.reader()
    writer.create(FILLER)
    for _ in range(2):
        writer.commit([long_commit(100_000)])
    clock.advance("1h")

    with no_file_longer_than(100_000), structlog.testing.capture_logs() as logged:
        writer.maintain(clock.now())
        writer.settle()

    writer.maintain(clock.now())
    clock.advance("10s")
    writer.maintain(clock.now())
    writer.settle()
    assert [entry["event"] for entry in logged] == ["upkeep_failed"]
    assert sum(batch.frame.height for batch in reader.read(FILLING, 0, PLENTY, PLENTY)) == 200
    assert len(list((tmp_path / "data" / "gateway-0" / "segments").glob("*.db"))) == 1
    writer.close()
    reader.close()
    log.close()


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")

    with pytest.raises(StorageFullError, match="cannot write"):
        SqliteLog(tmp_path / "data").writer("gateway-0")
