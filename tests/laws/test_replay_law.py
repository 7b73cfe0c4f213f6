"""The same steps give the same bits in processes that hash and thread differently."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.core.registry import kinds
from headrace.testing.replay import PROCESSES, digests, prepare

ORACLES = Path(__file__).parent.parent / "oracles"
TOY = Path(__file__).parent / "toy.py"
THOROUGH = os.environ.get("HEADRACE_HYPOTHESIS", "fast") != "fast"


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Keep every core busy where the law is checked thoroughly, so that threads are pre-empted."""
    count = os.cpu_count() or 1
    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(spin) for _ in range(count if THOROUGH else 0)]
    yield
    for process in spinning:
        process.kill()
        process.wait()


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("busy_machine")
def test_every_operator_repeats_itself_to_the_bit_in_other_processes(tmp_path: Path) -> None:
    files = {kind: ORACLES / f"{kind}.py" for kind in kinds("headrace.operators")}
    names = prepare(tmp_path, files, large_rows=20_000 if THOROUGH else 4_000)

    answers = digests(tmp_path, PROCESSES, times=20 if THOROUGH else 2)

    differing = [
        name
        for name in names
        if len({digest for answer in answers for digest in answer[name]}) != 1
    ]
    assert sorted(answers[0]) == sorted(names)
    assert not differing


def test_an_operator_that_follows_python_hashes_is_caught(tmp_path: Path) -> None:
    names = prepare(tmp_path, {"toy": TOY}, large_rows=1_000)

    first, second = digests(tmp_path, PROCESSES, times=1)

    same = {name for name in names if first[name] == second[name]}
    assert same == {name for name in names if name.startswith("toy-0-")}
