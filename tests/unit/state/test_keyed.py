"""A keyed table behaves as a dict does, whatever its levels and hashes look like."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headrace.core.errors import BugError, StateError
from headrace.core.protocols import TableSpec
from headrace.state.keyed import KeyedLevels, Part, hash_keys
from headrace.state.level import Hashes

SCHEMA = pl.Schema({"name": pl.String, "x": pl.Float64, "at": pl.Int64, "note": pl.String})
SPEC = TableSpec("t", "keyed", SCHEMA, key=("name", "x"))

Key = tuple[Any, ...]

keys = st.tuples(
    st.sampled_from(["", "a", "b", "ab", None]),
    st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, None]),
)
rows = st.tuples(keys, st.integers(0, 50) | st.none(), st.text("xyz", max_size=2) | st.none())


def same(key: Key) -> Key:
    """Return a Python key under which the table's equal keys are equal."""
    name, x = key
    return name, "nan" if isinstance(x, float) and math.isnan(x) else x


def key_frame(chosen: list[Key]) -> pl.DataFrame:
    return pl.DataFrame(chosen, schema={"name": pl.String, "x": pl.Float64}, orient="row")


def few_hashes(frame: pl.DataFrame) -> Hashes:
    """Return hashes that collide all the time, though never for nothing."""
    return hash_keys(frame) % np.uint64(3)


class KeyedTableMachine(RuleBasedStateMachine):
    """Random calls on a table, a dict beside it, and a twin rebuilt from parts beside both."""

    @initialize(colliding=st.booleans())
    def start(self, colliding: bool) -> None:
        self.hasher = few_hashes if colliding else hash_keys
        self.table = KeyedLevels(SPEC, self.hasher)
        self.twin = KeyedLevels(SPEC, self.hasher)
        self.model: dict[Key, tuple[Any, ...]] = {}
        self.kept: tuple[Any, dict[Key, tuple[Any, ...]]] = (self.table.snapshot(), {})

    @rule(batch=st.lists(rows, max_size=12))
    def upsert(self, batch: list[tuple[Key, int | None, str | None]]) -> None:
        frame = pl.DataFrame(
            [(*key, at, note) for key, at, note in batch], schema=SCHEMA, orient="row"
        )
        self.table.upsert(frame)
        self.twin.upsert(frame)
        for key, at, note in batch:
            self.model[same(key)] = (at, note)

    @rule(batch=st.lists(keys, max_size=6))
    def delete(self, batch: list[Key]) -> None:
        self.table.delete(key_frame(batch))
        self.twin.delete(key_frame(batch))
        for key in batch:
            self.model.pop(same(key), None)

    @rule(before=st.integers(0, 50))
    def expire(self, before: int) -> None:
        gone = self.table.expire("at", before)
        assert gone.equals(self.twin.expire("at", before))
        old = {k for k, (at, _) in self.model.items() if at is not None and at < before}
        assert {same(row[:2]) for row in gone.iter_rows()} == old
        assert gone.height == len(old)
        for key in old:
            del self.model[key]

    @rule(batch=st.lists(keys, max_size=12))
    def lookup(self, batch: list[Key]) -> None:
        found = self.table.lookup(key_frame(batch))
        expected = [
            (*self.model.get(same(key), (None, None)), same(key) in self.model) for key in batch
        ]
        assert found.rows() == expected
        assert found.columns == ["at", "note", "__found"]

    @rule()
    def rebuild_twin_from_parts(self) -> None:
        self.twin = KeyedLevels(SPEC, self.hasher)
        self.twin.load(self.table.parts())

    @rule()
    def keep(self) -> None:
        self.kept = (self.table.snapshot(), dict(self.model))

    @rule()
    def go_back(self) -> None:
        snapshot, model = self.kept
        self.table.restore(snapshot)
        self.model = dict(model)
        self.rebuild_twin_from_parts()

    @invariant()
    def same_rows_as_the_dict(self) -> None:
        if not hasattr(self, "table"):
            return
        frame = self.table.frame()
        assert frame.schema == SCHEMA
        assert {same(row[:2]): row[2:] for row in frame.iter_rows()} == self.model
        assert self.table.rows == len(self.model) == frame.height

    @invariant()
    def a_rebuilt_table_is_the_same_to_the_bit(self) -> None:
        if not hasattr(self, "table"):
            return
        assert same_parts(self.table.parts(), self.twin.parts())


def same_parts(left: tuple[Part, ...], right: tuple[Part, ...]) -> bool:
    return len(left) == len(right) and all(
        a.equals(b)
        if isinstance(a, pl.DataFrame) and isinstance(b, pl.DataFrame)
        else a is b or a == b
        for a, b in zip(left, right, strict=True)
    )


