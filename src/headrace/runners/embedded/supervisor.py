"""Starts the roles of a run as processes, restarts what dies, ends them in order."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from headrace.runners.embedded.lifeline import LIFELINE

_log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
HEALTHY_AFTER_S = 5.0
CRASHES_AT_ONE_STEP = 5
GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Role:
    """A process to keep running.

    Attributes:
        name: gateway, engine or connect; unique in a run.
        command: Its command line, which names the role.
        step: Tells where the role stands, so that crashes at one step are noticed.
        once: Whether it is done when it exits with 0.
        ends_run: Whether the run ends when it is done.
    """

    name: str
    command: Sequence[str]
    step: Callable[[], int | None] = field(default=lambda: None)
    once: bool = False
    ends_run: bool = False


@dataclass(slots=True)
class _Running:
    role: Role
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    started_at: str = ""
    restarts: int = 0
    pause_s: float = FIRST_PAUSE_S
    restart_at: float = 0.0
    state: str = "starting"
    last_exit: int | None = None
    crash_step: int | None = None
    crashes: int = 0


class Supervisor:
    """Keeps `roles` running until `stop`; give them in the order in which they are to end.

    Args:
        roles: The processes.
        status: File that says, as JSON, which roles are up; replaced at each change.

    Attributes:
        completed: Whether the run ended because a role that ends it was done.
    """

    def __init__(self, roles: Sequence[Role], status: Path) -> None:
        self._running = [_Running(role) for role in roles]
        self._status = status
        self._stop = threading.Event()
        self.completed = False

    def run(self, deadline_s: float | None = None) -> int:
        """Start all roles and watch them; return an exit code when stopped.

        Args:
            deadline_s: Stop by itself after this many seconds.

        Returns:
            0, or the exit code of a role that was refused by its author's mistake (2).
        """
        until = time.monotonic() + deadline_s if deadline_s is not None else None
        self._status.parent.mkdir(parents=True, exist_ok=True)
        for running in self._running:
            self._start(running)
        self._publish()
        try:
            while not self._stop.is_set():
                refused = self._watch()
                if refused is not None:
                    return refused
                if until is not None and time.monotonic() >= until:
                    break
                self._stop.wait(0.05)
        finally:
            self._end()
        return 0

    def stop(self) -> None:
        """Ask `run` to end every role and return."""
        self._stop.set()

    def _watch(self) -> int | None:
        now = time.monotonic()
        for running in self._running:
            if running.process is None:
                if running.state == "waiting" and now >= running.restart_at:
                    self._start(running)
                    self._publish()
                continue
            code = running.process.poll()
            if code is None:
                if running.restarts and now - running.started > HEALTHY_AFTER_S + running.pause_s:
                    running.pause_s = FIRST_PAUSE_S
                continue
            self._let_go(running, code)
            if code == 0 and running.role.once:
                running.state = "done"
                self._publish()
                if running.role.ends_run:
                    self.completed = True
                    self._stop.set()
                continue
            if code == 2 and running.restarts == 0:  # noqa: PLR2004 - blame "author"
                return code
            self._plan_restart(running, now)
            self._publish()
        return None

    def _plan_restart(self, running: _Running, now: float) -> None:
        step = running.role.step()
        same = step is not None and step == running.crash_step
        running.crashes = running.crashes + 1 if same else 1
        if step is not None and not same:
            # It got further since it last died, so it is no crash loop.
            running.pause_s = FIRST_PAUSE_S
        running.crash_step = step
        if running.crashes >= CRASHES_AT_ONE_STEP:
            running.state = "down"
            _log.error(
                "supervisor.gave_up",
                child=running.role.name,
                step=step,
                exit=running.last_exit,
                crashes=running.crashes,
            )
            return
        running.state = "waiting"
        running.restart_at = now + running.pause_s
        _log.warning(
            "supervisor.restarting",
            child=running.role.name,
            exit=running.last_exit,
            in_s=running.pause_s,
        )
        running.pause_s = min(running.pause_s * 2, LONGEST_PAUSE_S)
        running.restarts += 1

    def _start(self, running: _Running) -> None:
        environment = {**os.environ, LIFELINE: "1", "POLARS_NO_PARTITION": "1"}
        running.process = subprocess.Popen(  # noqa: S603 - our own command line
            list(running.role.command), stdin=subprocess.PIPE, env=environment
        )
        running.started = time.monotonic()
        running.started_at = datetime.now(UTC).isoformat()
        running.state = "up"

    def _end(self) -> None:
        for running in self._running:
            process = running.process
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                _log.error("supervisor.killed", child=running.role.name, after_s=GRACE_S)
                process.kill()
                process.wait()
            self._let_go(running, process.returncode)
            running.state = "stopped"
        self._publish()

    def _let_go(self, running: _Running, code: int) -> None:
        if running.process is not None and running.process.stdin is not None:
            running.process.stdin.close()
        running.process = None
        running.last_exit = code

    def _publish(self) -> None:
        body = {
            "role": "supervisor",
            "pid": os.getpid(),
            "roles": {
                running.role.name: {
                    "state": running.state,
                    "pid": running.process.pid if running.process is not None else None,
                    "started": running.started_at,
                    "restarts": running.restarts,
                    "last_exit": running.last_exit,
                }
                for running in self._running
            },
        }
        draft = self._status.with_suffix(".tmp")
        draft.write_text(json.dumps(body))
        draft.replace(self._status)
