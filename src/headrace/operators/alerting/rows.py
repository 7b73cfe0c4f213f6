"""Transitions as rows: what the state machine counted, put into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE
from headrace.operators.alerting.pairs import Pairs
from headrace.operators.alerting.transitions import IDLE, STATES, TRANSITION, alert_ids

PAIR: Final = ["rule_id", "key"]


def with_ids(made: pl.DataFrame, touched: pl.DataFrame, before: pl.Series) -> pl.DataFrame:
    """Return transitions with the id of the alert of each."""
    born = made.filter(pl.col("previous") == IDLE)
    rules, keys = (touched[name].gather(born["pair"]) for name in PAIR)
    ids = alert_ids(zip(rules, keys, born["number"], strict=True))
    named = born.select("pair", "first", ids)
    found = made.join(named, on=["pair", "first"], how="left", maintain_order="left")
    return found.with_columns(found["alert_id"].fill_null(before.gather(made["pair"])))


def transitions_of(
    made: pl.DataFrame,
    touched: pl.DataFrame,
    shown: pl.DataFrame,
    clears: pl.DataFrame | None,
    keep: Sequence[str],
) -> pl.DataFrame:
    """Return transitions as they leave.

    Args:
        made: What `Pairs.made` returned, with the ids of alerts.
        touched: Rules and keys of the pairs.
        shown: The rows that alerts may show.
        clears: The rows that cleared them.
        keep: Columns to carry along.
    """
    states = pl.Series(STATES, dtype=pl.String)
    began = made["previous"] == IDLE
    reason = Pairs.reasons().gather(made["reason"])
    rows = touched[made["pair"]].hstack(shown[made["shown"]].get_columns())
    over = made["cleared"] >= 0
    if clears is not None and over.any():
        said = clears[made["cleared"].clip(0)]
        reason = (said["reason"].fill_null(reason)).zip_with(over, reason)
        for name in ("value_after", "rule_version"):
            value = said[name].fill_null(rows[name]).zip_with(over, rows[name])
            rows = rows.with_columns(value.alias(name))
    rows = rows.with_columns(
        made["alert_id"],
        made["time"].cast(TIME_DTYPE).alias("timestamp"),
        states.gather(made["state"]).alias("state"),
        made["number"].alias("transition"),
        states.gather(made["previous"]).set(began, None).alias("previous_state"),
        reason.alias("reason"),
        pl.lit(None, pl.String).alias("by"),
        pl.lit(None, pl.String).alias("note"),
        made["time"].alias(EVENT_TIME),
        # Among equal times the later transition is the newer row of a table.
        made["number"].alias(POSITION),
    )
    return rows.select(*TRANSITION, *keep, EVENT_TIME, POSITION)
