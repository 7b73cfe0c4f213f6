"""`headrace replay-step`: a failed step once more."""

from __future__ import annotations

from pathlib import Path

import typer

from headrace.cli.loading import load_app
from headrace.core.errors import ConfigError
from headrace.runners.embedded.checkpoint import CheckpointStore
from headrace.runners.embedded.failure import load_failure
from headrace.runners.embedded.machine import Machine


def replay_failed_step(folder: Path, application: str) -> None:
    """Restore the state before the step, and run it; the operator's own error comes out.

    Raises:
        ConfigError: The folder holds no saved step.
        OperatorBug: The error is reproduced.
    """
    if not (folder / "record.msgpack").is_file():
        raise ConfigError(
            f"{folder} holds no saved step", hint="they lie in DATA/engine-APP/failed"
        )
    record, inputs = load_failure(folder)
    home = folder.resolve().parent.parent
    machine = Machine(
        load_app(application).plan().part("model" if home.suffix == ".model" else "engine")
    )
    checkpoints = CheckpointStore(home / "checkpoints")
    before = next((c for c in checkpoints.valid() if c.step == record.step - 1), None)
    if before is not None:
        machine.restore(checkpoints.load(before, machine.state_specs()))
    elif record.step:
        typer.echo(f"no checkpoint of step {record.step - 1}: state begins empty", err=True)
    machine.step(record.clock, record.engine_start, inputs)
    typer.echo(f"step {record.step} ran without an error: the fault is mended, or was elsewhere")
