"""The step that asks a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, overload

from headrace.core.errors import PlanError
from headrace.core.time import Duration
from headrace.models.description import Model
from headrace.operators.columns import column_names
from headrace.operators.predict import Predict
from headrace.stream.decided import HasStream
from headrace.stream.handle import Columns, Handle

if TYPE_CHECKING:
    from headrace.stream.learned import Learned, Online
    from headrace.stream.stream import Predicted


class Asking(TypedDict, total=False):
    """How a model that is loaded is asked.

    Attributes:
        versions: A control table of `hr.model.Version` that brings new versions.
        challengers: Further models with the share of keys that each answers.
        salt: Another one divides the keys anew.
        shadow: A model that is asked too and never answers.
        budget: Longest time a batch may take. Without it, `hang_after`.
        fallback: What rows get that are not scored in time or at all: the answer of the
            `previous` version, a `default`, or null (`skip`).
        default: An answer per output, or one for the only output.
        hang_after: A model's process that takes longer for a batch is killed and started anew;
            10 s by default.
        load_timeout: Longest time for loading a model; 60 s by default.
        swap_wait: How long rows wait for a new version before they go on with the one before;
            1 s by default.
    """

    versions: HasStream
    challengers: Mapping[Model, float] | Sequence[tuple[Model, float]]
    salt: str
    shadow: Model
    budget: Duration
    fallback: Literal["previous", "default", "skip"]
    default: Mapping[str, float | bool | str | None] | float | bool | str
    hang_after: Duration
    load_timeout: Duration
    swap_wait: Duration


class Predicting(Handle):
    """Predictions of models."""

    __slots__ = ()

    @overload
    def predict(
        self,
        model: Online,
        features: Columns,
        *,
        by: Columns | None = None,
        name: str | None = None,
    ) -> Learned: ...

    @overload
    def predict(
        self,
        model: Model,
        features: Columns | Mapping[str, str] | None = None,
        *,
        by: Columns | None = None,
        name: str | None = None,
        **given: Unpack[Asking],
    ) -> Predicted: ...

    def predict(
        self,
        model: Model | Online,
        features: Columns | Mapping[str, str] | None = None,
        *,
        by: Columns | None = None,
        name: str | None = None,
        **given: Unpack[Asking],
    ) -> Predicted | Learned:
        """Add to each row what a model expects of it.

        A model that is loaded adds its outputs, `model_name`, `model_version` and `fallback`, and
        the result has `.shadow`; see `headrace.operators.predict.Predict`. A model that learns,
        `hr.model.online(...)`, adds `prediction`, and what else it says.

        Args:
            model: What answers: `hr.model.onnx(path)`, `treelite`, `sklearn`, `mlflow`; several as
                one: `mean`, `vote`, `weighted`, `stacked`; or `hr.model.online(learner)`.
            features: Columns in the order the model takes them; {feature: column} where names
                differ. May be left out where the model's description names its features.
            by: Of a model that is loaded: the key whose hash says whether a challenger answers.
                Of one that learns: there is one model per key.
            name: Identity of the state.
            given: For models that are loaded; see `Asking`.

        Raises:
            PlanError: A feature is missing or no number, the model's file is missing or takes
                others, or the parameters contradict each other.
            MissingExtraError: The extra that the model needs is not installed.

        Example:
            >>> import headrace as hr
            >>> import polars as pl
            >>> app = hr.App("doc")
            >>> columns = {"km": pl.Float64, "hour": pl.Int8, "time": pl.Datetime("us", "UTC")}
            >>> rides = app.topic("rides", columns, time="time")
            >>> fare = hr.model.sklearn("fare.pkl")
            >>> priced = rides.predict(fare, features=["km", "hour"], budget="50ms")
            >>> priced.schema.names()
            ['km', 'hour', 'time', 'prediction', 'model_name', 'model_version', 'fallback']
            >>> from river import linear_model
            >>> told = {"rank": pl.Float64, "click": pl.Boolean, "time": columns["time"]}
            >>> ads = app.topic("ads", told, time="time")
            >>> learner = hr.model.online(linear_model.LogisticRegression(), label="click")
            >>> ads.predict(learner, features="rank").schema.names()[3:]
            ['prediction', 'probability']
        """
        from headrace.stream.learned import Online
        from headrace.stream.stream import Predicted

        if isinstance(model, Online):
            if given or features is None or isinstance(features, Mapping):
                raise PlanError(
                    "a model that learns takes features=, by= and name=",
                    hint="shares, budgets and versions are for models that are loaded",
                )
            here = self._at(self.ref, self.schema, self.time)
            return model.predict(here, features=features, by=by, name=name)
        versions, operator = _operator(model, features, by, name, given)
        main = self._then(operator, *(() if versions is None else (versions.stream,)))
        return Predicted(main.graph, main.ref, main.schema, main.time)


def _operator(
    model: Model,
    features: Columns | Mapping[str, str] | None,
    by: Columns | None,
    name: str | None,
    given: Asking,
) -> tuple[HasStream | None, Predict]:
    """Return the step, and the table that brings it versions."""
    versions = given.get("versions")
    challengers = given.get("challengers", ())
    pairs = challengers.items() if isinstance(challengers, Mapping) else challengers
    default = given.get("default")
    if default is not None and not isinstance(default, Mapping):
        default = dict.fromkeys(model.outputs, default)
    plain = {
        key: value
        for key, value in given.items()
        if key not in ("versions", "challengers", "default")
    }
    operator = Predict(
        model=model,
        versioned=versions is not None,
        features=features if features is not None else (),
        challengers=tuple(pairs),
        by=column_names(by),
        default=None if default is None else dict(default),
        name=name,
        **plain,
    )
    return versions, operator
