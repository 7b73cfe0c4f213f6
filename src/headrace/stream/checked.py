"""What leaves a quality gate beside the rows that pass."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from headrace.core.protocols import LATE
from headrace.operators.aggregates import as_aggregate, count
from headrace.operators.assigners import tumbling
from headrace.operators.check import CHECK, OUTCOMES, PASSED, QUARANTINE, Action
from headrace.stream.stream import Stream


@dataclass(frozen=True, slots=True)
class Checked(Stream):
    """The rows that pass a quality gate.

    Attributes:
        every: Event time over which results are counted.
        action: What the gate does with the rest.
        watched: What the gate looks at, where it remembers rows.
    """

    every: timedelta
    action: Action
    watched: Stream | None = None

    @property
    def late(self) -> Stream:
        """The rows that came too late for a gate that takes them in order; else empty."""
        return self._port(LATE) if self.watched is None else self.watched.late

    @property
    def quarantine(self) -> Stream:
        """The rows that do not pass."""
        return self._port(QUARANTINE)

    @property
    def results(self) -> Stream:
        """How many rows came and failed in each `every` of event time that had rows: `check`,
        `window_start`, `window_end`, `rows`, `failed`. One row per gate and window, so the
        results of several gates make one topic by `union`.
        """
        failed = as_aggregate(count(where=~pl.col(PASSED)))
        counted = self._port(OUTCOMES).window(tumbling(self.every), by=CHECK)
        return counted.agg(rows=count(), failed=failed)

    # Of a gate, not of rules: violations become alerts before they pass one.
    @property
    def alerts(self) -> Stream:  # type: ignore[override] # see above
        """The results in which rows failed, for `action="alert"`; otherwise empty."""
        return self.results.filter(pl.lit(self.action == "alert"), pl.col("failed") > 0)
