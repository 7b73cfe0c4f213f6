"""`window`: JSON bytes → filter → 10 s tumbling windows of 1 000 keys, in memory, beside peers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from headrace.bench.contenders import OURS, Contender, Run, Say, peers
from headrace.bench.events import reference, write_events
from headrace.bench.result import Peer, Result

ROWS = 1_000_000
ROUNDS = 3
QUICK_ROWS = 500_000
TARGET_ROWS_PER_S = 2_000_000
TARGET_RATIO = 20


def run(say: Say, *, quick: bool = False) -> Result:
    """Run every contender `ROUNDS` times in turn over the same file; report medians.

    Raises:
        BugError: A contender failed or gave another answer than the batch reference.
    """
    rows, rounds = (QUICK_ROWS, 1) if quick else (ROWS, ROUNDS)
    contenders = [OURS, *peers(say)]
    runs: dict[Contender, list[Run]] = {contender: [] for contender in contenders}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.ndjson"
        expected = reference(write_events(path, rows))
        for number in range(rounds):
            for contender in contenders:
                one = contender.run(path, expected)
                runs[contender].append(one)
                say(f"round {number + 1}: {contender.label} {one.rows / one.seconds:,.0f} rows/s")
    ours = runs.pop(OURS)
    speed = _speed(ours)
    theirs = tuple(
        Peer(contender.label, each[0].version, _speed(each), speed / _speed(each))
        for contender, each in runs.items()
    )
    ratio = min((peer.ratio for peer in theirs), default=None)
    return Result(
        bench="window",
        rows_per_s=speed,
        peak_rss_mb=max(each.peak_rss_mb for each in ours),
        cpu_s_per_million_rows=median(each.cpu_s / each.rows for each in ours) * 1e6,
        peers=theirs,
        checked=True,
        target=f"≥ {TARGET_ROWS_PER_S:,} rows/s and ≥ {TARGET_RATIO} x the best peer",
        met=speed >= TARGET_ROWS_PER_S and ratio is not None and ratio >= TARGET_RATIO,
        detail=(
            f"{rows:,} JSON lines, 10 s tumbling by 1 000 keys (count, mean, max), steps of up to "
            f"65 536 rows, median of {rounds}; without interpreter start"
        ),
    )


def _speed(runs: list[Run]) -> float:
    return median(each.rows / each.seconds for each in runs)
