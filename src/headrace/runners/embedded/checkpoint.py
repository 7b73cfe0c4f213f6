"""Checkpoints: a folder per step, sealed by a manifest, unchanged parts hard-linked.

A checkpoint is written under a temporary name, every file fsynced, sealed by a manifest with the
SHA-256 of each part, then renamed. The last two valid ones are kept; a broken newest is passed
over for the older.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import structlog

from headrace.core.errors import SnapshotCorruptError
from headrace.core.protocols import TableSpec
from headrace.runners.embedded.step import Snapshot, StatePart

PART_BYTES = 8 * 1024 * 1024
KEEP = 2
_MANIFEST = "manifest.json"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A sealed checkpoint on disk and what it says of itself."""

    path: Path
    step: int
    epoch: int
    fingerprint: str
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Written:
    """Files of a part in the latest checkpoint; `part` is kept so that its id stays its own."""

    part: pl.DataFrame | bytes
    files: tuple[tuple[str, str], ...]


class CheckpointStore:
    """Writes and reads the checkpoints of one engine under `root`.

    Args:
        root: Folder of this engine's checkpoints, made if missing; must be on a local disk.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)
        self._written: dict[int, _Written] = {}
        self._previous: Path | None = None

    def write(
        self, snapshot: Snapshot, *, step: int, epoch: int, fingerprint: str, extra: dict[str, Any]
    ) -> Checkpoint:
        """Write and seal a checkpoint of `step`; `extra` is plain data kept in the manifest.

        Cost: changed parts only; yields to other threads between files of at most 8 MiB.
        """
        final = self.root / f"{step:012d}"
        draft = self.root / f".{step:012d}.tmp"
        for left in self.root.glob(".*"):
            # Only the engine writes here, one checkpoint at a time: a kill left this behind.
            shutil.rmtree(left, ignore_errors=True)
        draft.mkdir()
        written: dict[int, _Written] = {}
        tables = []
        number = 0
        for state in snapshot.tables:
            parts = []
            for part in state.parts:
                known = self._written.get(id(part))
                if known is not None and self._previous is not None:
                    files = known.files
                    for name, _ in files:
                        # Small bytes are one object to Python, so two tables may share a part.
                        if not (draft / name).exists():
                            os.link(self._previous / name, draft / name)
                else:
                    files = tuple(_write_part(draft, step, number, part))
                    number += len(files)
                written[id(part)] = _Written(part, files)
                parts.append(
                    {
                        "type": "blob" if isinstance(part, bytes) else "frame",
                        "files": [{"name": name, "sha256": sha} for name, sha in files],
                    }
                )
                time.sleep(0)
            tables.append(
                {
                    "node": state.node,
                    "table": state.spec.name,
                    "kind": state.spec.kind,
                    "version": state.spec.version,
                    "key": list(state.spec.key),
                    "columns": {name: str(dtype) for name, dtype in state.spec.schema.items()},
                    "parts": parts,
                }
            )
        manifest = {
            "step": step,
            "epoch": epoch,
            "fingerprint": fingerprint,
            "progress": snapshot.progress,
            "tables": tables,
            "extra": extra,
        }
        body = json.dumps(manifest, sort_keys=True).encode()
        sealed = {"sha256": hashlib.sha256(body).hexdigest(), "body": manifest}
        _write_file(draft / _MANIFEST, json.dumps(sealed, sort_keys=True).encode())
        _sync_folder(draft)
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
        _sync_folder(self.root)
        self._written = written
        self._previous = final
        for old in self._folders()[KEEP:]:
            # Renamed first: a kill half way must not leave what looks like a damaged checkpoint.
            gone = self.root / f".{old.name}.old"
            old.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        return Checkpoint(final, step, epoch, fingerprint, manifest)

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint whose manifest and parts are whole, None without one."""
        for checkpoint in self.valid():
            return checkpoint
        return None

    def valid(self) -> list[Checkpoint]:
        """Return all whole checkpoints, newest first; broken ones are logged and passed over."""
        found = []
        for folder in self._folders():
            try:
                found.append(_open(folder))
            except (OSError, ValueError, KeyError, SnapshotCorruptError) as error:
                _log.warning("checkpoint.broken", path=str(folder), error=str(error))
        return found

    def load(self, checkpoint: Checkpoint, specs: dict[tuple[str, str], TableSpec]) -> Snapshot:
        """Read a checkpoint's parts for the tables in `specs`."""
        tables = []
        for entry in checkpoint.manifest["tables"]:
            spec = specs.get((entry["node"], entry["table"]))
            if spec is None:
                continue
            parts: list[pl.DataFrame | bytes] = []
            for part in entry["parts"]:
                files = tuple((file["name"], file["sha256"]) for file in part["files"])
                value = _read_part(checkpoint.path, part["type"], files)
                parts.append(value)
                self._written[id(value)] = _Written(value, files)
            tables.append(StatePart(entry["node"], spec, tuple(parts)))
        self._previous = checkpoint.path
        return Snapshot(checkpoint.manifest["progress"], tables)

    def kept_steps(self) -> list[int]:
        """Return the steps of the checkpoints on disk, newest first."""
        return [int(folder.name) for folder in self._folders()]

    def _folders(self) -> list[Path]:
        return sorted(
            (path for path in self.root.iterdir() if path.is_dir() and path.name.isdigit()),
            reverse=True,
        )


def _open(folder: Path) -> Checkpoint:
    sealed = json.loads((folder / _MANIFEST).read_bytes())
    manifest = sealed["body"]
    body = json.dumps(manifest, sort_keys=True).encode()
    if hashlib.sha256(body).hexdigest() != sealed["sha256"]:
        raise SnapshotCorruptError(f"the manifest of {folder} does not match its seal")
    for entry in manifest["tables"]:
        for part in entry["parts"]:
            for file in part["files"]:
                with (folder / file["name"]).open("rb") as handle:
                    if hashlib.file_digest(handle, "sha256").hexdigest() != file["sha256"]:
                        raise SnapshotCorruptError(f"{folder / file['name']} is damaged")
    return Checkpoint(
        folder, manifest["step"], manifest["epoch"], manifest["fingerprint"], manifest
    )


def _write_part(
    folder: Path, step: int, number: int, part: pl.DataFrame | bytes
) -> list[tuple[str, str]]:
    if isinstance(part, bytes):
        name = f"{step:012d}-{number:06d}.blob"
        return [(name, _write_file(folder / name, part))]
    files = []
    slices = max(1, -(-int(part.estimated_size()) // PART_BYTES))
    rows = max(1, -(-part.height // slices))
    for start in range(0, max(part.height, 1), rows):
        buffer = io.BytesIO()
        part.slice(start, rows).write_ipc(buffer, compression="lz4")
        name = f"{step:012d}-{number:06d}.arrow"
        files.append((name, _write_file(folder / name, buffer.getbuffer())))
        number += 1
        time.sleep(0)
    return files


def _read_part(folder: Path, kind: str, files: Sequence[tuple[str, str]]) -> pl.DataFrame | bytes:
    if kind == "blob":
        return (folder / files[0][0]).read_bytes()
    frames = [pl.read_ipc(io.BytesIO((folder / name).read_bytes())) for name, _ in files]
    return pl.concat(frames).rechunk() if len(frames) > 1 else frames[0].rechunk()


def _write_file(path: Path, data: bytes | memoryview) -> str:
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    return hashlib.sha256(data).hexdigest()


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # pragma: no cover - Windows cannot fsync a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
