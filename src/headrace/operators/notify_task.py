"""Notify at work: what it must know for a call, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from headrace.core.log import DELETE, OP
from headrace.core.protocols import LATE, MAIN, Out, Tables, Task, Wake
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, POSITION, TIME_DTYPE
from headrace.operators.alerting.notices import Notices, Opened, Waiting
from headrace.operators.alerting.silence import Covering
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.notify import (
    BATCHES,
    CRITICALS,
    OPEN,
    RULE_COLUMNS,
    RULES,
    RULES_PORT,
    SILENCE_COLUMNS,
    SILENCES,
    SILENCES_PORT,
    WAITING,
    Notify,
)


class NotifyTask(Task):
    """The task of `Notify`.

    Args:
        notify: What to do.
        tables: State as `notify` declares it.
        schema: Columns of a notification.
    """

    def __init__(self, notify: Notify, tables: Tables, schema: pl.Schema) -> None:
        self._notify = notify
        self._tables = tables
        self._schema = schema
        self._by_event = notify.order == "event"
        self._open = tables.keyed(OPEN)
        self._criticals = tables.keyed(CRITICALS)
        self._batches = tables.rows(BATCHES)
        self._silences = tables.keyed(SILENCES)
        self._rules = tables.keyed(RULES)
        self._waiting = EventOrderBuffer(tables.rows(WAITING))
        self._next = self._next_timer()

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Take transitions by arrival or keep them by event; look again when silences change."""
        if frame.is_empty():
            return
        if port == RULES_PORT:
            _change(self._rules, "rule_id", _columns(frame, RULE_COLUMNS))
        elif port == SILENCES_PORT:
            _change(self._silences, "silence_id", _columns(frame, SILENCE_COLUMNS))
            now = self._tables.watermark if self._by_event else self._tables.clock
            notices = self._notices(None, BEGINNING)
            notices.look_again(now)
            yield from self._leave(notices)
        elif self._by_event:
            late = self._waiting.add(frame, self._tables.watermark)
            if late.height:
                yield LATE, late
        else:
            told = _told(frame)
            notices = self._notices(told, BEGINNING)
            for alert in told.drop(EVENT_TIME, POSITION).iter_rows(named=True):
                notices.take(alert, self._tables.clock)
            yield from self._leave(notices)

    def tick(self, clock: int) -> Iterable[Out]:
        """By arrival: do what is due."""
        if not self._by_event:
            notices = self._notices(None, clock)
            notices.pass_time(clock)
            yield from self._leave(notices)

    def advance(self, watermark: int) -> Iterable[Out]:
        """By event: take what the watermark has passed, and do what is due."""
        if not self._by_event:
            return
        rows = self._waiting.release(watermark)
        latest = BEGINNING if rows is None else rows[EVENT_TIME].max()
        # The end of the input ends batches, but it is no time that passes.
        horizon = watermark if watermark != END_OF_TIME else latest
        told = None if rows is None else _told(rows)
        notices = self._notices(told, horizon if isinstance(horizon, int) else BEGINNING)
        if told is not None:
            visible = told.drop(EVENT_TIME, POSITION).iter_rows(named=True)
            for time, alert in zip(told[EVENT_TIME], visible, strict=True):
                notices.pass_time(time)
                notices.take(alert, time)
        if watermark == END_OF_TIME:
            notices.flush_all()
        else:
            notices.pass_time(watermark)
        yield from self._leave(notices)

    def finish(self) -> Iterable[Out]:
        """Let the batches go that are gathered."""
        if self._by_event:
            yield from self.advance(END_OF_TIME)
        else:
            notices = self._notices(None, BEGINNING)
            notices.flush_all()
            yield from self._leave(notices)

    def wake(self) -> Wake:
        """Ask for the next batch, escalation or end of a silence."""
        if not self._by_event:
            return Wake(clock=self._next)
        # After the end of the input nothing is due any more.
        due = None if self._tables.watermark == END_OF_TIME else self._next
        times = [self._waiting.wake().event_time, due]
        return Wake(event_time=min((time for time in times if time is not None), default=None))

    def _notices(self, alerts: pl.DataFrame | None, horizon: int) -> Notices:
        """Return what there is to decide about `alerts`, and what is due by `horizon`."""
        ids = pl.Series([], dtype=pl.String) if alerts is None else alerts["alert_id"]
        known = self._open.frame().filter(
            pl.col("held")
            | pl.col("alert_id").is_in(ids.implode())
            | (pl.col("hold_until") <= horizon).fill_null(value=False)
            | (pl.col("escalate_at") <= horizon).fill_null(value=False)
        )
        opened = {row.pop("alert_id"): Opened(**row) for row in known.to_dicts()}
        silences = [Covering(row) for row in self._silences.frame().to_dicts()]
        rules = {row["rule_id"]: row for row in self._rules.frame().to_dicts()}
        batches = self._batches.frame()

        def batched(ends: int) -> list[Waiting]:
            return [Waiting(**row) for row in batches.filter(pl.col("ends") == ends).to_dicts()]

        def criticals(scope: str) -> int:
            found = self._criticals.lookup(pl.DataFrame({"scope": [scope]}))
            return int(found["count"].fill_null(0)[0])

        return Notices(
            self._notify, silences, rules, opened, criticals, batched, batches["ends"].unique()
        )

    def _leave(self, notices: Notices) -> Iterator[Out]:
        """Store what was decided, and return what leaves."""
        gone = [alert_id for alert_id, opening in notices.touched.items() if opening is None]
        kept = [
            {"alert_id": alert_id, **_shallow(opening)}
            for alert_id, opening in notices.touched.items()
            if opening is not None
        ]
        self._open.delete(pl.DataFrame({"alert_id": gone}, schema={"alert_id": pl.String}))
        self._open.upsert(pl.DataFrame(kept, schema=self._open.frame().schema))
        counts = pl.DataFrame(
            list(notices.counts.items()), self._criticals.frame().schema, orient="row"
        )
        self._criticals.upsert(counts.filter(pl.col("count") > 0))
        self._criticals.delete(counts.filter(pl.col("count") <= 0))
        if notices.flushed:
            left = self._batches.frame()
            self._batches.replace([left.filter(~pl.col("ends").is_in(sorted(notices.flushed)))])
        waiting = [_shallow(one) for one in notices.waiting]
        self._batches.append(pl.DataFrame(waiting, schema=self._batches.frame().schema))
        self._next = self._next_timer()
        if notices.out:
            schema = {**self._schema, "created": pl.Int64()}
            rows = pl.DataFrame(notices.out, schema=schema)
            yield (
                MAIN,
                rows.with_columns(
                    pl.col("created").cast(TIME_DTYPE),
                    pl.col("created").alias(EVENT_TIME),
                    pl.lit(0, pl.Int64).alias(POSITION),
                ),
            )

    def _next_timer(self) -> int | None:
        opened = self._open.frame()
        times = [
            opened.filter(pl.col("hold_until") != END_OF_TIME)["hold_until"].min(),
            opened["escalate_at"].min(),
            self._batches.frame()["ends"].min(),
        ]
        return min((time for time in times if isinstance(time, int)), default=None)


def _told(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the transitions that anybody may be told of."""
    was = pl.col("previous_state").fill_null("pending")
    return frame.filter(
        pl.col("state").is_in(["firing", "acknowledged"])
        | ((pl.col("state") == "resolved") & (was != "pending"))
    )


def _columns(frame: pl.DataFrame, wanted: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return control changes with the columns that are kept, null where there are none."""
    return frame.select(
        *(
            (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in wanted.items()
        ),
        pl.col(OP) if OP in frame.columns else pl.lit("upsert").alias(OP),
    )


def _change(table: Any, key: str, changes: pl.DataFrame) -> None:
    last = changes.unique(key, keep="last", maintain_order=True)
    is_gone = last[OP] == DELETE
    table.upsert(last.filter(~is_gone).drop(OP))
    table.delete(last.filter(is_gone))


def _shallow(record: Opened | Waiting) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}
