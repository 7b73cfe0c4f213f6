"""Metrics an application declares: rows of its topics, counted under its users' names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from headrace.core.errors import ConfigError
from headrace.stream.surface import Metric as Declared

OTHER: Final = "other"
MAX_VALUES: Final = 100
TABLE: Final = "table:"


class Observation:
    """One declared metric at work. Label values are bounded: known ones, then `other`.

    Args:
        declared: The metric.
        columns: Of the topic or table it observes; None where it renames a core metric.
        table: Reads the rows of a table now.

    Raises:
        ConfigError: It names a column that is not there.
    """

    def __init__(
        self,
        declared: Declared,
        columns: pl.Schema | None,
        table: Callable[[], pl.DataFrame] | None = None,
    ) -> None:
        self.declared = declared
        self._table = table
        self._renames = columns is None
        self._lock = threading.Lock()
        self._seen: dict[str, set[str]] = {label: set() for label in declared.labels}
        self._values: dict[tuple[str, ...], float] = {}
        self._buckets: dict[tuple[str, ...], np.ndarray[Any, Any]] = {}
        wanted = [*declared.labels, *([declared.value] if declared.value else [])]
        for column in wanted if columns is not None else []:
            if columns is not None and column not in columns:
                raise ConfigError(
                    f"metric {declared.name!r} names no column {column!r}",
                    hint=f"{declared.from_} has {', '.join(columns)}",
                )

    def observe(self, frame: pl.DataFrame) -> None:
        """Take new rows of the topic."""
        with self._lock:
            self._take(frame)

    def _take(self, frame: pl.DataFrame) -> None:
        declared = self.declared
        labels = list(declared.labels)
        groups: Iterator[tuple[Any, pl.DataFrame]]
        if labels:
            groups = iter(frame.group_by(labels, maintain_order=True))
        else:
            groups = iter([((), frame)])
        for values, rows in groups:
            key = self._key(values)
            if declared.kind == "histogram":
                self._observe(key, rows)
            elif declared.kind == "gauge":
                value = rows[declared.value][-1] if declared.value else rows.height
                self._values[key] = float(value) if value is not None else 0.0
            else:
                gained = rows[declared.value].sum() if declared.value else rows.height
                self._values[key] = self._values.get(key, 0.0) + float(gained or 0)

    def _observe(self, key: tuple[str, ...], rows: pl.DataFrame) -> None:
        values = rows[self.declared.value or ""].drop_nulls().to_numpy()
        bounds = np.array(self.declared.buckets)
        counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
        self._buckets[key] = self._buckets.get(key, 0) + counts
        self._values[key] = self._values.get(key, 0.0) + float(values.sum())

    def _key(self, values: Sequence[Any]) -> tuple[str, ...]:
        return tuple(
            self._bounded(label, "" if value is None else str(value))
            for label, value in zip(self.declared.labels, values, strict=True)
        )

    def _bounded(self, label: str, value: str) -> str:
        known = self.declared.known.get(label)
        if known is not None:
            return value if value in known else OTHER
        seen = self._seen[label]
        if value not in seen and len(seen) >= MAX_VALUES:
            return OTHER
        seen.add(value)
        return value

    def collect(self, core: Mapping[str, Metric]) -> Iterator[Metric]:
        """Yield the metric; `core` has what it may rename, by name."""
        if self._renames:
            yield from self._renamed(core)
            return
        with self._lock:
            if self._table is not None:
                self._values.clear()
                self._take(self._table())
            yield self._family()

    def _family(self) -> Metric:
        declared = self.declared
        labels = list(declared.labels)
        text = declared.description or declared.name
        if declared.kind == "histogram":
            histogram = HistogramMetricFamily(declared.name, text, labels=labels)
            bounds = [*(str(float(bound)) for bound in declared.buckets), "+Inf"]
            for key, counts in self._buckets.items():
                steps = zip(bounds, np.cumsum(counts).tolist(), strict=True)
                histogram.add_metric(list(key), list(steps), self._values[key])
            return histogram
        kind = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
        family = kind(declared.name.removesuffix("_total"), text, labels=labels)
        for key, value in self._values.items():
            family.add_metric(list(key), value)
        return family

    def _renamed(self, core: Mapping[str, Metric]) -> Iterator[Metric]:
        declared = self.declared
        source = core.get(declared.from_.removesuffix("_total"))
        if source is None:
            return
        sums: dict[tuple[str, ...], float] = {}
        for sample in source.samples:
            key = self._key([sample.labels.get(label, "") for label in declared.labels])
            sums[key] = sums.get(key, 0.0) + sample.value
        self._values = sums
        yield self._family()


def observations(
    declared: Sequence[Declared],
    topics: Mapping[str, pl.Schema],
    tables: Mapping[str, tuple[pl.Schema, Callable[[], pl.DataFrame]]],
) -> list[Observation]:
    """Return what an application declared, ready to observe.

    Args:
        declared: Its metrics.
        topics: Columns of its topics.
        tables: Columns of its tables and how to read them.

    Raises:
        ConfigError: A metric names a table or column that is not there.
    """
    found = []
    for metric in declared:
        if metric.from_.startswith(TABLE):
            name = metric.from_.removeprefix(TABLE)
            if name not in tables:
                raise ConfigError(f"metric {metric.name!r} observes no table {name!r}")
            found.append(Observation(metric, *tables[name]))
        else:
            found.append(Observation(metric, topics.get(metric.from_)))
    return found
