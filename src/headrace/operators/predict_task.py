"""The work of `predict`: who is asked about which rows, and what they get instead of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from headrace.core.log import DELETE, OP
from headrace.core.protocols import MAIN, KeyedTable, Out, Task
from headrace.core.time import HIDDEN
from headrace.models.answers import Answer, Question, ask, until
from headrace.models.cache import CACHE
from headrace.models.counts import count
from headrace.models.description import Artifact, Model
from headrace.models.share import assigned
from headrace.models.slot import ModelSlot, Waits
from headrace.models.source import Version

if TYPE_CHECKING:
    from headrace.operators.key_runs import Ints
    from headrace.operators.predict import Predict

SHADOW: Final = "shadow"
VERSIONS_PORT: Final = 1
VERSIONS: Final = "versions"

MODEL_NAME: Final = "model_name"
MODEL_VERSION: Final = "model_version"
FALLBACK: Final = "fallback"
ADDED: Final = dict.fromkeys((MODEL_NAME, MODEL_VERSION, FALLBACK), pl.String())

MISSING: Final = "missing feature"
_SLACK_S: Final = 2.0


class _Asked(NamedTuple):
    """A model and the rows it was asked about; `rows` None means all of them."""

    model: Model
    frame: pl.DataFrame
    rows: Ints | None
    question: Question | None


class PredictTask(Task):
    """Predictions of a batch.

    Args:
        predict: The description.
        fed: The models that are loaded, with the columns they are given.
        versions: What the table of versions has brought, None without one.
    """

    def __init__(
        self,
        predict: Predict,
        fed: Sequence[tuple[Artifact, pl.Schema]],
        versions: KeyedTable | None,
    ) -> None:
        self._predict = predict
        self._columns = dict(predict.features)
        self._models = (predict.model, *(model for model, _ in predict.challengers))
        self._shares = [share for _, share in predict.challengers]
        self._default = predict.default_row()
        hang_s = predict.hang_after.total_seconds()
        # Without a budget a hung process is killed first, which says more than a wait that ended.
        budget = predict.budget
        self._budget_s = hang_s + _SLACK_S if budget is None else budget.total_seconds()
        waits = Waits(
            hang_s, predict.load_timeout.total_seconds(), predict.swap_wait.total_seconds()
        )
        self._slots = {
            model.name: ModelSlot(model, features, waits, CACHE) for model, features in fed
        }
        self._answering = {leaf.name for model in self._models for leaf in model.leaves()}
        self._versions = versions
        if versions is not None:
            self._point(versions.frame())
        else:
            for slot in self._slots.values():
                slot.load()

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Take rows, or changes of versions."""
        if frame.is_empty():
            return
        if port == VERSIONS_PORT:
            self._change(frame)
            return
        # A version that is not loaded yet is waited for before the budget begins.
        for name, slot in self._slots.items():
            slot.chosen(patient=name in self._answering)
        end = until(self._budget_s)
        shadow = self._predict.shadow
        beside = None if shadow is None else self._hand_in(shadow, frame, None)
        asked = [
            self._hand_in(model, frame if rows is None else frame[rows], rows)
            for model, rows in self._divided(frame)
        ]
        yield MAIN, self._together([self._settled(one, end) for one in asked], asked)
        if beside is not None:
            answer = beside.question.answer(end) if beside.question is not None else None
            yield SHADOW, self._beside(frame, beside.model, answer, answer)

    def _change(self, changes: pl.DataFrame) -> None:
        if self._versions is None:
            return
        last = changes.unique("name", keep="last", maintain_order=True)
        is_gone = last[OP] == DELETE
        self._versions.delete(last.filter(is_gone))
        coming = last.filter(~is_gone).select("name", "model_version", "source")
        held = self._versions.lookup(coming)
        same = (held["model_version"].eq_missing(coming["model_version"])) & held[
            "source"
        ].eq_missing(coming["source"])
        self._versions.upsert(
            coming.with_columns(
                held["model_version"].alias("before_version"), held["source"].alias("before_source")
            ).filter(~same)
        )
        self._point(self._versions.frame())

    def _point(self, held: pl.DataFrame) -> None:
        rows = {row["name"]: row for row in held.iter_rows(named=True)}
        for name, slot in self._slots.items():
            row = rows.get(name)
            if row is None:
                slot.point_back()
                continue
            before = None
            if row["before_source"] is not None:
                before = Version(row["before_version"], row["before_source"])
            slot.point(Version(row["model_version"], row["source"]), before, had_one=True)

    def _divided(self, frame: pl.DataFrame) -> list[tuple[Model, Ints | None]]:
        """Return every model that answers rows, with their numbers."""
        if not self._shares:
            return [(self._predict.model, None)]
        chosen = assigned(frame, self._predict.by, self._shares, self._predict.salt)
        found = [(model, np.flatnonzero(chosen == at)) for at, model in enumerate(self._models)]
        return [(model, rows) for model, rows in found if rows.size]

    def _hand_in(self, model: Model, frame: pl.DataFrame, rows: Ints | None) -> _Asked:
        return _Asked(model, frame, rows, ask(model, self._slots, frame, self._columns))

    def _settled(self, asked: _Asked, end: float) -> pl.DataFrame:
        """Return the rows of one model with its answer, or with what they get instead."""
        answer = asked.question.answer(end) if asked.question is not None else None
        first = answer
        if (answer is None or answer.frame is None) and self._predict.fallback == "previous":
            before = ask(asked.model, self._slots, asked.frame, self._columns, stand_in=True)
            if before is not None:
                answer = before.answer(until(self._budget_s))
        return self._beside(asked.frame, asked.model, answer, first)

    def _together(self, parts: Sequence[pl.DataFrame], asked: Sequence[_Asked]) -> pl.DataFrame:
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([one.rows for one in asked if one.rows is not None])
        return pl.concat(parts)[np.argsort(rows, kind="stable")]

    def _beside(
        self, frame: pl.DataFrame, model: Model, answer: Answer | None, first: Answer | None
    ) -> pl.DataFrame:
        """Return rows with the columns that a model adds.

        Args:
            frame: The rows.
            model: Who was asked.
            answer: What the row gets; None or without a frame, the default.
            first: What the model said itself; its reason is shown.
        """
        reason = None if first is None else first.reason
        outputs = None if answer is None else answer.frame
        version: str | None = None
        if outputs is None:
            outputs = self._default[[0] * frame.height]
            reason = reason or "not loaded"
        else:
            version = None if answer is None else answer.version
        told = {MODEL_NAME: model.name, MODEL_VERSION: version, FALLBACK: reason}
        added = outputs.hstack(
            [
                pl.Series(name, [value], dtype=pl.String).new_from_index(0, frame.height)
                for name, value in told.items()
            ]
        )
        missing = answer.missing if answer is not None and version is not None else None
        if missing is not None and missing.any():
            added = self._without(added, missing)
            count("fallbacks", model.name, version or "", MISSING, by=int(missing.sum()))
        if reason is not None:
            failed = version if first is None else first.version
            count("fallbacks", model.name, failed or "", reason, by=frame.height)
        visible = frame.drop(HIDDEN)
        return visible.hstack(added.get_columns()).hstack(frame.select(HIDDEN).get_columns())

    def _without(self, added: pl.DataFrame, missing: pl.Series) -> pl.DataFrame:
        """Return the columns with the default where a feature is missing."""
        row = self._default.row(0, named=True)
        given = {
            **{name: pl.lit(row[name], dtype) for name, dtype in self._default.schema.items()},
            MODEL_VERSION: pl.lit(None, pl.String()),
            FALLBACK: pl.lit(MISSING, pl.String()),
        }
        return added.with_columns(
            pl.when(missing).then(value).otherwise(pl.col(name)).alias(name)
            for name, value in given.items()
        )
