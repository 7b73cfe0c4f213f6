"""App tables: their changelog's schema and the snapshots the gateway starts from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from headrace.core.log import OP
from headrace.operators.table import DELETED, LATEST
from headrace.plan.graph import Plan, TableDecl
from headrace.runners.embedded.step import Snapshot
from headrace.state.tables import StateTables

KEEP = 2


def changelog_schema(table: TableDecl) -> pl.Schema:
    """Return the columns of a table's changelog: its own and the operation."""
    return pl.Schema({**table.schema, OP: pl.String()})


def write_table_snapshots(
    root: Path, plan: Plan, snapshot: Snapshot, changes_end: Mapping[str, int]
) -> None:
    """Write each table's live rows to `root/<table>.<offset>.arrow`, atomically.

    `offset` is the end of the changelog they cover. The newest two files are kept.
    """
    root.mkdir(parents=True, exist_ok=True)
    states = {(part.node, part.spec.name): part for part in snapshot.tables}
    for table in plan.tables:
        state = states.get((table.source.node, LATEST))
        if state is None:
            continue
        offset = changes_end.get(table.changes, 0)
        path = root / f"{table.name}.{offset:015d}.arrow"
        if path.exists():
            continue
        holder = StateTables([state.spec])
        holder.load({state.spec.name: state.parts})
        frame = holder.keyed(state.spec.name).frame().filter(~pl.col(DELETED))
        frame = frame.select(list(table.schema))
        draft = path.with_suffix(".tmp")
        frame.write_ipc(draft, compression="lz4")
        with draft.open("rb") as handle:
            os.fsync(handle.fileno())
        draft.replace(path)
        for old in sorted(root.glob(f"{table.name}.*.arrow"))[:-KEEP]:
            old.unlink(missing_ok=True)
