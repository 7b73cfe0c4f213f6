"""A river learner as a parameter: checked, written as text, asked and taught row by row."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Annotated, Any, Final, Literal

import polars as pl
from pydantic import BeforeValidator, PlainSerializer

from headrace.core.errors import ConfigError, PlanError

Task = Literal["classify", "regress"]
Features = Mapping[str, Any]

PREDICTION: Final = "prediction"
PROBABILITY: Final = "probability"

_SEEDS: Final = ("seed", "random_state", "rng")


def checked_learner(value: Any) -> Any:
    """Return an untrained copy of a river classifier or regressor, or of a pipeline that ends in
    one.

    Raises:
        ConfigError: It is no such thing, draws random numbers without a seed, or has a parameter
            that no text tells apart.
    """
    if isinstance(value, str):
        raise ConfigError(
            "a learner cannot be read from a stored plan",
            hint="load the plan from the application's code instead",
        )
    if not all(callable(getattr(value, verb, None)) for verb in ("learn_one", "clone")):
        raise ConfigError(
            f"{type(value).__name__} is no river learner",
            hint="e.g. river.linear_model.LogisticRegression(), or a pipeline that ends in one",
        )
    task_of(value)
    unset = _unseeded(value)
    if unset is not None:
        raise ConfigError(
            f"{unset} draws random numbers, so that a replay would give another answer",
            hint=f"{unset}(seed=...)",
        )
    text = repr(value)
    if " at 0x" in text:
        raise ConfigError(
            f"a parameter of {type(value).__name__} has no text of its own",
            hint="use numbers, text, river's own classes and named functions",
        )
    return value.clone()


LearnerField = Annotated[
    Any, BeforeValidator(checked_learner), PlainSerializer(repr, return_type=str)
]
"""A river learner; it is written as its class and parameters."""


def task_of(learner: Any) -> Task:
    """Say whether a learner classifies or regresses.

    Raises:
        ConfigError: It does neither.
    """
    from river import base

    last = _last(learner)
    if isinstance(last, base.Classifier):
        return "classify"
    if isinstance(last, base.Regressor):
        return "regress"
    raise ConfigError(
        f"{type(last).__name__} is neither a classifier nor a regressor",
        hint="use a supervised learner of river; detectors of anomalies are in stream.detect()",
    )


def steps_of(learner: Any) -> list[Any]:
    """Return the steps of a pipeline, of a union within it too; a learner is its only step."""
    from river import compose

    if isinstance(learner, compose.Pipeline):
        return [one for step in learner.steps.values() for one in steps_of(step)]
    if isinstance(learner, compose.TransformerUnion):
        parts = learner.transformers.values()
        return [learner, *(one for part in parts for one in steps_of(part))]
    return [learner]


def _last(learner: Any) -> Any:
    """Return the step of a pipeline that predicts."""
    from river import compose

    while isinstance(learner, compose.Pipeline):
        learner = list(learner.steps.values())[-1]
    return learner


def _unseeded(value: Any) -> str | None:
    """Return the name of a class within `value` whose seed is not set, or None."""
    from river import base, compose

    if isinstance(value, compose.Pipeline):
        value = list(value.steps.values())
    elif isinstance(value, base.Base):
        parameters = {
            name: getattr(value, name, None) for name in _parameters(value) if name != "self"
        }
        if any(name in _SEEDS and one is None for name, one in parameters.items()):
            return type(value).__name__
        value = list(parameters.values())
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return next((name for one in value if (name := _unseeded(one)) is not None), None)
    return None


def _parameters(value: Any) -> tuple[str, ...]:
    import inspect

    return tuple(inspect.signature(type(value).__init__).parameters)


class Teacher:
    """Asks and teaches learners of one kind.

    Args:
        learner: The untrained learner.
        label: Dtype of the label.

    Raises:
        PlanError: The label does not suit the learner.
    """

    def __init__(self, learner: Any, label: pl.DataType) -> None:
        self._learner = learner
        self.classifies = task_of(learner) == "classify"
        self._label = label
        self._is_boolean = label == pl.Boolean
        self._cast: type = bool if self._is_boolean else int if label.is_integer() else str
        fits = (
            label in (pl.Boolean, pl.String) or label.is_integer()
            if self.classifies
            else label.is_numeric()
        )
        if not fits:
            wanted = "Boolean, an integer or String" if self.classifies else "a number"
            raise PlanError(
                f"{type(_last(learner)).__name__} learns from a label that is {wanted}, "
                f"not {label}",
                hint="cast the label first: stream.with_columns(...)",
            )
        from river import base

        last = type(_last(learner))
        # Most classifiers answer with the likeliest class, so that one question is enough.
        self._one_question = self.classifies and last.predict_one is base.Classifier.predict_one

    def fresh(self) -> Any:
        """Return a learner that knows nothing."""
        return self._learner.clone()

    def predict(self, learner: Any, features: Features) -> tuple[Any, float | None]:
        """Return what the learner expects and, of a classifier, how probable that is: for a
        Boolean label the probability of true, else that of the expected class. Null where it
        does not know yet.
        """
        if not self.classifies:
            value = learner.predict_one(features)
            return (None if value is None else float(value)), None
        shares = self._shares(learner, features)
        if self._one_question:
            found = max(shares, key=shares.__getitem__) if shares else None
        else:
            found = learner.predict_one(features)
        asked: Hashable = True if self._is_boolean else found
        share = float(shares.get(asked, 0.0)) if shares and found is not None else None
        # Python takes 0.0 for 0 and 1 for true, so that one look finds either.
        if share is not None and not math.isfinite(share):
            share = None
        return (None if found is None else self._cast(found)), share

    def learn(self, learner: Any, features: Features, label: Any) -> None:
        """Teach the learner one row."""
        learner.learn_one(features, label if self.classifies else float(label))

    def predict_many(self, learner: Any, features: pl.DataFrame) -> pl.DataFrame:
        """Return what `predict` returns, for n rows whose features are all there: `prediction`
        and of a classifier `probability`.
        """
        nothing = pl.repeat(None, features.height, dtype=pl.Float64, eager=True)
        if not self.classifies:
            if features.is_empty():
                return pl.DataFrame({PREDICTION: nothing})
            return pl.DataFrame(
                {PREDICTION: pl.Series(learner.predict_many(features)).cast(pl.Float64)}
            )
        shares = None if features.is_empty() else learner.predict_proba_many(features)
        if shares is None or not shares.columns:
            expected = pl.repeat(None, features.height, dtype=self._label, eager=True)
            return pl.DataFrame({PREDICTION: expected, PROBABILITY: nothing})
        # Columns are classes as text.
        classes = pl.Series([self._class(name) for name in shares.columns], dtype=self._label)
        numbers = shares.to_numpy()
        expected = classes.gather(numbers.argmax(axis=1))
        likely = pl.Series(numbers.max(axis=1))
        if self._is_boolean:
            likely = (
                shares["True"] if "True" in shares.columns else pl.Series(nothing).fill_null(0.0)
            )
        return pl.DataFrame({PREDICTION: expected, PROBABILITY: likely.cast(pl.Float64)})

    def learn_many(self, learner: Any, features: pl.DataFrame, labels: pl.Series) -> None:
        """Teach the learner rows whose features are all there, as one batch."""
        if features.height:
            learner.learn_many(features, labels if self.classifies else labels.cast(pl.Float64))

    def _class(self, name: str) -> Any:
        return name == "True" if self._is_boolean else self._cast(name)

    def _shares(self, learner: Any, features: Features) -> Mapping[Hashable, float]:
        try:
            return learner.predict_proba_one(features) or {}
        except NotImplementedError:
            return {}


def features_of(frame: pl.DataFrame, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one mapping per row. What is null, NaN or infinite is left out of it: river takes
    that as missing, and one NaN would stay in the weights for ever.
    """
    floats = [name for name in names if frame.schema[name].is_float()]
    texts = [name for name in names if isinstance(frame.schema[name], pl.Categorical | pl.Enum)]
    rows = frame.select(names).with_columns(
        *(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in floats),
        *(pl.col(name).cast(pl.String) for name in texts),
    )
    return [
        {name: value for name, value in row.items() if value is not None}
        for row in rows.iter_rows(named=True)
    ]


def check_features(names: tuple[str, ...], schema: pl.Schema) -> None:
    """Refuse columns that no learner reads.

    Raises:
        PlanError: A column is no number, Boolean or text.
    """
    for name in names:
        dtype = schema[name]
        plain = dtype in (pl.Boolean, pl.String) or isinstance(dtype, pl.Categorical | pl.Enum)
        if not plain and not dtype.is_float() and not dtype.is_integer():
            raise PlanError(
                f"feature {name!r} is {dtype}, and learners read numbers, Booleans and text",
                hint="make a number of it first: stream.with_columns(...)",
            )
