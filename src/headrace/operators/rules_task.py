"""Rules at work: rows in, violations and what is cleared out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from headrace.core.log import DELETE, OP
from headrace.core.protocols import LATE, MAIN, Out, Tables, Task, Wake
from headrace.core.time import BEGINNING, END_OF_TIME, EVENT_TIME, HIDDEN, POSITION, micros
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import KeyRuns, key_runs, running_max
from headrace.operators.rulebook.answers import Batch, Compared, absences, clearings, violations
from headrace.operators.rulebook.bits import Ints
from headrace.operators.rulebook.compiled import CompiledRule, columns_of, compile_rule
from headrace.operators.rulebook.facts import Facts
from headrace.operators.rulebook.judge import RuleSet
from headrace.operators.rulebook.memory import (
    LAST,
    PAIR,
    PAIRS,
    PANES,
    SOURCE,
    VALUES,
    Values,
    held_of,
    key_text,
    opened,
    panes_of,
    store_held,
    store_panes,
)
from headrace.operators.rulebook.ports import (
    ABSENT,
    CLEARED,
    CLEARED_SCHEMA,
    RULES_PORT,
)
from headrace.operators.rulebook.tree import Window
from headrace.operators.rulebook.windows import aggregate, rows_as_panes, source_of
from headrace.plan.expressions import ConditionError

if TYPE_CHECKING:
    from headrace.operators.rules import Rules

__all__ = ["LAST", "PAIR", "PAIRS", "PANES", "SOURCE", "VALUES"]

BUFFER: Final = "buffer"
HELD: Final = "held"
KEYS: Final = "keys"
RULES: Final = "rules"
SINGLES: Final = "singles"
WINDOWS: Final = "windows"
VERSION: Final = "version"
STORED: Final = (
    "rule_id",
    "name",
    "condition",
    "conditions",
    "severity",
    "hysteresis",
    "message",
    "scope",
    "enabled",
)
"""Columns of a rule that say how to judge; alerts read the others."""

_RULE_ID: Final = "rule_id"
_WHY: Final = "__why"
_NUMBER: Final = "__number"
# A row of a key that is not known any more begins anew, but by arrival it may lie behind the
# watermark: for a day that cannot be seen.
_STRAY_US: Final = 86_400_000_000
_FORGET_TIMES: Final = 64


class RulesTask(Task):
    """Rules compiled together, keys in tables, rows that wait in a buffer."""

    def __init__(self, rules: Rules, tables: Tables, inputs: tuple[pl.Schema, ...]) -> None:
        self._rules = rules
        self._tables = tables
        self._by = list(rules.by)
        self._schema = inputs[0]
        self._columns = columns_of(inputs[0])
        self._numbers = [
            name for name, dtype in inputs[0].items() if dtype.is_numeric() or dtype == pl.Boolean
        ]
        self._key = key_text(rules.by, inputs[0])
        self._forget_us = micros(rules.forget)
        self._forgotten_us = BEGINNING
        self._stored = tables.keyed(RULES)
        self._keys = tables.keyed(KEYS)
        self._held = tables.keyed(HELD)
        self._panes = tables.keyed(WINDOWS)
        self._singles = tables.blob(SINGLES)
        self._buffer = None
        if rules.order == "event":
            self._buffer = EventOrderBuffer(tables.rows(BUFFER))
        self._active = self._restored()
        self._due = self._next_due()

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Change rules, or judge rows or let them wait."""
        if frame.is_empty():
            return
        if port == RULES_PORT:
            yield from self._change(frame)
            return
        if self._buffer is None:
            yield from self._judge(frame)
            self._forget(self._tables.watermark)
            return
        late = self._buffer.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        """Judge the rows that the watermark has passed; clear what held for silent keys."""
        if self._buffer is not None:
            ready = self._buffer.release(watermark)
            if ready is not None:
                yield from self._judge(ready)
        yield from self._silent(watermark)
        self._forget(watermark)

    def finish(self) -> Iterable[Out]:
        """Judge the rows that still wait."""
        ready = None if self._buffer is None else self._buffer.release_all()
        if ready is not None:
            yield from self._judge(ready)
        # Nobody falls silent any more.
        self._held.expire(LAST, END_OF_TIME)
        self._due = None

    def wake(self) -> Wake:
        """Ask for the watermark that passes the oldest waiting row, or ends a long silence."""
        waiting = None if self._buffer is None else self._buffer.wake().event_time
        due = [time for time in (waiting, self._due) if time is not None]
        return Wake(event_time=min(due) if due else None)

    # -- rules --------------------------------------------------------------------------------

    def _restored(self) -> dict[str, CompiledRule]:
        """Compile the rules of the table; one that no longer fits the rows judges nothing."""
        active = {}
        for row in self._stored.frame().iter_rows(named=True):
            try:
                rule = compile_rule(row, self._columns, self._rules.zones)
            except ConditionError:
                continue
            if row["enabled"] is not False:
                active[rule.rule_id] = rule
        return active

    @cached_property
    def _set(self) -> RuleSet:
        return RuleSet(list(self._active.values()), self._numbers)

    def _change(self, frame: pl.DataFrame) -> Iterable[Out]:
        last = frame.unique(_RULE_ID, keep="last", maintain_order=True)
        is_gone = last[OP] == DELETE
        rows = last.filter(~is_gone).select(*STORED, VERSION)
        compiled = {}
        for row in rows.iter_rows(named=True):
            # Raised for a record that came past the gateway: it becomes a dead letter.
            rule = compile_rule(row, self._columns, self._rules.zones)
            compiled[rule.rule_id] = rule if row["enabled"] is not False else None
        self._stored.upsert(rows)
        self._stored.delete(last.filter(is_gone))
        for rule_id in last.filter(is_gone)[_RULE_ID]:
            compiled[rule_id] = None
        for rule_id, one in compiled.items():
            self._active.pop(rule_id, None)
            if one is not None:
                self._active[rule_id] = one
        self.__dict__.pop("_set", None)
        ended = last.with_columns(
            pl.when(is_gone).then(pl.lit("deleted")).otherwise(pl.lit("disabled")).alias(_WHY)
        ).filter(is_gone | (pl.col("enabled") == False))  # noqa: E712 - null is enabled
        yield from self._ended(ended.select(_RULE_ID, VERSION, _WHY, POSITION))

    def _ended(self, ended: pl.DataFrame) -> Iterable[Out]:
        """Clear every pair of rules that are gone, in this step."""
        held = self._held.frame()
        if held.is_empty() or ended.is_empty():
            return
        pairs = opened(held.select(PAIRS).with_row_index(_NUMBER))
        mine = pairs.join(
            ended, left_on="rule", right_on=_RULE_ID, how="inner", maintain_order="left"
        )
        if mine.is_empty():
            return
        touched = mine[_NUMBER].unique(maintain_order=True).sort()
        rest = pairs.filter(
            pl.col(_NUMBER).is_in(touched.implode()) & ~pl.col("rule").is_in(mine["rule"].implode())
        )
        lists = rest.group_by(_NUMBER, maintain_order=True).agg(
            pl.struct("rule", "version", "near").alias(PAIRS)
        )
        keys = held.select(*self._by, LAST)
        self._held.delete(keys[touched])
        self._held.upsert(keys[lists[_NUMBER]].with_columns(lists[PAIRS]))
        self._due = self._next_due()
        text = held.select(self._key).to_series()
        cleared = mine.select(
            pl.col("rule").alias(_RULE_ID),
            pl.col("version_right").alias("rule_version"),
            text.gather(mine[_NUMBER]).alias("key"),
            pl.lit(value=True).alias("is_back"),
            pl.lit(None, pl.Float64).alias("value_after"),
            pl.col(_WHY).alias("reason"),
            pl.lit(max(self._tables.clock, self._tables.watermark), pl.Int64).alias(EVENT_TIME),
            POSITION,
        )
        yield CLEARED, cleared.sort(_RULE_ID, "key", maintain_order=True)

    # -- rows ---------------------------------------------------------------------------------

    def _judge(self, frame: pl.DataFrame) -> Iterable[Out]:
        if frame.is_empty():
            return
        self._align()
        runs = key_runs(frame, self._by)
        values = Values(self._keys, len(self._set.singles))
        known, last, before = values.of(runs.keys)
        time_us = frame[EVENT_TIME].to_numpy()[runs.order]
        if self._rules.order == "arrival":
            shown = np.where(known, last, BEGINNING)[runs.key_of]
            late = time_us < np.maximum(shown, running_max(time_us, runs.key_of))
            if late.any():
                is_late = np.zeros(frame.height, dtype=np.bool_)
                is_late[runs.order[late]] = True
                yield LATE, frame.filter(pl.Series(is_late))
                yield from self._judge(frame.filter(pl.Series(~is_late)))
                return
        final = np.flatnonzero(np.diff(runs.key_of, append=-1))
        newest = time_us[final]
        rows = self._with_windows(frame[runs.order], runs, time_us, newest)
        facts = self._facts(rows)
        held = held_of(self._held, runs.keys, self._set.number)
        judged = self._set.judge(facts, runs.key_of, held)
        compared = Compared(
            [facts.known[name] for name in self._set.singles],
            runs.key_of,
            time_us,
            np.where(known, last, BEGINNING),
            before,
            self._forget_us,
        )
        values.store(runs.keys, newest, compared.latest)
        if self._held.rows or judged.held.key.size:
            store_held(self._held, runs.keys, newest, judged.held, self._set.ids)
            self._due = self._next_due()
        batch = Batch(self._set, rows, runs.order, compared, self._key, list(self._schema))
        for port, answer in (
            (MAIN, violations(batch, judged.hits)),
            (CLEARED, clearings(batch, judged.cleared)),
            (ABSENT, absences(batch, judged.undecided)),
        ):
            if answer.height:
                yield port, answer

    def _facts(self, rows: pl.DataFrame) -> Facts:
        zones = None
        if self._rules.zones is not None and self._set.circuit.zones:
            zones = (self._rules.zones, self._set.circuit.zones)
        return Facts(rows, self._set.metrics, self._set.circuit.texts, zones)

    def _with_windows(
        self, rows: pl.DataFrame, runs: KeyRuns, time_us: Ints, newest: Ints
    ) -> pl.DataFrame:
        """Add the value of every window to every row, and keep the partial results."""
        sources: dict[str, list[Window]] = {}
        for name in sorted(self._set.windows):
            window = self._set.windows[name]
            sources.setdefault(source_of(window), []).append(window)
        columns: list[pl.Series] = []
        read = {w.value: self._set.metrics[w.value] for w in self._set.windows.values() if w.value}
        facts = Facts(rows, read, {}, None)
        for source, windows in sources.items():
            known = facts.known.get(windows[0].value)
            arrived = rows_as_panes(
                runs.key_of,
                time_us,
                windows[0].length_us,
                None if known is None else known.values,
                None if known is None else known.present,
            )
            kept = panes_of(self._panes, runs.keys, source)
            found, panes = aggregate(kept, arrived, windows)
            store_panes(self._panes, runs.keys, source, newest, panes)
            columns += [pl.Series(name, found[name]).fill_nan(None) for name in found]
        return rows.with_columns(columns)

    def _align(self) -> None:
        """Make room for what rules now compare, and forget what no rule reads."""
        value = self._singles.value
        kept: dict[str, Any] = {"singles": [], "sources": []}
        if value is not None:
            kept = json.loads(value)
        sources = sorted({source_of(window) for window in self._set.windows.values()})
        wanted = {"singles": self._set.singles, "sources": sources}
        if kept == wanted:
            return
        if kept["singles"] != self._set.singles:
            Values.rearrange(self._keys, kept["singles"], self._set.singles)
        if not set(kept["sources"]) <= set(sources):
            panes = self._panes.frame()
            self._panes.delete(panes.filter(~pl.col(SOURCE).is_in(sources)))
        self._singles.replace(json.dumps(wanted).encode())

    # -- silence ------------------------------------------------------------------------------

    def _next_due(self) -> int | None:
        if not self._held.rows:
            return None
        oldest = self._held.frame()[LAST].min()
        return oldest + self._forget_us + _STRAY_US + 1 if isinstance(oldest, int) else None

    def _silent(self, watermark: int) -> Iterable[Out]:
        """Clear what holds for keys that have been silent for long; the end is no silence."""
        if self._due is None or watermark < self._due or watermark == END_OF_TIME:
            return
        gone = self._held.expire(LAST, watermark - self._forget_us - _STRAY_US)
        self._due = self._next_due()
        if gone.is_empty():
            return
        pairs = opened(gone.select(PAIRS).with_row_index(_NUMBER))
        keys = gone.select(self._key, pl.col(LAST) + self._forget_us + _STRAY_US + 1)
        numbers = self._set.number
        cleared = pairs.select(
            pl.col("rule").alias(_RULE_ID),
            pl.Series(
                "rule_version",
                [
                    self._set.rules[numbers[rule]].version if rule in numbers else version
                    for rule, version in pairs.select("rule", "version").iter_rows()
                ],
                dtype=pl.Int64,
            ),
            keys["key"].gather(pairs[_NUMBER]).alias("key"),
            pl.lit(value=True).alias("is_back"),
            pl.lit(None, pl.Float64).alias("value_after"),
            pl.lit("silent").alias("reason"),
            keys[LAST].gather(pairs[_NUMBER]).alias(EVENT_TIME),
            pl.lit(0, pl.Int64).alias(POSITION),
        )
        yield (
            CLEARED,
            cleared.sort(EVENT_TIME, _RULE_ID, "key", maintain_order=True).select(
                *CLEARED_SCHEMA, *HIDDEN
            ),
        )

    def _forget(self, watermark: int) -> None:
        """Drop keys whose next row begins anew anyway, so when this happens cannot be seen."""
        if watermark < self._forgotten_us + self._forget_us // _FORGET_TIMES:
            return
        before = watermark - self._forget_us - _STRAY_US
        self._keys.expire(LAST, before)
        self._panes.expire(LAST, before)
        self._forgotten_us = watermark
