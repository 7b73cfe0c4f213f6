"""How an engine runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from headrace.runners.embedded.intake import Budget


def half_of_memory() -> int:
    """Return half of this machine's memory in bytes, 4 GiB where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # pragma: no cover - not on Linux
        return 4 * 1024**3


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs.

    Attributes:
        budget: What one step may read.
        checkpoint_every_s: Longest time between checkpoints while rows come.
        replay_estimate_s: A checkpoint is due when replaying would take this long.
        max_state_bytes: The engine stops, after a checkpoint, above this; None: half of memory.
        skip_lost: Go on where rows were lost instead of stopping.
        accept_drift: Go on where a replayed step gives another digest.
        drop_state: Ids of nodes whose checkpointed state may go.
        rename_state: Old node id to new node id.
        status_every_s: How often the status is published.
        maintain_every_s: How often the log is tidied: segments sealed, old ones removed.
    """

    budget: Budget = field(default_factory=Budget)
    checkpoint_every_s: float = 30.0
    replay_estimate_s: float = 2.0
    max_state_bytes: int | None = None
    skip_lost: bool = False
    accept_drift: bool = False
    drop_state: tuple[str, ...] = ()
    rename_state: tuple[tuple[str, str], ...] = ()
    status_every_s: float = 0.5
    maintain_every_s: float = 1.0
