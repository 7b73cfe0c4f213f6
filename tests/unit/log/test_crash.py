"""The log on disk after real processes were killed, at random moments and at each named one."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import polars as pl
import pytest

from headrace.core.log import TopicPartition
from headrace.log import SqliteLog
from tests.unit.log.crashing_writer import ROWS, SEGMENT_BYTES
from tests.unit.log.samples import PLENTY, numbers, read_all

KILLS = int(os.environ.get("HEADRACE_KILLS", "4"))
ROOT = Path(__file__).resolve().parents[3]

JOBS = "headrace.log.sqlite.jobs"
UPKEEP = "headrace.log.sqlite.upkeep:Upkeep"
ARCHIVE = "headrace.log.sqlite.upkeep:archive"
POINTS = {
    "a segment is written but has no name": f"{JOBS}:write_segment:after:2",
    "a segment has its name but is in no catalogue": f"{UPKEEP}._sealed:before:2",
    "a segment is in the catalogue but its rows are still in the head": f"{UPKEEP}._sealed:after:2",
    "some rows of a segment are swept from the head": f"{UPKEEP}.sweep:after:8",
    "an archive is written but has no name": f"{JOBS}:publish:before:3",
    "an archive has its name but its rows are still in the log": f"{ARCHIVE}:after:1",
    "old rows are dropped but their file is still there": f"{UPKEEP}._unlink:before:12",
    "rows are inserted but not committed": "headrace.log.sqlite.writer:_insert:after:9",
    "rows are committed but not acknowledged": f"{UPKEEP}.committed:before:9",
    "the WAL was just truncated": "headrace.log.sqlite.head:Head.truncate_wal:after:1",
}


def start(folder: Path, *point: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.log.crashing_writer", str(folder), *point],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged(output: IO[str] | None, at_most: int | None = None) -> list[int]:
    assert output is not None
    found: list[int] = []
    while at_most is None or len(found) < at_most:
        line = output.readline()
        if not line.endswith("\n"):
            break
        found.append(int(line))
    return found


def archived_rows(folder: Path) -> list[int]:
    """Numbers of all archived rows, after checking that each file holds what its name says."""
    found: list[int] = []
    for path in sorted((folder / "archive" / "archived" / "0").glob("*.parquet")):
        first, last = (int(part) for part in path.stem.split("-"))
        inside = pl.read_parquet(path)["number"].to_list()
        assert inside == list(range(first, last + 1))
        assert first == len(found)
        found += inside
    return found


def check(folder: Path, last: int) -> int:
    """Check everything in the log against the last acknowledged commit; return its commits."""
    log = SqliteLog(folder, segment_bytes=SEGMENT_BYTES)
    reader = log.reader()
    found_by_reader = read_all(reader, TopicPartition("kept", 0))
    writer = log.writer("gateway-0")
    infos = reader.partitions()
    kept, archived = (infos[TopicPartition(topic, 0)] for topic in ("kept", "archived"))
    commits, rest = divmod(kept.end, ROWS)
    everything = list(range(kept.end))

    assert rest == 0
    assert commits >= last + 1
    assert archived.end == kept.end
    assert found_by_reader == everything
    assert numbers(reader.read(TopicPartition("kept", 0), 0, PLENTY, PLENTY)) == everything
    inside = numbers(reader.read(TopicPartition("archived", 0), archived.start, PLENTY, PLENTY))
    assert archived_rows(folder)[: archived.start] + inside == everything
    assert writer.records("steps") == [(i, str(i).encode()) for i in range(commits)]
    assert writer.get("last") == (str(commits - 1).encode() if commits else None)
    files = [path.name for path in (folder / "gateway-0" / "segments").iterdir()]
    assert not [name for name in files if not name.endswith(".db")]

    writer.close()
    reader.close()
    log.close()
    return commits


@pytest.mark.crash
def test_nothing_acknowledged_is_lost_by_kills_at_random_moments(tmp_path: Path) -> None:
    last = -1
    for _ in range(KILLS):
        process = start(tmp_path / "data")
        first = acknowledged(process.stdout, 1 + secrets.randbelow(120))
        process.send_signal(signal.SIGKILL)
        last = [last, *first, *acknowledged(process.stdout)][-1]
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()

        assert check(tmp_path / "data", last) > 0


@pytest.mark.crash
@pytest.mark.parametrize("moment", POINTS)
def test_the_log_is_whole_when_killed_while(tmp_path: Path, moment: str) -> None:
    process = start(tmp_path / "data", POINTS[moment])
    done = acknowledged(process.stdout)
    assert process.wait(60) == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()

    before = check(tmp_path / "data", done[-1])

    again = start(tmp_path / "data")
    done = acknowledged(again.stdout, 30)
    again.kill()
    done += acknowledged(again.stdout)
    again.wait(30)
    assert again.stdout is not None
    again.stdout.close()
    assert done[0] == before
    assert check(tmp_path / "data", done[-1]) > before
