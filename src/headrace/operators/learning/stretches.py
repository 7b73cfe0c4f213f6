"""Rows are taken in stretches of event time: predicted at once, and taught when one is over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import polars as pl

from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Out, Tables, TableSpec, Wake
from headrace.core.time import END_OF_TIME, EVENT_TIME, HIDDEN
from headrace.operators.key_runs import key_runs
from headrace.operators.learning.learner import steps_of
from headrace.operators.learning.lessons import (
    LABEL,
    SCORED,
    Lessons,
    Subject,
    answered,
)

_PENDING: Final = "pending"
_LABEL: Final = "__label"
_ROW: Final = "__row"


def check_many(learner: Any, subject_features: tuple[str, ...], schema: pl.Schema) -> None:
    """Refuse what cannot be asked and taught many rows at once.

    Raises:
        PlanError: A step takes single rows only, or a feature is text.
    """
    from river import base

    many = (base.MiniBatchClassifier, base.MiniBatchRegressor, base.MiniBatchTransformer)
    for step in steps_of(learner):
        if not isinstance(step, many):
            raise PlanError(
                f"{type(step).__name__} learns row by row only", hint="leave out every="
            )
    for name in subject_features:
        if not (schema[name].is_numeric() or schema[name] == pl.Boolean):
            raise PlanError(
                f"feature {name!r} is {schema[name]}, and with every= features are numbers",
                hint="leave out every=, or make a number of it",
            )


class Stretches(Lessons):
    """Rows that bring their label, a stretch at a time.

    Args:
        tables: The operator's.
        subject: What is learnt.
        every: Microseconds of a stretch.
    """

    def __init__(self, tables: Tables, subject: Subject, every: int) -> None:
        super().__init__(tables, subject)
        self._every = every
        self._pending = tables.rows(_PENDING)

    @staticmethod
    def pending(subject: Subject, rows: pl.Schema) -> TableSpec:
        """Declare the rows of the present stretch that are to be taught."""
        kept = {name: rows[name] for name in subject.read}
        schema = pl.Schema({**kept, _LABEL: subject.label_dtype, EVENT_TIME: pl.Int64()})
        return TableSpec(_PENDING, "rows", schema)

    def advance(self, watermark: int) -> Iterable[Out]:
        """Predict the rows that the watermark has passed, and teach stretches that are over."""
        rows = self._waiting.release(watermark)
        if rows is not None:
            yield from self._take(rows)
        if self._over() <= watermark:
            self._teach()
        self._forget(watermark)

    def wake(self) -> Wake:
        """Ask for the first watermark that passes a row or ends a stretch."""
        waiting = self._waiting.wake().event_time
        first = min(END_OF_TIME if waiting is None else waiting, self._over())
        return Wake(event_time=None if first == END_OF_TIME else first)

    def _take(self, rows: pl.DataFrame) -> Iterable[Out]:
        fresh = pl.Series(self._fresh(rows), dtype=pl.Boolean)
        stretch = rows[EVENT_TIME] // self._every
        answers = []
        for one in stretch.unique(maintain_order=True):
            mine = stretch == one
            now = rows.filter(mine)
            if self._over() <= now[EVENT_TIME].item(0):
                self._teach()
            answers.append(self._predict(now, fresh.filter(mine)))
            self._pending.append(
                now.select(
                    *self._subject.read, self._label().alias(_LABEL), pl.col(EVENT_TIME)
                ).drop_nulls(_LABEL)
            )
        found = pl.concat(answers)
        yield MAIN, answered(rows, found)
        told = rows.with_columns(self._label().alias(_LABEL)).hstack(found.get_columns())
        scored = told.drop_nulls(_LABEL)
        if scored.height:
            yield (
                SCORED,
                scored.select(
                    *self._subject.by,
                    pl.col(_LABEL).alias(LABEL),
                    *self._subject.answers,
                    *HIDDEN,
                ),
            )

    def _predict(self, rows: pl.DataFrame, fresh: pl.Series) -> pl.DataFrame:
        """Return the answers to rows of one stretch."""
        keys = self._pupils.wake(rows)
        runs = key_runs(rows, self._subject.by)
        parts = []
        for number in range(runs.keys.height):
            places = runs.order[runs.key_of == number]
            key = keys[int(places[0])]
            # A key is silent for longer than a stretch before it begins anew.
            if fresh[int(places[0])]:
                self._pupils.restart(key)
                self._pupils.save(rows[places[:1]])
            parts.append(
                self._ask(self._pupils[key], rows[places]).with_columns(pl.Series(_ROW, places))
            )
        return pl.concat(parts).sort(_ROW).drop(_ROW)

    def _ask(self, learner: Any, rows: pl.DataFrame) -> pl.DataFrame:
        features = self._numbers(rows)
        complete = features.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
        many = self._subject.teacher.predict_many(learner, features.filter(complete))
        if complete.all():
            return many
        ones = [
            self._subject.teacher.predict(learner, {k: v for k, v in row.items() if v is not None})
            for row in features.filter(~complete).iter_rows(named=True)
        ]
        width = len(self._subject.answers)
        rest = pl.DataFrame(
            [one[:width] for one in ones], schema=self._subject.answers, orient="row"
        )
        order = pl.concat([complete.arg_true(), (~complete).arg_true()])
        return pl.concat([many, rest])[order.arg_sort()]

    def _teach(self) -> None:
        rows = self._pending.frame()
        if rows.is_empty():
            return
        keys = self._pupils.wake(rows)
        runs = key_runs(rows, self._subject.by)
        for number in range(runs.keys.height):
            places = runs.order[runs.key_of == number]
            learner, mine = self._pupils[keys[int(places[0])]], rows[places]
            features = self._numbers(mine)
            complete = features.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
            self._subject.teacher.learn_many(
                learner, features.filter(complete), mine[_LABEL].filter(complete)
            )
            rest = zip(
                features.filter(~complete).iter_rows(named=True),
                mine[_LABEL].filter(~complete),
                strict=True,
            )
            for row, label in rest:
                given = {name: value for name, value in row.items() if value is not None}
                self._subject.teacher.learn(learner, given, label)
        self._pupils.save(rows)
        self._pending.replace(())

    def _over(self) -> int:
        """Return when the stretch that is to be taught is over, or the end of time."""
        if not self._pending.rows:
            return END_OF_TIME
        first = self._pending.pieces[0][EVENT_TIME].item(0)
        return int((first // self._every + 1) * self._every)

    def _numbers(self, rows: pl.DataFrame) -> pl.DataFrame:
        numbers = rows.select(pl.col(self._subject.features).cast(pl.Float64))
        return numbers.select(pl.when(pl.all().is_finite()).then(pl.all()))

    def _label(self) -> pl.Expr:
        label = pl.col(self._subject.label)
        if not self._subject.label_dtype.is_float():
            return label
        return pl.when(label.is_finite()).then(label)
