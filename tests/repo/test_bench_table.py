"""The README's table of figures: formatting and markers."""

import json
from pathlib import Path
from typing import Any

import bench_table
import pytest

RESULT: dict[str, Any] = {
    "bench": "window",
    "rows_per_s": 2_345_678.9,
    "p50_ms": None,
    "p95_ms": 41.26,
    "p99_ms": 3.14159,
    "peak_rss_mb": 512.4,
    "cpu_s_per_million_rows": 0.5,
    "peers": [{"name": "Other", "version": "1.2", "rows_per_s": 100_000.0, "ratio": 23.46}],
    "checked": True,
    "machine": "2 cores",
    "commit": "abc1234",
    "target": "≥ 2,000,000 events/s",
    "met": True,
}


def test_a_result_becomes_one_line_with_its_peers() -> None:
    line = bench_table.row(RESULT)

    assert line == (
        "| window | ≥ 2,000,000 events/s: reached | 2,345,679 | - | 41.3 | 3.14 | 512 | 0.50 "
        "| Other 1.2: 100,000 (23.5 x) |"
    )


def test_a_missed_target_says_so() -> None:
    assert "| p95 < 20 ms: **missed** |" in bench_table.row(
        {**RESULT, "target": "p95 < 20 ms", "met": False}
    )


def test_a_figure_whose_output_was_not_checked_says_so() -> None:
    line = bench_table.row({**RESULT, "checked": False, "peers": []})

    assert line.startswith("| window (output not checked) |")
    assert line.endswith("| - |")


def test_the_table_says_where_it_was_measured() -> None:
    text = bench_table.table([RESULT, {**RESULT, "bench": "push", "commit": "def5678"}])

    assert text.endswith("Measured on 2 cores (commit abc1234, def5678).")
    assert text.count("| window |") == text.count("| push |") == 1


def test_every_line_of_every_file_is_a_result(tmp_path: Path) -> None:
    line = json.dumps(RESULT)
    (tmp_path / "e2e.json").write_text(f"{line}\n{line}\n")
    (tmp_path / "push.json").write_text(line)

    assert len(bench_table.read_results(tmp_path)) == 3


def test_only_what_stands_between_the_markers_changes() -> None:
    before = f"a\n{bench_table.START}\nold\n{bench_table.END}\nb\n"

    after = bench_table.rewrite(before, "new")

    assert after == f"a\n{bench_table.START}\nnew\n{bench_table.END}\nb\n"


def test_a_text_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        bench_table.rewrite("no markers", "new")
