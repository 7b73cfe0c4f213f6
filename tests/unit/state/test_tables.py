"""StateTables: what an operator stores comes back the same after snapshot or checkpoint."""

from __future__ import annotations

import polars as pl
import pytest

from headrace.core.errors import BugError, StateError
from headrace.core.protocols import Tables, TableSpec
from headrace.state.keyed import Part
from headrace.state.tables import StateTables

SCHEMA = pl.Schema({"k": pl.String, "n": pl.Int64})
SPECS = (
    TableSpec("seen", "keyed", SCHEMA, key=("k",)),
    TableSpec("buffer", "rows", SCHEMA),
    TableSpec("sketch", "blob"),
)


def rows(*pairs: tuple[str, int]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema=SCHEMA, orient="row")


def filled() -> StateTables:
    tables = StateTables(SPECS)
    tables.keyed("seen").upsert(rows(("a", 1), ("b", 2)))
    tables.rows("buffer").append(rows(("x", 1)))
    tables.rows("buffer").append(rows(("y", 2), ("z", 3)))
    tables.blob("sketch").replace(b"one")
    return tables


def test_state_tables_are_what_tasks_expect() -> None:
    tables: Tables = filled()

    assert tables.rows("buffer").rows == 3
    assert tables.blob("sketch").value == b"one"


def test_restore_undoes_everything_since_the_snapshot() -> None:
    tables = filled()
    before = tables.snapshot()
    tables.keyed("seen").upsert(rows(("a", 9), ("c", 3)))
    tables.keyed("seen").delete(rows(("b", 0)))
    tables.rows("buffer").replace([rows(("w", 0))])
    tables.blob("sketch").replace(b"two")

    tables.restore(before)

    assert tables.keyed("seen").frame().rows() == [("a", 1), ("b", 2)]
    assert [piece.height for piece in tables.rows("buffer").pieces] == [1, 2]
    assert tables.blob("sketch").value == b"one"


def test_parts_rebuild_the_same_structure_in_a_new_task() -> None:
    tables = filled()
    tables.keyed("seen").delete(rows(("a", 0)))

    rebuilt = StateTables(SPECS)
    rebuilt.load(tables.parts())

    assert rebuilt.row_counts() == {"seen": 1, "buffer": 3, "sketch": 1}
    assert rebuilt.keyed("seen").frame().equals(tables.keyed("seen").frame())
    assert [p.rows() for p in rebuilt.rows("buffer").pieces] == [
        p.rows() for p in tables.rows("buffer").pieces
    ]
    assert rebuilt.blob("sketch").value == b"one"


def test_unchanged_pieces_stay_the_same_objects() -> None:
    tables = filled()
    first = tables.parts()["buffer"]
    buffer = tables.rows("buffer")

    buffer.replace([*buffer.pieces[1:], rows(("new", 1))])

    assert tables.parts()["buffer"][0] is first[1]


def test_a_rows_table_ignores_empty_frames_and_keeps_its_schema() -> None:
    tables = StateTables(SPECS)
    tables.rows("buffer").append(rows())

    assert tables.rows("buffer").pieces == ()
    assert tables.rows("buffer").frame().schema == SCHEMA


def test_sizes_follow_what_is_held() -> None:
    tables = filled()
    small = tables.byte_counts()
    tables.rows("buffer").append(rows(*(("row", number) for number in range(10_000))))

    assert small["sketch"] == 3
    assert tables.byte_counts()["buffer"] - small["buffer"] >= 80_000


def test_a_table_that_was_not_declared_is_a_bug() -> None:
    with pytest.raises(BugError, match="other"):
        filled().keyed("other")
    with pytest.raises(BugError, match="buffer"):
        filled().keyed("buffer")


def test_two_tables_of_one_name_are_a_bug() -> None:
    with pytest.raises(BugError, match="one name"):
        StateTables([SPECS[0], SPECS[0]])


def test_rows_of_other_columns_are_a_bug() -> None:
    with pytest.raises(BugError, match="lack"):
        filled().rows("buffer").append(pl.DataFrame({"k": ["a"]}))


@pytest.mark.parametrize(
    "parts",
    [
        {"gone": ()},
        {"buffer": (pl.DataFrame({"other": [1]}),)},
        {"buffer": (b"bytes",)},
        {"sketch": (b"one", b"two")},
        {"sketch": (rows(("a", 1)),)},
    ],
)
def test_stored_state_that_does_not_fit_is_refused(parts: dict[str, tuple[Part, ...]]) -> None:
    with pytest.raises(StateError):
        StateTables(SPECS).load(parts)
