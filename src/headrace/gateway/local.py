"""A whole application in one process: for notebooks, examples and small jobs."""

from __future__ import annotations

import threading
from pathlib import Path

import structlog

from headrace.core.settings import GatewaySettings
from headrace.gateway.serve import serve
from headrace.log import MemoryLog, open_log
from headrace.runners.embedded.checkpoint import CheckpointStore
from headrace.runners.embedded.engine import Engine
from headrace.stream.app import App

_log = structlog.get_logger(__name__)


def run(
    app: App,
    *,
    port: int = 8000,
    data: Path | str | None = None,
    settings: GatewaySettings | None = None,
) -> None:
    """Run gateway and engine of `app` in this process until interrupted.

    Without `data` everything lies in memory and ends with the process; `headrace run` is the way
    to run for long, with a process for each role. Functions given to `app.on` are not called
    here, and channels not served.

    Args:
        app: What to run.
        port: HTTP port; 0 takes a free one.
        data: Data directory; None keeps everything in memory.
        settings: The gateway's limits.

    Raises:
        PlanError: The application does not fit together.
        ConfigError: The port is taken.
    """
    plan = app.plan()
    log = MemoryLog() if data is None else open_log(Path(data))
    checkpoints = (
        None if data is None else CheckpointStore(Path(data) / f"engine-{plan.app}" / "checkpoints")
    )
    engine = Engine(plan, log, checkpoints=checkpoints)
    engine.start()

    def steps() -> None:
        try:
            engine.run()
        except Exception:  # noqa: BLE001 - the engine has failed; the gateway goes on and says so
            _log.exception("engine.failed", app=plan.app)

    thread = threading.Thread(target=steps, name="engine", daemon=True)
    thread.start()
    try:
        serve(app, log, settings, port=port)
    finally:
        engine.stop()
        thread.join()
        engine.close()
