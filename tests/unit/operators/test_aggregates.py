"""Each aggregate in a window, cut anywhere, against Polars or Python over all rows."""

import math
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from headrace.core.errors import PlanError
from headrace.operators import aggregates as agg
from headrace.operators.aggregates import AGGREGATES, as_aggregate
from headrace.operators.aggregates.aggregate import Aggregate
from headrace.operators.assigners import session, sliding, tumbling
from headrace.operators.window import Window
from tests.unit.operators.drive import Drive, cut, timed

SCHEMA = pl.Schema(
    {
        "k": pl.String(),
        "t": pl.Int64(),
        "v": pl.Float64(),
        "i": pl.Int32(),
        "u": pl.UInt8(),
        "b": pl.Boolean(),
        "s": pl.String(),
        "d": pl.Duration("us"),
        "x": pl.Decimal(10, 2),
    }
)
X, V = pl.col("v"), pl.col("i")
ORDER = ["__event_time", "__position"]


def frame(seed: int, rows: int = 60) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    holes = rng.integers(0, 6, rows) == 0
    given = pl.DataFrame(
        {
            "k": [("a", "b", "c")[n] for n in rng.integers(0, 3, rows)],
            "t": rng.integers(0, 30, rows),
            "v": [
                None if hole else n / 4
                for n, hole in zip(rng.integers(-40, 40, rows), holes, strict=True)
            ],
            "i": rng.integers(-9, 9, rows),
            "u": rng.integers(0, 9, rows),
            "b": rng.integers(0, 2, rows) == 0,
            "s": [("x", "y", None, "")[n] for n in rng.integers(0, 4, rows)],
            "d": [timedelta(seconds=int(n)) for n in rng.integers(0, 9, rows)],
            "x": [Decimal(int(n)) / 4 for n in rng.integers(0, 9, rows)],
        },
        schema=SCHEMA,
    )
    return timed(given)


def windowed(
    rows: pl.DataFrame, one: Any, bounds: list[int], assigner: Any = None
) -> dict[Any, Any]:
    operator = Window(
        assigner=assigner or sliding("30s", every="10s", offset="0s"),
        by="k",
        aggregates=(("answer", one),),
    )
    run = Drive(operator, pl.Schema({n: rows.schema[n] for n in rows.columns if n[0] != "_"}))
    for piece in cut(rows, bounds):
        run.step(piece)
    return {
        (row["k"], row["window_start"].timestamp()): row["answer"]
        for row in run.finish().rows().to_dicts()
    }


def whole(rows: pl.DataFrame, expr: pl.Expr) -> dict[Any, Any]:
    found = {}
    for start in (-20, -10, 0, 10, 20):
        inside = rows.filter(pl.col("t") >= start, pl.col("t") < start + 30).sort(ORDER)
        for (key,), group in inside.group_by("k", maintain_order=True):
            found[key, float(start)] = group.select(expr.alias("answer"))["answer"].to_list()[0]
    return found


def none_if_empty(values: pl.Expr, answer: pl.Expr) -> pl.Expr:
    return pl.when(values.count() > 0).then(answer)


