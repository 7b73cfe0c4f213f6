"""Rows are taken one after the other: predicted, and taught when their label is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from headrace.core.protocols import LATE, MAIN, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import END_OF_TIME, EVENT_TIME, HIDDEN, HIDDEN_SCHEMA, POSITION
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.joined_columns import LATE_RIGHT
from headrace.operators.key_runs import changes, key_runs
from headrace.operators.learning.learner import Teacher, features_of
from headrace.operators.learning.open_rows import OpenRows
from headrace.operators.learning.pupils import Pupils

LABEL: Final = "label"
SCORED: Final = "scored"
UNMATCHED: Final = "unmatched"

_WAITING: Final = "waiting"
_COMING: Final = "coming"
_SEEN: Final = "seen"
_LATEST: Final = "__latest"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is learnt, from what.

    Attributes:
        teacher: Asks and teaches.
        features: Columns a learner reads.
        label: Column of the label.
        label_dtype: Its dtype.
        by: Key columns.
        forget: Microseconds of silence after which a key begins anew.
        answers: The columns that a prediction adds.
        id: The column that names a row for later labels.
    """

    teacher: Teacher
    features: tuple[str, ...]
    label: str
    label_dtype: pl.DataType
    by: tuple[str, ...]
    forget: int
    answers: pl.Schema
    id: str | None

    @property
    def read(self) -> list[str]:
        """The columns that are read of a row."""
        return list(dict.fromkeys((*self.by, *self.features)))


