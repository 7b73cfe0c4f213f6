"""Rows that could not be taken, as rows of a dead-letter topic."""

from __future__ import annotations

import polars as pl

from headrace.core.time import HIDDEN, TIME_DTYPE
from headrace.plan.graph import DEAD_SCHEMA


def dead_letters(
    rows: pl.DataFrame,
    topic: str,
    reason: str | pl.Series,
    clock: int,
    *,
    partition: int | None = None,
    offsets: pl.Series | None = None,
) -> pl.DataFrame:
    """Return `rows` as dead letters, their visible columns as JSON text.

    Args:
        rows: What could not be taken.
        topic: Where the rows came from.
        reason: One for all, or one per row.
        clock: Step clock, microseconds.
        partition: Where they lay, if that is known.
        offsets: Their offsets there, one per row.
    """
    hidden = [column for column in rows.columns if column in HIDDEN]
    payloads = [line for line in rows.drop(hidden).write_ndjson().splitlines() if line]
    return (
        pl.DataFrame({"payload": payloads}, schema={"payload": pl.String})
        .with_columns(
            pl.lit(topic).alias("topic"),
            pl.lit(clock, pl.Int64).cast(TIME_DTYPE).alias("arrival"),
            pl.lit(reason).alias("reason") if isinstance(reason, str) else reason.alias("reason"),
            pl.lit(partition, pl.Int64).alias("partition"),
            pl.lit(None, pl.Int64).alias("offset")
            if offsets is None
            else offsets.cast(pl.Int64).alias("offset"),
        )
        .select(list(DEAD_SCHEMA))
    )