BIG = pl.col("i") > 2
CASES: list[tuple[Any, pl.Expr]] = [
    (agg.count(), pl.len()),
    (agg.count("v"), X.count()),
    (agg.count(where=BIG), BIG.sum()),
    (agg.count("v", where=BIG), X.filter(BIG).count()),
    (agg.sum("v"), none_if_empty(X, X.sum())),
    (agg.sum("i"), V.sum()),
    (agg.sum("u"), pl.col("u").sum()),
    (agg.sum("b"), pl.col("b").sum()),
    (agg.sum("d"), pl.col("d").sum()),
    (agg.sum("x"), pl.col("x").sum()),
    (agg.sum(X * 2, where=BIG), none_if_empty(X.filter(BIG), (X * 2).filter(BIG).sum())),
    (agg.mean("v"), X.mean()),
    (agg.mean("b"), pl.col("b").mean()),
    (agg.min("v"), X.min()),
    (agg.max("s"), pl.col("s").max()),
    (agg.min("d"), pl.col("d").min()),
    (agg.var("v"), X.var()),
    (agg.var("v", ddof=0, where=BIG), X.filter(BIG).var(ddof=0)),
    (agg.std("i"), V.std()),
    (agg.first("v"), X.drop_nulls().first()),
    (agg.last("s"), pl.col("s").drop_nulls().last()),
    (agg.last("s", where=BIG), pl.col("s").filter(BIG).drop_nulls().last()),
    (agg.nth("v", 2), X.drop_nulls().get(2, null_on_oob=True)),
    (agg.nth("v", -3), X.drop_nulls().get(-3, null_on_oob=True)),
    (agg.collect("v"), none_if_empty(X, X.drop_nulls().implode())),
    (
        agg.collect("s", order_by="i"),
        none_if_empty(
            pl.col("s"),
            pl.col("s").sort_by("i", maintain_order=True).drop_nulls().implode(),
        ),
    ),
    (
        agg.top_k(3, by="v"),
        none_if_empty(X, X.drop_nulls().sort(descending=True).head(3).implode()),
    ),
    (
        agg.top_k(2, by="i", columns="s", descending=False),
        pl.col("s").sort_by("i", maintain_order=True).head(2).implode(),
    ),
    (
        agg.top_k(2, by="i", columns=["s", "t"]),
        pl.struct("s", "t").sort_by("i", descending=True, maintain_order=True).head(2).implode(),
    ),
    (agg.n_unique("v"), X.drop_nulls().n_unique()),
    (agg.n_unique("s", where=BIG), pl.col("s").filter(BIG).drop_nulls().n_unique()),
    (X.quantile(0.9) - X.min(), X.quantile(0.9) - X.min()),
    (pl.col("s"), pl.col("s").implode()),
    (pl.corr("v", "i"), pl.corr("v", "i")),
]


@pytest.mark.parametrize(("one", "expr"), CASES, ids=range(len(CASES)))
def test_an_aggregate_equals_its_definition_over_all_rows_in_any_cut(
    one: Any, expr: pl.Expr
) -> None:
    for seed in range(2):
        rows = frame(seed)
        want = whole(rows, expr)
        bounds = np.random.default_rng(seed).integers(0, 60, 9).tolist()
        for cuts in (bounds, list(range(1, 60)) if seed else []):
            got = windowed(rows, one, cuts)
            assert got.keys() == want.keys()
            for key, value in want.items():
                if isinstance(value, float):
                    assert got[key] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), key
                else:
                    assert got[key] == value, key


@pytest.mark.parametrize(("one", "expr"), CASES, ids=range(len(CASES)))
def test_an_aggregate_in_a_session_equals_the_same_rows_in_one_window(
    one: Any, expr: pl.Expr
) -> None:
    del expr
    rows = frame(7)
    joined = windowed(rows, one, [10, 20, 30, 31], session("1h"))
    window = windowed(rows, one, [], tumbling("1h"))
    by_key = {key: value for (key, _), value in window.items()}
    for (key, _), value in joined.items():
        assert value == (
            pytest.approx(by_key[key], nan_ok=True) if isinstance(value, float) else by_key[key]
        )


@pytest.mark.parametrize("one", [case[0] for case in CASES], ids=range(len(CASES)))
def test_an_aggregate_of_no_values_is_null_and_counts_are_zero(one: Any) -> None:
    aggregate = as_aggregate(one)
    empty = timed(pl.DataFrame([{"k": "a", "t": 1}], schema=SCHEMA))
    (answer,) = windowed(empty, one, [], tumbling("10s")).values()
    if isinstance(one, pl.Expr):
        assert answer in (None, [None]) or math.isnan(answer)
    elif aggregate.kind == "count" and aggregate.of is None and aggregate.where is None:
        assert answer == 1
    elif aggregate.kind in {"count", "n_unique"}:
        assert answer == 0
    else:
        assert answer is None


@pytest.mark.parametrize("kind", sorted(AGGREGATES))
def test_every_aggregate_reads_back_from_its_description(kind: str) -> None:
    ones = [as_aggregate(one) for one, _ in CASES] + [
        agg.quantile("v", 0.9, error=0.001),
        agg.median("v"),
    ]
    mine = [one for one in ones if one.kind == kind]
    assert mine
    for one in mine:
        again = as_aggregate({"kind": kind, **one.model_dump(mode="json")})
        assert isinstance(again, Aggregate)
        assert again.fingerprint() == one.fingerprint()


