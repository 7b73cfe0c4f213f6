"""Correlate: events of several kinds that share a key within a time, and how telling that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import LATE, MAIN, Operator, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import (
    EVENT_TIME,
    HIDDEN_SCHEMA,
    POSITION,
    TIME_DTYPE,
    micros,
    positive_duration,
)
from headrace.operators.columns import ColumnNames
from headrace.operators.cooccurrence.counts import Counts, Scores
from headrace.operators.cooccurrence.latest import NEWEST, Before, before, latest_table, within
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import Bools, Ints

KIND: Final = "kind"
ID: Final = "id"
MEMBERS: Final = "members"
SCORES: Final = ("lift", "confidence", "support")

_START, _END = "match_start", "match_end"
_LATEST: Final = "latest"
COUNTS: Final = "counts"
_WAITING: Final = "waiting"
_MOST_KINDS: Final = 64


class Correlate(Operator):
    """Tell of each event which other kinds of the same key came within a time before it.

    Port main has one row per event with at least one such kind: the key, `kind` and `id` of the
    event, `match_start` and `match_end` (times of the earliest member and of the event),
    `members`, and `lift`, `confidence`, `support` of the strongest member. `members` is a list
    of structs `kind, id, time, count, lift, confidence, support`: the newest event of each other
    kind, by time. The columns `id` are there where `id` is given.

    An event is one trial: A says that an event of kind A came at most `within` before it, both
    ends included, B that it is of kind B. Over all keys and all events so far, this one included:
    support is the share of trials with A and B, confidence the share of B among those with A, and
    lift is confidence by the share of B among all. A lift of 1 is chance. Events follow one
    another by (event time, position), those of one time too. A null key is a key of its own.

    Attributes:
        kinds: The kinds looked at, in an order that decides among equals; others are left out.
        within: How long before an event another may lie.
        on: Columns whose values the events share; none looks at all events together.
        kind_column: Column of the kind, text.
        id_column: Column that names an event, None where there is none.
        min_lift: A member has at least this lift.
        min_count: A member's pair of kinds was counted at least this often.
        learnt: Counts to begin with, as `Counts.numbers` has them.

    State: per key the newest event of each kind, until `within` has passed; k² counts for k
    kinds; rows that wait. Cost: O(k) per event, and O(keys log n) per batch. Counts are of all
    keys, so one shard does it all.
    """

    kind: ClassVar[str] = "correlate"
    parallel: ClassVar[bool] = False

    kinds: tuple[str, ...] = Field(min_length=2, max_length=_MOST_KINDS)
    within: DurationField
    on: ColumnNames = ()
    kind_column: str = KIND
    id_column: str | None = None
    min_lift: float = Field(default=0.0, ge=0.0)
    min_count: int = Field(default=1, ge=1)
    learnt: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Correlate:
        positive_duration(self.within, "within")
        if len(set(self.kinds)) != len(self.kinds):
            raise PlanError(f"a kind is named twice in {list(self.kinds)}")
        if self.learnt and len(self.learnt) != Counts.size(len(self.kinds)):
            raise PlanError(f"learnt counts are not those of {len(self.kinds)} kinds")
        if not self.on and self.min_lift <= 1:
            raise PlanError(
                "without on= events share nothing but their time",
                hint="say how much more often than by chance: min_lift=2, min_count=20",
            )
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the key, the event, its members and scores; and the input's columns for late.

        Raises:
            PlanError: A column is missing, taken, or no text.
        """
        (schema,) = inputs
        named = [self.id_column] if self.id_column else []
        for name in (*self.on, self.kind_column, *named):
            if name not in schema:
                raise PlanError(
                    f"correlate: the stream has no column {name!r}",
                    hint=f"it has {', '.join(schema)}",
                )
        if not isinstance(schema[self.kind_column], pl.String | pl.Categorical | pl.Enum):
            raise PlanError(f"correlate: column {self.kind_column!r} is not text")
        identity = {ID: schema[self.id_column]} if self.id_column else {}
        scores = dict.fromkeys(SCORES, pl.Float64())
        member = {KIND: pl.String(), **identity, "time": TIME_DTYPE, "count": pl.Int64(), **scores}
        columns: dict[str, pl.DataType] = {
            KIND: pl.String(),
            **identity,
            _START: TIME_DTYPE,
            _END: TIME_DTYPE,
            MEMBERS: pl.List(pl.Struct(member)),
            **scores,
        }
        taken = [name for name in self.on if name in columns]
        if taken:
            raise PlanError(
                f"correlate: the columns {', '.join(taken)} would be there twice",
                hint="rename them before",
            )
        return {
            MAIN: pl.Schema({**{name: schema[name] for name in self.on}, **columns}),
            LATE: schema,
        }

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the newest events, the counts, and the rows that wait."""
        (schema,) = inputs
        waiting = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
        return (
            self._latest(schema),
            TableSpec(COUNTS, "blob"),
            TableSpec(_WAITING, "rows", waiting),
        )

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the newest events and the counts."""
        return _CorrelateTask(self, tables, inputs[0])

    def _latest(self, schema: pl.Schema) -> TableSpec:
        keys = {name: schema[name] for name in self.on}
        identity = schema[self.id_column] if self.id_column else None
        return latest_table(_LATEST, keys, len(self.kinds), identity)


