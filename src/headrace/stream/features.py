"""Feature views: what was known of an entity, at prediction time and over history alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from headrace.core.errors import ConfigError, PlanError
from headrace.core.time import (
    EVENT_TIME,
    POSITION,
    TIME_DTYPE,
    Duration,
    duration,
    micros,
    positive_duration,
)
from headrace.operators.aggregates import as_aggregate
from headrace.operators.aggregates.aggregate import Aggregate
from headrace.operators.assigners import Sliced
from headrace.operators.columns import column_names
from headrace.operators.joined_columns import key_pairs
from headrace.operators.project import check_present

if TYPE_CHECKING:
    from headrace.stream.app import App
    from headrace.stream.declared_tables import AppTable
    from headrace.stream.handle import Columns
    from headrace.stream.stream import Joined, Stream

_ROW: Final = "__row"
_END: Final = "__window_end"


@dataclass(frozen=True, slots=True, eq=False)
class FeatureView:
    """Aggregates per entity over the rows of a stream; made by `hr.feature_view`.

    Attributes:
        name: Names its state, and its table.
        stream: The rows that are aggregated.
        entity: Columns that identify an entity.
        features: Aggregate by name.
        span: Length of event time before each row that is aggregated, or windows.
        ttl: Age beyond which a value does not count.
    """

    name: str
    stream: Stream
    entity: tuple[str, ...]
    features: Mapping[str, Aggregate]
    span: timedelta | Sliced
    ttl: timedelta

    @property
    def values(self) -> Stream:
        """Entity and features each time they change: at each row, or at the end of a window."""
        if isinstance(self.span, Sliced):
            grouped = self.stream.window(self.span, by=self.entity, name=f"{self.name}.window")
            changed = grouped.agg(**self.features)
        else:
            rolled = self.stream.rolling(self.span, by=self.entity, name=f"{self.name}.rolling")
            changed = rolled.agg(**self.features)
        return changed.select(*self.entity, *self.features)

    def table(self, app: App) -> AppTable:
        """Keep the newest values of each entity as a table of this name, read over HTTP too."""
        return app.table(self.name, self.values, key=self.entity, ttl=self.ttl)

    def beside(
        self,
        rows: Stream,
        on: Columns | Mapping[str, str] | None,
        default: Mapping[str, Any],
        name: str | None,
    ) -> Joined:
        """Return `rows` with the features known before each row's event time."""
        self._check_default(default)
        joined = rows.join_asof(
            self.values,
            by=dict(self._pairs(on)),
            tolerance=self.ttl,
            exact=False,
            name=name or f"{self.name}.{rows.ref.node}.{rows.ref.port}",
        )
        if not default:
            return joined
        filled = joined.with_columns(
            **{feature: pl.col(feature).fill_null(value) for feature, value in default.items()}
        )
        return type(joined)(filled.graph, filled.ref, filled.schema, filled.time)

    def history(
        self,
        rows: pl.DataFrame,
        events: pl.DataFrame,
        *,
        on: Columns | Mapping[str, str] | None = None,
        time: str = "time",
        default: Mapping[str, Any] | None = None,
    ) -> pl.DataFrame:
        """Return rows with the features known before each row's time: a training set.

        They are what `enrich` gives to the same rows over the same events, when none of them is
        late; `hr.median` and `hr.quantile` are exact here and within their error in windows.

        Args:
            rows: n rows with the entity and a time; in any order, which is kept.
            events: The rows of the view's stream, with its columns; of equal times in their order.
            on: Entity columns; {column of rows: entity column} where names differ.
            time: The time column of `rows`, `Datetime("us", "UTC")`.
            default: Value by feature where nothing is known.

        Raises:
            PlanError: A column is missing, taken or no time, or the view's stream shows no time.

        Cost: a sort of both, and a pass per feature; Polars uses all cores.
        """
        self._check_default(default or {})
        if time not in rows.columns or rows.schema[time] != TIME_DTYPE:
            raise PlanError(
                f"rows have no time column {time!r} of type {TIME_DTYPE}",
                hint='name it: history(..., time="timestamp")',
            )
        taken = [feature for feature in self.features if feature in rows.columns]
        if taken:
            raise PlanError(f"rows have a column {taken[0]!r} already", hint="rename it first")
        pairs = self._pairs(on)
        check_present([left for left, _ in pairs], rows.schema)
        asked = rows.select(
            *(pl.col(left).alias(right) for left, right in pairs),
            pl.col(time).to_physical().alias(EVENT_TIME),
            pl.int_range(pl.len()).alias(_ROW),
        )
        known = asked.drop_nulls().sort(EVENT_TIME, maintain_order=True)
        found = known.join_asof(
            self._changes(events),
            on=EVENT_TIME,
            by=list(self.entity),
            strategy="backward",
            tolerance=micros(self.ttl),
            allow_exact_matches=False,
            check_sortedness=False,
        )
        features = asked.select(_ROW).join(
            found.select(_ROW, *self.features), on=_ROW, how="left", maintain_order="left"
        )
        filled = features.with_columns(
            pl.col(feature).fill_null(value) for feature, value in (default or {}).items()
        )
        return rows.hstack(filled.drop(_ROW).get_columns())

    def _changes(self, events: pl.DataFrame) -> pl.DataFrame:
        """Return entity, features and the time since which they hold, by time."""
        schema, shown = self.stream.schema, self.stream.time
        check_present(list(schema), events.schema)
        if shown is None:
            raise PlanError(
                f"the stream of feature view {self.name!r} shows no event time",
                hint="keep its time column",
            )
        times = pl.col(shown.column).to_physical() + shown.shift_us
        rows = (
            events.select(list(schema))
            .with_columns(times.alias(EVENT_TIME), pl.int_range(pl.len()).alias(POSITION))
            .drop_nulls(list(self.entity))
            .sort(EVENT_TIME, maintain_order=True)
        )
        answers = [
            one.over_rows(schema).cast(one.output_dtype(schema)).alias(name)
            for name, one in self.features.items()
        ]
        by = list(self.entity)
        if isinstance(self.span, Sliced):
            slices = self.span.slices(rows[EVENT_TIME])
            windows = rows.with_columns(slices.alias(_END))
            first, last = self.span.first_end(pl.col(_END)), self.span.last_end(pl.col(_END))
            ends = pl.int_ranges(first, last + 1, step=self.span.every_us)
            grouped = (
                windows.with_columns(ends.alias(_END))
                .explode(_END)
                .group_by(*by, _END, maintain_order=True)
            )
            changed = grouped.agg(*answers).with_columns((pl.col(_END) - 1).alias(EVENT_TIME))
        else:
            rolled = rows.with_columns(pl.col(EVENT_TIME).alias(_END)).rolling(
                _END, period=f"{micros(self.span)}i", closed="right", group_by=by
            )
            changed = rolled.agg(*answers).with_columns(pl.col(_END).alias(EVENT_TIME))
        return changed.select(*by, EVENT_TIME, *self.features).sort(EVENT_TIME, maintain_order=True)

    def _pairs(self, on: Columns | Mapping[str, str] | None) -> Sequence[tuple[str, str]]:
        pairs: Sequence[tuple[str, str]] = key_pairs(self.entity if on is None else on)
        if {right for _, right in pairs} != set(self.entity):
            raise PlanError(
                f"feature view {self.name!r} is of {', '.join(self.entity)}",
                hint=f'on={{"column": "{self.entity[0]}"}}, and so on for each',
            )
        return pairs

    def _check_default(self, default: Mapping[str, Any]) -> None:
        check_present(list(default), pl.Schema(dict.fromkeys(self.features, pl.Null())))


