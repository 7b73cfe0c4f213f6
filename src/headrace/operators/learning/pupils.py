"""Pupils: one learner per key, kept as bytes and as the rows it has learnt since."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from headrace.core.protocols import Tables, TableSpec
from headrace.operators.key_runs import ALL
from headrace.operators.learning.learner import Teacher, features_of

Key = tuple[Any, ...]

_MODELS: Final = "models"
_LOG: Final = "log"
_MODEL: Final = "__model"
_LABEL: Final = "__label"
_FRESH: Final = "__fresh"
_FOUND: Final = "__found"
_MOST_LEARNT: Final = 4096
_MOST_AWAKE: Final = 1024


class Pupils:
    """Learners by key, over two tables.

    To write a learner down costs far more than to teach it one row. So a step appends the rows it
    taught, and the learners are written when these have become many; a task that opens teaches
    the rows once more. Learners are deterministic, so that gives the same ones, to the bit.

    Args:
        tables: The operator's.
        teacher: Asks and teaches.
        by: Key columns; none means one learner.
        features: Columns a learner reads.
    """

    def __init__(
        self, tables: Tables, teacher: Teacher, by: Sequence[str], features: tuple[str, ...]
    ) -> None:
        self._teacher = teacher
        self._by = list(by) or [ALL]
        self._features = features
        self._models = tables.keyed(_MODELS)
        self._log = tables.rows(_LOG)
        self._awake: dict[Key, Any] = {}
        self._recall()

    @staticmethod
    def specs(
        by: Sequence[str], schema: pl.Schema, features: tuple[str, ...], label: pl.DataType
    ) -> tuple[TableSpec, ...]:
        """Declare the learners as they were last written, and what they learnt since."""
        keys = {name: schema[name] for name in by} or {ALL: pl.Boolean()}
        read = {name: schema[name] for name in features if name not in keys}
        learnt = pl.Schema({**keys, **read, _LABEL: label, _FRESH: pl.Boolean()})
        return (
            TableSpec(_MODELS, "keyed", pl.Schema({**keys, _MODEL: pl.Binary()}), key=tuple(keys)),
            TableSpec(_LOG, "rows", learnt),
        )

    def wake(self, rows: pl.DataFrame) -> list[Key]:
        """Have the learners of `rows` at hand, and return the key of each row.

        Cost: one read per key that is not at hand.
        """
        keyed = self._keyed(rows)
        keys = self._keys_of(keyed)
        first: dict[Key, int] = {}
        for place, key in enumerate(keys):
            if key not in self._awake:
                first.setdefault(key, place)
        if first:
            known = self._models.lookup(keyed[list(first.values())])
            for key, found, model in zip(first, known[_FOUND], known[_MODEL], strict=True):
                # Only ever what this operator wrote into its own checkpoint.
                self._awake[key] = pickle.loads(model) if found else self._teacher.fresh()  # noqa: S301
        return keys

    def __getitem__(self, key: Key) -> Any:
        """Return the learner of a key that is at hand."""
        return self._awake[key]

    def restart(self, key: Key) -> Any:
        """Begin anew with a key, and return its learner."""
        self._awake[key] = self._teacher.fresh()
        return self._awake[key]

    def keep(self, rows: pl.DataFrame, labels: Sequence[Any], fresh: Sequence[bool]) -> None:
        """Keep what was done in a step.

        Args:
            rows: Rows that were taught, or with which a key began anew, in this order; with key
                and features.
            labels: What was taught; None where nothing was.
            fresh: Whether the key began anew with the row.
        """
        label = self._log.frame().schema[_LABEL]
        self._log.append(
            self._keyed(rows)
            .hstack(rows.select(n for n in self._features if n not in self._by).get_columns())
            .with_columns(
                pl.Series(_LABEL, labels, dtype=label), pl.Series(_FRESH, fresh, dtype=pl.Boolean)
            )
        )
        if self._log.rows > _MOST_LEARNT or len(self._awake) > _MOST_AWAKE:
            self._write()

    def save(self, rows: pl.DataFrame) -> None:
        """Write the learners of `rows`, which are at hand."""
        changed = self._keyed(rows).unique(maintain_order=True)
        self._store(changed)
        if len(self._awake) > _MOST_AWAKE:
            self._write()

    def forget(self, gone: pl.DataFrame) -> None:
        """Forget the learners of the keys `gone`."""
        if gone.height:
            self._write()
            self._models.delete(gone)
            for key in self._keys_of(gone.select(self._by)):
                self._awake.pop(key, None)

    def _recall(self) -> None:
        done = self._log.frame()
        if done.is_empty():
            return
        keys = self.wake(done)
        rows = features_of(done, self._features)
        for key, row, label, fresh in zip(keys, rows, done[_LABEL], done[_FRESH], strict=True):
            learner = self.restart(key) if fresh else self._awake[key]
            if label is not None:
                self._teacher.learn(learner, row, label)

    def _write(self) -> None:
        changed = self._log.frame().select(self._by).unique(maintain_order=True)
        if changed.height:
            self._store(changed)
            self._log.replace(())
        if len(self._awake) > _MOST_AWAKE:
            self._awake.clear()

    def _store(self, changed: pl.DataFrame) -> None:
        models = [pickle.dumps(self._awake[key], protocol=5) for key in self._keys_of(changed)]
        self._models.upsert(changed.with_columns(pl.Series(_MODEL, models, dtype=pl.Binary)))

    def _keyed(self, rows: pl.DataFrame) -> pl.DataFrame:
        if self._by == [ALL]:
            return pl.repeat(value=True, n=rows.height, eager=True).alias(ALL).to_frame()
        return rows.select(self._by)

    def _keys_of(self, keyed: pl.DataFrame) -> list[Key]:
        columns = [keyed[name].to_list() for name in self._by]
        return [tuple(map(_comparable, row)) for row in zip(*columns, strict=True)]


def _comparable(value: Any) -> Any:
    """Return a value that equals itself: NaN is one key."""
    return "NaN" if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN
