"""Who runs the `window` work: headrace itself and the peers whose environments are there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from headrace.bench.events import difference
from headrace.bench.result import checkout
from headrace.core.errors import BugError

Say = Callable[[str], None]
"""Where progress goes."""

TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Run:
    """One timed run of one contender; seconds count from the first byte to the last result."""

    name: str
    version: str
    rows: int
    seconds: float
    whole_s: float
    cpu_s: float
    peak_rss_mb: float


@dataclass(frozen=True, slots=True)
class Contender:
    """A command that takes EVENTS and OUT, writes its results to OUT and prints one JSON line."""

    label: str
    command: tuple[str, ...]
    arguments: tuple[str, ...] = ()

    def run(self, events: Path, expected: pl.DataFrame) -> Run:
        """Run once and compare the output with `expected`.

        Raises:
            BugError: It failed or its output differs; such a figure does not count.
        """
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.csv"
            done = subprocess.run(  # noqa: S603 - our own commands
                [*self.command, str(events), str(out), *self.arguments],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
                env={**os.environ, "POLARS_NO_PARTITION": "1"},
            )
            if done.returncode:
                raise BugError(f"{self.label} failed", hint=done.stderr[-1_000:])
            wrong = difference(pl.read_csv(out), expected)
            if wrong is not None:
                raise BugError(f"{self.label} gave another answer: {wrong}")
        report = json.loads(done.stdout.strip().splitlines()[-1])
        return Run(**{name: report[name] for name in Run.__slots__})


OURS = Contender("headrace", (sys.executable, "-m", "headrace.bench.window_run"))

_PEERS = (("bytewax", ()), ("bytewax", ("documented",)), ("pathway", ()), ("pathway", ("groupby",)))


def peers(say: Say) -> list[Contender]:
    """Return the peers that can run here; say which cannot and how to get them."""
    root = checkout()
    if root is None:
        say("peers run from a checkout only")
        return []
    found = []
    for name, arguments in _PEERS:
        python = root / ".bench" / "peers" / name / "bin" / "python"
        script = root / "bench" / "peers" / name / "window.py"
        if python.exists() and script.exists():
            label = " ".join((name, *arguments))
            found.append(Contender(label, (str(python), str(script)), arguments))
        elif not arguments:
            say(f"{name} is not set up: python bench/peers/setup {name}")
    return found
