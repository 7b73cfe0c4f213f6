"""Predictions of small trees, walked by hand; which model a key has, by hash of its JSON."""

from __future__ import annotations

import atexit
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from headrace.bench.tree_model import Trees
from headrace.core.log import OP
from headrace.core.time import TIME_DTYPE
from headrace.models.make import mean, onnx, treelite
from headrace.models.source import content_version
from headrace.operators.predict import Predict
from headrace.testing.laws import Case, InputSpec

_FOLDER = TemporaryDirectory(prefix="headrace-models-")
atexit.register(_FOLDER.cleanup)
HOME = Path(_FOLDER.name)

ONE, TWO = Trees.random(3, 2, 2, seed=1), Trees.random(2, 3, 2, seed=2)
FIRST, SECOND = ONE.write_treelite(HOME / "one.tl"), TWO.write_treelite(HOME / "two.tl")
THIRD = TWO.write_onnx(HOME / "two.onnx")
VERSIONS = {path: content_version(str(path)) for path in (FIRST, SECOND, THIRD)}

ROWS = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Float64(), "n": pl.Int64()})
INPUT = InputSpec(ROWS)
FEATURES = (("a", "x"), ("b", "n"))

CHANGES = pl.Schema(
    {**dict.fromkeys(("name", "model_version", "source"), pl.String()), OP: pl.String()}
)
CHANGE = InputSpec(
    CHANGES,
    columns={
        "name": st.sampled_from(["one", "other"]),
        "model_version": st.sampled_from(["3", "4"]),
        "source": st.sampled_from([str(FIRST), str(SECOND)]),
        OP: st.sampled_from(["upsert", "upsert", "delete"]),
    },
)


def walk(trees: Trees, row: dict[str, float | None]) -> float:
    """One row down all trees; what is missing goes left."""
    values = [
        math.nan if row[column] is None else float(row[column] or 0) for _, column in FEATURES
    ]
    total = 0.0
    for feature, threshold, leaf in zip(trees.feature, trees.threshold, trees.leaf, strict=True):
        node = 0
        while node < len(feature):
            node = 2 * node + (2 if values[feature[node]] >= threshold[node] else 1)
        total += leaf[node - len(feature)]
    return total


def alone(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {"main": _answer(rows, [("one", VERSIONS[FIRST], ONE)] * rows.height)}


def divided(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    one, two = ("one", VERSIONS[FIRST], ONE), ("two", VERSIONS[THIRD], TWO)
    chosen = []
    for key in rows["k"].to_list():
        text = '{"0":' + ("null" if key is None else f'"{key}"') + "}"
        place = xxh64_intdigest(text.encode(), seed=xxh64_intdigest(b"")) / 2**64
        chosen.append(two if place < 0.5 else one)
    return {"main": _answer(rows, chosen), "shadow": _answer(rows, [two] * rows.height)}


def together(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Both models must know both features."""
    names = {"model_name": "both", "model_version": f"one@{VERSIONS[FIRST]}+two@{VERSIONS[SECOND]}"}
    full = rows.with_columns(
        prediction=pl.Series(
            [
                None
                if row["n"] is None or row["x"] is None or math.isnan(row["x"])
                else (walk(ONE, row) + walk(TWO, row)) / 2
                for row in rows.iter_rows(named=True)
            ],
            dtype=pl.Float64,
        )
    )
    missing = pl.col("prediction").is_null()
    return {
        "main": full.with_columns(
            pl.lit("both").alias("model_name"),
            pl.when(~missing).then(pl.lit(names["model_version"])).alias("model_version"),
            pl.when(missing).then(pl.lit("missing feature")).alias("fallback"),
        ).drop("__position")
    }


def _answer(rows: pl.DataFrame, chosen: list[tuple[str, str, Trees]]) -> pl.DataFrame:
    told = [
        walk(trees, row)
        for (_, _, trees), row in zip(chosen, rows.iter_rows(named=True), strict=True)
    ]
    return rows.drop("__position").with_columns(
        pl.Series("prediction", told, dtype=pl.Float64),
        pl.Series("model_name", [name for name, _, _ in chosen], dtype=pl.String),
        pl.Series("model_version", [version for _, version, _ in chosen], dtype=pl.String),
        pl.lit(None, pl.String()).alias("fallback"),
    )


CHAMPION = treelite(FIRST, isolated=False)
CASES = [
    Case(Predict(model=CHAMPION, features=FEATURES), (INPUT,), alone),
    Case(
        Predict(
            model=CHAMPION,
            features=FEATURES,
            challengers={onnx(THIRD, name="two", isolated=False): 0.5},
            by="k",
            shadow=onnx(THIRD, name="two", isolated=False),
        ),
        (INPUT,),
        divided,
        "divided",
        relative=1e-6,  # ONNX adds up in single precision
        absolute=1e-6,
    ),
    Case(
        Predict(
            model=mean(
                [
                    treelite(FIRST, isolated=False, missing=False),
                    treelite(SECOND, missing=False),  # in a process of its own
                ],
                name="both",
            ),
            features=FEATURES,
        ),
        (INPUT,),
        together,
        "ensemble",
    ),
    Case(
        Predict(model=CHAMPION, features=FEATURES, versioned=True, swap_wait="30s"),
        (INPUT, CHANGE),
        name="versions",
    ),
]
