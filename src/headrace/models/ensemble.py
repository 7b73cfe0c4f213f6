"""Several models that answer as one."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import polars as pl
from pydantic import Field, model_validator

from headrace.core.errors import PlanError
from headrace.models.description import Artifact, Model, ModelField


class Ensemble(Model):
    """Models whose answers become one. If one of them gives none, the ensemble gives none.

    Attributes:
        models: At least two, each scored on the same rows, at the same time.
    """

    models: tuple[ModelField, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _members(self) -> Ensemble:
        names = [leaf.name for leaf in self.leaves()]
        if len(set(names)) != len(names):
            raise PlanError(
                f"ensemble {self.name!r} has two models of one name", hint="give each a name="
            )
        return self

    def leaves(self) -> Iterator[Artifact]:
        """Yield the models of its models."""
        for model in self.models:
            yield from model.leaves()

    def inputs(self, given: Sequence[str]) -> tuple[str, ...]:
        """Return the features of all its models, each once."""
        return tuple(dict.fromkeys(name for model in self.models for name in model.inputs(given)))

    @abstractmethod
    def combine(self, answers: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Return one answer per row; `answers` has one frame of n rows per model, in order."""


class _Alike(Ensemble):
    """Models with the same outputs, which are combined column by column."""

    @model_validator(mode="after")
    def _same_outputs(self) -> _Alike:
        for model in self.models:
            if tuple(model.outputs) != tuple(self.outputs):
                raise PlanError(
                    f"ensemble {self.name!r} answers {', '.join(self.outputs)}, its model "
                    f"{model.name!r} {', '.join(model.outputs)}",
                    hint="give outputs= so that they agree",
                )
        return self

    def combine(self, answers: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Combine each output column by itself."""
        return pl.DataFrame(
            [
                self._column([answer[name] for answer in answers]).cast(dtype).alias(name)
                for name, dtype in self.outputs.items()
            ]
        )

    @abstractmethod
    def _column(self, columns: Sequence[pl.Series]) -> pl.Series: ...


class Weighted(_Alike):
    """The weighted mean; null where a model answers null.

    Attributes:
        weights: One per model, not negative; their sum counts as 1.
    """

    kind: ClassVar[str] = "weighted"
    weights: tuple[float, ...]

    @model_validator(mode="after")
    def _weights(self) -> Weighted:
        if len(self.weights) != len(self.models):
            raise PlanError(
                f"ensemble {self.name!r} has {len(self.models)} models and "
                f"{len(self.weights)} weights"
            )
        total = math.fsum(self.weights)
        if not all(weight >= 0 for weight in self.weights) or not 0 < total < math.inf:
            raise PlanError(f"the weights {self.weights} have no sum that could count as 1")
        _check_numbers(self)
        return self

    def _column(self, columns: Sequence[pl.Series]) -> pl.Series:
        total = math.fsum(self.weights)
        parts = zip(columns, self.weights, strict=True)
        return _sum([column.cast(pl.Float64) * (weight / total) for column, weight in parts])


class Mean(_Alike):
    """The mean; null where a model answers null."""

    kind: ClassVar[str] = "mean"

    @model_validator(mode="after")
    def _numbers(self) -> Mean:
        _check_numbers(self)
        return self

    def _column(self, columns: Sequence[pl.Series]) -> pl.Series:
        return _sum([column.cast(pl.Float64) for column in columns]) / len(columns)


class Vote(_Alike):
    """What most models answer; among equals what the first of them answers. Null is no vote."""

    kind: ClassVar[str] = "vote"

    def _column(self, columns: Sequence[pl.Series]) -> pl.Series:
        names = [f"vote{number}" for number in range(len(columns))]
        votes = pl.DataFrame(
            [column.alias(name) for column, name in zip(columns, names, strict=True)]
        )
        counts = [
            pl.sum_horizontal(
                (pl.col(other) == pl.col(name)).fill_null(value=False) for other in names
            )
            for name in names
        ]
        best = pl.max_horizontal(counts)
        chosen = pl.coalesce(
            pl.when((count == best) & (count > 0)).then(pl.col(name))
            for name, count in zip(names, counts, strict=True)
        )
        return votes.select(chosen.alias("vote")).to_series()


class Stacked(Ensemble):
    """A model on top of others: its features are their answers, in order.

    A model with one output gives a feature of its own name, one with several a feature
    `<name>_<output>` each.

    Attributes:
        final: Answers from the answers.
    """

    kind: ClassVar[str] = "stacked"
    final: ModelField

    @model_validator(mode="after")
    def _on_top(self) -> Stacked:
        if not isinstance(self.final, Artifact):
            raise PlanError(f"ensemble {self.name!r}: the final model must be a single one")
        if self.outputs != self.final.outputs:
            raise PlanError(f"ensemble {self.name!r} answers what its final model answers")
        return self

    def leaves(self) -> Iterator[Artifact]:
        """Yield the models of its models, then the final one."""
        yield from super().leaves()
        yield from self.final.leaves()

    def stacked(self) -> pl.Schema:
        """Return the columns the final model is given."""
        found: dict[str, pl.DataType] = {}
        for model in self.models:
            for name, dtype in model.outputs.items():
                found[model.name if len(model.outputs) == 1 else f"{model.name}_{name}"] = dtype
        return pl.Schema(found)

    def combine(self, answers: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Return the answers beside each other, as the final model is given them."""
        columns = [column for answer in answers for column in answer.iter_columns()]
        return pl.DataFrame(
            [column.alias(name) for column, name in zip(columns, self.stacked(), strict=True)]
        )


def _sum(columns: Sequence[pl.Series]) -> pl.Series:
    total = columns[0]
    for column in columns[1:]:
        total = total + column
    return total


def _check_numbers(ensemble: Ensemble) -> None:
    for name, dtype in ensemble.outputs.items():
        if not dtype.is_numeric():
            raise PlanError(
                f"ensemble {ensemble.name!r}: output {name!r} is {dtype}, which has no mean",
                hint="vote() takes answers of any type",
            )
