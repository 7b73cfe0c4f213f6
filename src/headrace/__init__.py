"""headrace: real-time analytics for Python, event-time streaming over Polars frames.

Names are imported when they are first used, so that `headrace --help` answers at once.
"""

from __future__ import annotations

import importlib as _importlib
import os as _os
from typing import TYPE_CHECKING
from typing import Any as _Any

# Polars reads this when it starts; without it float sums change from run to run (SEMANTICS 3).
_os.environ.setdefault("POLARS_NO_PARTITION", "1")

if TYPE_CHECKING:
    from headrace import features, testing
    from headrace.alerts import channels as channel
    from headrace.core.errors import HeadraceError, NotFoundError
    from headrace.core.time import event_time
    from headrace.gateway.local import run
    from headrace.operators import charts as chart
    from headrace.operators import detectors as detector
    from headrace.operators.aggregates import (
        collect,
        count,
        first,
        last,
        max,  # noqa: A004 - the word of the contract: hr.max
        mean,
        median,
        min,  # noqa: A004 - the word of the contract: hr.min
        n_unique,
        nth,
        quantile,
        std,
        sum,  # noqa: A004 - the word of the contract: hr.sum
        top_k,
        var,
    )
    from headrace.operators.alerting.route import Route
    from headrace.operators.alerting.silence import Silence
    from headrace.operators.assigners import cumulate, forever, session, sliding, tumbling
    from headrace.operators.geo.geometry import check_geometry
    from headrace.operators.patterns.matched import matched
    from headrace.operators.patterns.pattern import Pattern, all_of, any_of
    from headrace.operators.rulebook.rule import Rule
    from headrace.stream import model, quality
    from headrace.stream.app import App
    from headrace.stream.data import Data, Published, Versioned
    from headrace.stream.declared_tables import AppTable, ControlTable
    from headrace.stream.features import feature_view
    from headrace.stream.match_recognize import match_recognize
    from headrace.stream.reviewing import anomaly_id
    from headrace.stream.stream import Stream

_AGGREGATES = (
    *("collect", "count", "first", "last", "max", "mean", "median", "min", "n_unique", "nth"),
    *("quantile", "std", "sum", "top_k", "var"),
)
_PLACES = {
    "App": "headrace.stream.app",
    "AppTable": "headrace.stream.declared_tables",
    "ControlTable": "headrace.stream.declared_tables",
    "Data": "headrace.stream.data",
    "HeadraceError": "headrace.core.errors",
    "Pattern": "headrace.operators.patterns.pattern",
    "Published": "headrace.stream.data",
    "Rule": "headrace.operators.rulebook.rule",
    "Route": "headrace.operators.alerting.route",
    "Silence": "headrace.operators.alerting.silence",
    "Stream": "headrace.stream.stream",
    "Versioned": "headrace.stream.data",
    "run": "headrace.gateway.local",
    "NotFoundError": "headrace.core.errors",
    "all_of": "headrace.operators.patterns.pattern",
    "anomaly_id": "headrace.stream.reviewing",
    "any_of": "headrace.operators.patterns.pattern",
    "check_geometry": "headrace.operators.geo.geometry",
    "event_time": "headrace.core.time",
    "feature_view": "headrace.stream.features",
    "match_recognize": "headrace.stream.match_recognize",
    "matched": "headrace.operators.patterns.matched",
    **dict.fromkeys(_AGGREGATES, "headrace.operators.aggregates"),
    **dict.fromkeys(
        ("cumulate", "forever", "session", "sliding", "tumbling"), "headrace.operators.assigners"
    ),
}

_MODULES = {
    "channel": "headrace.alerts.channels",
    "chart": "headrace.operators.charts",
    "detector": "headrace.operators.detectors",
    "features": "headrace.features",
    "model": "headrace.stream.model",
    "quality": "headrace.stream.quality",
    "testing": "headrace.testing",
}

__all__ = [
    "App",
    "AppTable",
    "ControlTable",
    "Data",
    "HeadraceError",
    "NotFoundError",
    "Pattern",
    "Published",
    "Route",
    "Rule",
    "Silence",
    "Stream",
    "Versioned",
    "all_of",
    "anomaly_id",
    "any_of",
    "channel",
    "chart",
    "check_geometry",
    "collect",
    "count",
    "cumulate",
    "detector",
    "event_time",
    "feature_view",
    "features",
    "first",
    "forever",
    "last",
    "match_recognize",
    "matched",
    "max",
    "mean",
    "median",
    "min",
    "model",
    "n_unique",
    "nth",
    "quality",
    "quantile",
    "run",
    "session",
    "sliding",
    "std",
    "sum",
    "testing",
    "top_k",
    "tumbling",
    "var",
]


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return _importlib.import_module(_MODULES[name])
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    value = getattr(_importlib.import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
