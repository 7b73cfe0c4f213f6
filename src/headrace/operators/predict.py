"""Predictions of a model beside each row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, Literal

import polars as pl
from pydantic import BeforeValidator, Field, model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Meaning, Operator, Tables, TableSpec, Task
from headrace.models.description import Artifact, Model, ModelField
from headrace.models.ensemble import Ensemble, Stacked
from headrace.models.inspect import check_file
from headrace.operators.columns import ColumnNames, column_names
from headrace.operators.predict_task import (
    ADDED,
    SHADOW,
    VERSIONS,
    VERSIONS_PORT,
    PredictTask,
)

__all__ = ["SHADOW", "Predict"]

VERSION_COLUMNS: Final = ("name", "model_version", "source")


def _feature_pairs(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple((name, column_names(column)[0]) for name, column in value.items())
    if value is None or isinstance(value, str | pl.Expr):
        return tuple((name, name) for name in column_names(value))
    if all(isinstance(one, tuple | list) for one in value):
        return tuple(tuple(one) for one in value)
    return tuple((name, name) for name in column_names(value))


def _challengers(value: Any) -> Any:
    return tuple(value.items()) if isinstance(value, Mapping) else value


class Predict(Operator):
    """Put a model's predictions beside each row, in the order of the rows.

    Output: the row's columns, the model's outputs, `model_name` and `model_version` (null where no
    model answered), and `fallback`: null, or why the row has not been scored as asked for:
    `budget` (no answer in time), `busy` (the model still works on a batch that was given up),
    `error` (it raised), `died`, `hung` (its process ended, or was killed), `not loaded`, `missing
    feature` (of a model with `missing=False`). Port `shadow` has the same columns, from `shadow`.

    The answers are recorded: a step that is run again takes them from its journal record, whatever
    has become of the model.

    A second input brings versions: rows of a control table with `name`, `model_version` and
    `source`. A new version is loaded and warmed beside the present one and takes effect in the
    step that brings it; where that takes longer than `swap_wait`, in the first step for which it
    is ready. One that cannot be loaded never takes effect, and rows say `not loaded`. Deleting
    the row returns to what the model's description names.

    Attributes:
        model: The model that answers: the champion.
        versioned: Whether a second input brings versions.
        features: Its inputs, as pairs (feature of the model, column), in the order of a model that
            does not name its features itself.
        challengers: Further models, each with the share of keys it answers instead.
        by: Columns of the key that decides which model answers.
        salt: Another one divides the keys anew.
        shadow: A model that is asked too; its answers go to port `shadow` only.
        budget: Longest time a batch may take; then rows get the fallback.
        fallback: `previous`: the version before this one answers, within the budget once more.
            `default`: the values of `default`. `skip`: null.
        default: An answer per output; also where `previous` finds no version.
        hang_after: A model's process that takes longer for a batch is killed and started again.
        load_timeout: The same while it loads; how long the first rows wait for a model.
        swap_wait: How long rows wait for a new version of a model.

    State: one row per model whose version was changed. Cost: that of the model, and per batch one
    hop to its process and back; `headrace bench predict` measures both.
    """

    kind: ClassVar[str] = "predict"
    recorded: ClassVar[bool] = True
    control_ports: ClassVar[frozenset[int]] = frozenset({VERSIONS_PORT})

    model: ModelField
    versioned: bool = False
    features: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_feature_pairs)] = ()
    challengers: Annotated[tuple[tuple[ModelField, float], ...], BeforeValidator(_challengers)] = ()
    by: ColumnNames = ()
    salt: str = ""
    shadow: ModelField | None = None
    budget: DurationField | None = None
    fallback: Literal["previous", "default", "skip"] = "skip"
    default: dict[str, float | bool | str | None] | None = None
    hang_after: DurationField = Field(timedelta(seconds=10), gt=timedelta(0))
    load_timeout: DurationField = Field(timedelta(seconds=60), gt=timedelta(0))
    swap_wait: DurationField = Field(timedelta(seconds=1), ge=timedelta(0))

    @model_validator(mode="after")
    def _check(self) -> Predict:
        if self.budget is not None and self.budget <= timedelta(0):
            raise PlanError("predict: the budget must be longer than zero")
        if self.fallback == "default" and self.default is None:
            raise PlanError("predict: there is no default to fall back to", hint="give default=")
        shares = [share for _, share in self.challengers]
        if any(not share > 0 for share in shares) or math.fsum(shares) > 1:
            raise PlanError(f"predict: the shares {shares} must be above 0 and at most 1 together")
        if shares and not self.by:
            raise PlanError(
                "predict: challengers need by=", hint="the key whose hash chooses the model"
            )
        self._check_models()
        return self

    def _check_models(self) -> None:
        known: dict[str, Model] = {}
        for model in self.models():
            if model.outputs != self.model.outputs:
                raise PlanError(
                    f"predict: model {model.name!r} answers {dict(model.outputs)}, "
                    f"{self.model.name!r} {dict(self.model.outputs)}",
                    hint="give outputs= so that they agree",
                )
            for one in (model, *model.leaves()):
                if known.setdefault(one.name, one) != one:
                    raise PlanError(
                        f"predict: two different models are called {one.name!r}",
                        hint="give each a name=",
                    )

    def models(self) -> Iterator[Model]:
        """Yield champion, challengers and shadow."""
        yield self.model
        for challenger, _ in self.challengers:
            yield challenger
        if self.shadow is not None:
            yield self.shadow

    def outputs(self) -> tuple[str, ...]:
        """Name main, and shadow where there is one."""
        return (MAIN, SHADOW) if self.shadow is not None else (MAIN,)

    def meaning(self) -> Meaning:
        """With versions that change, the step decides which of them answers."""
        return "step" if self.versioned else "rows"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the row's columns and the predictions, for both ports.

        Raises:
            PlanError: A feature is missing or no number, a model's file is missing or takes other
                features, an output is there already, or the table brings no versions.
        """
        schema = inputs[0]
        for column in self.by:
            _check_column(column, schema)
        self._check_default()
        for leaf, features in self.fed(schema):
            check_file(leaf, features, needed=not self.versioned)
        if self.versioned:
            _check_versions(inputs[VERSIONS_PORT])
        added = {**self.model.outputs, **ADDED}
        taken = [name for name in added if name in schema]
        taken += [name for name in self.model.outputs if name in ADDED]
        if taken:
            raise PlanError(
                f"predict: the columns {', '.join(taken)} would be there twice",
                hint="rename them before, or give the model other outputs=",
            )
        answer = pl.Schema({**schema, **added})
        return dict.fromkeys(self.outputs(), answer)

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:  # noqa: ARG002 - the same for all
        """Declare the versions that a table brought."""
        if not self.versioned:
            return ()
        texts = dict.fromkeys((*VERSION_COLUMNS, "before_version", "before_source"), pl.String())
        return (TableSpec(VERSIONS, "keyed", pl.Schema(texts), key=("name",)),)

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task; its models begin to load."""
        held = tables.keyed(VERSIONS) if self.versioned else None
        return PredictTask(self, list(self.fed(inputs[0])), held)

    def fed(self, schema: pl.Schema) -> Iterator[tuple[Artifact, pl.Schema]]:
        """Yield every model that is loaded, with the columns it is given.

        Raises:
            PlanError: A feature is missing or of a type the model cannot take.
        """
        columns = dict(self.features)
        for model in self.models():
            yield from _fed(model, schema, columns)

    def _check_default(self) -> None:
        if self.default is None:
            return
        if set(self.default) != set(self.model.outputs):
            raise PlanError(
                f"predict: default has {', '.join(self.default)}, "
                f"the model answers {', '.join(self.model.outputs)}"
            )
        try:
            self.default_row()
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
            raise PlanError(f"predict: the default does not fit its column: {error}") from error

    def default_row(self) -> pl.DataFrame:
        """Return what rows without an answer get: one row, null where nothing was given."""
        given = self.default or {}
        return pl.DataFrame(
            [
                pl.Series(name, [given.get(name)], dtype=dtype, strict=True)
                for name, dtype in self.model.outputs.items()
            ]
        )


def _fed(
    model: Model, schema: pl.Schema, columns: Mapping[str, str]
) -> Iterator[tuple[Artifact, pl.Schema]]:
    if isinstance(model, Ensemble):
        for member in model.models:
            yield from _fed(member, schema, columns)
        if isinstance(model, Stacked):
            beside = model.stacked()
            yield from _fed(model.final, beside, {name: name for name in beside})
        return
    if not isinstance(model, Artifact):
        raise TypeError(f"{model.kind} cannot be loaded")
    names = model.inputs(tuple(columns))
    if not names:
        raise PlanError(
            f"predict: the features of model {model.name!r} are not named",
            hint='give features=["a", "b"], in the order the model was trained with',
        )
    features = {}
    for name in names:
        column = columns.get(name, name)
        _check_column(column, schema)
        features[name] = schema[column]
        _check_dtype(model, column, schema[column])
    yield model, pl.Schema(features)


def _check_column(column: str, schema: pl.Schema) -> None:
    if column not in schema:
        raise PlanError(
            f"predict: the stream has no column {column!r}", hint=f"it has {', '.join(schema)}"
        )


def _check_dtype(model: Artifact, column: str, dtype: pl.DataType) -> None:
    if dtype.is_numeric() or dtype == pl.Boolean or (model.takes_text and dtype == pl.String):
        return
    raise PlanError(
        f"predict: column {column!r} is {dtype}, which model {model.name!r} cannot take",
        hint="make a number of it: stream.with_columns(...)",
    )


def _check_versions(schema: pl.Schema) -> None:
    wrong = [name for name in VERSION_COLUMNS if schema.get(name) != pl.String]
    if wrong:
        raise PlanError(
            f"predict: the table of versions has no text column {', '.join(wrong)}",
            hint="declare it as app.control_table(..., hr.model.Version, key='name')",
        )
