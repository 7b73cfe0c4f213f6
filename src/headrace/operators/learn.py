"""Predict with a model that learns as it goes: each row is predicted first, then learnt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

import polars as pl
from pydantic import Field, model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, MAIN, Operator, Tables, TableSpec, Task
from headrace.core.time import duration_text, micros, positive_duration
from headrace.operators.columns import ColumnNames
from headrace.operators.joined_columns import LATE_RIGHT
from headrace.operators.learning.learner import (
    PREDICTION,
    PROBABILITY,
    LearnerField,
    Teacher,
    check_features,
    task_of,
)
from headrace.operators.learning.lessons import (
    LABEL,
    SCORED,
    UNMATCHED,
    LaterLabels,
    Lessons,
    Subject,
)
from headrace.operators.learning.stretches import Stretches, check_many
from headrace.operators.project import check_present


class Learn(Operator):
    """Predict each row with a river learner, then teach it the row's label.

    Rows wait for the watermark and are taken one after the other in (event time, position) order,
    so the answer does not depend on how they arrived; rows before the watermark go to `late`. A
    row is always predicted by a model that has not seen its label (A. P. Dawid, "Prequential
    analysis", 1984). What is null, NaN or infinite in a feature is missing for the learner.

    The label is a column of the row, null where it is not known; then the row is only predicted.
    Or labels are a second input, which names the row by `id`: a label that is not earlier than
    the row, and not more than `within` later, is learnt at its own time with the features the
    row had. Of rows with equal `id` the last counts, and it is learnt once. Labels that
    come before the watermark go to `late_right`, those that find no row to `unmatched`.

    Port main gives the input's columns and `prediction`; of a classifier also `probability`: of
    true where the label is Boolean, else of the predicted class. Both are null before the
    learner knows anything. Port `scored` gives one row per learnt label: `by`, `label`,
    `prediction`, `probability`, at the time of the label.

    Attributes:
        learner: A river classifier or regressor, or a pipeline; with a seed where it draws random
            numbers. It begins untrained.
        features: Columns it reads.
        label: Column of the label, in the rows or in the second input.
        by: Key columns; there is one model per key, or one for all without.
        id: Column of both inputs that names a row, for labels by a second input.
        within: How long after its row a label may come; needed with `id`.
        every: Length of stretches of event time. The rows of one are predicted at once, by the
            model as it was before it, and taught at once when it is over; those that lack a
            feature singly, after the others. For learners that take batches (`learn_many`), and
            labels in the rows. None predicts and teaches row by row.
        forget: A key without rows for longer than this (event time) begins anew.

    State: the models, up to 4 096 learnt rows, rows that wait, and with `id` the features of the
    rows of the last `within`. Cost: one call of the learner per row and one per label, in Python.
    With `every` one call per stretch and key, and the models of its keys are written each time.
    """

    kind: ClassVar[str] = "learn"
    learner: LearnerField
    features: ColumnNames = Field(min_length=1)
    label: str
    by: ColumnNames = ()
    id: str | None = None
    within: DurationField | None = None
    every: DurationField | None = None
    forget: DurationField = timedelta(days=30)

    @model_validator(mode="after")
    def _check(self) -> Learn:
        positive_duration(self.forget, "forget")
        if (self.id is None) != (self.within is None):
            raise PlanError(
                "id and within go together: they say which row a later label is of",
                hint='e.g. id="event_id", within="1h"',
            )
        if self.within is not None:
            positive_duration(self.within, "within")
            if self.by and self.within > self.forget:
                raise PlanError(
                    "a label may come after its key was forgotten",
                    hint=f'forget="{duration_text(self.within)}" or more',
                )
        if self.every is not None:
            positive_duration(self.every, "every")
            if self.id is not None:
                raise PlanError(
                    "every= takes labels in the rows", hint="leave out every=, or labels= and id="
                )
            if self.by and self.every > self.forget:
                raise PlanError(
                    "a key may be forgotten before its stretch is over",
                    hint=f'forget="{duration_text(self.every)}" or more',
                )
        if self.id is None and self.label in self.features:
            raise PlanError(
                f"the label {self.label!r} is among the features, so there is nothing to learn",
                hint="leave it out of features=",
            )
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main, late and scored; with labels by a second input also what missed."""
        return (MAIN, LATE, SCORED, *((LATE_RIGHT, UNMATCHED) if self.id else ()))

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`; labels by a second input have no key, so that one task takes all."""
        return () if self.id else self.by

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the rows' columns with the prediction, and those of the other ports.

        Raises:
            PlanError: A column is missing or taken, or does not suit the learner.
        """
        rows = inputs[0]
        check_present((*self.by, *self.features, *((self.id,) if self.id else ())), rows)
        check_features(self.features, rows)
        label = self._label_dtype(inputs)
        Teacher(self.learner, label)
        if self.every is not None:
            check_many(self.learner, self.features, rows)
        answers = self._answers(label)
        taken = [name for name in answers if name in rows]
        taken += [name for name in (*answers, LABEL) if name in self.by]
        if taken:
            raise PlanError(
                f"there is a column {taken[0]!r} already",
                hint=f'rename({{"{taken[0]}": "another"}}) first',
            )
        own = {name: rows[name] for name in self.by}
        ports = {
            MAIN: pl.Schema({**rows, **answers}),
            LATE: rows,
            SCORED: pl.Schema({**own, LABEL: label, **answers}),
        }
        return ports | ({LATE_RIGHT: inputs[1], UNMATCHED: inputs[1]} if self.id else {})

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the models, the rows that wait, and those without their label."""
        subject = self._subject(inputs)
        specs = Lessons.specs(subject, inputs[0])
        if self.every is not None:
            return (*specs, Stretches.pending(subject, inputs[0]))
        return (*specs, *LaterLabels.label_specs(subject, inputs)) if self.id else specs

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the models."""
        subject = self._subject(inputs)
        if self.every is not None:
            return Stretches(tables, subject, micros(self.every))
        if self.id is None or self.within is None:
            return Lessons(tables, subject)
        return LaterLabels(tables, subject, inputs, self.id, micros(self.within))

    def _subject(self, inputs: Sequence[pl.Schema]) -> Subject:
        label = self._label_dtype(inputs)
        return Subject(
            teacher=Teacher(self.learner, label),
            features=self.features,
            label=self.label,
            label_dtype=label,
            by=self.by,
            forget=micros(self.forget),
            answers=pl.Schema(self._answers(label)),
            id=self.id,
        )

    def _answers(self, label: pl.DataType) -> dict[str, pl.DataType]:
        if task_of(self.learner) == "regress":
            return {PREDICTION: pl.Float64()}
        return {PREDICTION: label, PROBABILITY: pl.Float64()}

    def _label_dtype(self, inputs: Sequence[pl.Schema]) -> pl.DataType:
        source = inputs[1] if self.id else inputs[0]
        check_present((self.label, *((self.id,) if self.id else ())), source)
        if self.id and source[self.id] != inputs[0][self.id]:
            raise PlanError(
                f"{self.id!r} is {inputs[0][self.id]} in the rows and {source[self.id]} in the "
                "labels",
                hint="cast one of them first: stream.with_columns(...)",
            )
        if self.id and source[self.id].is_float():
            raise PlanError(f"{self.id!r} is {source[self.id]}, and an id is text or an integer")
        return source[self.label]
