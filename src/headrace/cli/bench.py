"""`headrace bench`: measure on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import typer

from headrace.core.errors import ConfigError
from headrace.observe.logs import configure_logs


def run_benches(names: Sequence[str], *, as_json: bool, quick: bool) -> None:
    """Run benches one after the other and print their figures.

    In a checkout the figures of a full run are also written to bench/results. Progress and logs
    go to standard error.

    Args:
        names: Which; all where there are none.
        as_json: Print one JSON line per bench instead of sentences.
        quick: Run each only long enough to show that it works.

    Raises:
        ConfigError: There is no such bench.
    """
    from headrace.bench import suite

    for name in names:
        if name not in suite.NAMES:
            raise ConfigError(f"no bench {name!r}", hint=f"there are {', '.join(suite.NAMES)}")
    configure_logs("cli", "bench", level="warning")
    for name in names or suite.NAMES:
        result = suite.run(name, quick=quick, say=partial(typer.echo, err=True))
        typer.echo(result.line() if as_json else str(result))
        suite.save(result)
