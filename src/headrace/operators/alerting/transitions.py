"""What a transition of an alert looks like, and how it is named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import polars as pl
from xxhash import xxh3_128_hexdigest

from headrace.core.time import TIME_DTYPE
from headrace.operators.rulebook.ports import METRICS, VIOLATION_COLUMNS
from headrace.operators.rulebook.rule import SEVERITIES

IDLE: Final = 0
PENDING: Final = 1
FIRING: Final = 2
ACKNOWLEDGED: Final = 3
STATES: Final = ("resolved", "pending", "firing", "acknowledged")
"""Names by number. A pair that is idle has no open alert: its last one is resolved."""

RAISED: Final = "severity raised"
LOWERED: Final = "severity lowered"
COMMENTED: Final = "commented"
OVER: Final = "condition no longer holds"
SILENT: Final = "no more rows"
DISABLED: Final = "rule disabled"
DELETED: Final = "rule deleted"

SHOWN: Final = {
    name: dtype for name, dtype in VIOLATION_COLUMNS.items() if name not in ("rule_id", "key")
}
"""What an alert takes from the violation that it shows."""

TRANSITION: Final[dict[str, pl.DataType]] = {
    "alert_id": pl.String(),
    "rule_id": pl.String(),
    "rule_version": pl.Int64(),
    "rule_name": pl.String(),
    "severity": pl.String(),
    "message": pl.String(),
    "metrics": METRICS,
    "key": pl.String(),
    "timestamp": TIME_DTYPE,
    "state": pl.String(),
    "transition": pl.Int64(),
    "previous_state": pl.String(),
    "reason": pl.String(),
    "by": pl.String(),
    "note": pl.String(),
    "direction": pl.String(),
    "value_before": pl.Float64(),
    "value_after": pl.Float64(),
    "threshold": pl.Float64(),
}
"""The columns of a transition, before those carried along from the violation's row."""


def alert_id(rule_id: str | None, key: str | None, first: int) -> str:
    """Return the id of the alert of a rule and key that began with transition `first`.

    32 hex digits, the same on every machine: xxh3-128 of the three, each with its length.

    Example:
        >>> alert_id("deep", "auv-1", 1) == alert_id("deep", "auv-1", 1)
        True
    """
    parts = ["-" if part is None else f"{len(part)}:{part}" for part in (rule_id, key)]
    return xxh3_128_hexdigest(f"{parts[0]}{parts[1]}{first}".encode())


def alert_ids(pairs: Iterable[tuple[str | None, str | None, int]]) -> pl.Series:
    """Return `alert_id` of each. Cost: a hash each, about 1 us."""
    return pl.Series("alert_id", [alert_id(*pair) for pair in pairs], dtype=pl.String)


def severity_rank(severity: pl.Series) -> pl.Series:
    """Return the place on the ladder, 0 for `info` and for words that are no severity."""
    ranks = {name: rank for rank, name in enumerate(SEVERITIES)}
    return severity.replace_strict(ranks, default=0, return_dtype=pl.Int8)
