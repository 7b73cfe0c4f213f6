"""A table as its changelog makes it: every change applied, rows by key."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
import structlog

from headrace.core.log import DELETE, OP, PARTITIONS_PER_SLOT, Batch
from headrace.core.time import micros
from headrace.gateway.catalog import VERSION, Catalog, control_changes
from headrace.runners.embedded.engine import ENGINE_SLOT
from headrace.runners.embedded.sources import conform

_log = structlog.get_logger(__name__)

ARRIVED: Final = "__arrived"
MANY: Final = 64


class TableState:
    """The live rows of one table or control table.

    Changes are kept as they come and merged when somebody reads: a table nobody looks at costs
    nothing per row.

    Attributes:
        name: The table.
        topic: Its changelog.
        key: Key columns.
        columns: Columns of a row; control tables have `version` besides.
        json_columns: Columns that hold JSON text.
        positions: Next changelog offset by partition.
    """

    def __init__(
        self,
        name: str,
        topic: str,
        key: Sequence[str],
        columns: pl.Schema,
        *,
        json_columns: frozenset[str] = frozenset(),
        ttl_us: int | None = None,
    ) -> None:
        self.name = name
        self.topic = topic
        self.key = tuple(key)
        self.columns = columns
        self.json_columns = json_columns
        self.positions: dict[int, int] = {}
        self._ttl_us = ttl_us
        self._stored = pl.Schema({**columns, OP: pl.String(), ARRIVED: pl.Int64()})
        self._merged = self._stored.to_frame()
        self._changes: list[pl.DataFrame] = []
        self._rows = 0
        self._lock = threading.RLock()

    @property
    def seq(self) -> int:
        """How far it is: the sum of changelog offsets it holds."""
        return sum(self.positions.values())

    @property
    def control(self) -> bool:
        """Whether its rows carry versions."""
        return VERSION in self.columns

    def apply(self, batch: Batch) -> pl.DataFrame:
        """Take one changelog batch; return its rows in the stored columns."""
        rows = conform(batch.frame, pl.Schema({**self.columns, OP: pl.String()}))
        rows = rows.with_columns(pl.lit(batch.arrival_us, pl.Int64).alias(ARRIVED))
        with self._lock:
            self._changes.append(rows)
            self._rows += rows.height
            self.positions[batch.partition] = batch.end
            if len(self._changes) > MANY and self._rows > self._merged.height:
                self._merge()
        return rows

    def load(self, rows: pl.DataFrame, partition: int, offset: int) -> None:
        """Begin from a snapshot that covers the changelog before `offset`."""
        rows = conform(rows, self.columns)
        held = rows.with_columns(pl.lit("upsert").alias(OP), pl.lit(None, pl.Int64).alias(ARRIVED))
        with self._lock:
            self._merged, self._changes, self._rows = held, [], 0
            self.positions[partition] = offset

    def clear(self) -> None:
        """Forget everything; the changelog begins anew."""
        with self._lock:
            self._merged, self._changes, self._rows = self._stored.to_frame(), [], 0
            self.positions.clear()

    def frame(self, clock_us: int | None = None) -> pl.DataFrame:
        """Return the live rows; those past their time to live at `clock_us` are left out."""
        with self._lock:
            self._merge()
            return self._live(self._merged, clock_us)

    def get(self, key: Sequence[Any], clock_us: int | None = None) -> pl.DataFrame | None:
        """Return the row of `key` as a frame of one row, None where there is none."""
        wanted = pl.all_horizontal(
            pl.col(name).eq_missing(pl.lit(value, self.columns[name]))
            for name, value in zip(self.key, key, strict=True)
        )
        with self._lock:
            if len(self._changes) > MANY:
                self._merge()
            for rows in (*reversed(self._changes), self._merged):
                found = rows.filter(wanted)
                if found.height:
                    live = self._live(found[-1:], clock_us)
                    return live if live.height else None
        return None

    def _live(self, rows: pl.DataFrame, clock_us: int | None) -> pl.DataFrame:
        alive = rows.filter(pl.col(OP) != DELETE)
        if self._ttl_us is not None and clock_us is not None:
            # A row from a snapshot has no arrival: the engine itself will delete it in time.
            old = pl.col(ARRIVED) < clock_us - self._ttl_us
            alive = alive.filter(~old.fill_null(value=False))
        return alive.select(list(self.columns))

    def _merge(self) -> None:
        if self._changes:
            rows = pl.concat([self._merged, *self._changes])
            rows = rows.unique(list(self.key), keep="last", maintain_order=True)
            self._merged = rows.filter(pl.col(OP) != DELETE)
            self._changes, self._rows = [], 0


def table_states(catalog: Catalog) -> dict[str, TableState]:
    """Return an empty state for every table and control table."""
    states = {}
    for table in catalog.tables.values():
        ttl = None if table.ttl is None else micros(table.ttl)
        states[table.name] = TableState(
            table.name, table.changes, table.key, table.schema, ttl_us=ttl
        )
    for control in catalog.controls.values():
        columns = pl.Schema({**control_changes(control)})
        del columns[OP]
        states[control.name] = TableState(
            control.name,
            control.changes,
            control.key,
            columns,
            json_columns=control.schema.json_columns,
        )
    return states


def load_snapshot(state: TableState, folder: Path) -> None:
    """Begin an app table from the newest snapshot that can be read; without one, empty."""
    state.clear()
    for path in sorted(folder.glob(f"{state.name}.*.arrow"), reverse=True):
        try:
            offset = int(path.name.removeprefix(f"{state.name}.").removesuffix(".arrow"))
            state.load(pl.read_ipc(path), ENGINE_SLOT * PARTITIONS_PER_SLOT, offset)
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            _log.warning("gateway.snapshot_unreadable", path=path.name, error=str(error))
            continue
        return