SKETCHED = [
    [1.0, 2.0, 3.0, 4.0, 1000.0],
    [-5.0, -0.001, 0.0, 0.0, 1e-300, 7e12],
    [math.inf, 1.0, -math.inf, 2.0, math.nan],
    [1.7976931348623157e308, 5e-324, -1.7976931348623157e308],
    [float(n) for n in range(1, 2000)],
    [-0.0, 0.0],
]


@pytest.mark.parametrize("error", [0.2, 0.01, 1e-4])
@pytest.mark.parametrize("values", SKETCHED, ids=range(len(SKETCHED)))
def test_a_quantile_is_within_its_relative_error_in_any_cut(
    values: list[float], error: float
) -> None:
    rows = timed(pl.DataFrame({"k": "a", "t": 1, "v": values}, schema_overrides={"t": pl.Int64}))
    exact = sorted(value for value in values if not math.isnan(value))
    for q in (0.0, 0.25, 0.5, 0.95, 1.0):
        want = exact[math.floor(q * (len(exact) - 1))]
        one = agg.quantile("v", q, error=error)
        answers = {
            windowed(rows, one, cuts, tumbling("10s"))["a", 0.0]
            for cuts in ([], [2], list(range(1, len(values), 7)))
        }
        assert len(answers) == 1
        (got,) = answers
        assert got == want if math.isinf(want) else abs(got - want) <= error * abs(want) * 1.0000001


def test_a_median_of_an_even_number_lies_between_the_middle_two() -> None:
    rows = timed(pl.DataFrame({"k": "a", "t": [1, 1, 1, 1], "v": [1.0, 10.0, 20.0, 900.0]}))
    (got,) = windowed(rows, agg.median("v"), [], tumbling("10s")).values()
    assert got == pytest.approx(15.0, rel=0.01)


def test_a_variance_of_large_numbers_close_together_does_not_cancel() -> None:
    values = [1e9 + n / 8 for n in range(200)]
    rows = timed(pl.DataFrame({"k": "a", "t": [n // 10 for n in range(200)], "v": values}))
    (got,) = windowed(rows, agg.var("v"), list(range(0, 200, 3)), tumbling("1h")).values()
    assert got == pytest.approx(float(np.var(values, ddof=1)), rel=1e-9)


def test_infinities_and_nan_pass_through_sums_and_means() -> None:
    for values, total in (([1.0, math.inf], math.inf), ([math.nan, 1.0], math.nan)):
        rows = timed(pl.DataFrame({"k": "a", "t": [1, 2], "v": values}))
        for one in (agg.sum("v"), agg.mean("v")):
            (got,) = windowed(rows, one, [1], tumbling("10s")).values()
            assert got == pytest.approx(total, nan_ok=True)


def test_equal_parts_are_kept_once() -> None:
    operator = Window(
        assigner=tumbling("10s"),
        aggregates=(
            ("n", agg.count("v")),
            ("mean", agg.mean("v")),
            ("sd", agg.std("v")),
            ("var", agg.var("v")),
            ("p50", agg.quantile("v", 0.5)),
            ("p99", agg.quantile("v", 0.99)),
        ),
    )
    schema = pl.Schema({"v": pl.Float64})
    names = [table.name for table in operator.tables(schema) if table.kind == "rows"]
    assert names == ["partials", "__a0_sketch_0.01"]
    assert len(operator.tables(schema)[0].schema) == 5


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (agg.sum("s"), "needs a number"),
        (agg.quantile("s", 0.5), "needs a number"),
        (agg.std("d"), "needs a number"),
        (agg.first("nope"), "nope"),
        (pl.col("nope").sum(), "nope"),
        (pl.col("s").sum(), "not supported"),
        (agg.count("nope"), "nope"),
        (agg.top_k(3, by="v", columns="nope"), "nope"),
        (agg.sum("v", where=pl.col("nope")), "nope"),
        (agg.sum("v", where=pl.col("i")), "true or false"),
        (agg.sum(pl.col("v") - pl.col("v").mean()), "not row-wise"),
        (agg.top_k(1, by=pl.col("v").rank()), "not row-wise"),
    ],
)
def test_an_aggregate_that_does_not_fit_its_input_is_refused(one: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Window(assigner=tumbling("5s"), aggregates=(("a", one),)).output_schema(SCHEMA)


def test_what_is_no_aggregate_is_refused() -> None:
    with pytest.raises(PlanError, match="not an aggregate"):
        Window(assigner=tumbling("5s"), aggregates=(("a", "sum"),))
