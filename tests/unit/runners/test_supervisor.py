from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.runners.embedded import supervisor as module
from headrace.runners.embedded.supervisor import Role, Supervisor

LIVES = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(0))\n"


def role(tmp_path: Path, name: str, body: str, **more: object) -> Role:
    script = tmp_path / f"{name}.py"
    script.write_text(body)
    return Role(name, [sys.executable, str(script)], **more)  # type: ignore[arg-type]  # named in each test


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        threading.Event().wait(0.02)


def states(path: Path) -> dict[str, dict[str, object]]:
    try:
        found: dict[str, dict[str, object]] = json.loads(path.read_text())["roles"]
    except (OSError, ValueError):
        return {}
    return found


@contextmanager
def running(roles: list[Role], path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(roles, path)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_a_role_that_dies_is_started_again(tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    marker = tmp_path / "marker"
    body = (
        f"from pathlib import Path\nmarker = Path({str(marker)!r})\n"
        "first = not marker.exists()\nmarker.touch()\n"
        "if first: raise SystemExit(1)\n" + LIVES + "time.sleep(60)\n"
    )

    with running([role(tmp_path, "engine", body)], status):
        until(lambda: states(status).get("engine", {}).get("restarts") == 1)
        until(lambda: states(status)["engine"]["state"] == "up")

    assert states(status)["engine"]["state"] == "stopped"


def test_roles_end_in_the_order_given(tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = (
        "import signal, sys, time\n"
        "def end(*a):\n"
        f"    open({str(log)!r}, 'a').write(sys.argv[0] + '\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"open({str(tmp_path)!r} + '/' + 'up' + sys.argv[0].split('/')[-1], 'w').close()\n"
        "time.sleep(60)\n"
    )
    roles = [role(tmp_path, "gateway", body), role(tmp_path, "engine", body)]

    with running(roles, tmp_path / "status.json"):
        until(lambda: all((tmp_path / f"up{each.name}.py").exists() for each in roles))

    assert [Path(line).stem for line in log.read_text().split()] == ["gateway", "engine"]


def test_five_crashes_at_one_step_leave_a_role_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.02)
    status = tmp_path / "status.json"
    crashing = role(tmp_path, "engine", "raise SystemExit(1)", step=lambda: 7)

    with running([crashing, role(tmp_path, "gateway", LIVES + "time.sleep(60)\n")], status):
        until(lambda: states(status).get("engine", {}).get("state") == "down")

        assert states(status)["gateway"]["state"] == "up"


def test_an_authors_mistake_ends_the_run_with_its_exit_code(tmp_path: Path) -> None:
    refused = role(tmp_path, "engine", "raise SystemExit(2)")

    assert Supervisor([refused], tmp_path / "status.json").run() == 2


def test_a_role_that_is_done_may_end_the_run(tmp_path: Path) -> None:
    done = role(tmp_path, "replay", "", once=True, ends_run=True)
    supervisor = Supervisor([done], tmp_path / "status.json")

    assert supervisor.run() == 0
    assert supervisor.completed


def test_a_role_ends_when_its_supervisor_is_gone(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    body = (
        "import threading\nfrom pathlib import Path\n"
        "from headrace.runners.embedded.lifeline import stop_with_supervisor\n"
        "stop = threading.Event()\nstop_with_supervisor(stop.set)\n"
        f"stop.wait(60)\nPath({str(ended)!r}).touch()\n"
    )
    orphan = role(tmp_path, "engine", body)
    supervisor = Supervisor([orphan], tmp_path / "status.json")
    supervisor._start(supervisor._running[0])  # noqa: SLF001 - the pipe closes as in a kill
    process = supervisor._running[0].process  # noqa: SLF001 - as above
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()

    assert process.wait(30) == 0
    assert ended.exists()
