"""When checkpoints are due, and what they let the log forget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from headrace.core.log import Position, TopicPartition, Writer
from headrace.plan.graph import Plan
from headrace.runners.embedded.checkpoint import KEEP, Checkpoint, CheckpointStore
from headrace.runners.embedded.journal import JOURNAL
from headrace.runners.embedded.positions import saved_positions
from headrace.runners.embedded.step import Snapshot
from headrace.runners.embedded.tables import write_table_snapshots

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything a checkpoint of `step` holds, by reference; that step is durable.

    Attributes:
        changes_end: End of each table's changelog as of the step.
    """

    step: int
    epoch: int
    snapshot: Snapshot
    positions: Mapping[TopicPartition, Position]
    changes_end: Mapping[str, int]


class Saver:
    """Saves checkpoints in the background, never two at once.

    Args:
        store: Where they lie.
        plan: Names the tables whose snapshots lie beside them.
        fingerprint: Of plan and code.
        every_s: Longest time between checkpoints while steps are made.
        replay_estimate_s: A checkpoint is due when the steps since would take this long again.
    """

    def __init__(
        self,
        store: CheckpointStore,
        plan: Plan,
        fingerprint: str,
        *,
        every_s: float,
        replay_estimate_s: float,
    ) -> None:
        self.store = store
        self._plan = plan
        self._fingerprint = fingerprint
        self._every_s = every_s
        self._replay_estimate_s = replay_estimate_s
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[Checkpoint] | None = None
        self._saved_at = time.monotonic()
        self._cost_s = 0.0
        self._steps = 0
        self._floors: deque[dict[TopicPartition, Position]] = deque(maxlen=KEEP)
        self.saved = 0

    def know(self, checkpoint: Checkpoint) -> None:
        """Note a checkpoint that was there before; older ones first."""
        self._floors.append(saved_positions(checkpoint))

    def note(self, cost_s: float, steps: int = 1) -> None:
        """Note steps made since the last checkpoint."""
        self._cost_s += cost_s
        self._steps += steps

    def due(self) -> bool:
        """Whether a checkpoint should begin now."""
        if not self._steps or self._running is not None:
            return False
        aged = time.monotonic() - self._saved_at
        return aged >= self._every_s or self._cost_s >= self._replay_estimate_s

    def begin(self, moment: Moment) -> None:
        """Save `moment` in the background."""
        self._running = self._pool.submit(self.save, moment)
        self._reset()

    @property
    def done(self) -> bool:
        """Whether a checkpoint has ended that was not settled yet."""
        return self._running is not None and self._running.done()

    def settle(self, writer: Writer) -> None:
        """Wait for the checkpoint under way, if any, and let the log forget what it may."""
        if self._running is not None:
            running, self._running = self._running, None
            self._settled(running.result(), writer)

    def save_now(self, moment: Moment, writer: Writer) -> None:
        """Save `moment` before returning, unless nothing was done since the last checkpoint."""
        self.settle(writer)
        if self._steps:
            self._settled(self.save(moment), writer)
            self._reset()

    def save(self, moment: Moment) -> Checkpoint:
        """Write table snapshots and the checkpoint."""
        write_table_snapshots(
            self.store.root.parent / "tables", self._plan, moment.snapshot, moment.changes_end
        )
        return self.store.write(
            moment.snapshot,
            step=moment.step,
            epoch=moment.epoch,
            fingerprint=self._fingerprint,
            extra={
                "positions": [[*at, *place] for at, place in moment.positions.items()],
                "changes_end": dict(moment.changes_end),
            },
        )

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    def _reset(self) -> None:
        self._saved_at = time.monotonic()
        self._cost_s, self._steps = 0.0, 0

    def _settled(self, checkpoint: Checkpoint, writer: Writer) -> None:
        """Give up what the older of the kept checkpoints no longer needs."""
        self.saved += 1
        self._floors.append(saved_positions(checkpoint))
        if len(self._floors) == KEEP:
            writer.publish_positions(writer.owner, self._floors[0])
        kept = self.store.kept_steps()
        if len(kept) == KEEP:
            writer.trim_records(JOURNAL, kept[-1] + 1)
        _log.debug("engine.checkpoint", step=checkpoint.step)
