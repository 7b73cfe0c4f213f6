"""What the libraries answer, loaded in this process: the same code runs in a model's own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # it has no types
import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer  # type: ignore[import-untyped]  # it has no types
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import OneHotEncoder  # type: ignore[import-untyped]

from headrace.bench.onnx_file import FLOAT, INT64, STRING, field, model_file, node, tensor, whole
from headrace.bench.tree_model import Trees
from headrace.core.errors import DataError, HeadraceError, NotFoundError, SchemaError
from headrace.models.make import onnx, sklearn, treelite
from headrace.models.runtime import Runtime
from headrace.models.spec import LoadSpec

COLUMNS = pl.Schema({"kind": pl.String(), "x": pl.Float64()})
CLASSES = {"no": pl.Float64, "yes": pl.Float64}


@pytest.fixture(scope="module")
def labelled() -> tuple[pl.DataFrame, Any]:
    """Rows, and a pipeline fitted on them by the names of their columns."""
    chance = np.random.default_rng(3)
    rows = pl.DataFrame({"kind": chance.choice(["a", "b", "c"], 90), "x": chance.normal(size=90)})
    label = (rows["x"] + (rows["kind"] == "a").cast(pl.Float64) > 0.3).to_numpy()
    coded = ColumnTransformer([("kind", OneHotEncoder(), ["kind"])], remainder="passthrough")
    return rows, make_pipeline(coded, LogisticRegression()).fit(rows, label)


@pytest.mark.parametrize("ending", ["pkl", "joblib"])
def test_a_pipeline_is_given_its_columns_by_name(
    tmp_path: Path, labelled: tuple[pl.DataFrame, Any], ending: str
) -> None:
    rows, pipeline = labelled
    path = tmp_path / f"m.{ending}"
    if ending == "pkl":
        path.write_bytes(pickle.dumps(pipeline))
    else:
        joblib.dump(pipeline, path)
    model = sklearn(path, method="predict_proba", outputs=CLASSES, example={"kind": "a", "x": 0.0})

    answer = Runtime(LoadSpec.of(model, COLUMNS)).predict(rows)

    assert answer.columns == ["no", "yes"]
    np.testing.assert_array_equal(answer.to_numpy(), pipeline.predict_proba(rows))


def test_onnx_may_take_a_column_each_and_answer_maps(tmp_path: Path) -> None:
    path = tmp_path / "zip.onnx"
    path.write_bytes(_zip_map())
    model = onnx(path, outputs=CLASSES)
    rows = pl.DataFrame({"kind": ["b", None, "a"], "x": [0.5, None, -1.0]}, schema=COLUMNS)

    answer = Runtime(LoadSpec.of(model, COLUMNS)).predict(rows)

    assert answer["no"].to_list() == [2.0, 0.0, 1.0]
    assert answer["yes"].fill_nan(9.0).to_list() == [0.5, 9.0, -1.0]


def _zip_map() -> bytes:
    """A graph: text to a number, beside `x`, as a map from class to number for each row."""
    nodes = [
        node(
            "LabelEncoder",
            ["kind"],
            ["coded"],
            "ai.onnx.ml",
            keys_strings=[b"a", b"b"],
            values_floats=np.array([1.0, 2.0]),
        ),
        node("Concat", ["coded", "x"], ["both"], axis=1),
        node("ZipMap", ["both"], ["told"], "ai.onnx.ml", classlabels_int64s=np.array([0, 1])),
    ]
    value = field(1, whole(1, FLOAT))
    maps = field(4, field(1, field(5, whole(1, INT64) + field(2, value))))
    graph = b"".join(field(1, one) for one in nodes) + field(2, "zip")
    graph += field(11, tensor("kind", 1, STRING)) + field(11, tensor("x", 1))
    return model_file(graph + field(12, field(1, "told") + field(2, maps)))


@pytest.mark.parametrize(
    ("given", "reason"),
    [({"outputs": CLASSES}, "2 outputs are declared"), ({"output": "other"}, "no output 'other'")],
)
def test_what_a_model_does_not_answer_is_said_when_it_is_loaded(
    tmp_path: Path, given: dict[str, Any], reason: str
) -> None:
    path = Trees.random(1, 1, 1).write_onnx(tmp_path / "m.onnx")
    with pytest.raises(HeadraceError, match=reason):
        Runtime(LoadSpec.of(onnx(path, **given), pl.Schema({"x": pl.Float64()})))


def test_rows_of_another_shape_and_files_that_are_gone_are_refused(tmp_path: Path) -> None:
    path = Trees.random(1, 1, 1).write_treelite(tmp_path / "m.tl")
    spec = LoadSpec.of(treelite(path), pl.Schema({"x": pl.Float64()}))
    runtime = Runtime(spec)
    with pytest.raises(SchemaError, match="the rows have"):
        runtime.predict(pl.DataFrame({"y": [1.0]}))
    path.unlink()
    with pytest.raises(NotFoundError, match="no model at"):
        Runtime(spec)


def test_a_null_is_no_whole_number(tmp_path: Path) -> None:
    graph = field(1, node("Cast", ["n"], ["told"], to=FLOAT)) + field(2, "cast")
    graph += field(11, tensor("n", 1, INT64)) + field(12, tensor("told", 1))
    path = tmp_path / "cast.onnx"
    path.write_bytes(model_file(graph))
    runtime = Runtime(LoadSpec.of(onnx(path), pl.Schema({"n": pl.Int64()})))

    assert runtime.predict(pl.DataFrame({"n": [3, 4]}))["prediction"].to_list() == [3.0, 4.0]
    with pytest.raises(DataError, match="a feature is null"):
        runtime.predict(pl.DataFrame({"n": [3, None]}))
