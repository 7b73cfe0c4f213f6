"""The models of `hr.model`: `hr.model.onnx("fare.onnx")` and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field

from headrace.core.schema_field import schema_field
from headrace.models.description import Mlflow, Model, Onnx, Sklearn, Treelite
from headrace.models.ensemble import Mean, Stacked, Vote, Weighted


class Common(TypedDict, total=False):
    """What every model that is loaded may be given; see `headrace.models.description.Artifact`."""

    name: str
    features: Sequence[str]
    outputs: Mapping[str, Any]
    version: str
    missing: bool
    threads: int
    example: Mapping[str, float | bool | str]


class Version(BaseModel):
    """A row of a table of versions: which version of a model is to answer, and where it lies.

    Attributes:
        name: The model's name.
        model_version: What its answers are to name.
        source: Path or URI of exactly this version.
    """

    model_config = ConfigDict(protected_namespaces=())

    name: str = Field(min_length=1)
    model_version: str = Field(min_length=1)
    source: str = Field(min_length=1)


def onnx(
    path: str | PathLike[str],
    *,
    output: str | None = None,
    isolated: bool = True,
    **given: Unpack[Common],
) -> Onnx:
    """A model in ONNX, run by onnxruntime: one float matrix as input, or one input per feature.

    Args:
        path: The file.
        output: Which of the model's outputs is the answer; the first by default.
        isolated: False runs it in the engine's process: no hop, and no protection.
        given: See `Common`: `name`, `features`, `outputs`, `version`, `missing`, `threads`,
            `example`.

    Example:
        >>> import polars as pl
        >>> onnx("churn.onnx", outputs={"stays": pl.Float32, "leaves": pl.Float32}).name
        'churn'
    """
    return Onnx(source=fspath(path), output=output, isolated=isolated, **_plain(given))


def treelite(
    path: str | PathLike[str], *, isolated: bool = True, **given: Unpack[Common]
) -> Treelite:
    """Trees as treelite's `Model.serialize` writes them, whatever library they were trained with.

    Args:
        path: The file.
        isolated: False runs it in the engine's process: no hop, and no protection.
        given: See `Common`.

    Example:
        >>> treelite("fare.tl", features=["km", "hour"]).features
        ('km', 'hour')
    """
    return Treelite(source=fspath(path), isolated=isolated, **_plain(given))


def sklearn(
    path: str | PathLike[str], *, method: str = "predict", **given: Unpack[Common]
) -> Sklearn:
    """A pickled estimator (`.joblib` is read by joblib), in a process of its own.

    Loading a pickle runs what it says: load only what you trust, the process has your rights.

    Args:
        path: The file.
        method: The method that answers, e.g. `predict_proba` with an output per class.
        given: See `Common`.

    Example:
        >>> sklearn("fare.pkl").isolated
        True
    """
    return Sklearn(source=fspath(path), method=method, **_plain(given))


def mlflow(uri: str, *, registry: str | None = None, **given: Unpack[Common]) -> Mlflow:
    """A pyfunc of MLflow, in a process of its own: `models:/fare@champion`, or a folder.

    Args:
        uri: `models:/name@alias`, `models:/name/3`, or the folder of a saved model.
        registry: Address of the registry, `file:///...` too; by default what
            `MLFLOW_REGISTRY_URI` and `MLFLOW_TRACKING_URI` say.
        given: See `Common`.

    Example:
        >>> mlflow("models:/fare@champion").name
        'fare'
    """
    return Mlflow(source=uri, registry=registry, **_plain(given))


def mean(models: Sequence[Model], *, name: str = "mean") -> Mean:
    """The mean of several models with the same outputs.

    Example:
        >>> mean([treelite("a.tl"), treelite("b.tl")]).name
        'mean'
    """
    return Mean(models=tuple(models), name=name, outputs=models[0].outputs)


def weighted(models: Mapping[Model, float], *, name: str = "weighted") -> Weighted:
    """The weighted mean of several models with the same outputs.

    Args:
        models: Each with its weight; the sum of the weights counts as 1.
        name: What it is called.

    Example:
        >>> weighted({treelite("a.tl"): 3, treelite("b.tl"): 1}).weights
        (3.0, 1.0)
    """
    first = next(iter(models))
    weights = tuple(models.values())
    return Weighted(models=tuple(models), weights=weights, name=name, outputs=first.outputs)


def vote(models: Sequence[Model], *, name: str = "vote") -> Vote:
    """What most models answer; of answers that are equally frequent the earliest model's.

    Example:
        >>> import polars as pl
        >>> classes = {"class": pl.Int64}
        >>> vote([onnx(path, outputs=classes) for path in ("a.onnx", "b.onnx")]).outputs.names()
        ['class']
    """
    return Vote(models=tuple(models), name=name, outputs=models[0].outputs)


def stacked(models: Sequence[Model], final: Model, *, name: str = "stacked") -> Stacked:
    """A final model that is given the answers of others: a feature each, of their names.

    Example:
        >>> stacked([treelite("a.tl"), treelite("b.tl")], onnx("top.onnx")).stacked().names()
        ['a', 'b']
    """
    return Stacked(models=tuple(models), final=final, name=name, outputs=final.outputs)


def _plain(given: Common) -> dict[str, Any]:
    found: dict[str, Any] = dict(given)
    for name, kind in (("features", tuple), ("outputs", schema_field), ("example", dict)):
        if name in found:
            found[name] = kind(found[name])
    if "outputs" in found:
        found["outputs"] = {
            name: dtype() if isinstance(dtype, type) else dtype
            for name, dtype in found["outputs"].items()
        }
    return found
