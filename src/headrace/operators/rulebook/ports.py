"""The columns that leave a `rules` step; alerts are built on them."""

from __future__ import annotations

from typing import Final

import polars as pl

CLEARED: Final = "cleared"
ABSENT: Final = "absent"
RULES_PORT: Final = 1

METRICS: Final = pl.List(pl.Struct({"metric": pl.String(), "value": pl.Float64()}))

VIOLATION_COLUMNS: Final[dict[str, pl.DataType]] = {
    "rule_id": pl.String(),
    "rule_name": pl.String(),
    "rule_version": pl.Int64(),
    "severity": pl.String(),
    "message": pl.String(),
    "metrics": METRICS,
    "key": pl.String(),
    "direction": pl.String(),
    "value_before": pl.Float64(),
    "value_after": pl.Float64(),
    "threshold": pl.Float64(),
}
"""Beside the columns of the row that a rule holds for."""

CLEARED_SCHEMA: Final = pl.Schema(
    {
        "rule_id": pl.String(),
        "rule_version": pl.Int64(),
        "key": pl.String(),
        "is_back": pl.Boolean(),
        "value_after": pl.Float64(),
        "reason": pl.String(),
    }
)
"""One row where a (rule, key) that held no longer does."""

ABSENT_SCHEMA: Final = pl.Schema(
    {"key": pl.String(), "metrics": pl.List(pl.String()), "rules": pl.Int64()}
)
"""One row per row that left rules undecided: which metrics it lacks, and how many rules."""
