"""The engine as a process of its own."""

from __future__ import annotations

import threading
from pathlib import Path

import structlog

from headrace.core.settings import EngineSettings
from headrace.core.time import micros
from headrace.log import open_log
from headrace.plan.graph import Plan
from headrace.runners.embedded.checkpoint import CheckpointStore
from headrace.runners.embedded.engine import ENGINE_SLOT, Engine
from headrace.runners.embedded.intake import Budget
from headrace.runners.embedded.lifeline import stop_on_signal, stop_with_supervisor
from headrace.runners.embedded.options import EngineOptions

_log = structlog.get_logger(__name__)


def run_engine(  # noqa: PLR0913 - one value a choice of the command line
    plan: Plan,
    data: Path,
    settings: EngineSettings,
    *,
    slot: int = ENGINE_SLOT,
    skip_lost: bool = False,
    accept_drift: bool = False,
    drop_state: tuple[str, ...] = (),
    rename_state: tuple[tuple[str, str], ...] = (),
) -> None:
    """Run the engine of `plan`, or of a part of it, on the log in `data` until asked to stop.

    Raises:
        HeadraceError: Recovery or a step failed; the exit code derives from its blame.
    """
    home = data / f"engine-{plan.app}"
    engine = Engine(
        plan,
        open_log(data),
        checkpoints=CheckpointStore(home / "checkpoints"),
        options=EngineOptions(
            budget=Budget(settings.max_rows, settings.max_bytes, micros(settings.align)),
            checkpoint_every_s=settings.checkpoint_every.total_seconds(),
            replay_estimate_s=settings.replay_estimate.total_seconds(),
            max_state_bytes=settings.max_state_bytes,
            skip_lost=skip_lost,
            accept_drift=accept_drift,
            drop_state=drop_state,
            rename_state=rename_state,
        ),
        slot=slot,
    )
    stop = threading.Event()
    stop_on_signal(stop.set)
    stop_with_supervisor(stop.set)
    engine.start()
    _log.info("engine.running", step=engine.step, epoch=engine.epoch)
    try:
        engine.run(stop)
    finally:
        engine.close()
