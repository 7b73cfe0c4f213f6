"""Every log behaves like a dict of lists, whatever is done to it and in which order.

A model keeps each partition as (first offset held, all rows ever), and everything else as plain
dicts. Offsets, rows, watermarks, values, records and positions must agree with it after every
action; so must what is found after the writer was closed and opened again.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field

import polars as pl
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.core.errors import LostRangeError
from headrace.core.log import (
    Append,
    Commit,
    Log,
    PartitionInfo,
    Position,
    Put,
    Reader,
    TopicPartition,
    TopicSpec,
    Writer,
)
from headrace.log import MemoryLog, SqliteLog
from headrace.testing import TestClock

SCHEMA = pl.Schema({"number": pl.Int64})
OWNERS = {"gateway-0": 0, "engine-fleet": 32}
TOPICS = ("rows", "events")
PLENTY = 1 << 40
HOUR_US = 3_600_000_000

owners = st.sampled_from(sorted(OWNERS))
topics = st.sampled_from(TOPICS)
keys = st.sampled_from(["a", "a/b", "a/c", "b", "é", "a\U0001f600"])
streams = st.sampled_from(["steps", "effects"])


@dataclass
class _Partition:
    incarnation: str
    start: int = 0
    rows: list[tuple[int, int | None]] = field(default_factory=list)  # (number, watermark)
    arrivals: list[int] = field(default_factory=list)


@dataclass
class _Owner:
    partitions: dict[TopicPartition, _Partition] = field(default_factory=dict)
    specs: dict[str, TopicSpec] = field(default_factory=dict)
    values: dict[str, tuple[bytes, int | None]] = field(default_factory=dict)
    streams: dict[str, tuple[int, list[bytes]]] = field(default_factory=dict)
    positions: dict[str, dict[TopicPartition, Position]] = field(default_factory=dict)


class LogMachine(RuleBasedStateMachine):
    """Drives a log and its model alike; `open_log` is what a subclass says."""

    clock: TestClock
    log: Log
    reader: Reader

    def open_log(self) -> Log:
        raise NotImplementedError

    def settle(self, writer: Writer) -> None:
        """Wait for what `maintain` does in the background."""

    @initialize()
    def begin(self) -> None:
        self.clock = TestClock()
        self.log = self.open_log()
        self.reader = self.log.reader()
        self.writers = {owner: self.log.writer(owner, slot) for owner, slot in OWNERS.items()}
        self.model = {owner: _Owner() for owner in OWNERS}
        self.number = 0
        for owner in OWNERS:
            for topic in TOPICS:
                self.create(owner, topic, 1, HOUR_US)

    def teardown(self) -> None:
        if hasattr(self, "writers"):
            for writer in self.writers.values():
                writer.close()
            self.reader.close()

    @rule(
        owner=owners,
        topic=topics,
        partitions=st.integers(1, 2),
        retention=st.sampled_from([HOUR_US, HOUR_US, None]),
    )
    def create(self, owner: str, topic: str, partitions: int, retention: int | None) -> None:
        spec = TopicSpec(topic, SCHEMA, partitions, retention, archive=topic == "events")
        model = self.model[owner]
        infos = self.writers[owner].create(spec)
        model.specs[topic] = spec
        for info in infos:
            at = TopicPartition(info.topic, info.partition)
            known = model.partitions.setdefault(at, _Partition(info.incarnation))
            assert info.incarnation == known.incarnation
            assert info.end == len(known.rows)

    @rule(owner=owners, topic=topics, again=st.sampled_from([True, True, False]))
    def drop(self, owner: str, topic: str, again: bool) -> None:
        self.writers[owner].drop(topic)
        model = self.model[owner]
        model.specs.pop(topic, None)
        model.partitions = {at: part for at, part in model.partitions.items() if at.topic != topic}
        if again:
            self.create(owner, topic, 1, HOUR_US)

    @rule(owner=owners, data=st.data())
    def commit(self, owner: str, data: st.DataObject) -> None:
        model = self.model[owner]
        commits = data.draw(st.lists(self._commits(model), min_size=1, max_size=3), "commits")
        answer = self.writers[owner].commit(commits)
        for commit, appended in zip(commits, answer, strict=True):
            assert len(commit.appends) == len(appended)
            for append, (topic, number, start, end) in zip(commit.appends, appended, strict=True):
                assert (topic, number) == (append.topic, append.partition)
                partition = model.partitions[TopicPartition(topic, number)]
                assert start == len(partition.rows)
                assert isinstance(append.payload, pl.DataFrame)
                partition.rows += [
                    (value, append.watermark) for value in append.payload["number"].to_list()
                ]
                partition.arrivals += [self.clock.now()] * append.rows
                assert end == len(partition.rows)
            for stream, record in commit.records:
                model.streams.setdefault(stream, (0, []))[1].append(record)
            for put in commit.puts:
                model.values.pop(put.key, None)
                if put.value is not None:
                    model.values[put.key] = (put.value, put.expires_us)

    def _commits(self, model: _Owner) -> st.SearchStrategy[Commit]:
        places = sorted(model.partitions)
        appends = (
            st.lists(
                st.builds(self._append, st.sampled_from(places), st.integers(1, 6)), max_size=3
            )
            if places
            else st.just([])
        )
        expiry = st.none() | st.integers(0, 2 * HOUR_US).map(lambda us: self.clock.now() + us)
        puts = st.lists(st.builds(Put, keys, st.none() | st.binary(max_size=3), expiry), max_size=3)
        records = st.lists(st.tuples(streams, st.binary(max_size=3)), max_size=3)
        return st.builds(Commit, appends, records, puts)

    def _append(self, at: TopicPartition, rows: int) -> Append:
        frame = pl.DataFrame({"number": range(self.number, self.number + rows)}, schema=SCHEMA)
        self.number += rows
        watermark = None if self.number % 3 else self.number
        return Append(*at, frame, rows, watermark)

    @rule(owner=owners, stream=streams, before=st.integers(0, 12))
    def trim(self, owner: str, stream: str, before: int) -> None:
        self.writers[owner].trim_records(stream, before)
        base, records = self.model[owner].streams.get(stream, (0, []))
        count = min(max(before - base, 0), len(records))
        self.model[owner].streams[stream] = (base + count, records[count:])

    @rule(owner=owners, name=st.sampled_from(["engine", "sink"]), data=st.data())
    def publish(self, owner: str, name: str, data: st.DataObject) -> None:
        everything = {at: part for model in self.model.values() for at, part in self._of(model)}
        chosen = data.draw(st.sets(st.sampled_from(sorted(everything)))) if everything else set()
        positions = {
            at: Position(
                everything[at].incarnation,
                data.draw(st.integers(everything[at].start, len(everything[at].rows))),
            )
            for at in sorted(chosen)
        }
        reader = f"{name}-{owner}"
        self.writers[owner].publish_positions(reader, positions)
        self.model[owner].positions.pop(reader, None)
        if positions:
            self.model[owner].positions[reader] = positions

    @rule(hours=st.integers(0, 3), owner=owners)
    def pass_time(self, hours: int, owner: str) -> None:
        self.clock.advance(f"{hours}h")
        self.maintain(owner)

    @rule(owner=owners)
    def maintain(self, owner: str) -> None:
        """Retention drops whole batches, so the model learns how far, and checks it was allowed."""
        writer, model = self.writers[owner], self.model[owner]
        for _ in range(3):
            writer.maintain(self.clock.now())
            self.settle(writer)
        infos = self.reader.partitions()
        for at, partition in self._of(model):
            start = infos[at].start
            assert partition.start <= start <= len(partition.rows)
            if start > partition.start:
                retention = model.specs[at.topic].retention_us
                assert retention is not None
                assert partition.arrivals[start - 1] < self.clock.now() - retention
                assert start <= self._floor(at, partition)
            partition.start = start

    @rule(owner=owners)
    def reopen(self, owner: str) -> None:
        self.writers[owner].close()
        epoch = self.writers[owner].epoch
        self.writers[owner] = self.log.writer(owner, OWNERS[owner])
        assert self.writers[owner].epoch == epoch + 1

    @precondition(lambda self: any(model.partitions for model in self.model.values()))
    @rule(data=st.data(), max_rows=st.integers(1, 9), max_bytes=st.sampled_from([0, 2000, PLENTY]))
    def read(self, data: st.DataObject, max_rows: int, max_bytes: int) -> None:
        everything = {at: part for model in self.model.values() for at, part in self._of(model)}
        at = data.draw(st.sampled_from(sorted(everything)))
        partition = everything[at]
        offset = data.draw(st.integers(0, len(partition.rows) + 2))
        if not partition.start <= offset <= len(partition.rows):
            with pytest.raises(LostRangeError):
                self.reader.read(at, offset, max_rows, max_bytes)
            return
        found = self._rows(at, offset, max_rows, max_bytes)
        wanted = partition.rows[offset : offset + max_rows]
        assert found == wanted[: len(found)]
        assert bool(found) == bool(wanted)
        if max_bytes == PLENTY:
            assert found == wanted

    @invariant()
    def readers_see_what_was_committed(self) -> None:
        if not hasattr(self, "writers"):
            return
        infos = self.reader.partitions()
        everything = {at: part for model in self.model.values() for at, part in self._of(model)}
        assert set(infos) == set(everything)
        for at, partition in everything.items():
            self._check_info(infos[at], partition)
            assert (
                self._rows(at, partition.start, PLENTY, PLENTY)
                == (partition.rows[partition.start :])
            )
        published = {
            name: positions
            for model in self.model.values()
            for name, positions in model.positions.items()
        }
        assert self.reader.positions() == published
        for topic in TOPICS:
            assert self.reader.spec(topic) in [
                model.specs.get(topic) for _, model in sorted(self.model.items())
            ]

    @invariant()
    def owners_see_their_values_and_records(self) -> None:
        if not hasattr(self, "writers"):
            return
        for owner, model in self.model.items():
            writer = self.writers[owner]
            living = {
                key: value
                for key, (value, expires) in sorted(model.values.items())
                if expires is None or expires > self.clock.now()
            }
            assert list(writer.scan("").items()) == list(living.items())
            assert writer.scan("a/") == {
                key: value for key, value in living.items() if key.startswith("a/")
            }
            assert writer.get("a") == living.get("a")
            for stream, (base, records) in model.streams.items():
                numbered = [(base + i, record) for i, record in enumerate(records)]
                assert writer.records(stream) == numbered
                assert self.reader.owner_records(owner, stream, base + 1) == numbered[1:]

    def _of(self, model: _Owner) -> list[tuple[TopicPartition, _Partition]]:
        return sorted(model.partitions.items(), key=lambda item: item[0])

    def _rows(
        self, at: TopicPartition, offset: int, max_rows: int, max_bytes: int
    ) -> list[tuple[int, int | None]]:
        rows: list[tuple[int, int | None]] = []
        for batch in self.reader.read(at, offset, max_rows, max_bytes):
            assert batch.start == offset + len(rows)
            rows += [(number, batch.watermark) for number in batch.frame["number"].to_list()]
        return rows

    def _floor(self, at: TopicPartition, partition: _Partition) -> int:
        return min(
            (
                positions[at].offset
                for model in self.model.values()
                for positions in model.positions.values()
                if at in positions and positions[at].incarnation == partition.incarnation
            ),
            default=len(partition.rows),
        )

    def _check_info(self, info: PartitionInfo, partition: _Partition) -> None:
        assert (info.incarnation, info.start, info.end) == (
            partition.incarnation,
            partition.start,
            len(partition.rows),
        )
        assert (info.bytes > 0) == (info.end > info.start)


class MemoryMachine(LogMachine):
    def open_log(self) -> Log:
        return MemoryLog(self.clock)


class SqliteMachine(LogMachine):
    """Segments of a few batches, so that sealing and archiving happen all the time."""

    def open_log(self) -> Log:
        self.folder = tempfile.TemporaryDirectory()
        return SqliteLog(self.folder.name, clock=self.clock, segment_bytes=500)

    def settle(self, writer: Writer) -> None:
        writer.settle()  # type: ignore[attr-defined]  # a log on disk has it beyond the protocol

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            self.log.close()  # type: ignore[attr-defined]  # likewise
            self.folder.cleanup()


TestMemoryLog = MemoryMachine.TestCase
TestSqliteLog = SqliteMachine.TestCase
