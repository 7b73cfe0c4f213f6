from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import ConflictError, DriftError, LostRangeError, StateError
from headrace.core.log import OP, Append, Commit, TopicPartition, TopicSpec
from headrace.core.time import micros, to_micros
from headrace.log import SqliteLog
from headrace.plan.graph import DEAD
from headrace.runners.embedded.checkpoint import CheckpointStore
from headrace.runners.embedded.engine import Engine
from headrace.runners.embedded.failure import load_failure
from headrace.runners.embedded.journal import JOURNAL, decode_record
from headrace.runners.embedded.machine import Machine
from headrace.runners.embedded.options import EngineOptions
from headrace.runners.embedded.unit import OperatorBug
from headrace.testing import TestClock

SCHEMA = pl.Schema({"key": pl.String(), "time": pl.Datetime("us", "UTC"), "value": pl.Float64()})
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_app() -> hr.App:
    app = hr.App("tested")
    rows = app.topic("rows", SCHEMA, time="time", key="key", idle_after="10s")
    app.output("copy", rows.select("key", "value"))
    app.output(
        "sums", rows.window(hr.tumbling("10s"), by="key", name="sums").agg(total=hr.sum("value"))
    )
    app.table("latest", rows, key="key")
    return app


def rows_at(seconds: list[float], *, key: str = "a", value: float = 0.1) -> pl.DataFrame:
    start = to_micros(NOON)
    return pl.DataFrame(
        {
            "key": [key] * len(seconds),
            "time": [start + round(second * 1e6) for second in seconds],
            "value": [value * (number + 1) for number in range(len(seconds))],
        }
    ).cast({"time": pl.Datetime("us", "UTC")})


