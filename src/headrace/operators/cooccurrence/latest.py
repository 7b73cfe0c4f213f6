"""Latest: the newest event of each kind and key, and what came before each event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from headrace.core.protocols import KeyedTable, TableSpec
from headrace.core.time import BEGINNING
from headrace.operators.key_runs import ALL, Bools, Ints, key_runs

NEWEST: Final = "__newest"


@dataclass(frozen=True, slots=True)
class Before:
    """The newest event of each kind before each of n events of the same key; n by k.

    Attributes:
        time: Its event time, `BEGINNING` where there is none.
        place: Its row in `ids`.
        ids: Ids of the events asked about and of those held; None without ids.
    """

    time: Ints
    place: Ints
    ids: pl.Series | None


def latest_table(
    name: str, keys: dict[str, pl.DataType], kinds: int, identity: pl.DataType | None
) -> TableSpec:
    """Declare one row per key with time and id of its newest event of each kind."""
    keys = keys or {ALL: pl.Boolean()}
    columns = {**keys, NEWEST: pl.Int64(), **{_time(kind): pl.Int64() for kind in range(kinds)}}
    if identity is not None:
        columns |= {_id(kind): identity for kind in range(kinds)}
    return TableSpec(name, "keyed", pl.Schema(columns), key=tuple(keys))


def before(
    table: KeyedTable,
    by: Sequence[str],
    frame: pl.DataFrame,
    kind: Ints,
    times: Ints,
    kinds: int,
    identity: str | None,
) -> Before:
    """Look up what came before each event, and note the events.

    Args:
        table: What `latest_table` declares.
        by: Key columns; none means one key.
        frame: n events in order.
        kind: Kind of each.
        times: Event time of each, ascending.
        kinds: How many kinds there are, k.
        identity: Column of the id, None where there is none.

    Cost: O(n k), and O(keys log n).
    """
    runs = key_runs(frame, by)
    known = table.lookup(runs.keys)
    held = _columns(known, kinds)
    order, key_of = runs.order, runs.key_of
    along, clock = kind[order], times[order]
    start = np.flatnonzero(runs.starts)
    end = np.append(start[1:], order.size)
    row = np.arange(order.size)
    time = np.empty((order.size, kinds), dtype=np.int64)
    place = np.empty_like(time)
    newest = np.empty_like(held)
    where = np.empty_like(held)
    size = order.size
    for number in range(kinds):
        mine = np.where(along == number, row, -1)
        reached = np.maximum.accumulate(mine)
        last = np.concatenate([[-1], reached[:-1]])
        inside = last >= start[key_of]
        time[order, number] = np.where(inside, clock[last], held[key_of, number])
        place[order, number] = np.where(inside, order[last], size + number * len(known) + key_of)
        final = reached[end - 1]
        fresh = final >= start
        newest[:, number] = np.where(fresh, clock[final], held[:, number])
        where[:, number] = np.where(
            fresh, order[final], size + number * len(known) + np.arange(len(known))
        )
    ids = None
    if identity is not None:
        ids = pl.concat(
            [frame[identity], *(known[_id(number)].alias(identity) for number in range(kinds))]
        )
    _note(table, runs.keys, newest, where, ids)
    return Before(time, place, ids)


def _note(
    table: KeyedTable, keys: pl.DataFrame, newest: Ints, where: Ints, ids: pl.Series | None
) -> None:
    columns = [pl.Series(NEWEST, newest.max(axis=1))]
    for number in range(newest.shape[1]):
        times = pl.Series(_time(number), newest[:, number])
        columns.append(times.set(times == BEGINNING, None))
        if ids is not None:
            columns.append(ids.gather(where[:, number]).alias(_id(number)))
    table.upsert(keys.hstack(columns))


def _columns(known: pl.DataFrame, kinds: int) -> Ints:
    columns = [known[_time(number)].fill_null(BEGINNING).to_numpy() for number in range(kinds)]
    return np.column_stack(columns)


def _time(kind: int) -> str:
    return f"__time_{kind}"


def _id(kind: int) -> str:
    return f"__id_{kind}"


def within(found: Before, times: Ints, reach: int) -> Bools:
    """Return which kinds came at most `reach` microseconds before each event; n by k."""
    near: Bools = (found.time != BEGINNING) & (times[:, None] - found.time <= reach)
    return near
