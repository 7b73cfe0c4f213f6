"""Checkpoints on disk: what a kill leaves behind, and parts that are one object."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import structlog.testing

from headrace.core.protocols import TableSpec
from headrace.runners.embedded.checkpoint import Checkpoint, CheckpointStore
from headrace.runners.embedded.step import Snapshot, StatePart

ROWS = TableSpec("kept", "rows", pl.Schema({"x": pl.Int64}))
BLOB = TableSpec("count", "blob")
FRAME = pl.DataFrame({"x": [1, 2]})


def write(store: CheckpointStore, step: int, blob: bytes = b"1") -> Checkpoint:
    # Bytes of one character are one object to Python, here in two tables.
    tables = [
        StatePart("a", ROWS, (FRAME,)),
        StatePart("a", BLOB, (blob,)),
        StatePart("b", BLOB, (blob,)),
    ]
    return store.write(
        Snapshot({"clock": step}, tables), step=step, epoch=1, fingerprint="f", extra={}
    )


def test_tables_may_share_a_part_over_several_checkpoints(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2, 3):
        written = write(store, step)

    loaded = store.load(written, {("a", "kept"): ROWS, ("a", "count"): BLOB, ("b", "count"): BLOB})

    assert [part.parts[0] for part in loaded.tables[1:]] == [b"1", b"1"]
    assert loaded.tables[0].parts[0].equals(FRAME)  # type: ignore[union-attr]  # a rows table


def test_a_part_that_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    first, second = write(store, 1), write(store, 2)

    (name,) = (file.name for file in first.path.glob("*.arrow"))

    assert (first.path / name).stat().st_ino == (second.path / name).stat().st_ino


def test_only_the_last_two_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in range(5):
        write(store, step)

    assert store.kept_steps() == [4, 3]


@pytest.mark.parametrize("left", [".000000000009.tmp", ".000000000001.old"])
def test_what_a_kill_left_behind_is_no_checkpoint_and_goes(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir()
    (tmp_path / left / "part.arrow").write_bytes(b"half")
    store = CheckpointStore(tmp_path)
    write(store, 10)

    with structlog.testing.capture_logs() as logs:
        newest = store.newest()

    assert newest is not None
    assert newest.step == 10
    assert not logs
    assert [path.name for path in tmp_path.iterdir()] == ["000000000010"]


def test_a_damaged_newest_falls_back_to_the_older(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    write(store, 1, b"older")
    newest = write(store, 2, b"newer")
    (blob, *_) = newest.path.glob("*.blob")
    blob.write_bytes(b"other")

    with structlog.testing.capture_logs() as logs:
        found = CheckpointStore(tmp_path).newest()

    assert found is not None
    assert found.step == 1
    assert [entry["event"] for entry in logs] == ["checkpoint.broken"]