class _CorrelateTask(Task):
    def __init__(self, correlate: Correlate, tables: Tables, schema: pl.Schema) -> None:
        self._correlate = correlate
        self._tables = tables
        self._reach = micros(correlate.within)
        self._schema = correlate.output_schema(schema)[MAIN]
        self._latest = tables.keyed(_LATEST)
        self._held = tables.blob(COUNTS)
        self._waiting = EventOrderBuffer(tables.rows(_WAITING))
        self._codes = pl.DataFrame(
            {KIND: correlate.kinds, "__code": range(len(correlate.kinds))},
            schema={KIND: pl.String, "__code": pl.Int64},
        )
        value = self._held.value
        learnt = np.array(correlate.learnt, dtype=np.int64) if correlate.learnt else None
        numbers = learnt if value is None else np.frombuffer(value, dtype="<i8")
        self._counts = Counts(len(correlate.kinds), numbers)

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        ready = self._waiting.release(watermark)
        if ready is not None:
            yield from self._judge(ready)
            self._latest.expire(NEWEST, watermark - self._reach)

    def finish(self) -> Iterable[Out]:
        ready = self._waiting.release_all()
        if ready is not None:
            yield from self._judge(ready)

    def wake(self) -> Wake:
        return self._waiting.wake()

    def _judge(self, frame: pl.DataFrame) -> Iterable[Out]:
        """Count events in order and tell which are correlated."""
        column = self._correlate.kind_column
        kinds = frame[column].cast(pl.String).alias(KIND).to_frame()
        codes = kinds.join(self._codes, on=KIND, how="left", maintain_order="left")["__code"]
        if codes.null_count():
            chosen = codes.is_not_null()
            frame, codes = frame.filter(chosen), codes.filter(chosen)
        if not frame.height:
            return
        code, times = codes.to_numpy(), frame[EVENT_TIME].to_numpy()
        found = before(
            self._latest,
            self._correlate.on,
            frame,
            code,
            times,
            len(self._correlate.kinds),
            self._correlate.id_column,
        )
        near = within(found, times, self._reach)
        scores = self._counts.add(code, near)
        self._held.replace(self._counts.numbers.astype("<i8").tobytes())
        near[np.arange(code.size), code] = False
        near &= scores.count >= self._correlate.min_count
        near &= scores.lift >= self._correlate.min_lift
        if near.any():
            yield MAIN, self._told(frame, code, near, found, scores)

    def _told(
        self, frame: pl.DataFrame, code: Ints, near: Bools, found: Before, scores: Scores
    ) -> pl.DataFrame:
        names = pl.Series(KIND, self._correlate.kinds, dtype=pl.String)
        event, kind = np.nonzero(near)
        # By time; of equal times by the order of kinds.
        order = np.lexsort((kind, found.time[event, kind], event))
        event, kind = event[order], kind[order]
        member = {KIND: names.gather(kind)}
        if found.ids is not None:
            member[ID] = found.ids.gather(found.place[event, kind])
        member |= {
            "time": _times(found.time[event, kind]),
            "count": pl.Series(scores.count[event, kind]),
        }
        for name in SCORES:
            member[name] = pl.Series(getattr(scores, name)[event, kind])
        members = (
            pl.DataFrame({"__event": event})
            .with_columns(pl.DataFrame(member).to_struct(MEMBERS))
            .group_by("__event", maintain_order=True)
            .agg(MEMBERS, pl.col(MEMBERS).struct.field("time").first().alias(_START))
        )
        rows = members["__event"].to_numpy()
        best = np.argmax(np.where(near, scores.lift, -1.0)[rows], axis=1)
        some = frame[rows]
        columns = [
            *(some[name] for name in self._correlate.on),
            names.gather(code[rows]).alias(KIND),
        ]
        if self._correlate.id_column:
            columns.append(some[self._correlate.id_column].alias(ID))
        columns += [
            members[_START],
            _times(some[EVENT_TIME].to_numpy()).alias(_END),
            members[MEMBERS],
        ]
        columns += [pl.Series(name, getattr(scores, name)[rows, best]) for name in SCORES]
        return pl.DataFrame([*columns, some[EVENT_TIME], some[POSITION]])


def _times(times: Ints) -> pl.Series:
    return pl.Series(times, dtype=pl.Int64).cast(TIME_DTYPE)
