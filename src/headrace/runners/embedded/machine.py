"""The deterministic state machine: (rows, clock) in, outputs out, nothing else seen.

One `Machine` holds every operator of a plan with its state. It reads no clock, file or socket;
the engine around it chooses the rows, journals the step and commits what comes out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import polars as pl

from headrace.core.log import OP
from headrace.core.protocols import Out, TableSpec, is_late
from headrace.core.time import (
    BEGINNING,
    END_OF_TIME,
    EVENT_TIME,
    POSITION,
    event_time,
    micros,
    position,
)
from headrace.operators.table import Table, live_rows
from headrace.plan.graph import DEAD, OutputDecl, Plan, Ref
from headrace.runners.embedded.dead_letters import dead_letters
from headrace.runners.embedded.digest import frame_digest
from headrace.runners.embedded.journal import Digest, Record
from headrace.runners.embedded.sources import prepare_rows
from headrace.runners.embedded.step import Input, Output, Result, Snapshot, StatePart
from headrace.runners.embedded.unit import Recorded, Unit
from headrace.runners.embedded.watermarks import TopicProgress

CHUNK = 65_536
ORIGINS_PER_TOPIC = 4096

Flow = dict[Ref, list[pl.DataFrame]]


class Machine:
    """All operators of a plan, advanced one step at a time.

    Args:
        plan: What to run.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.units = [Unit(node) for node in plan.nodes]
        self._units = {unit.node.id: unit for unit in self.units}
        self._holds = {unit.node.id: micros(unit.operator.hold()) for unit in self.units}
        self.clock = BEGINNING
        self._ranks = {name: rank for rank, name in enumerate(plan.read_topics())}
        self._decls = {topic.name: topic for topic in plan.topics}
        self._controls = {table.changes: table for table in plan.control_tables}
        self._own_outputs = {output.name: output for output in (*plan.outputs, *plan.foreign)}
        self.topics = {
            name: TopicProgress(
                delay=micros(self._decls[name].delay) if name in self._decls else 0,
                idle_after=micros(self._decls[name].idle_after)
                if name in self._decls
                else 30_000_000,
            )
            for name in self._ranks
        }
        self._consumed = {ref for node in plan.nodes for ref in node.inputs}
        self._consumed |= {output.source for output in plan.outputs}
        self._consumed |= {table.source for table in plan.tables}
        self._source_topics = self._first_source_topics()

    def step(
        self,
        clock: int,
        engine_start: int,
        inputs: Sequence[Input],
        replay: Record | None = None,
    ) -> Result:
        """Run one step and return its answers.

        Args:
            clock: Step clock in microseconds, not before the previous step's.
            engine_start: Step clock from which silence counts.
            inputs: Rows ordered by (topic, partition, offset), and the end offsets seen.
            replay: The step's record when it is run again: its poison rows are left out without
                search, and recorded operators are not called.

        Raises:
            OperatorBug: An operator broke its contract; state is then undefined.
        """
        self.clock = max(self.clock, clock)
        result = Result()
        recorded = Recorded(replay) if replay is not None else None
        flow = self._take(inputs, result)
        for unit in self.units:
            unit.begin(self.clock)
            self._process(unit, flow, result, recorded)
            if unit.wake.clock is not None and unit.wake.clock <= self.clock:
                self._emit(unit, unit.tick(result, recorded), flow, result)
            watermark = self._input_watermark(unit, engine_start)
            unit.tables.watermark = watermark
            if unit.wake.event_time is not None and unit.wake.event_time <= watermark:
                self._emit(unit, unit.advance(result, recorded), flow, result)
            if watermark != BEGINNING:
                held_back = watermark - self._holds[unit.node.id]
                unit.out_watermark = max(unit.out_watermark, held_back)
        for topic in self.topics.values():
            reached = topic.reached(self.clock, engine_start)
            if reached is not None:
                topic.watermark = reached
        self._collect(flow, result)
        return result

    def finish(self, ended: set[str]) -> Result:
        """Give up what is held by every operator all of whose input has ended.

        Args:
            ended: Topics that will bring no more rows. Call again as outputs that are read back
                end in their turn; an operator finishes once.
        """
        result = Result()
        flow: Flow = {}
        for unit in self.units:
            if unit.out_watermark == END_OF_TIME or not self._input_ended(unit, ended):
                continue
            unit.begin(self.clock)
            self._process(unit, flow, result, None)
            unit.tables.watermark = END_OF_TIME
            if unit.wake.event_time is not None:
                self._emit(unit, unit.advance(result, None), flow, result)
            self._emit(unit, unit.finish(result), flow, result)
            unit.out_watermark = END_OF_TIME
        self._collect(flow, result)
        return result

    def finished_outputs(self, ended: set[str]) -> set[str]:
        """Return the outputs that will bring no more rows once `ended` topics have ended."""
        done = set()
        for output in self.plan.outputs:
            kind, _, name = output.source.node.partition(":")
            if (kind == "topic" and name in ended) or (
                kind != "topic" and self._units[output.source.node].out_watermark == END_OF_TIME
            ):
                done.add(output.name)
        return done

    def _input_ended(self, unit: Unit, ended: set[str]) -> bool:
        for port, ref in enumerate(unit.node.inputs):
            if port in unit.controls:
                continue
            kind, _, name = ref.node.partition(":")
            if kind == "topic":
                if name not in ended:
                    return False
            elif self._units[ref.node].out_watermark != END_OF_TIME:
                return False
        return True

    def next_clock(self, engine_start: int) -> int | None:
        """Return the step clock at which a step without rows would do something; None: never."""
        due: int | None = None
        for unit in self.units:
            wake = unit.wake
            if wake.clock is not None:
                due = wake.clock if due is None else min(due, wake.clock)
            if wake.event_time is not None:
                at = self._silence_due(unit, wake.event_time, engine_start)
                if at is not None:
                    due = at if due is None else min(due, at)
        return due

    def snapshot(self) -> Snapshot:
        """Return references to all state as of now; immutable, so this copies nothing."""
        return Snapshot(
            progress=self.progress_state(),
            tables=[
                StatePart(unit.node.id, unit.tables.specs[name], parts)
                for unit in self.units
                for name, parts in unit.tables.parts().items()
            ],
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Take over a snapshot; state of nodes it does not know stays empty."""
        for unit in self.units:
            unit.tables.load(
                {p.spec.name: p.parts for p in snapshot.tables if p.node == unit.node.id}
            )
        self._load_progress(snapshot.progress)
        for unit in self.units:
            unit.tables.clock = self.clock
            unit.reopen()

    def inform(self, nodes: Collection[str], changes: Sequence[Input]) -> None:
        """Tell operators that are new to the restored state what the tables they read hold.

        Args:
            nodes: Their ids; nothing that leaves them now goes anywhere.
            changes: The changes of control tables that the other operators have seen.
        """
        held: Flow = {}
        for rows in changes:
            self._take_changes(rows, held)
        for unit in self.units:
            if isinstance(unit.operator, Table):
                held[Ref(unit.node.id)] = [live_rows(unit.tables, unit.node.input_schemas[0])]
        for unit in self.units:
            if unit.node.id not in nodes:
                continue
            told = {unit.node.inputs[port] for port in unit.controls}
            flow = {ref: frames for ref, frames in held.items() if ref in told}
            unit.begin(self.clock)
            self._process(unit, flow, Result(), None)
            if unit.wake.clock is not None and unit.wake.clock <= self.clock:
                unit.tick(Result(), None)

    def state_specs(self) -> dict[tuple[str, str], TableSpec]:
        """Return every declared table by (node, table name)."""
        return {
            (unit.node.id, name): spec
            for unit in self.units
            for name, spec in unit.tables.specs.items()
        }

    def state_size(self) -> tuple[int, int]:
        """Return rows and bytes of all state."""
        return (
            sum(sum(unit.tables.row_counts().values()) for unit in self.units),
            sum(sum(unit.tables.byte_counts().values()) for unit in self.units),
        )

    def progress_state(self) -> dict[str, Any]:
        """Return clock, watermarks and positions as plain data."""
        return {
            "clock": self.clock,
            "topics": {name: topic.to_state() for name, topic in self.topics.items()},
            "watermarks": {
                unit.node.id: [unit.tables.watermark, unit.out_watermark] for unit in self.units
            },
        }

    def _load_progress(self, state: dict[str, Any]) -> None:
        self.clock = state["clock"]
        for name, topic in state["topics"].items():
            if name in self.topics:
                self.topics[name].load_state(topic)
        for unit in self.units:
            known = state["watermarks"].get(unit.node.id)
            if known is not None:
                unit.tables.watermark, unit.out_watermark = known

    def _take(self, inputs: Sequence[Input], result: Result) -> Flow:
        """Give rows their hidden columns, set impossible ones aside, and move the fronts."""
        flow: Flow = {}
        for rows in inputs:
            progress = self.topics[rows.topic].partition(rows.partition)
            progress.end = rows.end
            progress.position = rows.stop
            if rows.topic in self._controls:
                self._take_changes(rows, flow)
            elif rows.frame is not None and rows.frame.height:
                self._take_data(rows, flow, result)
        return flow

    def _take_changes(self, rows: Input, flow: Flow) -> None:
        """Give the changes of a control table to the operators that read it."""
        if rows.frame is None or rows.frame.is_empty():
            return
        frame = rows.frame.with_columns(
            pl.lit(self.clock, pl.Int64).alias(EVENT_TIME),
            pl.int_range(rows.frame.height, dtype=pl.Int64).alias(POSITION) + self._first(rows),
        )
        flow.setdefault(Ref(f"control:{self._controls[rows.topic].name}"), []).append(frame)

    def _first(self, rows: Input) -> int:
        """Return the position of the first row."""
        origin = self._ranks[rows.topic] * ORIGINS_PER_TOPIC + rows.partition
        return position(origin, rows.start)

    def _take_data(self, rows: Input, flow: Flow, result: Result) -> None:
        decl, output = self._decls.get(rows.topic), self._own_outputs.get(rows.topic)
        first = self._first(rows)
        source = prepare_rows(rows, decl or output, first_position=first, clock=self.clock)
        result.rows_in += source.frame.height + source.dead.height
        if source.dead.height:
            result.add_letters(rows.topic, source.dead)
        topic = self.topics[rows.topic]
        if decl is None and rows.watermark is not None:
            topic.take_watermark(rows.partition, rows.watermark, self.clock)
        elif source.max_event_time is not None:
            topic.take(rows.partition, source.max_event_time, self.clock)
        if source.frame.height:
            flow.setdefault(Ref(f"topic:{rows.topic}"), []).append(source.frame)

    def _process(self, unit: Unit, flow: Flow, result: Result, recorded: Recorded | None) -> None:
        for port in unit.ports:
            frames = flow.get(unit.node.inputs[port])
            if not frames:
                continue
            frame = pl.concat(frames) if len(frames) > 1 else frames[0]
            for start in range(0, frame.height, CHUNK):
                chunk = frame if frame.height <= CHUNK else frame.slice(start, CHUNK)
                out, bad, poison = unit.process(chunk.rechunk(), port, result, recorded)
                if bad is not None and poison is not None:
                    topic = self._source_topic(unit.node.inputs[port])
                    reason = f"{unit.node.id}: {poison.reason}"
                    result.add_letters(topic, dead_letters(bad, topic, reason, self.clock))
                self._emit(unit, out, flow, result)

    def _emit(self, unit: Unit, out: Iterable[Out], flow: Flow, result: Result) -> None:
        for port, frame in out:
            if frame.is_empty():
                continue
            if is_late(port):
                result.late[unit.node.id] = result.late.get(unit.node.id, 0) + frame.height
            ref = Ref(unit.node.id, port)
            if ref in self._consumed:
                flow.setdefault(ref, []).append(frame)

    def _input_watermark(self, unit: Unit, engine_start: int) -> int:
        known = self._inputs_reached(unit, engine_start)
        return max(unit.tables.watermark, min(known)) if known else unit.tables.watermark

    def _inputs_reached(self, unit: Unit, engine_start: int) -> list[int]:
        reached = [
            self._reached(ref, engine_start)
            for port, ref in enumerate(unit.node.inputs)
            if port not in unit.controls
        ]
        return [watermark for watermark in reached if watermark is not None]

    def _reached(self, ref: Ref, engine_start: int) -> int | None:
        """Return the watermark behind `ref`; None while nothing is known of it because all the
        topics it comes from are idle and never had a row: such an input holds nothing back.
        """
        kind, _, name = ref.node.partition(":")
        if kind == "topic":
            return self.topics[name].reached(self.clock, engine_start)
        source = self._units[ref.node]
        if source.out_watermark == BEGINNING and not self._inputs_reached(source, engine_start):
            return None
        return source.out_watermark

    def _silence_due(self, unit: Unit, event_time_us: int, engine_start: int) -> int | None:
        """Return when silence alone brings this unit's watermark to `event_time_us`."""
        due = self.clock
        for port, ref in enumerate(unit.node.inputs):
            if port in unit.controls:
                continue
            kind, _, name = ref.node.partition(":")
            if kind == "topic":
                topic = self.topics[name]
                reached = topic.reached(self.clock, engine_start)
                if reached is None:
                    continue
                if reached >= event_time_us:
                    continue
                at = topic.due_at(event_time_us, self.clock, engine_start)
            else:
                source = self._units[ref.node]
                if source.out_watermark >= event_time_us:
                    continue
                wanted = event_time_us + self._holds[source.node.id]
                at = self._silence_due(source, wanted, engine_start)
            if at is None:
                return None
            due = max(due, at)
        return due

    def _collect(self, flow: Flow, result: Result) -> None:
        """Turn what reached outputs, tables and dead-letter topics into rows to commit."""
        for output in self.plan.outputs:
            frames = flow.get(output.source)
            if frames:
                watermark = self._watermark_of(output.source)
                self._leave(output.name, _visible(frames, output), watermark, result)
        for table in self.plan.tables:
            frames = flow.get(table.source)
            if frames:
                columns = [*table.schema, OP]
                frame = pl.concat([each.select(columns) for each in frames])
                self._leave(table.changes, frame, None, result)
        for topic, letters in result.letters.items():
            self._leave(topic + DEAD, pl.concat(letters), None, result)

    def _leave(
        self, topic: str, frame: pl.DataFrame, watermark: int | None, result: Result
    ) -> None:
        result.outputs.append(Output(topic, frame, watermark))
        result.digests.append(Digest(topic, frame.height, frame_digest([frame])))

    def _watermark_of(self, ref: Ref) -> int:
        kind, _, name = ref.node.partition(":")
        return (
            self.topics[name].watermark if kind == "topic" else self._units[ref.node].out_watermark
        )

    def _source_topic(self, ref: Ref) -> str:
        """Return the topic for dead letters of rows that came through `ref`."""
        kind, _, name = ref.node.partition(":")
        topic = name if kind == "topic" else self._source_topics.get(ref.node)
        return topic if topic in self._decls else self.plan.topics[0].name

    def _first_source_topics(self) -> dict[str, str]:
        """Map each node to the topic that its rows, or those of its first input, came from."""
        source: dict[str, str] = {}
        for node in self.plan.nodes:
            for port, ref in enumerate(node.inputs):
                if port in node.operator.control_ports:
                    continue
                kind, _, name = ref.node.partition(":")
                source.setdefault(node.id, name if kind == "topic" else source.get(ref.node, ""))
        return source


def _visible(frames: list[pl.DataFrame], output: OutputDecl) -> pl.DataFrame:
    frame = pl.concat(frames) if len(frames) > 1 else frames[0]
    if output.time == "event_time" and "event_time" not in frame.columns:
        frame = frame.with_columns(event_time().alias("event_time"))
    return frame.select(list(output.schema))
