from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import BugError, ConfigError, DataError, HeadraceError, PlanError
from headrace.core.protocols import Operator
from headrace.core.schema_field import dtype_from_text
from headrace.operators.explode import Explode
from headrace.operators.filter import Filter
from headrace.operators.map_batches import MapBatches, MapBatchesRecorded
from headrace.operators.project import Drop, Rename, Select, WithColumns
from headrace.operators.split import Split
from headrace.operators.union import Union
from headrace.operators.unnest import Unnest
from headrace.operators.window_apply import WindowApply
from headrace.operators.with_time import WithTime
from tests.unit.operators.drive import Drive, at, timed

SCHEMA = pl.Schema({"k": pl.String(), "t": pl.Int64(), "v": pl.Float64()})
ROWS = timed(
    pl.DataFrame([("a", 1, 1.0), ("b", 2, None), ("c", 3, -3.0)], schema=SCHEMA, orient="row")
)
V = pl.col("v")


def run(operator: Operator, rows: pl.DataFrame = ROWS) -> Drive:
    visible = pl.Schema({n: t for n, t in rows.schema.items() if not n.startswith("__")})
    return Drive(operator, visible).step(rows)


def test_filter_keeps_rows_that_are_true_only() -> None:
    assert [row["k"] for row in run(Filter(predicate=V < 10)).take()] == ["a", "c"]
    assert run(Filter(predicate=V > 10)).take() == []


def test_split_sends_null_to_no() -> None:
    both = run(Split(predicate=V > 0))
    assert [row["k"] for row in both.take("yes")] == ["a"]
    assert [row["k"] for row in both.take("no")] == ["b", "c"]


def test_select_keeps_event_time_and_spreads_literals() -> None:
    operator = Select(columns=(V.abs().alias("size"), pl.lit(1).alias("one")))
    assert run(operator).frame()["__event_time"].to_list() == [1_000_000, 2_000_000, 3_000_000]
    assert run(operator).rows().rows() == [(1.0, 1), (None, 1), (3.0, 1)]


def test_a_selection_of_literals_only_has_as_many_rows() -> None:
    assert run(Select(columns=(pl.lit("x").alias("x"),))).rows()["x"].to_list() == ["x"] * 3


def test_all_columns_are_the_visible_ones() -> None:
    assert run(Select(columns=(pl.all(),))).rows().columns == ["k", "t", "v"]
    everything = run(WithColumns(columns=(pl.all().name.suffix("_2"),))).rows()
    assert everything.columns == ["k", "t", "v", "k_2", "t_2", "v_2"]


def test_event_time_can_be_read_after_its_column_is_gone() -> None:
    operator = Select(columns=("k", hr.event_time().alias("when")))
    assert [row["when"] for row in run(operator).take()] == [at(1), at(2), at(3)]


def test_columns_are_added_dropped_and_renamed() -> None:
    assert run(WithColumns(columns=((V * 2).alias("v"),))).rows()["v"].to_list() == [2, None, -6]
    assert run(Drop(columns=("v", pl.col("t")))).rows().columns == ["k"]
    assert run(Rename(mapping={"k": "v", "v": "k"})).rows().columns == ["v", "t", "k"]


def test_lists_are_exploded_and_structs_unnested() -> None:
    rows = timed(
        pl.DataFrame(
            {"t": [1, 2, 3], "many": [[1, 2], [], None], "s": [{"a": 1}, None, {"a": 3}]},
            schema_overrides={"many": pl.List(pl.Int64)},
        )
    )
    exploded = run(Explode(columns=("many",)), rows)
    assert exploded.rows()["many"].to_list() == [1, 2, None, None]
    assert exploded.frame()["__position"].to_list() == [0, 0, 1, 2]
    assert run(Unnest(columns=("s",)), rows).rows()["a"].to_list() == [1, None, 3]


def test_union_takes_columns_in_any_order() -> None:
    turned = pl.Schema({"v": pl.Float64(), "k": pl.String(), "t": pl.Int64()})
    both = Drive(Union(), SCHEMA, turned)
    both.step(ROWS).step(ROWS.select("v", "k", "t", "__event_time", "__position"), port=1)
    assert both.rows().rows() == [*ROWS.select("k", "t", "v").rows()] * 2


def test_another_column_becomes_event_time_and_what_lies_too_far_back_is_late() -> None:
    schema = pl.Schema({"t": pl.Int64(), "seen": pl.Datetime("ms")})
    rows = pl.DataFrame(
        {"t": [100, 101, 102], "seen": [datetime(1970, 1, 1, 0, 0, n) for n in (50, 39, 40)]},  # noqa: DTZ001 - naive times are read as UTC
        schema=schema,
    )
    drive = Drive(WithTime(column="seen", delay="10s"), schema).step(watermark=50)
    drive.step(timed(rows))
    assert drive.frame()["__event_time"].to_list() == [50_000_000, 40_000_000]
    assert drive.frame("late")["__event_time"].to_list() == [39_000_000]
    with pytest.raises(DataError, match="no event time"):
        drive.step(timed(rows.with_columns(seen=pl.lit(None, pl.Datetime("ms")))))


def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(twice=V * 2, k="k")


