"""Notifications by hand: for each record of an alert, the first moment at which nothing keeps it
quiet, found by looking at all records and silences at once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE, micros, to_micros
from headrace.operators.alerting.route import Route
from headrace.operators.alerting.transitions import TRANSITION
from headrace.operators.notify import RULE_COLUMNS, SILENCE_COLUMNS, Notify
from headrace.operators.rulebook.rule import SEVERITIES
from headrace.testing.laws import UNIQUE, Case, InputSpec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
ALERTS = pl.Schema({"time": TIME_DTYPE, **TRANSITION, "site": pl.String()})
SILENCES = pl.Schema({**SILENCE_COLUMNS, "__op": pl.String()})
RULES = pl.Schema({**RULE_COLUMNS, "__op": pl.String()})
QUIET = ("severity lowered", "commented")
FAR = 1 << 62

Row = dict[str, Any]
Moment = tuple[int, int]
"""A time, and which record at that time; timers come before all records."""


class World:
    """Everything that is known, once it has all happened."""

    def __init__(self, notify: Notify, records: list[Row], silences: list[Row], rules: Any) -> None:
        self.notify, self.silences, self.rules = notify, silences, rules
        self.batch = micros(notify.batch)
        self.episodes: list[list[tuple[Moment, Row]]] = []
        running: dict[str, list[tuple[Moment, Row]]] = {}
        for number, record in enumerate(records):
            name, at = record["alert_id"], (record[EVENT_TIME], number)
            if name in running:
                running[name].append((at, record))
                if record["state"] == "resolved":
                    del running[name]
            elif record["state"] == "firing":
                running[name] = [(at, record)]
                self.episodes.append(running[name])
        self.out: list[Row] = []
        self.batches: dict[tuple[str, str, int], list[tuple[bool, Row]]] = {}

    def scopes(self, record: Row) -> set[Any]:
        group = self.rules.get(record["rule_id"], {}).get("group")
        own = [record[name] for name in self.notify.group] or [record["key"]]
        return {("own", *own), *([("group", group)] if group else [])}

    def hidden(self, record: Row, now: Moment) -> bool:
        if record["severity"] in ("high", "critical"):
            return False
        for episode in self.episodes:
            before = [one for at, one in episode if at <= now]
            if before and before[-1]["state"] != "resolved":
                last = before[-1]
                if last["severity"] == "critical" and self.scopes(last) & self.scopes(record):
                    return True
        return False

    def quiet_until(self, record: Row, time: int) -> int | None:
        ends = [
            end
            for one in self.silences
            if one["key"] in (None, record["key"])
            and one["severity"] in (None, record["severity"])
            and (one["starts_at"] is None or to_micros(one["starts_at"]) <= time)
            and time < (end := FAR - 1 if one["ends_at"] is None else to_micros(one["ends_at"]))
        ]
        return max(ends, default=None)

    def moments(self, after: Moment, end: Moment) -> list[Moment]:
        """Return when something may stop keeping others quiet."""
        ends = [(to_micros(one["ends_at"]), -1) for one in self.silences if one["ends_at"]]
        records = [at for episode in self.episodes for at, _ in episode]
        return sorted(at for at in (*ends, *records) if after < at < end)

    def send(self, record: Row, channels: list[str], time: int) -> None:
        if record["severity"] not in ("high", "critical"):
            self.gather(record, channels, time, hidden=False)
            return
        for channel in channels:
            self.leave(identity(record), channel, "transition", [record], time)

    def gather(self, record: Row, channels: list[str], time: int, *, hidden: bool) -> None:
        group = self.rules.get(record["rule_id"], {}).get("group")
        parts = [group, *(record[name] for name in self.notify.group)]
        label = "/".join(part for part in parts if part is not None)
        for channel in channels:
            place = (channel, label, (time // self.batch + 1) * self.batch)
            self.batches.setdefault(place, []).append((hidden, record))

    def leave(self, name: str, channel: str, kind: str, records: list[Row], time: int) -> None:
        worst = max(records, key=lambda record: SEVERITIES.index(record["severity"]))
        shown = [{name: record[name] for name in ALERTS} for record in records]
        shown.sort(key=lambda one: (one["rule_id"], one["key"], one["transition"]))
        shown.sort(key=lambda one: SEVERITIES.index(one["severity"]), reverse=True)
        self.out.append(
            {
                "notification_id": name,
                "channel": channel,
                "kind": kind,
                "severity": worst["severity"],
                "created": time,
                "alerts": shown,
            }
        )

    def run(self, end: int) -> list[Row]:
        for episode in self.episodes:
            self.tell(episode, (end, 1 << 40))
        for (channel, group, ends), members in self.batches.items():
            if not all(hidden for hidden, _ in members):
                unique = {(one["alert_id"], one["transition"]): one for _, one in members}
                window = (EPOCH + timedelta(microseconds=ends)).isoformat()[:-6] + "Z"
                name = "/".join(["batch", channel, *([group] if group else []), window])
                self.leave(name, channel, "batch", list(unique.values()), ends)
        return self.out

    def tell(self, episode: list[tuple[Moment, Row]], end: Moment) -> None:
        told: list[str] = []
        held = False
        steps = [
            (at, record)
            for at, record in episode
            if record["state"] == "resolved" or record["reason"] not in QUIET
        ]
        if episode[0] not in steps:
            steps.insert(0, episode[0])
        for number, (at, record) in enumerate(steps):
            over = steps[number + 1][0] if number + 1 < len(steps) else end
            first = number == 0
            if record["state"] == "firing" or first:
                held = self.fire(episode, at, min(over, end), told, held)
            else:
                held = False
                if told and self.quiet_until(record, at[0]) is None:
                    self.send(record, told, at[0])

    def fire(
        self,
        episode: list[tuple[Moment, Row]],
        at: Moment,
        over: Moment,
        told: list[str],
        held: bool,
    ) -> bool:
        """Tell of a firing alert as soon as nothing keeps it quiet; return whether nothing did."""
        for moment in [at, *self.moments(at, over)]:
            record = [one for when, one in episode if when <= moment][-1]
            if self.quiet_until(record, moment[0]) is not None:
                held = True
                continue
            channels = self.channels(record, moment[0])
            if self.hidden(record, moment):
                if not held:
                    self.gather(record, channels, moment[0], hidden=True)
                held = True
                continue
            self.send(record, channels, moment[0])
            told += [channel for channel in channels if channel not in told]
            self.escalate(episode, moment, over, told)
            return False
        return True

    def escalate(
        self, episode: list[tuple[Moment, Row]], told_at: Moment, over: Moment, told: list[str]
    ) -> None:
        record = [one for when, one in episode if when <= told_at][-1]
        time, level = told_at[0] + self.after(record), 0
        if not self.after(record):
            return
        while level < len(self.notify.escalate_to) and (time, -1) < over:
            record = [one for when, one in episode if when < (time, -1)][-1]
            after = self.after(record) or self.batch
            quiet = self.quiet_until(record, time)
            if quiet is not None:
                time = quiet if quiet != FAR - 1 else time + after
                continue
            level += 1
            name = f"{identity(record)}/escalation-{level}"
            for channel in self.notify.escalate_to[level - 1]:
                self.leave(name, channel, "escalation", [record], time)
                told += [channel] if channel not in told else []
            time += after

    def after(self, record: Row) -> int:
        return micros(self.rules.get(record["rule_id"], {}).get("escalate_after") or "0s")

    def channels(self, record: Row, time: int) -> list[str]:
        rank = SEVERITIES.index(record["severity"])
        taken = [
            channel
            for route in self.notify.routes
            if route.takes(record["rule_id"], rank, time)
            for channel in route.channels
        ]
        return list(dict.fromkeys(taken))


def identity(record: Row) -> str:
    return f"{record['rule_id']}/{record['key']}/{record['transition']}"


def by_hand(notify: Notify) -> Any:
    def oracle(
        alerts: pl.DataFrame, silences: pl.DataFrame, rules: pl.DataFrame
    ) -> dict[str, pl.DataFrame]:
        records = [
            row
            for row in alerts.to_dicts()
            if row["state"] in ("firing", "acknowledged")
            or (row["state"] == "resolved" and row["previous_state"] not in (None, "pending"))
        ]
        end = max([row[EVENT_TIME] for row in records], default=-FAR)
        if alerts.height:
            end = max(end, int(alerts[EVENT_TIME].to_numpy().max()) - micros("10s"))
        world = World(notify, records, kept(silences, "silence_id"), by_id(rules))
        rows = world.run(end)
        schema = {**notify.output_schema(ALERTS, SILENCES, RULES)["main"], "created": pl.Int64()}
        frame = pl.DataFrame(rows, schema)
        return {"main": frame.with_columns(pl.col("created").cast(TIME_DTYPE))}

    return oracle


def kept(changes: pl.DataFrame, key: str) -> list[Row]:
    last = {row[key]: row for row in changes.to_dicts()}
    return [row for row in last.values() if row["__op"] == "upsert"]


def by_id(rules: pl.DataFrame) -> dict[str, Row]:
    return {row["rule_id"]: row for row in kept(rules, "rule_id")}


def case(name: str, *, oracle: bool = True, **parameters: Any) -> Case:
    notify = Notify(
        routes=(Route("hook"), Route(["mail", "hook"], severity_at_least="high")),
        escalate_to=["sms", ["sms", "boss"]],
        batch="4s",
        **parameters,
    )
    moment = st.integers(0, 40).map(lambda second: START + timedelta(seconds=second))
    operation = st.sampled_from(["upsert", "upsert", "upsert", "delete"])
    alerts: dict[str, Any] = {
        "alert_id": st.sampled_from(["a1", "a2", "a3"]),
        "severity": st.sampled_from(["warning", "critical", "high", "info"]),
        "state": st.sampled_from(["firing", "firing", "acknowledged", "resolved", "pending"]),
        "previous_state": st.sampled_from(["firing", "firing", "pending", None]),
        "reason": st.sampled_from([None, None, "severity raised", *QUIET]),
        "rule_id": st.sampled_from(["r", "s"]),
        "key": st.sampled_from(["a", "b"]),
        "metrics": st.just([]),
        "transition": UNIQUE,
    }
    silences = {
        "silence_id": st.sampled_from(["x", "y", "z"]),
        "rule": st.none(),
        "key": st.sampled_from(["a", "b", None]),
        "severity": st.sampled_from([None, "warning", "critical"]),
        "labels": st.none(),
        "starts_at": st.none() | moment,
        "ends_at": st.none() | moment | moment,
        "hours": st.none(),
        "weekdays": st.none(),
        "zone": st.just("UTC"),
        "__op": operation,
    }
    rules = {
        "rule_id": st.sampled_from(["r", "s"]),
        "group": st.sampled_from([None, "g"]),
        "escalate_after": st.sampled_from([None, "3s", "11s"]),
        "labels": st.none(),
        "__op": operation,
    }
    inputs = (
        InputSpec(ALERTS, alerts, min_rows=3),
        InputSpec(SILENCES, silences, max_rows=3),
        InputSpec(RULES, rules, max_rows=3),
    )
    return Case(notify, inputs, by_hand(notify) if oracle else None, name)


CASES = [
    case("event", order="event"),
    case("arrival", oracle=False, group="site"),
]
