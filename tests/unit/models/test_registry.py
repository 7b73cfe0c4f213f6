"""A real MLflow registry in files: aliases, versions, and a pyfunc in a process of its own."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from headrace.core.errors import NotFoundError
from headrace.models.make import mlflow
from headrace.models.process import ModelProcess
from headrace.models.source import Version, current_version, mlflow_client
from headrace.models.spec import LoadSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, about what it will change
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry with two versions of `fare`; the alias `champion` names the first."""
    home = tmp_path_factory.mktemp("registry")
    address = home.as_uri()
    client, _ = mlflow_client(address)
    client.create_registered_model("fare")
    for factor in (2.0, 3.0):
        client.create_model_version("fare", source=str(_saved(home / f"fare{factor}", factor)))
    client.set_registered_model_alias("fare", "champion", "1")
    return address


def _saved(path: Path, factor: float) -> Path:
    pyfunc: Any = import_module("mlflow.pyfunc")

    def predict(self: Any, context: Any, model_input: Any, params: Any = None) -> Any:
        del self, context, params
        return model_input["km"] * factor + model_input["hour"]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like other type hints
        fare = type("Fare", (pyfunc.PythonModel,), {"predict": predict})()
        pyfunc.save_model(str(path), python_model=fare, pip_requirements=[])
    return path


def test_an_alias_names_a_version_and_follows_when_it_moves(registry: str) -> None:
    model = mlflow("models:/fare@champion", registry=registry)
    client, _ = mlflow_client(registry)

    before = current_version(model)
    client.set_registered_model_alias("fare", "champion", "2")
    after = current_version(model)
    client.set_registered_model_alias("fare", "champion", "1")

    assert before == Version("1", "models:/fare/1")
    assert after == Version("2", "models:/fare/2")


@pytest.mark.parametrize(
    ("uri", "reason", "hint"),
    [
        ("models:/fare@nobody", "no such alias", "its aliases are champion"),
        ("models:/fare/9", "no such alias or version", "its aliases are champion"),
        ("models:/unknown@champion", "no model 'unknown'", "register it"),
    ],
)
def test_what_the_registry_does_not_have_is_said_plainly(
    registry: str, uri: str, reason: str, hint: str
) -> None:
    with pytest.raises(NotFoundError, match=reason) as raised:
        current_version(mlflow(uri, registry=registry))

    assert hint in raised.value.hint


def test_a_pyfunc_answers_from_a_process_of_its_own(registry: str) -> None:
    model = mlflow("models:/fare@champion", registry=registry)
    columns = pl.Schema({"km": pl.Float64(), "hour": pl.Int64()})
    process = ModelProcess()
    try:
        loaded = process.load(LoadSpec.of(model, columns), 240)
        rows = pl.DataFrame({"km": [1.0, 4.5], "hour": [9, 22]}, schema=columns)
        answer = process.predict(rows, 60)
    finally:
        process.kill()

    assert loaded.version == "1"
    assert answer["prediction"].to_list() == [11.0, 31.0]