def fewer(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(twice=V).head(1)


TWICE = {"k": pl.String, "twice": pl.Float64}


def test_a_function_gets_the_visible_columns_and_gives_what_was_declared() -> None:
    assert run(MapBatches(fn=doubled, returns=TWICE)).rows().rows() == [
        ("a", 2.0),
        ("b", None),
        ("c", -6.0),
    ]
    assert not MapBatches.recorded
    assert MapBatchesRecorded.recorded


def test_a_function_that_breaks_its_word_stops_with_the_reason() -> None:
    with pytest.raises(BugError, match="returned 1 rows for 3"):
        run(MapBatchesRecorded(fn=fewer, returns={"twice": pl.Float64}))
    with pytest.raises(BugError, match="declare or return twice differently"):
        run(MapBatchesRecorded(fn=doubled, returns={"twice": pl.Int64}))


def test_functions_are_found_by_name_or_refused() -> None:
    one = MapBatches(fn=doubled, returns=TWICE)
    again = MapBatches(**one.model_dump(mode="json"))
    assert (again.fn, again.returns) == (doubled, pl.Schema(TWICE))
    with pytest.raises(ConfigError, match="cannot be imported"):
        MapBatches(fn="headrace.nowhere:nothing#0", returns=TWICE)


def summary(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(V > 0).select("v", place=pl.int_range(pl.len()))


def test_a_function_is_called_once_per_window_and_key_with_rows_in_order() -> None:
    operator = WindowApply(
        assigner=hr.tumbling("10s"),
        by="k",
        fn=summary,
        returns={"place": pl.Int64, "v": pl.Float64},
        lateness="5s",
    )
    rows = [("a", 5, 2.0), ("b", 1, -1.0), ("a", 3, 1.0), ("a", 3, 7.0)]
    frame = timed(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    drive = Drive(operator, SCHEMA).step(frame, watermark=10)
    got = [(row["k"], row["window_end"], row["v"], row["revision"]) for row in drive.take()]
    assert got == [("a", at(10), 1.0, 0), ("a", at(10), 7.0, 0), ("a", at(10), 2.0, 0)]
    drive.step(timed(pl.DataFrame([("b", 2, 4.0)], schema=SCHEMA, orient="row")))
    assert [(row["k"], row["v"], row["revision"]) for row in drive.take()] == [("b", 4.0, 1)]
    again = WindowApply(**operator.model_dump(mode="json"))
    assert again.fingerprint() == operator.fingerprint()
    with pytest.raises(PlanError, match="'k'"):
        WindowApply(
            assigner=hr.tumbling("10s"), by="k", fn=summary, returns={"k": pl.Int64}
        ).output_schema(SCHEMA)


REFUSED: list[tuple[Operator, str]] = [
    (Filter(predicate=V), "true or false"),
    (Filter(predicate=pl.col("nope") > 1), "the columns here are k, t, v"),
    (Filter(predicate=V.mean() < V), "not row-wise"),
    (Split(predicate=V.mean() < V), "not row-wise"),
    (Select(columns=(V.alias("__event_time"),)), "reserved"),
    (Select(columns=(V, V)), "two columns"),
    (Select(columns=(V.cum_sum(),)), "not row-wise"),
    (WithColumns(columns=(pl.lit(1).alias("__position"),)), "reserved"),
    (Rename(mapping={"k": "__event_time"}), "reserved"),
    (Rename(mapping={"k": "v"}), "one name"),
    (Rename(mapping={"nope": "v"}), "nope"),
    (Drop(columns=("nope",)), "nope"),
    (Explode(columns=("v",)), "not a list"),
    (Unnest(columns=("v",)), "not a struct"),
    (WithTime(column="v"), "not a time"),
]


@pytest.mark.parametrize(("operator", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_does_not_fit_is_refused_before_anything_runs(
    operator: Operator, message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        operator.output_schema(SCHEMA)


def test_unequal_inputs_of_a_union_are_refused_by_name() -> None:
    other = pl.Schema({"k": pl.String(), "t": pl.Int32(), "w": pl.Float64()})
    with pytest.raises(PlanError, match="t, v, w"):
        Union().output_schema(SCHEMA, other)


def test_a_component_with_a_wrong_parameter_says_so_in_one_line() -> None:
    with pytest.raises(HeadraceError) as caught:
        WithTime(column="t", delay="soon")
    assert "\n" not in str(caught.value)
    assert "is not a duration" in str(caught.value)


@pytest.mark.parametrize(
    "dtype",
    [
        pl.Int8(),
        pl.Datetime("ms", "Europe/Paris"),
        pl.Duration("ns"),
        pl.Decimal(20, 4),
        pl.Enum(["a", "b c"]),
        pl.List(pl.Struct({"x y": pl.List(pl.Datetime("us", "UTC")), "z": pl.Boolean()})),
        pl.Array(pl.Float32(), (2, 3)),
    ],
    ids=repr,
)
def test_a_dtype_reads_back_from_its_text(dtype: pl.DataType) -> None:
    assert dtype_from_text(repr(dtype)) == dtype


@pytest.mark.parametrize("text", ["Nope", "read_csv('x')", "Int64; 1", "__import__('os')", "3"])
def test_what_is_no_dtype_is_refused(text: Any) -> None:
    with pytest.raises(ConfigError, match="not a Polars dtype"):
        dtype_from_text(text)


def test_times_are_utc() -> None:
    assert at(0) == datetime(1970, 1, 1, tzinfo=UTC)
