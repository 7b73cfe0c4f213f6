"""Runs the Nexmark queries in headrace and in every peer that is set up, in turn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import polars as pl

from headrace.bench.contenders import Say
from headrace.bench.nexmark.answers import answer, difference, normal
from headrace.bench.nexmark.events import SCHEMAS, generate
from headrace.bench.nexmark.queries import QUERIES
from headrace.bench.result import Peer, Result, checkout, quantiles
from headrace.core.errors import BugError

ROWS: Final = 1_000_000
QUICK_ROWS: Final = 200_000
ROUNDS: Final = 3
TIMEOUT_S: Final = 900
PYTHON_RATIO: Final = 10
PEERS: Final = ("bytewax", "pathway", "flink")

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contender:
    """A command that takes FOLDER, OUT and queries, and prints a JSON line for each it can run."""

    name: str
    command: tuple[str, ...]

    def run(
        self, folder: Path, names: Sequence[str], expected: Mapping[str, pl.DataFrame]
    ) -> list[Report]:
        """Run the queries once each and compare their answers with `expected`.

        Raises:
            BugError: It failed, or gave another answer; such a figure does not count.
        """
        with tempfile.TemporaryDirectory() as out:
            done = subprocess.run(  # noqa: S603 - our own commands
                [*self.command, str(folder), out, *names],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
                env={**os.environ, "POLARS_NO_PARTITION": "1"},
            )
            if done.returncode:
                raise BugError(f"{self.name} failed", hint=done.stderr[-2_000:])
            reports = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
            for report in reports:
                name = report["query"]
                right = expected[name]
                given = pl.read_csv(Path(out) / f"{name}.csv", schema=right.schema)
                wrong = difference(normal(name, given), right)
                if wrong is not None:
                    raise BugError(f"{self.name} gave another answer to {name}: {wrong}")
        return reports


OURS: Final = Contender("headrace", (sys.executable, "-m", "headrace.bench.nexmark.ours"))


def peers(say: Say) -> list[Contender]:
    """Return the peers that can run here; say which cannot and how to get them."""
    root = checkout()
    if root is None:
        say("peers run from a checkout only")
        return []
    found = []
    for name in PEERS:
        python = root / ".bench" / "peers" / name / "bin" / "python"
        script = root / "bench" / "peers" / name / "nexmark.py"
        if name == "flink" and shutil.which("javac") is None:
            say("flink needs a JDK: there is no javac on the path")
        elif python.exists():
            found.append(Contender(name, (str(python), str(script))))
        else:
            say(f"{name} is not set up: python bench/peers/setup {name}")
    return found


def write_csv(frame: pl.DataFrame, path: Path) -> None:
    """Write events as every contender reads them: times in microseconds, `id` as `number`, since
    Pathway keeps the name `id` for itself.
    """
    times = pl.selectors.datetime().dt.epoch("us")
    frame.with_columns(times).rename({"id": "number"}, strict=False).write_csv(path)


def run(say: Say, *, quick: bool = False) -> Result:
    """Run every query in every contender `ROUNDS` times in turn; report medians.

    Raises:
        BugError: A contender failed or gave another answer than DuckDB.
        ConfigError: DuckDB is not installed.
    """
    rows, rounds = (QUICK_ROWS, 1) if quick else (ROWS, ROUNDS)
    names = list(QUERIES)
    contenders = [OURS, *peers(say)]
    runs: dict[tuple[str, str], list[Report]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        events = generate(rows)
        events.write(folder)
        expected = {name: answer(name, folder) for name in names}
        for kind in SCHEMAS:
            write_csv(events.of(kind), folder / f"{kind}.csv")
        del events
        for number in range(rounds):
            for contender in contenders:
                for report in contender.run(folder, names, expected):
                    runs.setdefault((report["query"], contender.name), []).append(report)
                    speed = f"{report['rows'] / report['seconds']:,.0f} rows/s"
                    say(f"round {number + 1}: {contender.name} {report['query']} {speed}")
    parts = tuple(_part(name, runs, rows, rounds) for name in names)
    return _whole(parts, runs, names)


def _speed(reports: Sequence[Report]) -> float:
    return float(median(report["rows"] / report["seconds"] for report in reports))


def _part(
    name: str, runs: Mapping[tuple[str, str], Sequence[Report]], rows: int, rounds: int
) -> Result:
    ours = runs[name, OURS.name]
    speed = _speed(ours)
    theirs = tuple(
        Peer(peer, reports[0]["version"], _speed(reports), speed / _speed(reports))
        for peer in PEERS
        if (reports := runs.get((name, peer)))
    )
    spread = quantiles([ns for report in ours for ns in report["steps_ns"]])
    read = "and".join(f" {kind}s " for kind in QUERIES[name].reads).strip()
    return Result(
        bench=f"nexmark, {name}",
        rows_per_s=speed,
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        peak_rss_mb=max(report["peak_rss_mb"] for report in ours),
        cpu_s_per_million_rows=median(each["cpu_s"] / each["rows"] for each in ours) * 1e6,
        peers=theirs,
        checked=True,
        target=f"≥ {PYTHON_RATIO} x Python peers, ≥ Flink SQL" if theirs else "",
        met=all(_reached(peer) for peer in theirs) if theirs else None,
        detail=(
            f"{ours[0]['rows']:,} {read} of {rows:,} events, answers equal to DuckDB's; ms are "
            f"per step of 65 536 events; median of {rounds}; without start-up"
        ),
    )


def _reached(peer: Peer) -> bool:
    return peer.ratio >= (1 if peer.name == "flink" else PYTHON_RATIO)


def _whole(
    parts: tuple[Result, ...],
    runs: Mapping[tuple[str, str], Sequence[Report]],
    names: Sequence[str],
) -> Result:
    ours = [runs[name, OURS.name] for name in names]
    rows = sum(reports[0]["rows"] for reports in ours)
    judged = [part.met for part in parts if part.met is not None]
    return Result(
        bench="nexmark",
        rows_per_s=rows / sum(median(r["seconds"] for r in reports) for reports in ours),
        peak_rss_mb=max(part.peak_rss_mb or 0.0 for part in parts),
        cpu_s_per_million_rows=sum(median(r["cpu_s"] for r in reports) for reports in ours)
        / rows
        * 1e6,
        checked=all(part.checked for part in parts),
        target=f"≥ {PYTHON_RATIO} x Python peers, ≥ Flink SQL, in every query" if judged else "",
        met=all(judged) if judged else None,
        detail=f"{', '.join(names)} one after the other; each is a line of its own",
        parts=parts,
    )
