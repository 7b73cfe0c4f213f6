"""Put features beside rows that a source outside knows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final

import polars as pl
import structlog
from pydantic import BeforeValidator, Field, model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import MAIN, Meaning, Operator, Out, Tables, Task
from headrace.core.time import EVENT_TIME, HIDDEN, positive_duration
from headrace.features.asker import Asker
from headrace.features.source import FOUND, UPDATED, SourceField
from headrace.operators.joined_columns import KeyPairs
from headrace.operators.project import check_present
from headrace.operators.timed_rows import null_keys

STATUS: Final = "features_from"

_PLACE: Final = "__place"

Value = float | bool | str | None
Defaults = Annotated[
    tuple[tuple[str, int | Value], ...],
    BeforeValidator(lambda value: tuple(value.items()) if isinstance(value, dict) else value),
]


class Enrich(Operator):
    """Put beside each row the features of its entity, as a source outside knows them now.

    `features_from` says where they come from: `source`; or that they are defaults, because the
    source knows no such entity or the key is null (`missing`), its values are older than
    `max_age` (`stale`), it did not answer in time (`time-out`), answered with an error (`error`),
    or has not recovered from that yet (`busy`). A feature that is null at the source gets its
    default too. Rows keep their order and are never held up for longer than `timeout`.

    The answers are journalled, so that a replay does not ask again. They are as of now, not as of
    the row's event time: what is known of a late row may be newer than the row.

    Attributes:
        source: Whom to ask.
        on: Key, as pairs (column of the rows, column of the source).
        default: Value by feature where there is none; null otherwise.
        timeout: Longest wait for an answer, per batch.
        max_age: Longest time between when the source's value was written and the row's event
            time; needs the source's `updated`. Values without a time are stale then.

    Stateless. Cost: one question per batch with its different keys, and a join.
    """

    kind: ClassVar[str] = "enrich"
    recorded: ClassVar[bool] = True
    source: SourceField
    on: KeyPairs = Field(min_length=1)
    default: Defaults = ()
    timeout: DurationField = timedelta(milliseconds=100)
    max_age: DurationField | None = None

    @model_validator(mode="after")
    def _check(self) -> Enrich:
        positive_duration(self.timeout, "timeout")
        if {right for _, right in self.on} != set(self.source.key):
            raise PlanError(
                f"the source knows entities by {', '.join(self.source.key)}",
                hint=f'on={{"column": "{self.source.key[0]}"}}, and so on for each',
            )
        check_present([name for name, _ in self.default], self.source.features)
        if self.max_age is not None:
            positive_duration(self.max_age, "max_age")
            if self.source.updated is None:
                raise PlanError(
                    "max_age needs to know when values were written",
                    hint='give the source updated="its time"',
                )
        return self

    def meaning(self) -> Meaning:
        """Declare that an answer depends on when a step asks."""
        return "step"

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns, the features and where they come from.

        Raises:
            PlanError: A column is missing or taken.
        """
        (schema,) = inputs
        check_present([left for left, _ in self.on], schema)
        added = pl.Schema({**self.source.features, STATUS: pl.String()})
        taken = [name for name in added if name in schema]
        if taken:
            raise PlanError(
                f"there is a column {taken[0]!r} already",
                hint=f'rename({{"{taken[0]}": "another"}}) first',
            )
        return {MAIN: pl.Schema({**schema, **added})}

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:  # noqa: ARG002 - stateless
        """Return a task with a client of the source."""
        return _EnrichTask(self)


class _EnrichTask(Task):
    def __init__(self, enrich: Enrich) -> None:
        self._enrich = enrich
        self._asker = Asker(enrich.source)
        self._shape = enrich.source.shape()
        self._default: dict[str, Any] = dict(enrich.default)
        self._is_well = True
        self._log = structlog.get_logger("features")

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        wanted = frame.select(pl.col(left).alias(right) for left, right in self._enrich.on)
        nulls = null_keys(wanted, wanted.columns)
        known = wanted if nulls is None else wanted.filter(~nulls)
        distinct = known.unique(maintain_order=True)
        status = pl.lit("missing")
        answer = self._shape.to_frame()
        if distinct.height:
            found = self._asker.ask(distinct, self._enrich.timeout.total_seconds())
            self._tell(found if isinstance(found, str) else None)
            if isinstance(found, str):
                status = pl.lit(found)
            else:
                answer = found
        yield MAIN, self._beside(frame, wanted, distinct, answer, status)

    def _beside(
        self,
        frame: pl.DataFrame,
        wanted: pl.DataFrame,
        distinct: pl.DataFrame,
        answer: pl.DataFrame,
        otherwise: pl.Expr,
    ) -> pl.DataFrame:
        if answer.height:
            hits = distinct.hstack(answer.get_columns())
            rows = wanted.join(hits, on=wanted.columns, how="left", maintain_order="left")
        else:
            rows = wanted.with_columns(
                pl.lit(None, dtype).alias(name) for name, dtype in self._shape.items()
            )
        rows = rows.with_columns(frame[EVENT_TIME])
        found = pl.col(FOUND).fill_null(value=False)
        fresh = self._fresh()
        has_null = pl.any_horizontal(pl.col(name).is_null() for name in wanted.columns)
        told = (
            pl.when(has_null)
            .then(pl.lit("missing"))
            .when(found & fresh)
            .then(pl.lit("source"))
            .when(found)
            .then(pl.lit("stale"))
            .otherwise(otherwise)
        )
        features = [
            pl.when(found & fresh)
            .then(pl.col(name))
            .fill_null(pl.lit(self._default.get(name), dtype=dtype))
            .alias(name)
            for name, dtype in self._enrich.source.features.items()
        ]
        added = rows.select(*features, told.alias(STATUS))
        return (
            frame.drop(HIDDEN)
            .hstack(added.get_columns())
            .hstack(frame.select(HIDDEN).get_columns())
        )

    def _fresh(self) -> pl.Expr:
        if self._enrich.max_age is None:
            return pl.lit(value=True)
        age = pl.col(EVENT_TIME) - pl.col(UPDATED).to_physical()
        limit = self._enrich.max_age // timedelta(microseconds=1)
        return (age <= limit).fill_null(value=False)

    def _tell(self, failure: str | None) -> None:
        """Log when the source fails and when it answers again, not each time between."""
        if (failure is None) != self._is_well:
            self._is_well = failure is None
            source = self._enrich.source.kind
            if failure is None:
                self._log.info("the feature source answers again", source=source)
            else:
                self._log.warning(
                    "the feature source does not answer",
                    source=source,
                    failure=failure,
                    reason=self._asker.reason,
                )
