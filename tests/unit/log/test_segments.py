import itertools
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.errors import StateError
from headrace.core.rows import encode_rows
from headrace.log.sqlite.segments import (
    MERGE_ROWS,
    Mark,
    SegmentFile,
    Stored,
    batches_of,
    decode_stored,
    merge,
    pack_marks,
    unpack_marks,
    write_segment,
)
from tests.unit.log.samples import AT

marks = st.builds(Mark, st.integers(1, 5), st.none() | st.integers(0, 3), st.integers(0, 10))
watermarks = st.none() | st.integers(-5, 5)


def stored(first: int, rows: int, watermark: int | None = None, width: int = 1) -> Stored:
    columns = {f"c{number}": range(first, first + rows) for number in range(width)}
    payload = encode_rows(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Int64)))
    return Stored(first, rows, (Mark(rows, watermark, first + rows),), payload)


def rows_of(batches: list[Stored]) -> list[tuple[int, int, int | None, int]]:
    """(offset, value, watermark, columns) of every row."""
    return [
        (batch.start + number, value, batch.watermark, batch.frame.width)
        for each in batches
        for batch in batches_of(AT, each, decode_stored(AT, each))
        for number, value in enumerate(batch.frame["c0"].to_list())
    ]


@given(st.lists(marks, max_size=9))
def test_marks_come_back_as_packed(packed: list[Mark]) -> None:
    assert unpack_marks(pack_marks(packed)) == tuple(packed)


@given(st.lists(st.tuples(st.integers(1, 9), watermarks, st.integers(1, 2)), max_size=20))
def test_merging_changes_no_row_offset_watermark_or_schema(
    shapes: list[tuple[int, int | None, int]],
) -> None:
    starts = itertools.accumulate((rows for rows, _, _ in shapes), initial=0)
    batches = [stored(start, *shape) for start, shape in zip(starts, shapes, strict=False)]

    merged = list(merge(batches))

    assert rows_of(merged) == rows_of(batches)
    assert len(merged) <= len(batches)


def test_no_merged_batch_has_more_rows_than_a_step_takes() -> None:
    batches = [stored(start, 20_000) for start in range(0, 200_000, 20_000)]

    merged = list(merge(batches))

    assert [batch.rows for batch in merged] == [60_000, 60_000, 60_000, 20_000]
    assert max(batch.rows for batch in merged) <= MERGE_ROWS


def test_a_batch_with_another_number_of_rows_than_it_says_is_not_merged() -> None:
    wrong = stored(0, 3)._replace(rows=2, marks=(Mark(2, None, 0),))

    with pytest.raises(StateError, match="a batch of 2 rows at offset 0 holds 3"):
        list(merge([wrong, stored(2, 3)]))


def test_a_segment_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "segment é 100%?.db"
    batches = [stored(start, 10, start // 50) for start in range(100, 400, 10)]

    size = write_segment(path, batches)

    segment = SegmentFile(path)
    sizes = segment.sizes(100, 400)
    assert sum(each for _, _, each in sizes) == size
    assert rows_of(segment.fetch(100, 400)) == rows_of(batches)
    segment.close()


def test_a_segment_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SegmentFile(tmp_path / "none.db")
