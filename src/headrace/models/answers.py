"""Ask a model, which may be several, about rows; take what has come when the time is up."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from headrace.models.counts import count
from headrace.models.description import Artifact, Model
from headrace.models.ensemble import Ensemble, Stacked
from headrace.models.scorer import Reason, Scorer, Ticket
from headrace.models.slot import ModelSlot

NOT_LOADED: Reason = "not loaded"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said of n rows.

    Attributes:
        frame: Its outputs, n rows; None where there are none.
        version: The version that answered; of an ensemble all, as `name@version+name@version`.
        reason: Why there are none, or why another version answered than the newest.
        missing: Which rows were not scored because a feature is missing; None means no row.
    """

    frame: pl.DataFrame | None
    version: str
    reason: Reason | None = None
    missing: pl.Series | None = None


class Question(ABC):
    """A batch that was handed to a model."""

    @abstractmethod
    def answer(self, until: float) -> Answer:
        """Wait until a time of the monotonic clock at most, and return what there is."""


def ask(
    model: Model,
    slots: Mapping[str, ModelSlot],
    frame: pl.DataFrame,
    features: Mapping[str, str],
    *,
    stand_in: bool = False,
) -> Question | None:
    """Hand rows to a model.

    Args:
        model: Whom.
        slots: The slots of its leaves, by name.
        frame: The rows.
        features: The column of each feature.
        stand_in: Ask versions before the present ones, where there are such.

    Returns:
        The question; None where `stand_in` finds no version before the present one.
    """
    if isinstance(model, Artifact):
        return _ask_one(model, slots[model.name], frame, features, stand_in=stand_in)
    if not isinstance(model, Ensemble):
        raise TypeError(f"{model.kind} cannot be asked")
    asked = [ask(each, slots, frame, features, stand_in=stand_in) for each in model.models]
    if stand_in and not any(asked):
        return None
    # A member without an earlier version answers with the present one.
    questions = [
        question or ask(each, slots, frame, features)
        for question, each in zip(asked, model.models, strict=True)
    ]
    return _Together(model, slots, [question for question in questions if question is not None])


def _ask_one(
    model: Artifact,
    slot: ModelSlot,
    frame: pl.DataFrame,
    features: Mapping[str, str],
    *,
    stand_in: bool,
) -> Question | None:
    chosen = slot.chosen()
    scorer = chosen.scorer
    if stand_in:
        before = slot.stand_in()
        if before is None or before is scorer:
            return None
        scorer = before
    wanted = [name for name, _ in scorer.spec.features]
    # Column by column: an expression would wake Polars' threads for nothing to compute.
    given = pl.DataFrame([frame[features.get(name, name)].alias(name) for name in wanted])
    missing = None if model.missing else _missing(given)
    if missing is not None:
        given = given.filter(~missing)
    reason = NOT_LOADED if chosen.failed and not stand_in else None
    # An empty batch is nothing to ask a model; it is answered by itself.
    ticket = scorer.ask(given) if given.height else None
    return _Asked(model, scorer, ticket, missing, reason)


@dataclass(frozen=True, slots=True)
class _Asked(Question):
    model: Artifact
    scorer: Scorer
    ticket: Ticket | None
    missing: pl.Series | None
    reason: Reason | None

    def answer(self, until: float) -> Answer:
        name, version = self.model.name, self.scorer.version
        if self.ticket is None:
            frame: pl.DataFrame | None = self.model.outputs.to_frame()
        else:
            self.ticket.wait(until)
            frame = None if self.ticket.reason else self.ticket.answer
            if frame is None:
                reason = self.ticket.reason or NOT_LOADED
                if reason in ("budget", "busy"):
                    count("overruns", name, version, reason)
                return Answer(None, version, reason)
            count("batches", name, version)
            count("rows", name, version, by=frame.height)
        if frame is not None and self.missing is not None:
            frame = _spread(frame, self.missing)
        return Answer(frame, version, self.reason, self.missing)


@dataclass(frozen=True, slots=True)
class _Together(Question):
    model: Ensemble
    slots: Mapping[str, ModelSlot]
    questions: Sequence[Question]

    def answer(self, until: float) -> Answer:
        answers = [question.answer(until) for question in self.questions]
        named = [
            answer.version if isinstance(each, Ensemble) else f"{each.name}@{answer.version}"
            for each, answer in zip(self.model.models, answers, strict=True)
        ]
        version = "+".join(named)
        frames = [answer.frame for answer in answers if answer.frame is not None]
        reason = next((answer.reason for answer in answers if answer.reason), None)
        if len(frames) < len(answers):
            return Answer(None, version, reason or NOT_LOADED)
        together = self.model.combine(frames)
        masks = [answer.missing for answer in answers if answer.missing is not None]
        if isinstance(self.model, Stacked):
            top = ask(self.model.final, self.slots, together, {})
            last = top.answer(until) if top is not None else Answer(None, "", NOT_LOADED)
            version = f"{version}+{self.model.final.name}@{last.version}"
            reason = last.reason or reason
            if last.frame is None:
                return Answer(None, version, reason)
            together = last.frame
            masks += [last.missing] if last.missing is not None else []
        return Answer(together, version, reason, _any(masks))


def until(seconds: float) -> float:
    """Return the time of the monotonic clock in so many seconds."""
    return time.monotonic() + seconds


def _missing(frame: pl.DataFrame) -> pl.Series:
    """Return which rows lack a feature: null, or NaN."""
    tests = [
        pl.col(name).is_null() | pl.col(name).is_nan()
        if dtype.is_float()
        else pl.col(name).is_null()
        for name, dtype in frame.schema.items()
    ]
    return frame.select(pl.any_horizontal(tests).fill_null(value=True).alias("missing")).to_series()


def _any(masks: Sequence[pl.Series]) -> pl.Series | None:
    found: pl.Series | None = None
    for mask in masks:
        found = mask if found is None else found | mask
    return found


def _spread(frame: pl.DataFrame, missing: pl.Series) -> pl.DataFrame:
    """Return the rows of `frame` where nothing is missing, and null where something is."""
    place = (~missing).cum_sum().cast(pl.Int64) - 1
    at = pl.select(pl.when(missing).then(None).otherwise(place)).to_series()
    return frame.select(pl.all().gather(at)) if frame.height else _nulls(frame.schema, at.len())


def _nulls(schema: pl.Schema, rows: int) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(name, [None], dtype=dtype) for name, dtype in schema.items()])[
        [0] * rows
    ]
