from collections.abc import Callable

import polars as pl
import pytest

import headrace as hr
from headrace.core.errors import PlanError
from headrace.operators.row_wise import check_row_wise, check_row_wise_function, sample_rows

SCHEMA = pl.Schema(
    {
        "x": pl.Float64(),
        "n": pl.Int64(),
        "s": pl.String(),
        "t": pl.Datetime("us", "UTC"),
        "b": pl.Boolean(),
        "items": pl.List(pl.Int64()),
        "place": pl.Struct({"lat": pl.Float64(), "name": pl.String()}),
        "kind": pl.Enum(["a", "b"]),
        "pair": pl.Array(pl.Float64(), 2),
        "day": pl.Date(),
        "for": pl.Duration("us"),
        "cost": pl.Decimal(10, 2),
    }
)
X, N = pl.col("x"), pl.col("n")

ROW_WISE = [
    X * 2 + 1,
    pl.lit(3),
    pl.all(),
    pl.col("x", "n") * 2,
    pl.when(X > 0).then(N).otherwise(None),
    pl.col("s").str.to_uppercase().fill_null("?"),
    pl.col("s").str.to_datetime("%Y-%m-%d"),
    pl.col("s").cast(pl.Int64),
    pl.col("t").dt.truncate("1h"),
    pl.col("items").list.sum(),
    pl.col("items").list.eval(pl.element() - pl.element().mean()),
    pl.col("place").struct.field("lat") + 1,
    pl.coalesce(X, N),
    pl.max_horizontal(X, N),
    hr.event_time().dt.hour(),
    N.is_in([1, 2]),
    X.is_null() | X.is_nan(),
    pl.col("kind").cast(pl.String) + pl.col("s"),
    pl.concat_list("n", "n"),
]

OTHERS = [
    X.mean(),
    X - X.mean(),
    X.cum_sum(),
    X.shift(),
    X.diff(),
    X.rank(),
    X.sum().over("s"),
    N.n_unique(),
    X.fill_null(strategy="forward"),
    X.interpolate(),
    X.sort(),
    X.reverse(),
    X.rolling_mean(2),
    X.ewm_mean(alpha=0.5),
    pl.int_range(pl.len()),
    pl.len(),
    N.is_duplicated(),
    N.is_first_distinct(),
    pl.col("s").rle_id(),
    (X - X.min()) / (X.max() - X.min()),
    N.unique(),
    X.drop_nulls(),
    pl.when(X.max() == X).then(1).otherwise(0),
]


@pytest.mark.parametrize("expr", ROW_WISE, ids=range(len(ROW_WISE)))
def test_an_expression_over_one_row_passes(expr: pl.Expr) -> None:
    check_row_wise([expr], SCHEMA)


@pytest.mark.parametrize("expr", OTHERS, ids=range(len(OTHERS)))
def test_an_expression_over_other_rows_is_refused_with_the_way_out(expr: pl.Expr) -> None:
    with pytest.raises(PlanError, match=r"use rolling\(\), window\(\) or join_asof\(\)"):
        check_row_wise([expr], SCHEMA)


def double(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(X * 2)


def centre(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(X - X.mean())


def without_nulls(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop_nulls("x")


def picky(rows: pl.DataFrame) -> pl.DataFrame:
    if rows["x"].null_count():
        raise ValueError("no nulls please")
    return rows


@pytest.mark.parametrize("function", [double, picky])
def test_a_function_over_one_row_passes(
    function: Callable[[pl.DataFrame], pl.DataFrame],
) -> None:
    check_row_wise_function(function, SCHEMA)


@pytest.mark.parametrize("function", [centre, without_nulls])
def test_a_function_over_other_rows_is_refused(
    function: Callable[[pl.DataFrame], pl.DataFrame],
) -> None:
    with pytest.raises(PlanError, match="not row-wise"):
        check_row_wise_function(function, SCHEMA)


def test_generated_rows_have_repeats_and_nulls_in_every_column() -> None:
    rows = sample_rows(SCHEMA)
    assert {name: rows.schema[name] for name in SCHEMA} == dict(SCHEMA)
    for name in SCHEMA:
        assert rows[name].null_count() > 0
        assert 1 < rows[name].drop_nulls().n_unique() < rows.height - rows[name].null_count()
