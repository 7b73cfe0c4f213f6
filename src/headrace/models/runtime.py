"""Loads a model and asks it: the only place that knows the libraries models are made with."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.core.errors import ConfigError, DataError, NotFoundError, SchemaError
from headrace.models.source import (
    REGISTERED,
    content_version,
    local_path,
    missing_extra,
    mlflow_client,
    registered_version,
)
from headrace.models.spec import LoadSpec

Array = npt.NDArray[Any]
Ask = Callable[[pl.DataFrame], Mapping[str, Array] | Array]

_TENSORS: Final[dict[str, Any]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


class Runtime:
    """A loaded and warmed model.

    Args:
        spec: What to load.

    Attributes:
        version: What its answers name.

    Raises:
        HeadraceError: It cannot be loaded, or refuses the rows it is warmed with.
    """

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        self._features = [name for name, _ in spec.features]
        self._outputs = spec.output_schema()
        self.version, self._ask = _LOADERS[spec.kind](spec)
        self.predict(spec.warm_rows())

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the outputs for the features of each row, in row order.

        Raises:
            SchemaError: The rows have other columns than was said, or the model answers another
                number of rows or columns.
            Exception: Whatever the model raises.
        """
        # Some libraries read past the end of a row that is too short.
        if frame.columns != self._features:
            raise SchemaError(f"the rows have {frame.columns}, not {self._features}")
        answer = self._ask(frame)
        columns = _columns(answer, tuple(self._outputs), frame.height)
        return pl.DataFrame(
            [
                pl.Series(name, column).cast(dtype)
                for (name, dtype), column in zip(self._outputs.items(), columns, strict=True)
            ]
        )


def _columns(answer: Any, names: Sequence[str], rows: int) -> list[Any]:
    """Return the columns of an answer: arrays by name, or one array of (rows,) or (rows, k)."""
    if isinstance(answer, Mapping):
        missing = [name for name in names if name not in answer]
        if missing:
            raise SchemaError(
                f"the model answers {', '.join(answer)}, not {', '.join(missing)}",
                hint="give outputs= by its own names",
            )
        return [_one(np.asarray(answer[name]), rows) for name in names]
    array = np.asarray(answer)
    array = array.reshape(rows, -1) if array.ndim and array.shape[0] == rows else array
    if array.ndim != 2 or array.shape != (rows, len(names)):  # noqa: PLR2004 - rows and columns
        raise SchemaError(
            f"the model answers an array of shape {array.shape} for {rows} rows, "
            f"and {len(names)} outputs are declared",
            hint="give outputs= with a column for each number it answers",
        )
    return [array[:, number] for number in range(len(names))]


def _one(array: Array, rows: int) -> Array:
    if array.size != rows:
        raise SchemaError(f"the model answers {array.size} values for {rows} rows")
    return array.reshape(rows)


def _matrix(frame: pl.DataFrame, dtype: Any) -> Array:
    """Return numbers as a matrix, row by row; null becomes NaN.

    Raises:
        DataError: The model takes whole numbers, and there is a null.
    """
    kind = np.dtype(dtype)
    if kind.kind == "f":
        target = pl.Float32() if kind.itemsize == 4 else pl.Float64()  # noqa: PLR2004 - bytes
        return np.asarray(frame.cast(target).to_numpy(order="c"))
    if any(column.null_count() for column in frame.iter_columns()):
        raise DataError(
            "the model takes whole numbers, and a feature is null",
            hint="fill it before, or give missing=False: such rows are then not scored",
        )
    whole = pl.Boolean() if kind.kind == "b" else pl.Int64()
    return np.asarray(frame.cast(whole).to_numpy(order="c")).astype(kind)


def _check_count(spec: LoadSpec, wanted: int | None) -> None:
    if wanted is not None and wanted != len(spec.features):
        raise SchemaError(
            f"model {spec.name!r} takes {wanted} features, {len(spec.features)} are given",
            hint="give features= in the order the model was trained with",
        )


def _path(spec: LoadSpec) -> str:
    path = local_path(spec.source)
    if not path.exists():
        raise NotFoundError(f"there is no model at {spec.source}", hint="name a file that is there")
    return str(path)


def _file_version(spec: LoadSpec) -> str:
    return spec.version or content_version(spec.source)


