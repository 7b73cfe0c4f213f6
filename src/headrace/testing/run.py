"""Run a whole application over given rows, in this process, with no clock but the rows' own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from headrace.core.errors import DataError
from headrace.core.log import DELETE, OP, UPSERT, Append, Commit, TopicSpec, Writer
from headrace.core.time import BEGINNING, Clock, micros
from headrace.log.memory import MemoryLog
from headrace.plan.graph import DEAD, DEAD_SCHEMA, ControlTableDecl, Plan, TopicDecl
from headrace.runners.embedded.engine import Engine

Frames = pl.DataFrame | Sequence[pl.DataFrame]
STEP_ROWS = 65_536


class Runnable(Protocol):
    """What has a plan: an App."""

    def plan(self) -> Plan:
        """Return the plan."""
        ...


class _DataClock:
    """Both clocks at the latest event time fed so far, so that no row is ahead of them."""

    def __init__(self, start: int) -> None:
        self.at = start

    def now(self) -> int:
        return self.at

    def monotonic(self) -> int:
        return self.at


@dataclass(frozen=True, slots=True)
class _Feed:
    """Rows of one topic with the running maximum of their event time."""

    topic: str
    frame: pl.DataFrame
    running: pl.Series
    delay: int


def run(
    app: Runnable,
    inputs: Mapping[str, Frames],
    batch_rows: int | None = None,
    seed: int | None = None,
    finish: bool = True,
    clock: Clock | None = None,
) -> dict[str, pl.DataFrame]:
    """Feed whole inputs to `app`, finish them, and return every output topic and table.

    Args:
        app: The application.
        inputs: Rows per topic, in arrival order; control tables too, applied before all data
            unless a column `_at` (event time) says when; `_op` "delete" removes a row.
        batch_rows: Rows per step; None takes up to 65 536.
        seed: Moves batch bounds and the interleaving of topics, within what `delay` allows.
        finish: Whether the input ends: all windows close. False leaves them open.
        clock: By default the step clock is the latest event time fed so far.

    Returns:
        Rows per output topic, per table (its live rows) and per dead-letter topic, in emission
        order.

    Raises:
        DataError: A row does not fit its topic's schema.
        PlanError: The plan does not fit together.

    Example:
        >>> import headrace as hr
        >>> app = hr.App("doc")
        >>> topic = app.topic(
        ...     "readings",
        ...     schema={"time": pl.Datetime("us", "UTC"), "depth_m": pl.Float64},
        ...     time="time",
        ... )
        >>> _ = app.output("deep", topic.filter(pl.col("depth_m") > 200))
        >>> rows = pl.DataFrame({"time": [0, 1], "depth_m": [10.0, 250.0]}).cast(
        ...     {"time": pl.Datetime("us", "UTC")}
        ... )
        >>> run(app, {"readings": rows})["deep"]["depth_m"].to_list()
        [250.0]
    """
    plan = app.plan()
    feeds, controls = _feeds(plan, inputs)
    log = MemoryLog()
    writer = log.writer("gateway-0", 0)
    for topic in plan.topics:
        writer.create(TopicSpec(topic.name, topic.schema.columns))
        writer.create(TopicSpec(topic.name + DEAD, DEAD_SCHEMA))
    for table in plan.control_tables:
        writer.create(TopicSpec(table.changes, _changes_schema(table)))
    own_clock = _DataClock(_earliest(feeds)) if clock is None else None
    engine = Engine(plan, log, clock=own_clock or clock)
    engine.start()
    try:
        _feed(engine, writer, feeds, controls, own_clock, batch_rows or STEP_ROWS, seed)
        if finish:
            engine.finish()
        return _collect(plan, log)
    finally:
        engine.close()
        writer.close()


def _feed(
    engine: Engine,
    writer: Writer,
    feeds: list[_Feed],
    controls: list[tuple[int, str, pl.DataFrame]],
    clock: _DataClock | None,
    batch_rows: int,
    seed: int | None,
) -> None:
    pending = sorted(controls, key=lambda change: change[0])
    front = BEGINNING
    changes_at = [when for when, _, _ in pending]
    for pieces in _batches(feeds, batch_rows, seed, changes_at):
        first = min(piece.running[0] for piece in pieces)
        due = [change for change in pending if change[0] <= first]
        pending = pending[len(due) :]
        commits = [_append(f"{name}.changes", frame) for _, name, frame in due]
        commits += [_append(piece.topic, piece.frame) for piece in pieces]
        front = max(front, *(piece.running[-1] for piece in pieces))
        if clock is not None:
            clock.at = max(clock.at, front)
        writer.commit([Commit(appends=commits)])
        while engine.step_once():
            pass
    if pending:
        writer.commit([Commit([_append(f"{name}.changes", frame) for _, name, frame in pending])])
        while engine.step_once():
            pass


def _earliest(feeds: list[_Feed]) -> int:
    return min((int(feed.running[0]) for feed in feeds if feed.running.len()), default=0)


def _append(topic: str, frame: pl.DataFrame) -> Append:
    return Append(topic=topic, partition=0, payload=frame, rows=frame.height)


def _batches(
    feeds: list[_Feed], batch_rows: int, seed: int | None, changes_at: Sequence[int]
) -> Iterator[list[_Feed]]:
    """Merge topics by the running maximum of event time and cut them into steps.

    A step ends where a control table changes, so that rows before the change are not judged by it.
    """
    chance = random.Random(seed) if seed is not None else None  # noqa: S311 - shuffles a test
    merged = pl.concat(
        [
            pl.DataFrame(
                {
                    "at": feed.running,
                    "feed": pl.Series([number], dtype=pl.UInt32).new_from_index(
                        0, feed.frame.height
                    ),
                }
            ).with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"))
            for number, feed in enumerate(feeds)
            if feed.frame.height
        ]
        or [pl.DataFrame(schema={"at": pl.Int64, "feed": pl.UInt32, "row": pl.UInt32})]
    )
    if chance is not None and len(feeds) > 1:
        slack = min(feed.delay for feed in feeds)
        shifts = pl.Series([chance.randrange(0, slack + 1) for _ in feeds], dtype=pl.Int64)
        merged = merged.with_columns(pl.col("at") + shifts.gather(merged["feed"]))
    merged = merged.sort("at", "feed", "row", maintain_order=True)
    bounds = [int(merged["at"].search_sorted(when, side="left")) for when in changes_at]
    start = 0
    while start < merged.height:
        rows = batch_rows if chance is None else chance.randint(1, batch_rows)
        stop = min([start + rows, *(bound for bound in bounds if bound > start)])
        piece = merged.slice(start, stop - start)
        start = stop
        batch = []
        for number, feed in enumerate(feeds):
            mine = piece.filter(pl.col("feed") == number)["row"]
            if mine.len():
                low, count = int(mine[0]), mine.len()
                batch.append(
                    _Feed(
                        feed.topic,
                        feed.frame.slice(low, count),
                        feed.running.slice(low, count),
                        feed.delay,
                    )
                )
        yield batch


def _feeds(
    plan: Plan, inputs: Mapping[str, Frames]
) -> tuple[list[_Feed], list[tuple[int, str, pl.DataFrame]]]:
    control = {table.name: table for table in plan.control_tables}
    feeds, controls = [], []
    for name, given in inputs.items():
        frames = [given] if isinstance(given, pl.DataFrame) else list(given)
        if name in control:
            for frame in frames:
                controls.extend(_changes(control[name], frame))
            continue
        topic = plan.topic(name)
        frame = pl.concat([_fitting(topic, frame) for frame in frames])
        running = frame[topic.time].to_physical().fill_null(strategy="forward").cum_max()
        feeds.append(_Feed(name, frame, running.fill_null(BEGINNING), micros(topic.delay)))
    feeds.sort(key=lambda feed: feed.topic)
    return feeds, controls


def _fitting(topic: TopicDecl, frame: pl.DataFrame) -> pl.DataFrame:
    validated = topic.schema.validate(frame, key=topic.key, time=topic.time)
    if validated.rejected.height:
        reason = validated.rejected["reason"][0]
        raise DataError(
            f"{validated.rejected.height} rows do not fit topic {topic.name!r}: {reason}",
            hint="testing.run takes clean rows; bad input is tested through the gateway",
        )
    return validated.good


def _changes(table: ControlTableDecl, frame: pl.DataFrame) -> list[tuple[int, str, pl.DataFrame]]:
    schema = _changes_schema(table)
    ops = (
        frame["_op"]
        if "_op" in frame.columns
        else pl.Series([UPSERT]).new_from_index(0, frame.height)
    )
    at = (
        frame["_at"].cast(pl.Datetime("us", "UTC")).to_physical()
        if "_at" in frame.columns
        else pl.Series([BEGINNING], dtype=pl.Int64).new_from_index(0, frame.height)
    )
    plain = frame.drop([c for c in ("_op", "_at") if c in frame.columns])
    checked = table.schema.validate(plain, key=table.key)
    if checked.rejected.height and not ops.is_in([DELETE]).any():
        raise DataError(
            f"rows do not fit control table {table.name!r}: {checked.rejected['reason'][0]}"
        )
    rows = plain if checked.rejected.height else checked.good
    rows = rows.with_columns(
        ops.alias(OP), pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("version")
    )
    for column, dtype in schema.items():
        if column not in rows.columns:
            rows = rows.with_columns(pl.lit(None, dtype).alias(column))
    rows = rows.select(list(schema)).cast(dict(schema))  # type: ignore[arg-type]  # a Schema is a mapping of names
    return [(when, table.name, rows.filter(at == when)) for when in at.unique(maintain_order=True)]


def _changes_schema(table: ControlTableDecl) -> pl.Schema:
    return pl.Schema({**table.schema.columns, OP: pl.String(), "version": pl.Int64()})


def _collect(plan: Plan, log: MemoryLog) -> dict[str, pl.DataFrame]:
    reader = log.reader()
    try:
        results = {}
        names = {output.name: output.schema for output in plan.outputs}
        names |= {topic.name + DEAD: DEAD_SCHEMA for topic in plan.topics}
        tables = {table.changes: table for table in plan.tables}
        for name in [*names, *tables]:
            frames = []
            for at, info in sorted(reader.partitions([name]).items()):
                offset = info.start
                while offset < info.end:
                    batches = reader.read(at, offset, STEP_ROWS, 1 << 30)
                    frames += [batch.frame for batch in batches]
                    offset = batches[-1].end
            if name in tables:
                table = tables[name]
                changes = pl.concat(frames) if frames else None
                results[table.name] = (
                    table.schema.to_frame()
                    if changes is None
                    else changes.unique(table.key, keep="last", maintain_order=True)
                    .filter(pl.col(OP) == UPSERT)
                    .select(list(table.schema))
                )
            elif frames or not name.endswith(DEAD):
                results[name] = pl.concat(frames) if frames else names[name].to_frame()
        return results
    finally:
        reader.close()
