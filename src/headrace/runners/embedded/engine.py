"""The engine of one application: read, step, commit, checkpoint, recover."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from headrace.core.errors import (
    StateError,
    StorageFullError,
)
from headrace.core.log import (
    PARTITIONS_PER_SLOT,
    Append,
    Commit,
    Log,
    Reader,
    TopicPartition,
    TopicSpec,
    Writer,
)
from headrace.core.time import Clock, SystemClock, micros
from headrace.models.counts import counted
from headrace.plan.graph import DEAD, DEAD_SCHEMA, Plan
from headrace.runners.embedded.checkpoint import Checkpoint, CheckpointStore
from headrace.runners.embedded.failure import save_failure
from headrace.runners.embedded.fingerprint import fingerprint
from headrace.runners.embedded.intake import read_inputs, reread
from headrace.runners.embedded.journal import JOURNAL, Record, Slice, decode_record, encode_record
from headrace.runners.embedded.machine import Machine
from headrace.runners.embedded.options import EngineOptions, half_of_memory
from headrace.runners.embedded.positions import Positions
from headrace.runners.embedded.recovery import drift_error, fit_state
from headrace.runners.embedded.saver import Moment, Saver
from headrace.runners.embedded.status import (
    Counters,
    counter_status,
    engine_status,
    machine_status,
)
from headrace.runners.embedded.step import Input, Result
from headrace.runners.embedded.step_clock import StepClock
from headrace.runners.embedded.tables import changelog_schema
from headrace.runners.embedded.unit import OperatorBug

_log = structlog.get_logger(__name__)

ENGINE_SLOT = 32
"""Slots below are gateways'; a dead-letter topic has partitions of both."""
MODEL_SLOT = 40
"""The engine of the role model."""


