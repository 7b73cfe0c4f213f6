"""Write the README's table of figures from bench/results/*.json, or check that it is current."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START = "<!-- bench: written by tools/bench_table.py from bench/results/*.json -->"
END = "<!-- /bench -->"

HEADERS = (
    "bench",
    "target",
    "rows/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "peak MB",
    "CPU s/M rows",
    "peers",
)


def number(value: float | None) -> str:
    """Return a figure with as many digits as anybody can use.

    Example:
        >>> [number(value) for value in (2_345_678.9, 41.26, 3.14159, None)]
        ['2,345,679', '41.3', '3.14', '-']
    """
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2  # noqa: PLR2004 - three digits in all
    return f"{value:,.{digits}f}"


def peer(result: dict[str, Any]) -> str:
    """Return one peer's figure and how many times faster we are."""
    ratio = number(result["ratio"])
    return f"{result['name']} {result['version']}: {number(result['rows_per_s'])} ({ratio} x)"


def target(result: dict[str, Any]) -> str:
    """Return what was aimed at, and whether it was reached."""
    if not result.get("target"):
        return "-"
    return f"{result['target']}: {'reached' if result['met'] else '**missed**'}"


def row(result: dict[str, Any]) -> str:
    """Return one line of the table; an unchecked figure says so."""
    name = result["bench"] if result["checked"] else f"{result['bench']} (output not checked)"
    figures = ("rows_per_s", "p50_ms", "p95_ms", "p99_ms", "peak_rss_mb", "cpu_s_per_million_rows")
    cells = [name, target(result), *(number(result[key]) for key in figures)]
    cells.append("; ".join(map(peer, result["peers"] or ())) or "-")
    return f"| {' | '.join(cells)} |"


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return every result in `folder`, by file name; a file holds one JSON object per line."""
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.json"))
        for line in path.read_text().splitlines()
        if line.strip()
    ]


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the table and, below it, where its figures were measured."""
    if not results:
        return "No figures yet: `make bench` measures them on your machine."
    ruler = "|".join(["---", "---", *["---:"] * (len(HEADERS) - 3), "---"])
    commits: dict[str, set[str]] = {}
    for result in results:
        commits.setdefault(result["machine"], set()).add(result["commit"])
    where = [f"{name} (commit {', '.join(sorted(of))})" for name, of in sorted(commits.items())]
    lines = [f"| {' | '.join(HEADERS)} |", f"|{ruler}|", *map(row, results)]
    return "\n".join([*lines, "", f"Measured on {'; '.join(where)}."])


def rewrite(text: str, body: str) -> str:
    """Return `text` with what stands between the two markers replaced.

    Raises:
        ValueError: A marker is missing.
    """
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the markers {START} and {END} must both stand in the text")
    return f"{head}{START}\n{body}\n{END}{tail}"


def main(arguments: Sequence[str]) -> int:
    """Rewrite README.md; with --check only say whether that would change it."""
    parser = argparse.ArgumentParser(description="The README's table of figures.")
    parser.add_argument("--check", action="store_true", help="change nothing, fail when outdated")
    options = parser.parse_args(arguments)
    readme = ROOT / "README.md"
    before = readme.read_text()
    after = rewrite(before, table(read_results(ROOT / "bench/results")))
    if options.check and after != before:
        print("README.md: the figures are outdated; run `python tools/bench_table.py`")
        return 1
    readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
