"""From stored rows to flowing rows: hidden columns added, impossible rows set aside."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from headrace.core.time import EVENT_TIME, POSITION, micros
from headrace.plan.graph import DEAD_SCHEMA, OutputDecl, TopicDecl
from headrace.runners.embedded.dead_letters import dead_letters
from headrace.runners.embedded.step import Input


@dataclass(frozen=True, slots=True)
class SourceRows:
    """Rows ready to flow, those that cannot, and the latest event time among the former."""

    frame: pl.DataFrame
    dead: pl.DataFrame
    max_event_time: int | None


_NO_DEAD = DEAD_SCHEMA.to_frame()


def prepare_rows(
    rows: Input, declared: TopicDecl | OutputDecl | None, *, first_position: int, clock: int
) -> SourceRows:
    """Return the rows with `EVENT_TIME` and `POSITION`, and the impossible ones as dead letters.

    Impossible are a null time, a null key, and a time more than `max_ahead` beyond `clock`.
    Columns that a newer schema added are null, columns it no longer has are dropped.
    """
    assert rows.frame is not None  # noqa: S101 - the caller has checked
    assert declared is not None  # noqa: S101 - only declared topics are read
    limit: int | None = None
    shift = 0
    key: tuple[str, ...] = ()
    if isinstance(declared, TopicDecl):
        schema, key = declared.schema.columns, declared.key
        limit = clock + micros(declared.max_ahead)
    else:
        schema, shift = declared.schema, declared.time_shift_us
    frame = conform(rows.frame, schema)
    times = frame[declared.time].to_physical().rename(EVENT_TIME)
    if shift:
        times = times + shift
    positions = pl.int_range(
        first_position, first_position + frame.height, dtype=pl.Int64, eager=True
    )
    frame = frame.hstack([times, positions.alias(POSITION)])
    latest = times.max()
    if (
        times.null_count() == 0
        and all(frame[column].null_count() == 0 for column in key)
        and (limit is None or (isinstance(latest, int) and latest <= limit))
    ):
        return SourceRows(frame, _NO_DEAD, latest if isinstance(latest, int) else None)
    reasons = [pl.when(times.is_null()).then(pl.lit(f"{declared.time} is null"))]
    reasons += [
        pl.when(pl.col(column).is_null()).then(pl.lit(f"key {column} is null")) for column in key
    ]
    if limit is not None:
        reasons.append(pl.when(times > limit).then(pl.lit("clock ahead")))
    reason = frame.select(pl.coalesce(reasons).alias("reason"))["reason"]
    bad, good = reason.is_not_null(), reason.is_null()
    offsets = pl.int_range(rows.start, rows.start + frame.height, dtype=pl.Int64, eager=True)
    dead = dead_letters(
        frame.filter(bad),
        rows.topic,
        reason.filter(bad),
        clock,
        partition=rows.partition,
        offsets=offsets.filter(bad),
    )
    kept = frame.filter(good)
    latest = kept[EVENT_TIME].max()
    return SourceRows(kept, dead, latest if isinstance(latest, int) else None)


def conform(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Return rows stored under an older schema with the columns of `schema`."""
    if frame.schema == schema:
        return frame
    return frame.select(
        pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in schema.items()
    )