class Lesson:
    """The rows of one step.

    Args:
        subject: What is learnt.
        pupils: The learners.
        rows: The rows to predict, in order.
        earlier: Rows predicted in earlier steps whose label comes now; with their answers.
    """

    def __init__(
        self, subject: Subject, pupils: Pupils, rows: pl.DataFrame, earlier: pl.DataFrame | None
    ) -> None:
        self._subject = subject
        self._pupils = pupils
        self._rows = rows.select(subject.read)
        answers: list[tuple[Any, ...]] = [()] * rows.height
        if earlier is not None:
            self._rows = pl.concat([self._rows, earlier.select(subject.read)])
            answers += earlier.select(subject.answers.names()).rows()
        self._answers = answers
        self._keys = pupils.wake(self._rows)
        self._features = features_of(self._rows, subject.features)
        self._done: list[tuple[int, Any, bool]] = []

    def predict(self, place: int, *, fresh: bool) -> None:
        """Predict row `place`; with `fresh` its key begins anew."""
        key = self._keys[place]
        learner = self._pupils.restart(key) if fresh else self._pupils[key]
        answer = self._subject.teacher.predict(learner, self._features[place])
        self._answers[place] = answer[: len(self._subject.answers)]
        if fresh:
            self._done.append((place, None, True))

    def learn(self, place: int, label: Any) -> None:
        """Teach row `place`."""
        learner = self._pupils[self._keys[place]]
        self._subject.teacher.learn(learner, self._features[place], label)
        self._done.append((place, label, False))

    def keep(self) -> None:
        """Keep what the learners learnt."""
        if self._done:
            places, labels, fresh = zip(*self._done, strict=True)
            self._pupils.keep(self._rows[list(places)], labels, fresh)

    def answers(self, rows: int) -> pl.DataFrame:
        """Return the answers to the first `rows` rows."""
        return self._frame(self._answers[:rows])

    def scored(self) -> pl.DataFrame:
        """Return what was taught, in order, with what had been predicted."""
        taught = [(place, label) for place, label, fresh in self._done if not fresh]
        places = [place for place, _ in taught]
        labels = pl.Series(LABEL, [label for _, label in taught], dtype=self._subject.label_dtype)
        return pl.DataFrame(
            [
                *self._rows[places].select(self._subject.by),
                labels,
                *self._frame([self._answers[place] for place in places]),
            ]
        )

    def _frame(self, answers: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
        return pl.DataFrame(answers, schema=self._subject.answers, orient="row")


class Lessons(Task):
    """Rows that bring their label."""

    def __init__(self, tables: Tables, subject: Subject) -> None:
        self._tables = tables
        self._subject = subject
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))
        self._seen = tables.keyed(_SEEN) if subject.by else None
        self._pupils = Pupils(tables, subject.teacher, subject.by, subject.features)

    @staticmethod
    def specs(subject: Subject, rows: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the models, each key's latest time, and rows that wait."""
        waiting = pl.Schema({**rows, **pl.Schema(HIDDEN_SCHEMA)})
        pupils = Pupils.specs(subject.by, rows, subject.features, subject.label_dtype)
        specs = (*pupils, TableSpec(_WAITING, "rows", waiting))
        if not subject.by:
            return specs
        seen = pl.Schema({**{name: rows[name] for name in subject.by}, _LATEST: pl.Int64()})
        return (*specs, TableSpec(_SEEN, "keyed", seen, key=subject.by))

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        """Take rows; give back those that come too late."""
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        """Predict and teach the rows that the watermark has passed."""
        rows = self._waiting.release(watermark)
        if rows is not None:
            yield from self._take(rows)
        self._forget(watermark)

    def finish(self) -> Iterable[Out]:
        """Take everything that waits."""
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        """Ask for the first watermark that passes a row."""
        return self._waiting.wake()

    def _take(self, rows: pl.DataFrame) -> Iterable[Out]:
        lesson = Lesson(self._subject, self._pupils, rows, None)
        labels = known(rows[self._subject.label])
        for place, (label, fresh) in enumerate(zip(labels, self._fresh(rows), strict=True)):
            lesson.predict(place, fresh=fresh)
            if label is not None:
                lesson.learn(place, label)
        lesson.keep()
        yield MAIN, answered(rows, lesson.answers(rows.height))
        taught = [place for place, label in enumerate(labels) if label is not None]
        if taught:
            yield SCORED, lesson.scored().hstack(rows[taught].select(HIDDEN).get_columns())

    def _fresh(self, rows: pl.DataFrame) -> list[bool]:
        """Return whether the key of each row begins anew with it, and note its time."""
        if self._seen is None or rows.is_empty():
            return [False] * rows.height
        runs = key_runs(rows, self._subject.by)
        times = rows[EVENT_TIME].to_numpy()[runs.order]
        latest = self._seen.lookup(runs.keys)[_LATEST]
        never = times.max() + self._subject.forget
        before = latest.fill_null(never).to_numpy()[runs.key_of]
        first = changes(runs.key_of)
        before[~first] = times[:-1][~first[1:]]
        fresh = np.zeros(rows.height, dtype=np.bool_)
        fresh[runs.order] = times - before > self._subject.forget
        ends = np.append(np.flatnonzero(first)[1:] - 1, times.size - 1)
        self._seen.upsert(runs.keys.with_columns(pl.Series(_LATEST, times[ends])))
        return [bool(one) for one in fresh]

    def _forget(self, watermark: int) -> None:
        if self._seen is not None and watermark != END_OF_TIME:
            gone = self._seen.expire(_LATEST, watermark - self._subject.forget)
            self._pupils.forget(gone.select(self._subject.by))


class LaterLabels(Lessons):
    """Labels come by an input of their own and name their row."""

    def __init__(
        self,
        tables: Tables,
        subject: Subject,
        inputs: Sequence[pl.Schema],
        id: str,  # noqa: A002 - the word of the contract
        within: int,
    ) -> None:
        super().__init__(tables, subject)
        self._id = id
        self._coming = EventOrderBuffer(tables.rows(_COMING))
        self._open = OpenRows(tables, within)
        self._none = [
            pl.DataFrame(schema=pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)}))
            for schema in inputs
        ]

    @staticmethod
    def label_specs(subject: Subject, inputs: Sequence[pl.Schema]) -> tuple[TableSpec, ...]:
        """Declare the labels that wait, and the rows without one."""
        rows, labels = inputs
        coming = pl.Schema({**labels, **pl.Schema(HIDDEN_SCHEMA)})
        kept = {name: rows[name] for name in subject.read}
        ids = rows[subject.id or ""]
        return (TableSpec(_COMING, "rows", coming), OpenRows.spec(ids, kept, subject.answers))

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Take rows and labels; give back those that come too late."""
        if port == 0:
            yield from super().process(frame, port)
            return
        late = self._coming.add(frame, self._tables.watermark)
        if late.height:
            yield LATE_RIGHT, late

    def advance(self, watermark: int) -> Iterable[Out]:
        """Predict rows and teach labels that the watermark has passed."""
        rows, labels = self._waiting.release(watermark), self._coming.release(watermark)
        if rows is not None or labels is not None:
            yield from self._pair(
                self._none[0] if rows is None else rows,
                self._none[1] if labels is None else labels,
            )
        if watermark != END_OF_TIME:
            self._open.expire(watermark)
        self._forget(watermark)

    def wake(self) -> Wake:
        """Ask for the first watermark that passes a row."""
        asked = (self._waiting.wake().event_time, self._coming.wake().event_time)
        return Wake(event_time=min((time for time in asked if time is not None), default=None))

    def _pair(self, rows: pl.DataFrame, labels: pl.DataFrame) -> Iterable[Out]:
        earlier, found = self._open.find(labels[self._id])
        lesson = Lesson(self._subject, self._pupils, rows, earlier)
        fresh = self._fresh(rows)
        given = known(labels[self._subject.label])
        row_ids, label_ids = rows[self._id].to_list(), labels[self._id].to_list()
        times = [*rows[EVENT_TIME].to_list(), *earlier[EVENT_TIME].to_list()]
        due = labels[EVENT_TIME].to_list()
        newest: dict[Any, int | None] = {}
        taught: list[int] = []
        missed: list[int] = []
        for place in _in_event_order(rows, labels):
            if place < rows.height:
                lesson.predict(place, fresh=fresh[place])
                if row_ids[place] is not None:
                    newest[row_ids[place]] = place
                continue
            at = place - rows.height
            row = newest.get(label_ids[at], place if found[at] else None)
            late = row is None or not self._open.in_time(times[row], due[at])
            if row is None or late or given[at] is None:
                missed.append(at)
                continue
            lesson.learn(row, given[at])
            newest[label_ids[at]] = None
            taught.append(at)
        lesson.keep()
        answers = lesson.answers(rows.height)
        waiting = sorted(row for row in newest.values() if row is not None)
        self._open.add(
            rows.select(*self._subject.read, EVENT_TIME).hstack(answers.get_columns())[waiting],
            rows[self._id][waiting],
        )
        self._open.close([one for one, row in newest.items() if row is None], rows[self._id].dtype)
        if rows.height:
            yield MAIN, answered(rows, answers)
        if taught:
            yield SCORED, lesson.scored().hstack(labels[taught].select(HIDDEN).get_columns())
        if missed:
            yield UNMATCHED, labels[missed]


def known(labels: pl.Series) -> list[Any]:
    """Return labels, those that teach nothing (null, NaN, infinite) as None."""
    return [
        None if isinstance(one, float) and not math.isfinite(one) else one
        for one in labels.to_list()
    ]


def answered(rows: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return rows with their answers, the hidden columns last."""
    return rows.drop(HIDDEN).hstack(answers.get_columns()).hstack(rows.select(HIDDEN).get_columns())


def _in_event_order(rows: pl.DataFrame, labels: pl.DataFrame) -> list[int]:
    """Return row numbers, those of labels counted on, in event-time order; of equal times rows
    come before labels, so that no label is known before the row it is of.
    """
    times = np.concatenate([rows[EVENT_TIME].to_numpy(), labels[EVENT_TIME].to_numpy()])
    places = np.concatenate([rows[POSITION].to_numpy(), labels[POSITION].to_numpy()])
    side = np.repeat(np.array([0, 1]), [rows.height, labels.height])
    return [int(place) for place in np.lexsort((places, side, times))]