def _load_onnx(spec: LoadSpec) -> tuple[str, Ask]:
    try:
        import onnxruntime as ort  # type: ignore[import-untyped]  # it has no types
    except ImportError as error:
        raise missing_extra("onnxruntime") from error
    path, version = _path(spec), _file_version(spec)
    options = ort.SessionOptions()
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    wanted = spec.options.get("output") or outputs[0].name
    names = [output.name for output in outputs]
    if wanted not in names:
        raise ConfigError(
            f"model {spec.name!r} has no output {wanted!r}", hint=f"it has {', '.join(names)}"
        )
    if len(inputs) == 1:
        shape = inputs[0].shape
        width = shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None
        _check_count(spec, width)
    else:
        _check_count(spec, len(inputs))
    types = [_tensor(spec, each) for each in inputs]

    def ask(frame: pl.DataFrame) -> Array:
        if len(inputs) == 1:
            given = {inputs[0].name: _matrix(frame, types[0])}
        else:
            given = {
                each.name: _column(column, kind)
                for each, column, kind in zip(inputs, frame.iter_columns(), types, strict=True)
            }
        (answer,) = session.run([wanted], given)
        if isinstance(answer, list):  # a sequence of maps from class to probability
            return np.array([list(row.values()) for row in answer])
        return np.asarray(answer)

    return version, ask


def _tensor(spec: LoadSpec, given: Any) -> Any:
    if given.type not in _TENSORS:
        raise ConfigError(f"model {spec.name!r}: input {given.name!r} is {given.type}")
    return _TENSORS[given.type]


def _column(column: pl.Series, kind: Any) -> Array:
    if kind is np.object_:
        return column.cast(pl.String).fill_null("").to_numpy().astype(np.object_).reshape(-1, 1)
    return _matrix(column.to_frame(), kind)


def _load_treelite(spec: LoadSpec) -> tuple[str, Ask]:
    try:
        import treelite
    except ImportError as error:
        raise missing_extra("treelite") from error
    path, version = _path(spec), _file_version(spec)
    model = treelite.Model.deserialize(path)
    _check_count(spec, model.num_feature)
    dtype = np.dtype(model.input_type)

    def ask(frame: pl.DataFrame) -> Array:
        return np.asarray(treelite.gtil.predict(model, _matrix(frame, dtype), nthread=spec.threads))

    return version, ask


def _load_sklearn(spec: LoadSpec) -> tuple[str, Ask]:
    path, version = _path(spec), _file_version(spec)
    if path.endswith(".joblib"):
        try:
            import joblib  # type: ignore[import-untyped]  # it has no types
        except ImportError as error:
            raise missing_extra("joblib") from error
        model = joblib.load(path)
    else:
        with local_path(path).open("rb") as file:
            model = pickle.load(file)  # noqa: S301 - the author's own model, in its own process
    method = getattr(model, spec.options["method"], None)
    if method is None:
        raise ConfigError(f"model {spec.name!r} has no method {spec.options['method']!r}")
    wanted = getattr(model, "n_features_in_", None)
    _check_count(spec, int(wanted) if wanted is not None else None)
    named = hasattr(model, "feature_names_in_")

    def ask(frame: pl.DataFrame) -> Array:
        if named or not all(dtype.is_numeric() for dtype in frame.dtypes):
            return np.asarray(method(frame))
        return np.asarray(method(_matrix(frame, np.float64)))

    return version, ask


def _load_mlflow(spec: LoadSpec) -> tuple[str, Ask]:
    source, version = spec.source, spec.version
    if source.startswith(REGISTERED):
        found = registered_version(source, spec.options.get("registry"))
        source, version = found.source, version or found.version
    else:
        version = _file_version(spec)
        mlflow_client(spec.options.get("registry"))
    try:
        import mlflow.pyfunc
        import pandas as pd  # type: ignore[import-untyped]  # its types are another package
    except ImportError as error:
        raise missing_extra("mlflow with pandas") from error
    model = mlflow.pyfunc.load_model(source)

    def ask(frame: pl.DataFrame) -> Mapping[str, Array] | Array:
        table = pd.DataFrame({column.name: column.to_numpy() for column in frame.iter_columns()})
        answer = model.predict(table)
        if isinstance(answer, pd.DataFrame):
            return {str(name): answer[name].to_numpy() for name in answer.columns}
        return np.asarray(answer)

    return version, ask


_LOADERS: Final[dict[str, Callable[[LoadSpec], tuple[str, Ask]]]] = {
    "onnx": _load_onnx,
    "treelite": _load_treelite,
    "sklearn": _load_sklearn,
    "mlflow": _load_mlflow,
}
