"""What a bench reports, where it was measured, and how figures are drawn from samples."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

SYNCS = 100
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Peer:
    """What another system did with the same bytes; `ratio` is our rows/s over its."""

    name: str
    version: str
    rows_per_s: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Result:
    """One line of figures; a figure that does not apply is None.

    Attributes:
        bench: Name, with what distinguishes a part: `e2e, 10 k rows/s`.
        rows_per_s: Rows (deliveries for `push`) per second, the median of the rounds.
        checked: Every output was compared with the reference answer and was equal.
        target: What DESIGN section 8 asks for, in words.
        met: Whether it was reached; None where there is no target.
        detail: What was measured, in words.
        quick: A short run: the figures show that it works, not how fast, and are not saved.
        load: Average number of runnable processes of the minute before the bench began: others
            on the machine slow it.
        fsync_p95_ms: What making 8 kB durable cost then, on the disk the benches write to: a floor
            for every latency that waits for a commit.
        parts: Further lines of the same bench.
    """

    bench: str
    rows_per_s: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    peak_rss_mb: float | None = None
    cpu_s_per_million_rows: float | None = None
    peers: tuple[Peer, ...] = ()
    checked: bool = False
    machine: str = ""
    commit: str = ""
    target: str = ""
    met: bool | None = None
    detail: str = ""
    quick: bool = False
    load: float | None = None
    fsync_p95_ms: float | None = None
    parts: tuple[Result, ...] = field(default=())

    def __str__(self) -> str:
        """Return the figures as a sentence."""
        figures = [
            ("{:,.0f} rows/s", self.rows_per_s),
            ("p50 {:.2f} ms", self.p50_ms),
            ("p95 {:.2f} ms", self.p95_ms),
            ("p99 {:.2f} ms", self.p99_ms),
            ("{:,.0f} MB", self.peak_rss_mb),
            ("{:.2f} CPU s per million rows", self.cpu_s_per_million_rows),
        ]
        said = [text.format(value) for text, value in figures if value is not None]
        said += [f"{peer.ratio:.1f} x {peer.name} {peer.version}" for peer in self.peers]
        verdict = {None: "", True: "; target met", False: "; target missed"}[self.met]
        goal = f" ({self.target}{verdict})" if self.target else ""
        lines = [f"{self.bench}: {', '.join(said)}{goal}", *map(str, self.parts)]
        return "\n".join(lines)

    def lines(self) -> list[str]:
        """Return one JSON line for this result and one for each part."""
        return [item.line() for item in (replace(self, parts=()), *self.parts)]

    def line(self) -> str:
        """Return everything as one JSON line; parts are nested under `parts`."""
        content = asdict(self)
        if not self.parts:
            del content["parts"]
        return json.dumps(_rounded(content), separators=(", ", ": "))


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Conditions:
    """How busy the machine was before a bench."""

    load: float | None
    fsync_p95_ms: float

    @classmethod
    def now(cls) -> Conditions:
        """Look at the load, and make `SYNCS` blocks durable to see what that costs."""
        with scratch() as folder, (Path(folder) / "probe").open("wb") as file:
            taken = []
            for _ in range(SYNCS):
                file.write(bytes(8192))
                file.flush()
                began = time.perf_counter()
                os.fsync(file.fileno())
                taken.append((time.perf_counter() - began) * 1e3)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return cls(load, float(np.quantile(taken, 0.95)))


def placed(result: Result, conditions: Conditions, *, quick: bool) -> Result:
    """Return `result` and its parts with machine, commit, conditions and `quick` filled in."""
    return replace(
        result,
        machine=machine(),
        commit=commit(),
        load=conditions.load,
        fsync_p95_ms=conditions.fsync_p95_ms,
        quick=quick,
        parts=tuple(placed(part, conditions, quick=quick) for part in result.parts),
    )


@cache
def machine() -> str:
    """Describe this machine: processor, cores, memory, system, Python."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    cores = os.cpu_count() or 1
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        memory = f", {pages / 2**30:.0f} GiB"
    return (
        f"{model}, {cores} cores{memory}, {platform.system()}, Python {platform.python_version()}"
    )


@cache
def commit() -> str:
    """Return the commit of the checkout this package lies in, `-dirty` when sources differ from
    it; the version of an installed wheel.
    """
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - fixed
    except (OSError, subprocess.CalledProcessError):
        from importlib.metadata import version

        return version("headrace")
    return done.stdout.strip()


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder on the disk the checkout lies on, so that durable means that disk."""
    root = checkout()
    place = root / ".bench" if root is not None else None
    if place is not None:
        place.mkdir(exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="data-", dir=place, ignore_cleanup_errors=True)


def checkout() -> Path | None:
    """Return the root of the checkout this package lies in, None for an installed wheel."""
    root = PACKAGE.parents[1]
    return root if (root / "bench" / "peers").is_dir() else None


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Milliseconds below which half, 95 % and 99 % of the samples lie."""

    p50: float
    p95: float
    p99: float


def quantiles(latencies_ns: Sequence[int]) -> Quantiles:
    """Return exact quantiles of latencies in nanoseconds.

    Example:
        >>> quantiles([1_000_000, 2_000_000, 3_000_000]).p50
        2.0
    """
    p50, p95, p99 = np.quantile(np.asarray(latencies_ns, dtype=np.float64) / 1e6, [0.5, 0.95, 0.99])
    return Quantiles(float(p50), float(p95), float(p99))
