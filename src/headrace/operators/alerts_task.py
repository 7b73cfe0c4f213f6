"""Alerts at work: which rows belong together, and what is remembered of a pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import polars as pl

from headrace.core.log import DELETE, OP
from headrace.core.protocols import LATE, MAIN, NEVER, Out, Tables, Task, Wake
from headrace.core.shard import shard_of
from headrace.core.time import (
    BEGINNING,
    END_OF_TIME,
    EVENT_TIME,
    POSITION,
    micros,
)
from headrace.operators.alerting.pairs import BACK, BAND, STATE, Pairs, pairs_of, runs_of
from headrace.operators.alerting.rows import PAIR, transitions_of, with_ids
from headrace.operators.alerting.transitions import (
    ACKNOWLEDGED,
    COMMENTED,
    DELETED,
    DISABLED,
    FIRING,
    IDLE,
    PENDING,
    SHOWN,
    severity_rank,
)
from headrace.operators.alerts import (
    ACTIONS_PORT,
    CLEARED_PORT,
    CLEARS,
    FLOORS,
    LATE_CLEARED,
    LOOK,
    PAIRS,
    RULES,
    RULES_PORT,
    TIMERS,
    VIOLATIONS,
    Alerts,
)
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import Bools, Ints, key_runs

_ROW: Final = "__row"
_KIND: Final = "__kind"
_HIDDEN: Final = [EVENT_TIME, POSITION]


class AlertsTask(Task):
    """The task of `Alerts`.

    Args:
        alerts: What to do.
        tables: State as `alerts` declares it.
    """

    def __init__(self, alerts: Alerts, tables: Tables) -> None:
        self._tables = tables
        self._keep = list(alerts.keep)
        self._shown = [*SHOWN, *self._keep]
        self._grid = micros(alerts.forget)
        self._by_event = alerts.order == "event"
        self._pairs = tables.keyed(PAIRS)
        self._timers = tables.keyed(TIMERS)
        self._rules = tables.keyed(RULES)
        self._floors = tables.keyed(FLOORS)
        self._look = tables.blob(LOOK)
        self._violations = EventOrderBuffer(tables.rows(VIOLATIONS))
        self._clears = EventOrderBuffer(tables.rows(CLEARS))
        self._next_due = self._least_due()

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Keep rows until their order is known; take what people change at once."""
        if frame.is_empty():
            return
        if port == RULES_PORT:
            yield from self._change_rules(frame)
        elif port == ACTIONS_PORT:
            yield from self._act(frame)
        else:
            # In order of arrival nothing is late here: rows wait for the end of their step.
            watermark = self._tables.watermark if self._by_event else BEGINNING
            if port == CLEARED_PORT:
                late = self._clears.add(frame, watermark)
            else:
                late = self._violations.add(frame, watermark)
            if late.height:
                yield (LATE_CLEARED if port == CLEARED_PORT else LATE), late

    def tick(self, clock: int) -> Iterable[Out]:
        """By arrival: judge the rows of this step, then fire what is due."""
        if self._by_event:
            return
        made = self._judge(self._violations.release_all(), self._clears.release_all())
        yield from _sorted([*made, *self._fire(clock)])

    def advance(self, watermark: int) -> Iterable[Out]:
        """By event: judge rows and fire. Both: give up pairs without rows."""
        made: list[pl.DataFrame] = []
        if watermark == END_OF_TIME:
            # The end of the input is no silence: nothing is given up.
            if self._by_event:
                made += self._judge(self._violations.release_all(), self._clears.release_all())
                made += self._fire(watermark)
        else:
            if self._by_event:
                made += self._judge_by_cell(watermark)
                made += self._fire(watermark)
            made += self._give_up(watermark)
            self._look_after(watermark)
        yield from _sorted(made)

    def finish(self) -> Iterable[Out]:
        """Judge what still waits."""
        return self.advance(END_OF_TIME) if self._by_event else self.tick(self._tables.clock)

    def wake(self) -> Wake:
        """Ask for the end of the step, the next alert that is due, and when pairs are given up."""
        waiting = bool(self._violations.rows or self._clears.rows)
        look = self._look.value
        ended = self._tables.watermark == END_OF_TIME
        at = int(look) if look is not None and self._pairs.rows and not ended else None
        if not self._by_event:
            return Wake(at, BEGINNING if waiting else self._next_due)
        times = [self._violations.wake().event_time, self._clears.wake().event_time]
        known = [time for time in (*times, at, self._next_due) if time is not None]
        return Wake(event_time=min(known)) if known else NEVER

    # -- rows ---------------------------------------------------------------------------------

    def _judge_by_cell(self, watermark: int) -> list[pl.DataFrame]:
        """Judge rows in parts, cut at the times at which pairs are given up."""
        rows = [self._violations.release(watermark), self._clears.release(watermark)]
        times = [frame[EVENT_TIME] for frame in rows if frame is not None]
        if not times:
            return []
        made: list[pl.DataFrame] = []
        for cell in (pl.concat(times) // self._grid).unique().sort():
            # Numbers of pairs that are given up must be known before others begin.
            made += [*self._fire(cell * self._grid), *self._give_up(cell * self._grid)]
            mine = pl.col(EVENT_TIME) // self._grid == cell
            made += self._judge(*(None if f is None else f.filter(mine) for f in rows))
        return made

    def _judge(
        self, violations: pl.DataFrame | None, clears: pl.DataFrame | None
    ) -> list[pl.DataFrame]:
        rows = []
        if violations is not None and violations.height:
            kinds = severity_rank(violations["severity"]).cast(pl.Int64).alias(_KIND)
            rows.append(violations.select(*PAIR, *_HIDDEN, kinds))
        if clears is not None and clears.height:
            back = pl.col("is_back").fill_null(value=False) | pl.col("reason").is_not_null()
            kind = pl.when(back).then(BACK).otherwise(BAND).cast(pl.Int64).alias(_KIND)
            rows.append(clears.select(*PAIR, *_HIDDEN, kind))
        if not rows:
            return []
        both = pl.concat(rows)
        # Rows that clear nothing are most of them, and need no pair.
        pair, touched = _numbered(both)
        stored = self._pairs.lookup(touched)
        cleared_only = np.ones(touched.height, dtype=np.bool_)
        cleared_only[pair[both[_KIND].to_numpy() >= 0]] = False
        idle = (stored["state"].fill_null(IDLE) == IDLE).to_numpy() & cleared_only
        matters = ~idle[pair]
        if not matters.all():
            both = both.with_columns(
                pl.Series(_ROW, np.arange(both.height, dtype=np.int64))
            ).filter(pl.Series(matters))
            source = both[_ROW].to_numpy()
            if both.is_empty():
                return []
            pair, touched = _numbered(both)
            stored = self._pairs.lookup(touched)
        else:
            source = np.arange(both.height, dtype=np.int64)
        order = np.lexsort((both[POSITION].to_numpy(), both[EVENT_TIME].to_numpy(), pair))
        pairs = self._open(touched, stored)
        held = 0 if violations is None else violations.height
        # Violations stand behind the stored rows, those that clear are counted by themselves.
        row_of = np.where(source < held, source + touched.height, source - held)
        times = both[EVENT_TIME].to_numpy()[order]
        runs = runs_of(pair[order], both[_KIND].to_numpy()[order], times)
        pairs.judge(runs, times, row_of[order])
        shown = stored.select(self._shown)
        if violations is not None and held:
            shown = pl.concat([shown, violations.select(self._shown)])
        return self._settle(pairs, touched, shown, stored, clears)

    # -- time ---------------------------------------------------------------------------------

    def _fire(self, until: int) -> list[pl.DataFrame]:
        """Let pending alerts fire that are due at or before `until`."""
        if self._next_due is None or self._next_due > until:
            return []
        due = self._timers.expire("due", until + 1).select(PAIR)
        stored = self._pairs.lookup(due)
        pairs = self._open(due, stored)
        pairs.fire(np.ones(due.height, dtype=np.bool_))
        return self._settle(pairs, due, stored.select(self._shown), stored)

    def _give_up(self, time: int) -> list[pl.DataFrame]:
        """Resolve and forget the pairs of which no row came for too long."""
        gone = self._pairs.expire("until", time + 1)
        if gone.is_empty():
            return []
        touched = gone.select(PAIR)
        pairs = self._open(touched, gone)
        pairs.give_up()
        over = pairs.until <= time
        made = self._settle(pairs, touched, gone.select(self._shown), gone, forgotten=over)
        self._forget(touched.filter(pl.Series(over)), pairs.number[over])
        return made

    def _look_after(self, time: int) -> None:
        # Kept as state: a wake-up that followed the watermark would move on with it.
        self._look.replace(str((time // self._grid + 1) * self._grid).encode())

    def _forget(self, pairs: pl.DataFrame, number: Ints) -> None:
        """Let the shards of pairs remember their highest number."""
        if pairs.is_empty():
            return
        shards = pl.DataFrame({"shard": shard_of(pairs, ["key"]), "number": number})
        highest = shards.group_by("shard", maintain_order=True).agg(pl.col("number").max())
        known = self._floors.lookup(highest)["number"].fill_null(0).alias("known")
        self._floors.upsert(highest.with_columns(pl.max_horizontal(pl.col("number"), known)))

    # -- people -------------------------------------------------------------------------------

    def _change_rules(self, changes: pl.DataFrame) -> Iterator[Out]:
        last = changes.unique("rule_id", keep="last", maintain_order=True)
        is_gone = last[OP] == DELETE if OP in last.columns else pl.Series([False] * last.height)
        known = last.filter(~is_gone)
        self._rules.upsert(
            known.select(
                "rule_id",
                _micros_of(known, "for_").alias("wait"),
                _micros_of(known, "cooldown").alias("cooldown"),
            )
        )
        self._rules.delete(last.filter(is_gone))
        made = self._end(last.filter(is_gone)["rule_id"], DELETED)
        if "enabled" in known.columns:
            off = known.filter(~pl.col("enabled").fill_null(value=True))
            made += self._end(off["rule_id"], DISABLED)
        yield from _sorted(made)

    def _end(self, rules: pl.Series, reason: str) -> list[pl.DataFrame]:
        """Resolve what is open of rules."""
        if rules.is_empty():
            return []
        of_rule = pl.col("rule_id").is_in(rules.implode())
        stored = self._pairs.frame().filter(of_rule & (pl.col("state") != IDLE))
        if stored.is_empty():
            return []
        touched = stored.select(PAIR)
        pairs = self._open(touched, stored)
        pairs.end(self._tables.clock, reason)
        return self._settle(pairs, touched, stored.select(self._shown), stored)

    def _act(self, actions: pl.DataFrame) -> Iterator[Out]:
        if OP in actions.columns:
            actions = actions.filter(pl.col(OP) != DELETE)
        ids = actions["alert_id"].drop_nulls().unique(maintain_order=True)
        for action in actions.rows(named=True) if ids.len() else ():
            # Few: people do them one by one, and each may change what the next one finds.
            is_it = (pl.col("alert_id") == action["alert_id"]) & (pl.col("state") != IDLE)
            stored = self._pairs.frame().filter(is_it)
            if stored.height:
                yield from _sorted(self._take(action, stored))

    def _take(self, action: dict[str, Any], stored: pl.DataFrame) -> list[pl.DataFrame]:
        touched = stored.select(PAIR)
        pairs = self._open(touched, stored)
        clock = self._tables.clock
        match action["action"]:
            case "acknowledge" if stored["state"][0] == FIRING:
                pairs.note(clock, ACKNOWLEDGED, None)
            case "resolve":
                pairs.end(clock, None)
            case "comment":
                pairs.note(clock, None, COMMENTED)
            case _:
                return []
        made = self._settle(pairs, touched, stored.select(self._shown), stored)
        said = [pl.lit(action[name], pl.String).alias(name) for name in ("by", "note")]
        return [frame.with_columns(said) for frame in made]

    # -- state --------------------------------------------------------------------------------

    def _open(self, touched: pl.DataFrame, stored: pl.DataFrame) -> Pairs:
        rules = self._rules.lookup(touched)
        floor = np.zeros(touched.height, dtype=np.int64)
        new = stored["state"].is_null()
        if self._floors.rows and new.any():
            fresh = touched.filter(new)
            shards = pl.DataFrame({"shard": shard_of(fresh, ["key"])})
            floor[new.to_numpy()] = self._floors.lookup(shards)["number"].fill_null(0).to_numpy()
        return pairs_of(stored, rules, floor, self._grid)

    def _settle(
        self,
        pairs: Pairs,
        touched: pl.DataFrame,
        shown: pl.DataFrame,
        stored: pl.DataFrame,
        clears: pl.DataFrame | None = None,
        forgotten: Bools | None = None,
    ) -> list[pl.DataFrame]:
        """Store what became of pairs, and return their transitions.

        Args:
            pairs: Their state now.
            touched: Their rules and keys.
            shown: The rows that they may show.
            stored: Their state before, null where they are new.
            clears: The rows that cleared them.
            forgotten: Those that need not be stored.
        """
        made = pairs.made()
        made = with_ids(made, touched, stored["alert_id"])
        # A pending alert shows its latest row, so it changes without a transition too.
        changed = (
            (pairs.number != stored["number"].fill_null(-1).to_numpy())
            | (pairs.until != stored["until"].fill_null(END_OF_TIME).to_numpy())
            | (pairs.state == PENDING)
        )
        if forgotten is not None:
            changed &= ~forgotten
        if changed.any():
            latest = made.unique("pair", keep="last", maintain_order=True)
            ids = stored["alert_id"].scatter(latest["pair"], latest["alert_id"])
            after = touched.with_columns(
                ids, *(pl.Series(name, getattr(pairs, name)) for name in STATE)
            ).hstack(shown[pairs.shown].get_columns())
            self._pairs.upsert(after.filter(pl.Series(changed)))
            if self._look.value is None:
                self._look_after(int(pairs.changed[changed].min()))
        self._set_timers(pairs, touched, stored["state"])
        return [transitions_of(made, touched, shown, clears, self._keep)] if made.height else []

    def _set_timers(self, pairs: Pairs, touched: pl.DataFrame, before: pl.Series) -> None:
        is_pending = pl.Series(pairs.state == PENDING)
        was_pending = before.fill_null(IDLE) == PENDING
        if not (is_pending | was_pending).any():
            return
        due = touched.with_columns(pl.Series("due", pairs.due))
        self._timers.delete(touched.filter(was_pending & ~is_pending))
        self._timers.upsert(due.filter(is_pending))
        self._next_due = self._least_due()

    def _least_due(self) -> int | None:
        due = self._timers.frame()["due"].min() if self._timers.rows else None
        return due if isinstance(due, int) else None


def _numbered(rows: pl.DataFrame) -> tuple[Ints, pl.DataFrame]:
    """Return the number of each row's pair, and the pairs in order of first appearance."""
    runs = key_runs(rows, PAIR)
    pair = np.empty(rows.height, dtype=np.int64)
    pair[runs.order] = runs.key_of
    return pair, runs.keys


def _micros_of(rules: pl.DataFrame, column: str) -> pl.Series:
    """Return a column of durations, text or `Duration`, in microseconds; null counts as none."""
    if column not in rules.columns:
        return pl.Series(column, [0], dtype=pl.Int64).new_from_index(0, rules.height)
    values = rules[column].to_list()
    lengths = [0 if value is None else max(micros(value), 0) for value in values]
    return pl.Series(column, lengths, dtype=pl.Int64)


def _sorted(made: list[pl.DataFrame]) -> Iterator[Out]:
    if made:
        frame = pl.concat(made, rechunk=True)
        yield MAIN, frame.sort(EVENT_TIME, *PAIR, "transition", maintain_order=True)
