"""What leaves a `rules` step, built for whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from headrace.core.time import HIDDEN
from headrace.operators.lists import lists_of
from headrace.operators.rulebook.bits import Floats, Ints
from headrace.operators.rulebook.facts import Known
from headrace.operators.rulebook.judge import Cleared, Hits, RuleSet
from headrace.operators.rulebook.ports import ABSENT_SCHEMA, CLEARED_SCHEMA, VIOLATION_COLUMNS
from headrace.operators.rulebook.rule import SEVERITIES

_SEVERITIES: Final = pl.Series(SEVERITIES, dtype=pl.String)
_DIRECTIONS: Final = pl.Series(["above", "below", None], dtype=pl.String)


class Compared:
    """Values that rules compare with one constant: now and before, row by row.

    Args:
        known: The values of each such metric.
        key_of: The key of each row, ascending.
        time_us: Event time of each row.
        last: When each key was last seen, the beginning of time if never.
        before: The values of each key then, NaN where there is none.
        forget_us: A key silent for longer has no value before.

    Attributes:
        before: Per metric and row the value before; NaN where there is none.
        after: Per metric and row the value; NaN where it is absent.
        latest: Per key and metric the last known value.
    """

    def __init__(
        self,
        known: Sequence[Known],
        key_of: Ints,
        time_us: Ints,
        last: Ints,
        before: Floats,
        forget_us: int,
    ) -> None:
        rows = key_of.size
        begins = np.diff(key_of, prepend=-1) != 0
        gap = np.diff(time_us, prepend=time_us[0])
        gap[begins] = time_us[begins] - last
        anew = gap > forget_us
        place = np.arange(rows)
        start = np.maximum.accumulate(np.where(begins | anew, place, 0))
        # Before the first value since the key was found the one it was stored with counts.
        stored = ~anew[start] & begins[start]
        final = np.flatnonzero(np.diff(key_of, append=-1))
        self.before = np.full((len(known), rows), np.nan)
        self.after = np.full((len(known), rows), np.nan)
        self.latest = np.full((final.size, len(known)), np.nan)
        for number, metric in enumerate(known):
            values = np.where(metric.present, metric.values.astype(np.float64), np.nan)
            seen = np.maximum.accumulate(np.where(metric.present, place, -1))
            old = np.where(stored, before[key_of, number], np.nan)
            earlier = np.concatenate([[-1], seen[:-1]])
            self.after[number] = values
            self.before[number] = np.where(earlier >= start, values[earlier], old)
            now = np.where(seen >= start, values[seen], old)
            self.latest[:, number] = now[final]


@dataclass
class Batch:
    """Judged rows, key after key, and what answers need to name.

    Attributes:
        rules: Those that judged.
        rows: With the values of windows.
        order: Where each row came.
        compared: Values now and before.
        key: Makes the text of a key.
        columns: Of the rows that leave.
    """

    rules: RuleSet
    rows: pl.DataFrame
    order: Ints
    compared: Compared
    key: pl.Expr
    columns: list[str]

    def in_order(self, row: Ints, rule: Ints) -> Ints:
        """Return the order of pairs of row and rule as they leave."""
        return np.lexsort((rule, self.order[row]))

    def value(self, values: Floats, row: Ints, rule: Ints) -> Floats:
        """Return the value that each rule compares, NaN where it compares none."""
        place = self.rules.single[0][rule]
        result = np.full(row.size, np.nan)
        mine = place >= 0
        result[mine] = values[place[mine], row[mine]]
        return result


def violations(batch: Batch, hits: Hits) -> pl.DataFrame:
    """Return one row per hit, in order."""
    if not hits.row.size:
        return pl.DataFrame()
    order = batch.in_order(hits.row, hits.rule)
    hits = Hits._make(column[order] for column in hits)
    row, rule = hits.row, hits.rule
    rows = batch.rows[row]
    place, below, threshold = batch.rules.single
    direction = np.where(place < 0, 2, below)
    keys = rows.select(batch.key).to_series()
    after = batch.value(batch.compared.after, row, rule)
    told = rows.with_columns(keys.alias("__key"), pl.Series("__value", after))
    columns = [
        batch.rules.ids[rule],
        batch.rules.names[rule],
        pl.Series(batch.rules.versions[rule], dtype=pl.Int64),
        _SEVERITIES[hits.severity],
        batch.rules.messages.fill(rule, told),
        _metrics(batch, row, rule),
        keys,
        _DIRECTIONS[direction[rule]],
        _nullable(batch.value(batch.compared.before, row, rule)),
        _nullable(after),
        _nullable(threshold[rule]),
    ]
    named = [
        column.alias(name).cast(dtype)
        for column, (name, dtype) in zip(columns, VIOLATION_COLUMNS.items(), strict=True)
    ]
    return rows.with_columns(named).select(*batch.columns, *VIOLATION_COLUMNS, *HIDDEN)


def clearings(batch: Batch, cleared: Cleared) -> pl.DataFrame:
    """Return one row per pair that no longer holds, in order."""
    if not cleared.row.size:
        return pl.DataFrame()
    order = batch.in_order(cleared.row, cleared.rule)
    cleared = Cleared._make(column[order] for column in cleared)
    row, rule = cleared.row, cleared.rule
    rows = batch.rows.select(batch.key, *HIDDEN)[row]
    version = batch.rules.versions[rule]
    changed = pl.Series(version != cleared.version)
    was = pl.Series(cleared.version).cast(pl.String)
    return rows.with_columns(
        batch.rules.ids[rule].alias("rule_id"),
        pl.Series("rule_version", version, dtype=pl.Int64),
        pl.Series("is_back", cleared.back, dtype=pl.Boolean),
        _nullable(batch.value(batch.compared.after, row, rule)).alias("value_after"),
        ("version changed from " + was).zip_with(changed, was.clear(was.len())).alias("reason"),
    ).select(*CLEARED_SCHEMA, *HIDDEN)


def absences(batch: Batch, undecided: Ints) -> pl.DataFrame:
    """Return one row per row that left rules undecided, in order."""
    row = np.flatnonzero(undecided)
    if not row.size:
        return pl.DataFrame()
    row = row[np.argsort(batch.order[row], kind="stable")]
    rows = batch.rows[row]
    names = batch.rules.reads
    absent = rows.select(_is_absent(name, rows.schema[name]) for name in names).to_numpy()
    place, number = np.nonzero(absent)
    lacking = pl.DataFrame({"name": pl.Series(names, dtype=pl.String)[number]})
    lists = lists_of(place, lacking, row.size).cast(pl.List(pl.Struct({"name": pl.String})))
    return (
        rows.select(batch.key, *HIDDEN)
        .with_columns(
            lists.list.eval(pl.element().struct.field("name")).alias("metrics"),
            pl.Series("rules", undecided[row], dtype=pl.Int64),
        )
        .select(*ABSENT_SCHEMA, *HIDDEN)
    )


def _metrics(batch: Batch, row: Ints, rule: Ints) -> pl.Series:
    names, length, first, flat = batch.rules.shown
    values = batch.rows.select(
        pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in names
    ).to_numpy()
    count = length[rule]
    hit = np.repeat(np.arange(row.size), count)
    step = np.arange(hit.size) - np.repeat(np.cumsum(count) - count, count)
    metric = flat[first[rule][hit] + step]
    shown = pl.DataFrame(
        {
            "metric": pl.Series(names, dtype=pl.String)[metric],
            "value": _nullable(values[row[hit], metric]),
        }
    )
    return lists_of(hit, shown, row.size)


def _is_absent(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    return column.is_null() | column.is_nan() if dtype.is_float() else column.is_null()


def _nullable(values: Floats) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64).fill_nan(None)
