"""How far the values of features have moved from those of a reference, window by window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import ClassVar, Final

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from headrace.core.component import DurationField
from headrace.core.errors import PlanError
from headrace.core.protocols import (
    LATE,
    MAIN,
    NEVER,
    Operator,
    Out,
    Tables,
    TableSpec,
    Task,
    Wake,
)
from headrace.core.time import (
    END_OF_TIME,
    EVENT_TIME,
    POSITION,
    TIME_DTYPE,
    micros,
    positive_duration,
)
from headrace.operators.assigners import Tumbling, tumbling
from headrace.operators.columns import ColumnNames
from headrace.operators.histograms import BUCKET, GROUP, MISSING, NOW, THEN, buckets, distances
from headrace.operators.key_runs import ALL, Bools, Ints, KeyRuns, changes, key_runs, running_max
from headrace.operators.project import check_present

FEATURE: Final = "feature"

Histogram = tuple[str, tuple[int, ...], tuple[int, ...]]
"""A feature, its buckets, and the number of values in each; missing ones are in `MISSING`."""

_COUNTS: Final = "counts"
_REFERENCE: Final = "reference"
_END: Final = "__end"
_PLACE: Final = "__feature"
_LATEST: Final = "__latest"
_LISTS: Final = ("__buckets", "__counts")
_WINDOW: Final = "__window"
_MEASURES: Final = ("psi", "ks", "outside")


def histograms(frame: pl.DataFrame, features: Sequence[str], error: float) -> tuple[Histogram, ...]:
    """Return the histogram of each feature of a frame."""
    found = []
    for name in features:
        counted = (
            buckets(frame[name], error)
            .to_frame()
            .group_by(BUCKET, maintain_order=True)
            .agg(pl.len().cast(pl.Int64).alias(NOW))
            .sort(BUCKET)
        )
        found.append((name, tuple(counted[BUCKET].to_list()), tuple(counted[NOW].to_list())))
    return tuple(found)


class Drift(Operator):
    """Compare the values of each feature in each window with a reference.

    Output per window, key and feature: `by`, `window_start`, `window_end`, `feature`, `rows`,
    `missing` (share of null and NaN), `psi`, `ks`, `outside` (shares and distances of the other
    values, see `headrace.operators.histograms.distances`; `ks` of numbers only; null where either
    side has no values) and `is_reference`. By window, then by key and in the order of `features`.

    Values are counted in the buckets of the quantile sketch, so the answer is the same however
    rows are cut and arrive, and state does not grow with rows. Windows are those of `window`:
    a row is late when its window has ended.

    Attributes:
        features: Numeric, Boolean or text columns.
        every: Length of a window.
        by: Key columns; each key is compared by itself.
        reference: Histograms of the reference; empty makes each key's first window its reference.
        bins: Number of bins for the PSI of numbers.
        error: Relative half-width of a bucket.
        forget: A key whose windows are further apart than this begins anew, with its first
            window as reference.

    State: a count per open window, key, feature and bucket that occurs (at the default error
    values between 1 and 1000 share 346), and with the first window as reference as much once per
    key. Cost: a `group_by` per batch and feature, O(b log n) for b buckets of n.
    """

    kind: ClassVar[str] = "drift"
    features: ColumnNames = Field(min_length=1)
    every: DurationField
    by: ColumnNames = ()
    reference: tuple[Histogram, ...] = ()
    bins: int = Field(default=10, ge=2, le=100)
    error: float = Field(default=0.01, ge=1e-4, le=0.5)
    forget: DurationField = timedelta(days=30)

    @model_validator(mode="after")
    def _check(self) -> Drift:
        positive_duration(self.every, "every")
        positive_duration(self.forget, "forget")
        known = {name for name, _, _ in self.reference}
        lacking = [name for name in self.features if self.reference and name not in known]
        if lacking:
            raise PlanError(f"the reference has no feature {lacking[0]!r}")
        return self

    def outputs(self) -> tuple[str, ...]:
        """Name main and late."""
        return (MAIN, LATE)

    def key_columns(self) -> tuple[str, ...]:
        """Return `by`."""
        return self.by

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the columns of a comparison, and the input's for late rows.

        Raises:
            PlanError: A column is missing, taken, or neither number, Boolean nor text.
        """
        (schema,) = inputs
        check_present((*self.by, *self.features), schema)
        for name in self.features:
            dtype = schema[name]
            words = dtype in (pl.Boolean, pl.String) or isinstance(dtype, pl.Categorical | pl.Enum)
            if not dtype.is_numeric() and not words:
                raise PlanError(
                    f"feature {name!r} is {dtype}, and drift is of numbers, Booleans and text",
                    hint="make a number of it first: stream.with_columns(...)",
                )
        told: dict[str, pl.DataType] = {
            "window_start": TIME_DTYPE,
            "window_end": TIME_DTYPE,
            FEATURE: pl.String(),
            "rows": pl.Int64(),
            "missing": pl.Float64(),
            **dict.fromkeys(_MEASURES, pl.Float64()),
            "is_reference": pl.Boolean(),
        }
        taken = [name for name in self.by if name in told]
        if taken:
            raise PlanError(
                f"{taken[0]!r} is a column of every answer", hint="rename the key first"
            )
        own = {name: schema[name] for name in self.by}
        return {MAIN: pl.Schema({**own, **told}), LATE: schema}

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """Declare the counts of open windows, and the references of keys."""
        (schema,) = inputs
        keys = {name: schema[name] for name in self.by} or {ALL: pl.Boolean()}
        counted = {_END: pl.Int64(), **keys, _PLACE: pl.Int64(), BUCKET: pl.Int32()}
        counts = TableSpec(
            _COUNTS, "keyed", pl.Schema({**counted, NOW: pl.Int64()}), key=tuple(counted)
        )
        if self.reference:
            return (counts,)
        lists = dict(zip(_LISTS, (pl.List(pl.Int32()), pl.List(pl.Int64())), strict=True))
        held = pl.Schema({**keys, _PLACE: pl.Int64(), **lists, _LATEST: pl.Int64()})
        return (counts, TableSpec(_REFERENCE, "keyed", held, key=(*keys, _PLACE)))

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return a task over the open windows."""
        (schema,) = inputs
        return _DriftTask(self, tables, schema)


class _DriftTask(Task):
    def __init__(self, drift: Drift, tables: Tables, schema: pl.Schema) -> None:
        self._drift = drift
        self._tables = tables
        self._keys = list(drift.by) or [ALL]
        self._windows: Tumbling = tumbling(drift.every)
        self._counts = tables.keyed(_COUNTS)
        self._held = None if drift.reference else tables.keyed(_REFERENCE)
        self._forget = micros(drift.forget)
        self._every = micros(drift.every)
        self._is_number = [schema[name].is_numeric() for name in drift.features]
        self._output = drift.output_schema(schema)[MAIN]
        self._first_end = self._earliest()
        given = {name: (places, counts) for name, places, counts in drift.reference}
        self._given = pl.DataFrame(
            [(place, *given[name]) for place, name in enumerate(drift.features) if given],
            schema={_PLACE: pl.Int64, _LISTS[0]: pl.List(pl.Int32), _LISTS[1]: pl.List(pl.Int64)},
            orient="row",
        )

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one input
        ends = self._windows.slices(frame[EVENT_TIME]) + self._every
        late = ends <= self._tables.watermark
        if late.any():
            yield LATE, frame.filter(late)
            frame, ends = frame.filter(~late), ends.filter(~late)
        if frame.is_empty():
            return
        self._count(frame, ends)
        first = ends.min()
        if isinstance(first, int):
            self._first_end = min(self._first_end, first)

    def advance(self, watermark: int) -> Iterable[Out]:
        if self._counts.rows and self._first_end <= watermark:
            rows = self._counts.frame()
            due = rows.filter(pl.col(_END) <= watermark)
            self._counts.expire(_END, watermark + 1)
            self._first_end = self._earliest()
            answer = self._compare(due.sort(_END, maintain_order=True))
            yield MAIN, answer.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(POSITION))
        if self._held is not None and self._drift.by and watermark != END_OF_TIME:
            # So long after, no window can begin within `forget` of the last one.
            self._held.expire(_LATEST, watermark - self._forget - self._every)

    def finish(self) -> Iterable[Out]:
        return self.advance(END_OF_TIME)

    def wake(self) -> Wake:
        return NEVER if self._first_end == END_OF_TIME else Wake(event_time=self._first_end)

    def _earliest(self) -> int:
        first = self._counts.frame()[_END].min() if self._counts.rows else None
        return first if isinstance(first, int) else END_OF_TIME

    def _count(self, frame: pl.DataFrame, ends: pl.Series) -> None:
        keys = (
            frame.select(self._drift.by)
            if self._drift.by
            else pl.repeat(value=True, n=frame.height, eager=True).alias(ALL).to_frame()
        )
        rows = keys.with_columns(ends.alias(_END))
        group = [_END, *self._keys]
        counted = pl.concat(
            rows.with_columns(buckets(frame[name], self._drift.error))
            .group_by(*group, BUCKET, maintain_order=True)
            .agg(pl.len().cast(pl.Int64).alias(NOW))
            .select(*group, pl.lit(place, pl.Int64).alias(_PLACE), BUCKET, NOW)
            for place, name in enumerate(self._drift.features)
        )
        known = self._counts.lookup(counted)[NOW].fill_null(0)
        self._counts.upsert(counted.with_columns(pl.col(NOW) + known))

    def _compare(self, due: pl.DataFrame) -> pl.DataFrame:
        """Return the answers of windows that have ended, by window, key and feature."""
        runs = key_runs(due, [_END, *self._keys])
        numbered = due[runs.order].with_columns(pl.Series(_WINDOW, runs.key_of))
        held = self._references(runs.keys, numbered)
        features = len(self._drift.features)
        group = (pl.col(_WINDOW) * features + pl.col(_PLACE)).alias(GROUP)
        now = numbered.select(group, BUCKET, NOW)
        then = held.explode(_LISTS).select(
            group, pl.col(_LISTS[0]).alias(BUCKET), pl.col(_LISTS[1]).alias(THEN)
        )
        apart = self._apart(
            now.filter(pl.col(BUCKET) != MISSING), then.filter(pl.col(BUCKET) != MISSING)
        )
        missing = pl.col(NOW).filter(pl.col(BUCKET) == MISSING).sum() / pl.col(NOW).sum()
        answers = (
            now.group_by(GROUP, maintain_order=True)
            .agg(pl.col(NOW).sum().alias("rows"), missing.alias("missing"))
            .join(apart, on=GROUP, how="left", maintain_order="left")
            .join(held.select(group, "is_reference"), on=GROUP, how="left", maintain_order="left")
            .with_columns(
                (pl.col(GROUP) // features).alias(_WINDOW), (pl.col(GROUP) % features).alias(_PLACE)
            )
        )
        compared = pl.col("is_reference").not_()
        ends = runs.keys[_END][answers[_WINDOW]]
        named = answers.with_columns(
            *(pl.when(compared).then(pl.col(name)).alias(name) for name in _MEASURES),
            *runs.keys[answers[_WINDOW]].iter_columns(),
            (ends - self._every).cast(TIME_DTYPE).alias("window_start"),
            ends.cast(TIME_DTYPE).alias("window_end"),
            (ends - 1).alias(EVENT_TIME),
            pl.Series(FEATURE, [self._drift.features[place] for place in answers[_PLACE]]),
        )
        ordered = named.sort(_END, *self._keys, _PLACE, maintain_order=True)
        return ordered.select(*self._output, EVENT_TIME)

    def _apart(self, now: pl.DataFrame, then: pl.DataFrame) -> pl.DataFrame:
        """Return the distances of all groups, of numbers and of classes."""
        features = len(self._drift.features)
        parts = []
        for is_number in (True, False):
            places = [place for place, one in enumerate(self._is_number) if one == is_number]
            mine = (pl.col(GROUP) % features).is_in(places)
            bins = self._drift.bins if is_number else 0
            found = distances(now.filter(mine), then.filter(mine), bins)
            ks = pl.col("ks") if is_number else pl.lit(None, pl.Float64).alias("ks")
            parts.append(found.with_columns(ks))
        return pl.concat(parts)

    def _references(self, windows: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
        """Return the reference of each window and feature, as lists, and whether it is the window
        itself.

        Args:
            windows: `_END` and key of windows that have ended, by `_END`.
            counts: Their counts, with `_WINDOW`, the number of the window.
        """
        places = pl.DataFrame({_PLACE: range(len(self._drift.features))}, schema={_PLACE: pl.Int64})
        wanted = _crossed(windows.height, _WINDOW, places)
        if self._held is None:
            given = wanted.join(self._given, on=_PLACE, how="left", maintain_order="left")
            return given.with_columns(pl.lit(value=False).alias("is_reference"))
        runs = key_runs(windows, self._keys)
        asked = _crossed(runs.keys.height, _WINDOW, places)
        asked = runs.keys[asked[_WINDOW]].hstack([asked[_PLACE]])
        known = self._held.lookup(asked)
        fresh, source = self._sources(windows, runs, known[:: places.height])
        own = wanted.join(
            counts.group_by(_WINDOW, _PLACE, maintain_order=True).agg(
                pl.col(BUCKET).alias(_LISTS[0]), pl.col(NOW).alias(_LISTS[1])
            ),
            on=[_WINDOW, _PLACE],
            how="left",
            maintain_order="left",
        )
        # First the lists of these windows, then those that keys had before them.
        every = pl.concat([own.select(_LISTS), known.select(_LISTS)])
        rows = (source[:, None] * places.height + np.arange(places.height)).ravel()
        lists = every[rows]
        newest = runs.order[np.append(changes(runs.key_of)[1:], True)]
        last = (newest[:, None] * places.height + np.arange(places.height)).ravel()
        ends = windows[_END][last // places.height].alias(_LATEST)
        self._held.upsert(asked.hstack([*lists[last].iter_columns(), ends]))
        mine = pl.Series("is_reference", np.repeat(fresh, places.height))
        return wanted.hstack([*lists.iter_columns(), mine])

    def _sources(
        self, windows: pl.DataFrame, runs: KeyRuns, known: pl.DataFrame
    ) -> tuple[Bools, Ints]:
        """Return which windows are a reference, and of each window the number of that which is
        its own; numbers from that of the windows on are of what keys had before.
        """
        ends = windows[_END].to_numpy()[runs.order]
        first = changes(runs.key_of)
        had = known["__found"].to_numpy()[runs.key_of]
        before = known[_LATEST].fill_null(0).to_numpy()[runs.key_of]
        before[~first] = ends[:-1][~first[1:]]
        apart = (ends - self._every - before > self._forget) & bool(self._drift.by)
        anew = np.where(first & ~had, True, apart)
        place = np.where(anew, np.arange(ends.size), -1)
        newest = running_max(place, runs.key_of)
        chosen = np.where(newest >= 0, runs.order[newest], ends.size + runs.key_of)
        fresh = np.empty_like(anew)
        source = np.empty_like(chosen)
        fresh[runs.order], source[runs.order] = anew, chosen
        return fresh, source


def _crossed(height: int, name: str, places: pl.DataFrame) -> pl.DataFrame:
    """Return each number below `height` with each place, in order."""
    numbers = pl.DataFrame({name: range(height)}, schema={name: pl.Int64})
    return numbers.join(places, how="cross", maintain_order="left_right")