class Bench:
    """A data directory, a clock and an input topic; engines come and go on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = TestClock(NOON)
        self.log = SqliteLog(folder)
        self.writer = self.log.writer("gateway-0", 0)
        self.writer.create(TopicSpec("rows", SCHEMA))

    def put(self, frame: pl.DataFrame) -> None:
        newest = frame["time"].to_physical().max()
        assert isinstance(newest, int)
        if self.clock.now() < newest < self.clock.now() + micros("5m"):
            self.clock.advance(timedelta(microseconds=newest - self.clock.now()))
        append = Append("rows", 0, frame, frame.height, arrival_us=self.clock.now())
        self.writer.commit([Commit([append])])

    def read(self, topic: str) -> pl.DataFrame:
        reader = self.log.reader()
        try:
            frames = []
            for at, info in sorted(reader.partitions([topic]).items()):
                if info.end > info.start:
                    found = reader.read(at, info.start, 1_000_000, 1 << 30)
                    frames += [batch.frame for batch in found]
            return pl.concat(frames) if frames else pl.DataFrame()
        finally:
            reader.close()

    @contextmanager
    def engine(
        self, app: hr.App | None = None, options: EngineOptions | None = None
    ) -> Iterator[Engine]:
        engine = Engine(
            (app or make_app()).plan(),
            self.log,
            clock=self.clock,
            checkpoints=CheckpointStore(self.folder / "engine-tested" / "checkpoints"),
            options=options,
        )
        engine.start()
        try:
            yield engine
        finally:
            engine.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.writer.close()


def steps(engine: Engine) -> int:
    count = 0
    while engine.step_once():
        count += 1
    engine.flush()
    return count


def test_rows_flow_from_topic_to_outputs_and_table(bench: Bench) -> None:
    bench.put(rows_at([1, 2, 11]))

    with bench.engine() as engine:
        steps(engine)

    assert bench.read("copy")["value"].to_list() == pytest.approx([0.1, 0.2, 0.3])
    assert bench.read("sums")["total"].to_list() == pytest.approx([0.3])
    assert bench.read("latest.changes")["value"].to_list() == pytest.approx([0.3])


def test_a_killed_engine_goes_on_where_its_journal_ends(bench: Bench) -> None:
    bench.put(rows_at([1, 2]))
    with bench.engine() as engine:
        steps(engine)
        before = engine.step
    bench.put(rows_at([3, 12]))

    with bench.engine() as engine:
        assert engine.step == before
        assert engine.counters.replayed == before
        steps(engine)

    assert bench.read("copy").height == 4
    assert bench.read("sums")["total"].to_list() == pytest.approx([0.1 + 0.2 + 0.1])


def test_recovery_begins_at_the_checkpoint_and_keeps_open_windows(bench: Bench) -> None:
    bench.put(rows_at([1, 2]))
    with bench.engine() as engine:
        steps(engine)
        engine.drain()
    bench.put(rows_at([3, 12]))

    with bench.engine() as engine:
        assert engine.counters.replayed == 0
        steps(engine)

    assert bench.read("sums")["total"].to_list() == pytest.approx([0.4])


def test_a_broken_newest_checkpoint_falls_back_to_the_older(bench: Bench) -> None:
    for second in (1.0, 2.0):
        bench.put(rows_at([second]))
        with bench.engine() as engine:
            steps(engine)
            engine.drain()
    newest = max((bench.folder / "engine-tested" / "checkpoints").iterdir())
    part = next(newest.glob("*.arrow"))
    # Unchanged parts are hard links: writing in place would damage the older one as well.
    part.unlink()
    part.write_bytes(b"damaged")
    bench.put(rows_at([12]))

    with bench.engine() as engine:
        assert engine.counters.replayed == 1
        steps(engine)

    assert bench.read("sums")["total"].to_list() == pytest.approx([0.2])


def test_windows_close_on_a_quiet_stream_at_the_pace_of_the_clock(bench: Bench) -> None:
    bench.put(rows_at([1]))
    with bench.engine() as engine:
        steps(engine)
        assert bench.read("sums").is_empty()
        bench.clock.advance("9s")
        assert steps(engine) == 0
        bench.clock.advance("2s")
        steps(engine)

    assert bench.read("sums")["total"].to_list() == pytest.approx([0.1])


def test_a_quiet_engine_writes_no_steps(bench: Bench) -> None:
    with bench.engine() as engine:
        steps(engine)
        bench.clock.advance("1h")

        assert steps(engine) == 0
        assert engine.step == 0


def test_rows_ahead_of_the_clock_become_dead_letters_with_their_offset(bench: Bench) -> None:
    bench.put(rows_at([1, 365 * 86_400, 2]))

    with bench.engine() as engine:
        steps(engine)

    letters = bench.read("rows" + DEAD)
    assert letters["reason"].to_list() == ["clock ahead"]
    assert letters["offset"].to_list() == [1]
    assert bench.read("copy").height == 2


def test_a_row_that_makes_an_operator_raise_is_set_aside_alone(bench: Bench) -> None:
    app = hr.App("tested")
    rows = app.topic("rows", SCHEMA, time="time", key="key")
    app.output("parsed", rows.select(number=pl.col("key").cast(pl.Int64)))
    good, bad = rows_at([1], key="7"), rows_at([2], key="seven")
    bench.put(pl.concat([good] * 40 + [bad] + [good] * 9))

    with bench.engine(app) as engine:
        steps(engine)

    assert bench.read("parsed").height == 49
    letters = bench.read("rows" + DEAD)
    assert letters.height == 1
    assert "seven" in letters["payload"][0]
    with bench.engine(app) as engine:
        assert engine.counters.replayed == 1
        assert bench.read("parsed").height == 49


def test_too_many_poison_rows_are_a_bug_whose_step_is_kept(bench: Bench) -> None:
    app = hr.App("tested")
    rows = app.topic("rows", SCHEMA, time="time", key="key")
    app.output("parsed", rows.select(number=pl.col("key").cast(pl.Int64)))
    bench.put(pl.concat([rows_at([1], key="seven")] * 200))

    with bench.engine(app) as engine, pytest.raises(OperatorBug, match="replay-step"):
        steps(engine)

    (folder,) = (bench.folder / "engine-tested" / "failed").iterdir()
    record, inputs = load_failure(folder)
    with pytest.raises(OperatorBug):
        Machine(app.plan()).step(record.clock, record.engine_start, inputs)


def test_another_answer_in_replay_stops_and_names_step_and_output(bench: Bench) -> None:
    bench.put(rows_at([1, 2]))
    with bench.engine() as engine:
        steps(engine)
    changed = hr.App("tested")
    rows = changed.topic("rows", SCHEMA, time="time", key="key", idle_after="10s")
    changed.output("copy", rows.select("key", value=pl.col("value") * 2))
    changed.output(
        "sums", rows.window(hr.tumbling("10s"), by="key", name="sums").agg(total=hr.sum("value"))
    )
    changed.table("latest", rows, key="key")

    with pytest.raises(DriftError, match=r"step 0 .* 'copy'"), bench.engine(changed):
        pass
    with bench.engine(changed, EngineOptions(accept_drift=True)) as engine:
        assert engine.counters.drift == 1


def test_state_without_an_owner_refuses_to_start(bench: Bench) -> None:
    bench.put(rows_at([1, 2]))
    with bench.engine() as engine:
        steps(engine)
        engine.drain()
    smaller = hr.App("tested")
    rows = smaller.topic("rows", SCHEMA, time="time", key="key", idle_after="10s")
    smaller.output("copy", rows.select("key", "value"))
    smaller.table("latest", rows, key="key")

    with pytest.raises(StateError, match="sums"), bench.engine(smaller):
        pass
    with bench.engine(smaller, EngineOptions(drop_state=("sums",))) as engine:
        bench.put(rows_at([3]))
        assert steps(engine) == 1


def test_renamed_state_goes_to_its_new_owner(bench: Bench) -> None:
    bench.put(rows_at([1, 2]))
    with bench.engine() as engine:
        steps(engine)
        engine.drain()
    renamed = hr.App("tested")
    rows = renamed.topic("rows", SCHEMA, time="time", key="key", idle_after="10s")
    renamed.output("copy", rows.select("key", "value"))
    renamed.output(
        "sums", rows.window(hr.tumbling("10s"), by="key", name="totals").agg(total=hr.sum("value"))
    )
    renamed.table("latest", rows, key="key")
    bench.put(rows_at([12]))

    options = EngineOptions(rename_state=(("sums", "totals"),))
    with bench.engine(renamed, options) as engine:
        steps(engine)

    assert bench.read("sums")["total"].to_list() == pytest.approx([0.3])


def with_tables(*, looked_up: bool) -> hr.App:
    """An app with a control table and a table of its own; then one that looks into both."""
    app = hr.App("tested")
    rows = app.topic("rows", SCHEMA, time="time", key="key", idle_after="10s")
    names = app.control_table("names", {"key": pl.String, "name": pl.String}, key="key")
    known = rows.lookup(names, on="key", how="semi", name="known")
    latest = app.table("latest", known, key="key")
    if looked_up:
        named = rows.lookup(names, on="key", name="named")
        app.output("both", named.lookup(latest, on="key", name="before", suffix="_before"))
    return app


@pytest.mark.parametrize("killed", [False, True])
def test_a_step_new_to_a_checkpoint_knows_the_tables_it_reads(bench: Bench, killed: bool) -> None:
    changes = pl.DataFrame({"key": ["a", "b", "b"], "name": ["Ada", "Bea", None]})
    changes = changes.with_columns(pl.Series(OP, ["upsert", "upsert", "delete"]))
    bench.writer.create(TopicSpec("names.changes", changes.schema))
    bench.writer.commit([Commit([Append("names.changes", 0, changes, 3, arrival_us=1)])])
    bench.put(rows_at([1]))
    with bench.engine(with_tables(looked_up=False)) as engine:
        steps(engine)
        engine.drain()
    bench.put(pl.concat([rows_at([2], value=0.5), rows_at([3], key="b")]))

    with bench.engine(with_tables(looked_up=True)) as engine:
        steps(engine)
    if killed:
        bench.put(rows_at([4], value=0.7))
        with bench.engine(with_tables(looked_up=True)) as engine:
            assert engine.counters.replayed == 1
            steps(engine)

    both = bench.read("both").select("key", "value", "name", "value_before")
    last = [("a", 0.7, "Ada", 0.5)] if killed else []
    assert both.rows() == [("a", 0.5, "Ada", 0.1), ("b", 0.1, None, None), *last]


def test_two_engines_of_one_app_cannot_run_at_once(bench: Bench) -> None:
    with bench.engine(), pytest.raises((StateError, ConflictError)), bench.engine():
        pass


def test_a_topic_can_be_read_from_its_end(bench: Bench) -> None:
    app = hr.App("tested")
    rows = app.topic("rows", SCHEMA, time="time", start="latest")
    app.output("copy", rows.select("value"))
    bench.put(rows_at([1, 2]))

    with bench.engine(app) as engine:
        steps(engine)
        bench.put(rows_at([3]))
        steps(engine)

    assert bench.read("copy").height == 1


def test_an_output_read_back_keeps_its_watermark(bench: Bench) -> None:
    app = hr.App("tested")
    rows = app.topic("rows", SCHEMA, time="time", idle_after="1h")
    minutes = app.output("minutes", rows.window(hr.tumbling("1m")).agg(n=hr.count()))
    app.output("fives", minutes.window(hr.tumbling("5m")).agg(n=hr.sum("n")))
    bench.clock.advance("20m")
    bench.put(rows_at([float(second) for second in range(0, 661, 1)]))

    with bench.engine(app) as engine:
        steps(engine)

    assert bench.read("fives")["n"].to_list() == [300, 300]


def test_the_journal_names_every_row_of_a_step(bench: Bench) -> None:
    bench.put(rows_at([1, 2]))
    with bench.engine() as engine:
        steps(engine)
    reader = bench.log.reader()
    records = reader.owner_records("engine-tested", JOURNAL)
    reader.close()

    record = decode_record(records[0][1])
    (piece,) = [each for each in record.slices if each.topic == "rows"]
    assert (piece.start, piece.stop, piece.end) == (0, 2, 2)
    assert {each.output for each in record.digests} == {"copy", "latest.changes"}


def test_a_step_takes_partitions_in_turn_and_within_its_budget(bench: Bench) -> None:
    from headrace.runners.embedded.intake import Budget

    bench.put(rows_at([1.0] * 1000))
    options = EngineOptions(budget=Budget(max_rows=100))

    with bench.engine(options=options) as engine:
        assert steps(engine) == 10


def test_a_topic_that_drops_its_oldest_rows_counts_them_and_replays_alike(bench: Bench) -> None:
    app = hr.App("tested")
    rows = app.topic("rows", SCHEMA, time="time", overflow="drop_oldest", max_rows=10)
    app.output("copy", rows.select("value"))
    bench.put(rows_at([1.0] * 25, value=1.0))

    with bench.engine(app) as engine:
        steps(engine)
        assert engine.counters.dropped == {"rows": 15}
    with bench.engine(app) as engine:
        assert engine.counters.replayed == 1

    assert bench.read("copy")["value"].to_list() == [float(n) for n in range(16, 26)]


def test_rows_removed_before_they_were_read_stop_the_engine(bench: Bench) -> None:
    bench.put(rows_at([1, 2]))
    with bench.engine() as engine:
        steps(engine)
        at = TopicPartition("rows", 0)
        place = engine.positions[at]
        engine.positions[at] = place._replace(offset=99)

        with pytest.raises(LostRangeError, match="ends at 2"):
            engine.step_once()


def test_a_jump_of_the_wall_clock_ages_nothing(bench: Bench) -> None:
    bench.put(rows_at([1]))
    with bench.engine() as engine:
        steps(engine)
        bench.clock.jump("1h")
        steps(engine)

        assert engine.counters.clock_jumps == 1
        assert bench.read("sums").is_empty()
        before = engine.machine.clock
        bench.clock.jump("-30m")
        bench.put(rows_at([2]))
        steps(engine)
        assert engine.machine.clock >= before


def test_tables_are_snapshotted_with_the_changelog_offset_they_cover(bench: Bench) -> None:
    bench.put(pl.concat([rows_at([1], key="a"), rows_at([2], key="b")]))
    with bench.engine() as engine:
        steps(engine)
        engine.drain()

    (path,) = (bench.folder / "engine-tested" / "tables").glob("latest.*.arrow")
    assert int(path.name.split(".")[1]) == 2
    assert sorted(pl.read_ipc(path.read_bytes())["key"]) == ["a", "b"]
    assert micros("1s") == 1_000_000
