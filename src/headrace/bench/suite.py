"""All benches by name; what `headrace bench` calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from headrace.bench.result import Conditions, Result, checkout, placed
from headrace.core.errors import ConfigError

NAMES = (
    "window",
    "geofence",
    "detect",
    "nab",
    "predict",
    "log",
    "ingest",
    "e2e",
    "push",
    "alerts",
    "recover",
    "join",
    "pattern",
    "rules",
    "nexmark",
    "voxel",
)
"""Every bench; each is the function `run(say, quick=)` of the module of its name."""


def run(name: str, *, quick: bool = False, say: Callable[[str], None] = lambda _: None) -> Result:
    """Run the bench `name` and return its figures.

    Args:
        name: One of `NAMES`.
        quick: A short run whose figures show that it works, not how fast.
        say: Takes progress, a line at a time.

    Raises:
        ConfigError: There is no such bench.
        BugError: An output differed from the reference answer: no figure counts then.
        OutsideError: A server did not start.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no bench {name!r}", hint=f"have {', '.join(NAMES)}")
    before = Conditions.now()
    module = importlib.import_module(f"headrace.bench.{name}")
    return placed(module.run(say, quick=quick), before, quick=quick)


def save(result: Result) -> Path | None:
    """Write `result`, one JSON line for it and each part, to bench/results of the checkout.

    Returns the file; None for a quick run and where there is no checkout, as in a wheel.
    """
    root = checkout()
    if root is None or result.quick:
        return None
    path = root / "bench" / "results" / f"{result.bench.partition(',')[0]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(result.lines()) + "\n")
    return path
