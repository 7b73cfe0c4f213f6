"""`headrace doctor`: is this machine fit, and is the data directory well?"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from headrace.cli.run import read_settings

GIB = 1024**3
NETWORK_DISKS = ("nfs", "cifs", "smb", "fuse.sshfs", "9p")


def examine(data: Path | None) -> None:
    """Print one line per check; exit with 2 when something must be mended."""
    settings = read_settings()
    folder = data or settings.data_dir
    findings = [*_machine(), *_disk(folder), *_dashboard(), *_owners(folder)]
    for good, text, hint in findings:
        mark = typer.style("ok  ", fg="green") if good else typer.style("mend", fg="red")
        typer.echo(f"{mark} {text}" + (f" ({hint})" if hint and not good else ""))
    if not all(good for good, _, _ in findings):
        raise typer.Exit(2)


def _machine() -> list[tuple[bool, str, str]]:
    python = ".".join(map(str, sys.version_info[:3]))
    findings = [(sys.version_info >= (3, 11), f"Python {python}", "3.11 or newer is needed")]
    for package in ("polars", "apsw", "fastapi"):
        try:
            findings.append((True, f"{package} {version(package)}", ""))
        except PackageNotFoundError:
            findings.append((False, f"{package} is missing", "pip install headrace"))
    findings.append(
        (
            os.environ.get("POLARS_NO_PARTITION") == "1",
            "POLARS_NO_PARTITION=1 (bit-exact replay)",
            "set it before Polars is imported",
        )
    )
    findings.append((True, f"{os.cpu_count()} processors, SQLite {sqlite3.sqlite_version}", ""))
    return findings


def _disk(folder: Path) -> list[tuple[bool, str, str]]:
    place = folder if folder.exists() else folder.absolute().parent
    free = shutil.disk_usage(place).free
    findings = [
        (
            free > GIB,
            f"{free / GIB:.1f} GiB free at {place}",
            "below 1 GiB ingest is refused (507)",
        ),
        (os.access(place, os.W_OK), f"{place} can be written", "check owner and mode"),
    ]
    kind = _filesystem(place)
    findings.append(
        (
            not kind.startswith(NETWORK_DISKS),
            f"the data directory lies on {kind or 'a local disk'}",
            "locks and fsync need a local disk",
        )
    )
    return findings


def _filesystem(place: Path) -> str:
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    best = ("", "")
    for line in mounts:
        _, point, kind, *_ = line.split()
        if str(place.absolute()).startswith(point) and len(point) > len(best[0]):
            best = (point, kind)
    return best[1]


def _dashboard() -> list[tuple[bool, str, str]]:
    import headrace

    page = Path(headrace.__file__).parent / "gateway" / "dashboard" / "index.html"
    return [(page.is_file(), "the dashboard is built", "run `make web` in a source checkout")]


def _owners(folder: Path) -> list[tuple[bool, str, str]]:
    statuses = sorted(folder.glob("*/status.json"))
    failures = sorted(folder.glob("*/failed/*"))
    return [
        *((True, f"{status.parent.name} has published its status", "") for status in statuses),
        *((False, f"a step failed: {at}", "headrace replay-step shows why") for at in failures),
    ]
