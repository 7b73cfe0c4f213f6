"""What a model is: where it lies, what it is given and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Final

import polars as pl
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from headrace.core.component import Component
from headrace.core.errors import ConfigError, PlanError
from headrace.core.schema_field import SchemaField

PREDICTION: Final = "prediction"

KINDS: Final[dict[str, type[Model]]] = {}
"""Every kind of model, for reading what was serialised."""


def read_model(value: Any) -> Any:
    """Return a model, also from what `dump_model` wrote.

    Raises:
        ConfigError: There is no such kind.
    """
    if not isinstance(value, Mapping):
        return value
    given = dict(value)
    kind = KINDS.get(given.pop("kind", ""))
    if kind is None:
        raise ConfigError(
            f"no model of kind {value.get('kind')!r}", hint=f"have {', '.join(KINDS)}"
        )
    return kind(**given)


def dump_model(model: Model) -> dict[str, Any]:
    """Return a model as JSON data."""
    return {"kind": model.kind, **model.model_dump(mode="json")}


class Model(Component, ABC):
    """Something that answers rows with predictions.

    Attributes:
        name: What it is called in predictions, in the table of versions and in metrics.
        outputs: Columns it adds to each row, with dtypes.
    """

    name: str = Field(min_length=1)
    outputs: SchemaField = pl.Schema({PREDICTION: pl.Float64()})

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        if "kind" in cls.__dict__:
            KINDS[cls.kind] = cls

    @model_validator(mode="after")
    def _answers(self) -> Model:
        if not len(self.outputs):
            raise PlanError(
                f"model {self.name!r} has no outputs", hint='{"prediction": pl.Float64}'
            )
        return self

    @abstractmethod
    def leaves(self) -> Iterator[Artifact]:
        """Yield the models that are loaded for this one, in order."""

    @abstractmethod
    def inputs(self, given: Sequence[str]) -> tuple[str, ...]:
        """Return the features it reads, where `given` are those a step names."""


class Artifact(Model):
    """A model that lies in a file or registry and is loaded as a whole.

    Attributes:
        source: Path or URI.
        features: Names of its inputs in the order the model takes them; by default those named
            by the step that predicts.
        version: What its answers name; by default a hash of its content, or the registry's
            number.
        missing: Whether it takes rows with a null or NaN feature; if not, they are not scored.
        isolated: Run it in a process of its own. In this process a model costs no hop, but one
            that crashes takes the process along, and one that hangs is never restarted.
        threads: Threads of one call.
        example: A row of features it can be warmed up with; zeros, false and "" by default.
    """

    source: str = Field(min_length=1)
    features: tuple[str, ...] = ()
    version: str | None = None
    missing: bool = True
    isolated: bool = True
    threads: int = Field(default=1, ge=1)
    example: dict[str, float | bool | str] | None = None

    takes_text: ClassVar[bool] = False
    runs_code: ClassVar[bool] = False
    """Whether loading it runs code of its author, as every pickle does."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, dict):
            given = {**given, "source": str(given.get("source", ""))}
            if given.get("name") is None:
                given["name"] = cls.default_name(given["source"])
        return given

    @model_validator(mode="after")
    def _where_it_runs(self) -> Artifact:
        if self.runs_code and not self.isolated:
            raise PlanError(
                f"model {self.name!r} runs code of its author when it is loaded",
                hint="leave isolated=True: such models run in a process of their own only",
            )
        if len(set(self.features)) != len(self.features):
            raise PlanError(f"model {self.name!r} names a feature twice")
        return self

    @classmethod
    def default_name(cls, source: str) -> str:
        """Return what a model that lies at `source` is called where nobody says."""
        return PurePath(source).stem

    def options(self) -> dict[str, Any]:
        """Return what else its runtime must know, as JSON data."""
        return {}

    def leaves(self) -> Iterator[Artifact]:
        """Yield this model."""
        yield self

    def inputs(self, given: Sequence[str]) -> tuple[str, ...]:
        """Return its own features, or those given."""
        return self.features or tuple(given)


class Onnx(Artifact):
    """A model in ONNX, run by onnxruntime on the CPU.

    Attributes:
        output: Which of the model's outputs is the answer; the first by default.
    """

    kind: ClassVar[str] = "onnx"
    takes_text: ClassVar[bool] = True
    output: str | None = None

    def options(self) -> dict[str, Any]:
        """Return which output counts."""
        return {"output": self.output}


class Treelite(Artifact):
    """Trees as treelite's `Model.serialize` writes them, run by its GTIL."""

    kind: ClassVar[str] = "treelite"


class Sklearn(Artifact):
    """A pickled estimator (pickle or joblib). Loading it runs code.

    Attributes:
        method: `predict`, `predict_proba`, `decision_function`, `transform`.
    """

    kind: ClassVar[str] = "sklearn"
    takes_text: ClassVar[bool] = True
    runs_code: ClassVar[bool] = True
    method: str = "predict"

    def options(self) -> dict[str, Any]:
        """Return the method."""
        return {"method": self.method}


class Mlflow(Artifact):
    """A pyfunc of MLflow: `models:/name@alias`, `models:/name/3`, or a folder. Loading runs code.

    Attributes:
        registry: Address of the registry, `file:///...` too; by default what MLflow's own
            environment variables say.
    """

    kind: ClassVar[str] = "mlflow"
    takes_text: ClassVar[bool] = True
    runs_code: ClassVar[bool] = True
    registry: str | None = None

    @classmethod
    def default_name(cls, source: str) -> str:
        """Return the registered model's name, or the folder's."""
        if source.startswith("models:/"):
            return source.removeprefix("models:/").partition("@")[0].partition("/")[0]
        return PurePath(source).stem

    def options(self) -> dict[str, Any]:
        """Return the registry's address."""
        return {"registry": self.registry}


ModelField = Annotated[
    Model, BeforeValidator(read_model), PlainSerializer(dump_model, return_type=dict[str, Any])
]
"""A model; what was serialised is read again."""