def feature_view(
    name: str,
    stream: Stream,
    *,
    entity: Columns,
    features: Mapping[str, Any],
    over: Duration | Sliced,
    ttl: Duration | None = None,
) -> FeatureView:
    """Describe features of an entity: aggregates over the rows of a stream.

    With a length of time, `over="1h"`, features change at each row of their entity: they cover
    (its time - 1h, its time]. With windows, `over=hr.tumbling("1h")`, they change when a window
    ends. `stream.enrich(view)` reads what was known before each row; `view.history(...)` gives
    the same for training.

    Args:
        name: Names the state, and the table that `view.table(app)` makes.
        stream: The rows to aggregate.
        entity: Columns that identify an entity; null is none.
        features: Aggregate by name: `hr.count()`, `hr.mean("euro")`, a Polars expression.
        over: What is aggregated.
        ttl: Age beyond which values do not count; by default `over`, or the distance between
            windows.

    Raises:
        PlanError: A column is missing, or a name is taken twice.

    State: the rows of the last `over` per entity (or what the windows keep), and the newest
    values of each entity for `ttl`.

    Example:
        >>> import headrace as hr
        >>> app = hr.App("doc")
        >>> utc = pl.Datetime("us", "UTC")
        >>> paid = app.topic(
        ...     "paid", {"card": pl.String, "time": utc, "euro": pl.Float64}, time="time"
        ... )
        >>> spent = hr.feature_view(
        ...     "spent",
        ...     paid,
        ...     entity="card",
        ...     features={"times_1h": hr.count(), "euro_1h": hr.sum("euro")},
        ...     over="1h",
        ... )
        >>> paid.enrich(spent, default={"times_1h": 0}).schema.names()
        ['card', 'time', 'euro', 'times_1h', 'euro_1h']
    """
    if not name:
        raise ConfigError("a feature view needs a name")
    if not features:
        raise PlanError("a feature view needs a feature", hint='features={"rows": hr.count()}')
    by = column_names(entity)
    check_present(by, stream.schema)
    if not by:
        raise PlanError("a feature view is of an entity", hint='entity="user"')
    span = over if isinstance(over, Sliced) else positive_duration(duration(over), "over")
    if ttl is not None:
        kept = positive_duration(ttl, "ttl")
    else:
        kept = span.every if isinstance(span, Sliced) else span
    named = {feature: as_aggregate(value) for feature, value in features.items()}
    view = FeatureView(name, stream, by, named, span, kept)
    _ = view.values
    return view