class Engine:
    """Runs a plan on a log, exactly once.

    Args:
        plan: What to run.
        log: Where topics live.
        clock: Wall time.
        checkpoints: Where state is saved; None keeps none (library use on an in-memory log).
        options: See `EngineOptions`.
        slot: Whose partitions it writes.

    The engine owns the writer `engine-<app>`. It is driven by `run` in a process of its own, or
    by `step_once` where a test wants each step.
    """

    def __init__(
        self,
        plan: Plan,
        log: Log,
        *,
        clock: Clock | None = None,
        checkpoints: CheckpointStore | None = None,
        options: EngineOptions | None = None,
        slot: int = ENGINE_SLOT,
    ) -> None:
        self.plan = plan
        self.options = options or EngineOptions()
        self.machine = Machine(plan)
        self.owner = f"engine-{plan.app}"
        self._slot = slot
        self._partition = slot * PARTITIONS_PER_SLOT
        self._wall = clock or SystemClock()
        self._fingerprint = fingerprint(plan)
        self._read = plan.read_topics()
        self._controls = frozenset(table.changes for table in plan.control_tables)
        self.step = 0
        self.epoch = 0
        self.engine_start = 0
        self.counters = Counters()
        self.positions = Positions(plan.topics, self.counters)
        self._changes_end: dict[str, int] = {}
        self._clock = StepClock(self._wall)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._in_flight: Future[None] | None = None
        self._saver = (
            Saver(
                checkpoints,
                plan,
                self._fingerprint,
                every_s=self.options.checkpoint_every_s,
                replay_estimate_s=self.options.replay_estimate_s,
            )
            if checkpoints is not None
            else None
        )
        self._stop = threading.Event()
        self._unread = 0
        self._last_step = 0
        self.state = "recovering"
        self.error: str | None = None
        self._published_at = 0.0
        self._maintained_at = 0.0
        self._started = self._wall.now()
        self._log: Log = log
        self._writer: Writer
        self._reader: Reader

    # -- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Take ownership, create topics, recover to the last committed step.

        Raises:
            StateError: Another engine runs this app, or its state does not fit the plan.
        """
        self._writer = self._log.writer(self.owner, self._slot)
        self._reader = self._log.reader()
        self.epoch = self._writer.epoch
        self._publish(force=True)
        try:
            self._create_topics()
            self._recover()
        except Exception as error:
            self.state, self.error = "failed", str(error)
            self._publish(force=True)
            self.close()
            raise
        self.engine_start = max(self.machine.clock, self._wall.now())
        self.state = "running"
        self._publish(force=True)

    def run(self, stop: threading.Event | None = None) -> None:
        """Step until `stop` is set, then commit the step in hand, save a checkpoint and return.

        Raises:
            HeadraceError: The engine had to stop; the failed step, if any, is saved.
        """
        self._stop = stop = stop or self._stop
        try:
            while not stop.is_set():
                if not self.step_once():
                    self._idle(stop)
                self._maybe_checkpoint()
                self._maintain()
                self._publish()
            self.drain()
        except Exception as error:
            self.state, self.error = "failed", str(error)
            self._publish(force=True)
            raise

    def stop(self) -> None:
        """Ask `run` to drain and return."""
        self._stop.set()

    def drain(self) -> None:
        """Make the step in hand durable and save a checkpoint of it."""
        self.state = "draining"
        self._publish(force=True)
        self.flush()
        if self._saver is not None and self.step:
            self._saver.save_now(self._moment(), self._writer)
        self.state = "stopped"
        self._publish(force=True)

    def close(self) -> None:
        """Release files and threads; call after `run` or instead of it."""
        if self._in_flight is not None:
            self._in_flight.exception()
        self._pool.shutdown()
        if self._saver is not None:
            self._saver.close()
        self._writer.close()
        self._reader.close()

    # -- one step ---------------------------------------------------------------------------

    def step_once(self) -> bool:
        """Run one step if there is anything to do; return whether there was.

        False means that nothing is due after everything before is durable.
        """
        if self._try_step():
            return True
        if self._in_flight is None:
            return False
        # What the last step wrote may be this engine's own input.
        self.flush()
        return self._try_step()

    def _try_step(self) -> bool:
        infos = self._reader.partitions(self._read)
        self.positions.discover(infos, first_step=self.step == 0)
        if self.options.skip_lost:
            self.positions.skip_lost(infos)
        self.positions.shed(infos)
        fronts = {
            TopicPartition(name, number): progress.front
            for name, topic in self.machine.topics.items()
            for number, progress in topic.partitions.items()
        }
        inputs = read_inputs(
            self._reader, infos, self.positions, fronts, self._controls, self.options.budget
        )
        rows = sum(each.stop - each.start for each in inputs)
        self._unread = sum(each.end - each.stop for each in inputs)
        clock = self._next_clock()
        if not rows:
            due = self.machine.next_clock(self.engine_start)
            if due is None or due > clock:
                return False
        self._step(clock, inputs)
        return True

    def finish(self) -> None:
        """End bounded input: read what is left, then close everything still open, in order."""
        while self.step_once():
            pass
        external = {name for name in self._read if name not in self._own_topics()}
        ended = set(external)
        while True:
            result = self._machine_call(partial(self.machine.finish, ended), [])
            self._submit(self._record(self.machine.clock, [], result), result)
            self.flush()
            while self.step_once():
                pass
            self.flush()
            more = self.machine.finished_outputs(ended) | ended
            if more == ended:
                return
            ended = more

    def _step(self, clock: int, inputs: list[Input]) -> None:
        began = time.perf_counter()
        before = self._moment() if self._saver is not None else None
        result = self._machine_call(
            lambda: self.machine.step(clock, self.engine_start, inputs), inputs, before
        )
        self.positions.advance(inputs)
        record = self._record(clock, inputs, result)
        self._last_step = self._wall.now()
        arrivals = [each.arrival_us for each in inputs if each.arrival_us is not None]
        if self._saver is not None:
            self._saver.note(time.perf_counter() - began)
        self._submit(record, result, min(arrivals, default=None))

    def _machine_call(
        self, call: Callable[[], Result], inputs: list[Input], before: Moment | None = None
    ) -> Result:
        try:
            return call()
        except OperatorBug as bug:
            self.flush()
            if self._saver is not None:
                folder = save_failure(
                    self._saver.store.root.parent / "failed",
                    record=self._record(self.machine.clock, inputs, Result()),
                    inputs=inputs,
                    plan=self.plan,
                    trace=traceback.format_exc(),
                )
                if before is not None and self.step:
                    # The step before was in flight when `before` was taken; now it is durable.
                    changes_end = dict(self._changes_end)
                    self._saver.save(replace(before, changes_end=changes_end))
                bug.hint = f"the step is saved: headrace replay-step {folder}"
            raise

    def _record(self, clock: int, inputs: list[Input], result: Result) -> Record:
        return Record(
            step=self.step,
            epoch=self.epoch,
            clock=clock,
            engine_start=self.engine_start,
            fingerprint=self._fingerprint,
            slices=[
                Slice(i.topic, i.partition, i.incarnation, i.start, i.stop, i.end) for i in inputs
            ],
            poison=result.poison,
            effects=result.effects,
            digests=result.digests,
        )

    def _submit(self, record: Record, result: Result, arrival: int | None = None) -> None:
        """Hand a step to the commit thread; the one before must be durable first."""
        self.flush()
        self.step += 1
        self.counters.count(result)
        self._in_flight = self._pool.submit(self._commit, record, result, arrival)

    def _commit(self, record: Record, result: Result, arrival: int | None) -> None:
        now = self._wall.now()
        appends = [
            Append(
                topic=output.topic,
                partition=self._partition,
                payload=output.frame,
                rows=output.frame.height,
                watermark=output.watermark,
                arrival_us=now,
            )
            for output in result.outputs
        ]
        commit = Commit(appends=appends, records=[(JOURNAL, encode_record(record))])
        pause = 0.05
        while True:
            try:
                (appended,) = self._writer.commit([commit])
                break
            except StorageFullError as error:
                # Known to have written nothing: the same step is tried again, nothing passes it.
                self.state, self.error = "waiting for storage", error.message
                if self._stop.wait(pause):
                    raise
                pause = min(pause * 2, 2.0)
        if self.state == "waiting for storage":
            self.state, self.error = "running", None
        for place in appended:
            self._changes_end[place.topic] = place.end
        if arrival is not None:
            self.counters.latencies.append(max(0, self._wall.now() - arrival))

    def flush(self) -> None:
        """Wait until every step so far is durable.

        Raises:
            HeadraceError: The commit failed, or its outcome is unknown: this engine must end.
        """
        if self._in_flight is not None:
            flight, self._in_flight = self._in_flight, None
            flight.result()

    def _idle(self, stop: threading.Event) -> None:
        self.flush()
        due = self.machine.next_clock(self.engine_start)
        timeout = self.options.status_every_s
        if due is not None:
            timeout = min(timeout, max(0.0, (due - self._next_clock()) / 1e6))
        if timeout > 0 and not stop.is_set():
            self._reader.wait(timeout)

    def _next_clock(self) -> int:
        clock, jumped = self._clock.next(self.machine.clock)
        if jumped:
            self.counters.clock_jumps += 1
            self.engine_start = clock
        return clock

    # -- topics -----------------------------------------------------------------

    def _own_topics(self) -> set[str]:
        return {o.name for o in self.plan.outputs} | {t.changes for t in self.plan.tables}

    def _create_topics(self) -> None:
        for output in self.plan.outputs:
            self._writer.create(
                TopicSpec(
                    output.name,
                    output.schema,
                    retention_us=None if output.retention is None else micros(output.retention),
                    retention_bytes=output.retention_bytes,
                    archive=output.archive,
                )
            )
        for table in self.plan.tables:
            self._writer.create(TopicSpec(table.changes, changelog_schema(table)))
        for topic in self.plan.topics:
            self._writer.create(TopicSpec(topic.name + DEAD, DEAD_SCHEMA))

    # -- checkpoints and recovery -------------------------------------------------------------

    def _moment(self) -> Moment:
        """Return all that a checkpoint of the last step holds; that step is durable."""
        return Moment(
            self.step - 1,
            self.epoch,
            self.machine.snapshot(),
            dict(self.positions),
            dict(self._changes_end),
        )

    def _maybe_checkpoint(self) -> None:
        if self._saver is None:
            return
        if self._saver.done:
            self.flush()
            self._saver.settle(self._writer)
        if self._saver.due():
            self.flush()
            self._check_state_size()
            self._saver.begin(self._moment())

    def _check_state_size(self) -> None:
        rows, size = self.machine.state_size()
        limit = self.options.max_state_bytes or half_of_memory()
        self.counters.state_rows, self.counters.state_bytes = rows, size
        if size > limit:
            if self._saver is not None:
                self._saver.save_now(self._moment(), self._writer)
            raise StateError(
                f"state of {size / 1e9:.2f} GB is above the limit of {limit / 1e9:.2f} GB",
                hint="raise HEADRACE_ENGINE__MAX_STATE_BYTES or shorten windows and forget=",
            )
        if size > 0.8 * limit:
            _log.warning("engine.state_large", bytes=size, limit=limit)

    def _recover(self) -> None:
        checkpoint: Checkpoint | None = None
        if self._saver is not None:
            valid = self._saver.store.valid()
            for known in reversed(valid):
                self._saver.know(known)
            if valid:
                checkpoint = valid[0]
                self._load(checkpoint, self._saver.store)
        start = checkpoint.step + 1 if checkpoint is not None else 0
        records = self._writer.records(JOURNAL, start)
        if records and records[0][0] != start:
            raise StateError(
                f"the journal begins at step {records[0][0]}, but step {start} is needed",
                hint="checkpoints were removed by hand; restore the data directory from a backup",
            )
        began = time.perf_counter()
        for _, payload in records:
            self._replay(decode_record(payload))
            self._publish()
        if records:
            took = time.perf_counter() - began
            _log.info("engine.recovered", steps=len(records), seconds=round(took, 3))
            if self._saver is not None:
                self._saver.note(took, len(records))
        self.counters.replayed = len(records)

    def _load(self, checkpoint: Checkpoint, store: CheckpointStore) -> None:
        specs = self.machine.state_specs()
        fit_state(
            checkpoint, specs, drop=self.options.drop_state, rename=dict(self.options.rename_state)
        )
        self.machine.restore(store.load(checkpoint, specs))
        self.step = checkpoint.step + 1
        self.positions.load(checkpoint)
        self._changes_end = dict(checkpoint.manifest["extra"]["changes_end"])
        self._inform_new(checkpoint)

    def _inform_new(self, checkpoint: Checkpoint) -> None:
        """Let operators that the checkpoint does not know catch up with the tables they read.

        Changes of control tables are kept from the first one on, so this needs no record: after
        a crash the same checkpoint leads to the same state.
        """
        known = {entry["node"] for entry in checkpoint.manifest["tables"]}
        new = {node for node, _ in self.machine.state_specs() if node not in known}
        if not new:
            return
        infos = self._reader.partitions(sorted(self._controls))
        changes = [
            reread(self._reader, at, info.incarnation, info.start, self.positions[at].offset, 0)
            for at, info in sorted(infos.items())
            if at in self.positions
        ]
        self.machine.inform(new, changes)

    def _replay(self, record: Record) -> None:
        inputs = [
            reread(
                self._reader,
                TopicPartition(s.topic, s.partition),
                s.incarnation,
                s.start,
                s.stop,
                s.end,
            )
            for s in record.slices
            if s.topic in self.machine.topics
        ]
        result = self.machine.step(record.clock, record.engine_start, inputs, replay=record)
        if result.digests != record.digests:
            self._drifted(record, result)
        self.positions.advance(inputs)
        for output in result.outputs:
            end = self._changes_end.get(output.topic, 0)
            self._changes_end[output.topic] = end + output.frame.height
        self.step = record.step + 1

    def _drifted(self, record: Record, result: Result) -> None:
        error = drift_error(record, result, same_code=record.fingerprint == self._fingerprint)
        if not self.options.accept_drift:
            raise error
        _log.warning("engine.drift_accepted", step=record.step, reason=error.message)
        self.counters.drift += 1

    # -- status -------------------------------------------------------------------------------

    def _maintain(self) -> None:
        """Tidy the log now and then, whether rows come or not."""
        if time.monotonic() - self._maintained_at >= self.options.maintain_every_s:
            self.flush()
            self._writer.maintain(self._wall.now())
            self._maintained_at = time.monotonic()

    def _publish(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._published_at < self.options.status_every_s:
            return
        body = self.status(now - self._published_at)
        self._published_at = now
        self._writer.publish_status(json.dumps(body).encode())

    def status(self, elapsed_s: float = 1.0) -> dict[str, Any]:
        """Return what `/health` and `/stats` show of this engine."""
        now = self._wall.now()
        return {
            **engine_status(
                app=self.plan.app,
                state=self.state,
                error=self.error,
                started=self._started,
                now=now,
                step=self.step,
                epoch=self.epoch,
                last_step=self._last_step,
                unread=self._unread,
                positions=self.positions,
            ),
            **machine_status(self.machine, now),
            **counter_status(self.counters, elapsed_s),
            "models": counted(),
            "checkpoints": self._saver.saved if self._saver is not None else 0,
        }
