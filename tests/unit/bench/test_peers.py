import ast
import sys
from pathlib import Path

import pytest

from headrace.bench.contenders import OURS, Contender
from headrace.bench.events import reference, write_events
from headrace.bench.result import checkout
from headrace.core.errors import BugError


def test_our_run_of_the_window_work_equals_the_batch_answer(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    expected = reference(write_events(path, 150_000))
    run = OURS.run(path, expected)
    assert run.rows == 150_000
    assert 0 < run.seconds <= run.whole_s


def test_a_contender_with_another_answer_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    expected = reference(write_events(path, 1_000))
    program = "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text('key,window_start\\n')"
    liar = Contender("liar", (sys.executable, "-c", program))
    with pytest.raises(BugError, match="liar gave another answer: 0 result rows"):
        liar.run(path, expected)


def test_a_contender_that_fails_says_why(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    expected = reference(write_events(path, 1_000))
    with pytest.raises(BugError, match="no such luck"):
        Contender("broken", (sys.executable, "-c", "raise SystemExit('no such luck')")).run(
            path, expected
        )


def test_every_peer_is_hash_locked_and_names_no_host() -> None:
    root = checkout()
    assert root is not None
    locks = sorted((root / "bench" / "peers").glob("*/requirements.txt"))
    assert [lock.parent.name for lock in locks] == ["bytewax", "flink", "pathway"]
    for lock in locks:
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert "//" not in text
        scripts = sorted(lock.parent.glob("*.py"))
        assert scripts
        for script in scripts:
            ast.parse(script.read_text())
