"""Keep a step that an operator failed on, so that it can be run again in a test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl

from headrace.plan.graph import Plan
from headrace.runners.embedded.journal import Record, decode_record, encode_record
from headrace.runners.embedded.step import Input

KEEP = 10


def save_failure(
    root: Path, *, record: Record, inputs: list[Input], plan: Plan, trace: str
) -> Path:
    """Write record, input rows, plan and traceback under `root/<step>`; keep the newest ten."""
    folder = root / f"{record.step:012d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "record.msgpack").write_bytes(encode_record(record))
    (folder / "plan.json").write_text(json.dumps(plan.to_json(), indent=1))
    (folder / "traceback.txt").write_text(trace)
    for number, each in enumerate(inputs):
        if each.frame is not None:
            each.frame.write_ipc(folder / f"input-{number:04d}.arrow", compression="lz4")
    for old in sorted(path for path in root.iterdir() if path.is_dir())[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load_failure(folder: Path) -> tuple[Record, list[Input]]:
    """Read back the record and the input rows of a failed step."""
    record = decode_record((folder / "record.msgpack").read_bytes())
    inputs = []
    for number, piece in enumerate(record.slices):
        path = folder / f"input-{number:04d}.arrow"
        frame = pl.read_ipc(path.read_bytes()) if path.exists() else None
        inputs.append(
            Input(
                piece.topic,
                piece.partition,
                piece.incarnation,
                piece.start,
                piece.stop,
                piece.end,
                frame,
            )
        )
    return record, inputs
