"""Alerts as a walk through time: one event after the other, one dictionary per rule and key."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.shard import shard_of
from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, micros
from headrace.operators.alerting.transitions import SHOWN, TRANSITION, alert_id
from headrace.operators.alerts import Alerts
from headrace.operators.rulebook.ports import CLEARED_SCHEMA, VIOLATION_COLUMNS
from headrace.operators.rulebook.rule import SEVERITIES
from headrace.testing.laws import Case, InputSpec

RULES = pl.Schema(
    {
        "rule_id": pl.String(),
        "for_": pl.String(),
        "cooldown": pl.String(),
        "enabled": pl.Boolean(),
        "__op": pl.String(),
    }
)
ACTIONS = pl.Schema(dict.fromkeys(("alert_id", "action", "by", "note"), pl.String()))
VIOLATIONS = pl.Schema({"time": TIME_DTYPE, "site": pl.String(), **VIOLATION_COLUMNS})
CLEARS = pl.Schema({"time": TIME_DTYPE, **CLEARED_SCHEMA})
IDS = st.sampled_from(["r", "s"])
KEYS = st.sampled_from(["a", "a", "a", "b", None])
FAR = 1 << 62


@dataclass
class Pair:
    """What is known of one rule and key."""

    number: int
    state: str | None = None
    alert: str = ""
    begin: int = 0
    due: int = FAR
    cool: int = -FAR
    changed: int = -FAR
    until: int = FAR
    shown: dict[str, Any] = field(default_factory=dict)


class Walk:
    def __init__(self, rules: dict[str, tuple[int, ...]], grid: int, keep: tuple[str, ...]) -> None:
        self.rules, self.grid, self.keep = rules, grid, keep
        self.pairs: dict[tuple[str, str | None], Pair] = {}
        self.floors: dict[int, int] = {}
        self.out: list[dict[str, Any]] = []

    def run(self, events: list[dict[str, Any]], watermark: int) -> list[dict[str, Any]]:
        """Take events in their order; what is silent beyond the last watermark is not given up."""
        for event in events:
            time = event[EVENT_TIME]
            if time >= watermark:
                self.pass_time(watermark, watermark)
            self.pass_time(time, time if time < watermark else -FAR)
            self.take(event)
        self.pass_time(watermark, watermark)
        self.pass_time(FAR - 1, -FAR)
        return self.out

    def pass_time(self, fire: int, give_up: int) -> None:
        while True:
            due = [(pair.due, name) for name, pair in self.pairs.items() if pair.due <= fire]
            silent = [
                (pair.until, name) for name, pair in self.pairs.items() if pair.until <= give_up
            ]
            if not due and not silent:
                return
            time, name = min([*due, *silent], key=lambda one: one[0])
            pair = self.pairs[name]
            if pair.state == "pending":
                self.tell(name, time, "firing")
                self.seen(pair, time)
            elif pair.state is not None:
                self.resolve(name, time, "no more rows")
            else:
                shard = self.shard(name[1])
                self.floors[shard] = max(self.floors.get(shard, 0), pair.number)
                del self.pairs[name]

    def take(self, event: dict[str, Any]) -> None:
        name = (event["rule_id"], event["key"])
        if "is_back" in event:
            self.clear(name, event)
            return
        time = event[EVENT_TIME]
        if name not in self.pairs:
            self.pairs[name] = Pair(self.floors.get(self.shard(name[1]), 0))
        pair = self.pairs[name]
        shown = {column: event[column] for column in (*SHOWN, *self.keep)}
        wait, _ = self.rules.get(name[0], (0, 0))
        if pair.state in (None, "pending"):
            if pair.state is None:
                pair.begin = time
            due = max(pair.begin + wait, pair.cool)
            pair.shown = shown
            if due <= time:
                self.tell(name, time, "firing")
                self.seen(pair, time)
            else:
                if pair.state is None:
                    self.tell(name, time, "pending")
                pair.due, pair.until = due, FAR
            return
        before, now = (SEVERITIES.index(one["severity"]) for one in (pair.shown, shown))
        if now != before:
            pair.shown = shown
            word = "raised" if now > before else "lowered"
            self.tell(name, time, "firing" if now > before else pair.state, f"severity {word}")
        self.seen(pair, time)

    def clear(self, name: tuple[str, str | None], event: dict[str, Any]) -> None:
        pair = self.pairs.get(name)
        if pair is None or pair.state is None:
            return
        if pair.state == "pending" or event["is_back"] or event["reason"] is not None:
            for column in ("value_after", "rule_version"):
                if event[column] is not None:
                    pair.shown = {**pair.shown, column: event[column]}
            reason = "condition no longer holds" if event["reason"] is None else event["reason"]
            self.resolve(name, event[EVENT_TIME], reason)
        else:
            self.seen(pair, event[EVENT_TIME])

    def resolve(self, name: tuple[str, str | None], time: int, reason: str) -> None:
        pair = self.pairs[name]
        fired = pair.state != "pending"
        self.tell(name, time, "resolved", reason)
        if fired:
            pair.cool = time + self.rules.get(name[0], (0, 0))[1]
        self.seen(pair, max(time, pair.cool))
        pair.state = None

    def tell(
        self, name: tuple[str, str | None], time: int, state: str, reason: str | None = None
    ) -> None:
        pair = self.pairs[name]
        pair.number += 1
        if pair.state is None:
            pair.alert = alert_id(*name, pair.number)
        pair.changed = max(time, pair.changed)
        self.out.append(
            {
                **dict.fromkeys(("by", "note")),
                **pair.shown,
                "alert_id": pair.alert,
                "rule_id": name[0],
                "key": name[1],
                "timestamp": datetime.fromtimestamp(0, UTC),
                "state": state,
                "transition": pair.number,
                "previous_state": pair.state,
                "reason": reason,
                EVENT_TIME: pair.changed,
            }
        )
        pair.state = state
        pair.due = FAR

    def seen(self, pair: Pair, time: int) -> None:
        pair.until = (time // self.grid + 2) * self.grid

    def shard(self, key: str | None) -> int:
        frame = pl.DataFrame({"key": pl.Series([key], dtype=pl.String)})
        return int(shard_of(frame, ["key"])[0])


def walk(alerts: Alerts) -> Any:
    def oracle(
        violations: pl.DataFrame, clears: pl.DataFrame, rules: pl.DataFrame, _: pl.DataFrame
    ) -> dict[str, pl.DataFrame]:
        known: dict[str, tuple[int, ...]] = {}
        for rule in rules.to_dicts():
            known.pop(rule["rule_id"], None)
            if rule["__op"] == "upsert":
                known[rule["rule_id"]] = tuple(
                    micros(rule[n] or "0s") for n in ("for_", "cooldown")
                )
        events = [*violations.to_dicts(), *clears.to_dicts()]
        events.sort(key=lambda event: (event[EVENT_TIME], event[POSITION]))
        fronts = [
            int(frame[EVENT_TIME].to_numpy().max())
            for frame in (violations, clears)
            if frame.height
        ]
        watermark = min(fronts) - micros("10s") if len(fronts) == 2 else -FAR
        rows = Walk(known, micros(alerts.forget), alerts.keep).run(events, watermark)
        schema = pl.Schema(
            {**TRANSITION, **{n: VIOLATIONS[n] for n in alerts.keep}, EVENT_TIME: pl.Int64()}
        )
        frame = pl.DataFrame([{n: row[n] for n in schema} for row in rows], schema)
        return {"main": frame.with_columns(pl.col(EVENT_TIME).cast(TIME_DTYPE).alias("timestamp"))}

    return oracle


def case(name: str, *, oracle: bool = True, **parameters: Any) -> Case:
    alerts = Alerts(**parameters)
    violation = {
        "rule_id": IDS,
        "key": KEYS,
        "severity": st.sampled_from(["warning", "warning", "critical", "info"]),
        "metrics": st.just([{"metric": "x", "value": 1.0}]),
    }
    cleared = {
        "rule_id": IDS,
        "key": KEYS,
        "is_back": st.booleans(),
        "reason": st.sampled_from([None, None, None, "gone"]),
    }
    # Ids of alerts that such inputs really make.
    ids = [alert_id(rule, key, n) for rule in "rs" for key in ("a", "b") for n in (1, 2, 3)]
    acts = {
        "alert_id": st.sampled_from(ids),
        "action": st.sampled_from(["acknowledge", "resolve", "comment", "acknowledge"]),
    }
    inputs = (
        InputSpec(VIOLATIONS, violation),
        InputSpec(CLEARS, cleared, max_rows=10),
        InputSpec(RULES, {"rule_id": IDS, **ANY}, max_rows=4),
        InputSpec(ACTIONS, acts, max_rows=8),
    )
    return Case(alerts, inputs, walk(alerts) if oracle else None, name)


ANY = {
    "for_": st.sampled_from(["0s", "1s", "6s", None]),
    "cooldown": st.sampled_from(["0s", "2s", "12s", None]),
    "enabled": st.sampled_from([True, True, False]),
    "__op": st.sampled_from(["upsert", "upsert", "delete"]),
}

CASES = [
    case("event", order="event", keep=("site",), forget="9s"),
    case("arrival", oracle=False, forget="20s"),
]