TestKeyedTable = KeyedTableMachine.TestCase
TestKeyedTable.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.String, ["a", "", None, "é"]),
        (pl.Int64, [0, -1, None, 2**62]),
        (pl.UInt8, [0, 255, None, 7]),
        (pl.Float64, [0.5, math.nan, None, -math.inf]),
        (pl.Boolean, [True, False, None]),
        (pl.Datetime("us", "UTC"), [datetime(2026, 1, 1, tzinfo=UTC), None]),
        (pl.Enum(["low", "high"]), ["low", None, "high"]),
        (pl.Categorical(), ["low", None, "high"]),
        (pl.Binary, [b"", None, b"\x00"]),
    ],
)
def test_every_plain_type_can_be_a_key(dtype: pl.DataType, values: list[Any]) -> None:
    schema = pl.Schema([("k", dtype), ("n", pl.Int64())])
    table = KeyedLevels(TableSpec("t", "keyed", schema, key=("k",)))
    keys = pl.DataFrame({"k": pl.Series(values, dtype=dtype)})

    for number in range(len(values)):
        table.upsert(keys[number : number + 1].with_columns(n=pl.lit(number, pl.Int64)))

    assert table.lookup(keys).rows() == [(number, True) for number in range(len(values))]


def test_order_follows_the_calls_and_not_the_hashes() -> None:
    schema = pl.Schema({"k": pl.Int64, "n": pl.Int64})
    spec = TableSpec("t", "keyed", schema, key=("k",))
    frames = []
    for hasher in (hash_keys, few_hashes):
        table = KeyedLevels(spec, hasher)
        for start in range(0, 100, 10):
            numbers = pl.Series(range(start + 20, start, -1), dtype=pl.Int64)
            table.upsert(pl.DataFrame({"k": numbers, "n": numbers * start}))
        frames.append((table.frame(), table.expire("n", 1_000)))

    assert frames[0][0].equals(frames[1][0])
    assert frames[0][1].equals(frames[1][1])


def test_a_large_table_stays_exact_through_merges_and_expiry() -> None:
    schema = pl.Schema({"k": pl.Int64, "at": pl.Int64})
    table = KeyedLevels(TableSpec("t", "keyed", schema, key=("k",)))
    model: dict[int, int] = {}
    generator = np.random.default_rng(3)
    for step in range(60):
        chosen = generator.integers(0, 30_000, 2_000)
        table.upsert(pl.DataFrame({"k": chosen, "at": np.full(2_000, step)}))
        model.update(dict.fromkeys(chosen.tolist(), step))
        gone = table.expire("at", step - 20)
        old = {key for key, at in model.items() if at < step - 20}
        assert set(gone["k"]) == old
        for key in old:
            del model[key]

    assert dict(table.frame().iter_rows()) == model
    assert table.rows == len(model)


def test_parts_that_did_not_change_stay_the_same_objects() -> None:
    schema = pl.Schema({"k": pl.Int64, "n": pl.Int64})
    table = KeyedLevels(TableSpec("t", "keyed", schema, key=("k",)))
    table.upsert(pl.DataFrame({"k": range(1000), "n": range(1000)}))
    first = table.parts()
    table.upsert(pl.DataFrame({"k": [1], "n": [2]}))
    second = table.parts()

    assert second[0] is first[0]
    assert [type(part).__name__ for part in second] == ["DataFrame", "bytes", "DataFrame"]
    assert all(a is b for a, b in zip(second, table.parts(), strict=True))


def test_a_table_of_keys_alone_says_which_are_found() -> None:
    table = KeyedLevels(TableSpec("t", "keyed", pl.Schema({"k": pl.Int64}), key=("k",)))
    table.upsert(pl.DataFrame({"k": [1, 2]}))

    assert table.lookup(pl.DataFrame({"k": [2, 3]})).to_dict(as_series=False) == {
        "__found": [True, False]
    }


def test_rows_of_another_type_are_a_bug() -> None:
    table = KeyedLevels(TableSpec("t", "keyed", pl.Schema({"k": pl.Int64}), key=("k",)))

    with pytest.raises(BugError, match="declared"):
        table.upsert(pl.DataFrame({"k": ["1"]}))
    with pytest.raises(BugError, match="lack"):
        table.upsert(pl.DataFrame({"j": [1]}))


def test_parts_of_other_columns_are_refused() -> None:
    table = KeyedLevels(TableSpec("t", "keyed", pl.Schema({"k": pl.Int64}), key=("k",)))

    with pytest.raises(StateError, match="stored with columns"):
        table.load([pl.DataFrame({"k": ["1"]})])
