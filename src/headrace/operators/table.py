"""The latest row per key, as a changelog: what `app.table` keeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

import polars as pl
from pydantic import Field

from headrace.core.component import DurationField, Expression
from headrace.core.errors import PlanError
from headrace.core.log import DELETE, OP, UPSERT
from headrace.core.protocols import (
    MAIN,
    NEVER,
    Meaning,
    Operator,
    Out,
    Tables,
    TableSpec,
    Task,
    Wake,
)
from headrace.core.time import EVENT_TIME, POSITION, duration, micros

LATEST: Final = "latest"
CHECKED: Final = "checked"
CHANGED: Final = "__changed"
DELETED: Final = "__deleted"


class Table(Operator):
    """Keep the row with the newest event time per key, and say what changed.

    A row older than the one held changes nothing: a late position never moves a vehicle back.
    Among equal event times the later position wins. One change per key leaves per call, in the
    order of the rows that made it, with `__op` "upsert" or "delete"; a delete carries the key
    columns, the others are null.

    Attributes:
        key: Columns that identify a row.
        ttl: A key not changed for this long, by the step clock, is deleted by a tick. Expiry is
            noticed within ttl / 60 (at least 1 s).
        delete: Rows for which this holds delete their key.
        forget: A deleted key's event time is remembered this long (step clock), so that an older
            row does not bring it back.

    State: one row per key. Cost: O(k log n) per batch of k keys.
    """

    kind: ClassVar[str] = "table"

    key: tuple[str, ...] = Field(min_length=1)
    ttl: DurationField | None = None
    delete: Expression | None = None
    forget: DurationField = duration("24h")

    def output_schema(self, *inputs: pl.Schema) -> dict[str, pl.Schema]:
        """Return the input's columns and `__op`."""
        (schema,) = inputs
        missing = [column for column in self.key if column not in schema]
        if missing:
            raise PlanError(
                f"a table needs its key columns; {', '.join(missing)} is missing",
                hint=f"the stream has {', '.join(schema)}",
            )
        return {MAIN: pl.Schema({**schema, OP: pl.String()})}

    def key_columns(self) -> tuple[str, ...]:
        """Rows of one key belong together."""
        return self.key

    def meaning(self) -> Meaning:
        """The last change per key is what counts; expiry depends on the clock of the steps."""
        return "changelog" if self.ttl is None else "step"

    def changelog_key(self) -> tuple[str, ...]:
        """The table's key."""
        return self.key if self.ttl is None else ()

    def tables(self, *inputs: pl.Schema) -> tuple[TableSpec, ...]:
        """One row per key with its event time and the clock of its last change, and the clock at
        which expiry was last looked for.
        """
        (schema,) = inputs
        columns = pl.Schema(
            {
                **schema,
                EVENT_TIME: pl.Int64(),
                POSITION: pl.Int64(),
                CHANGED: pl.Int64(),
                DELETED: pl.Boolean(),
            }
        )
        return (TableSpec(LATEST, "keyed", columns, key=self.key), TableSpec(CHECKED, "blob"))

    def open(self, tables: Tables, *inputs: pl.Schema) -> Task:
        """Return the task."""
        return _TableTask(self, tables, inputs[0])


class _TableTask(Task):
    def __init__(self, table: Table, tables: Tables, schema: pl.Schema) -> None:
        self._key = list(table.key)
        self._columns = list(schema)
        self._values = [column for column in schema if column not in table.key]
        self._ttl = micros(table.ttl) if table.ttl is not None else None
        self._forget = micros(table.forget)
        self._delete = table.delete
        self._tables = tables
        self._held = tables.keyed(LATEST)
        self._checked = tables.blob(CHECKED)
        span = min(self._forget, self._ttl or self._forget)
        self._pace = max(1_000_000, span // 60)

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:  # noqa: ARG002 - one port
        deleted = pl.lit(value=False) if self._delete is None else self._delete.fill_null(False)
        newest = (
            frame.with_columns(deleted.alias(DELETED))
            .sort(EVENT_TIME, POSITION, maintain_order=True)
            .unique(self._key, keep="last", maintain_order=True)
        )
        held = self._held.lookup(newest)
        known = held[EVENT_TIME]
        fresh = (known.is_null() | (newest[EVENT_TIME] >= known)).fill_null(value=True)
        newest, held = newest.filter(fresh), held.filter(fresh)
        if newest.is_empty():
            return
        rows = newest.with_columns(pl.lit(self._tables.clock, pl.Int64).alias(CHANGED))
        if self._checked.value is None:
            self._check_at(self._tables.clock)
        self._held.upsert(rows)
        # Deleting what is not there is no change.
        gone_already = rows[DELETED] & (held[DELETED].fill_null(value=True))
        changed = rows.filter(~gone_already)
        if changed.height:
            yield MAIN, self._changes(changed.sort(POSITION, maintain_order=True))

    def tick(self, clock: int) -> Iterable[Out]:
        self._check_at(clock)
        if self._ttl is not None:
            old = self._held.expire(CHANGED, clock - self._ttl)
            live = old.filter(~pl.col(DELETED))
            if live.height:
                # It happens now: who follows the changes has left the row's own time behind.
                now = pl.max_horizontal(pl.col(EVENT_TIME), pl.lit(self._tables.watermark))
                gone = live.with_columns(pl.lit(value=True).alias(DELETED), now)
                yield MAIN, self._changes(gone)
        if self._delete is not None and (self._ttl is None or self._forget < self._ttl):
            tombs = self._held.frame().filter(
                pl.col(DELETED) & (pl.col(CHANGED) < clock - self._forget)
            )
            self._held.delete(tombs)

    def wake(self) -> Wake:
        checked = self._checked.value
        if (self._ttl is None and self._delete is None) or checked is None or not self._held.rows:
            return NEVER
        return Wake(clock=(int(checked) // self._pace + 1) * self._pace)

    def _check_at(self, clock: int) -> None:
        # Kept as state: a wake-up that followed the step's clock would move away in a step that
        # is done again after a poison row.
        self._checked.replace(str(clock).encode())

    def _changes(self, rows: pl.DataFrame) -> pl.DataFrame:
        gone = pl.col(DELETED)
        return rows.select(
            *(
                pl.when(gone).then(None).otherwise(pl.col(column)).alias(column)
                if column in self._values
                else pl.col(column)
                for column in self._columns
            ),
            pl.when(gone).then(pl.lit(DELETE)).otherwise(pl.lit(UPSERT)).alias(OP),
            EVENT_TIME,
            POSITION,
        )


def live_rows(tables: Tables, schema: pl.Schema) -> pl.DataFrame:
    """Return what a table holds now as the changes that make it, in a defined order.

    Args:
        tables: The state of the operator `table`.
        schema: The columns of its rows.
    """
    rows = tables.keyed(LATEST).frame().filter(~pl.col(DELETED))
    return rows.select(*schema, pl.lit(UPSERT).alias(OP), EVENT_TIME, POSITION)
