"""What people are told, decided transition by transition."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headrace.core.time import END_OF_TIME, micros, to_datetime
from headrace.operators.alerting.silence import Covering
from headrace.operators.alerting.transitions import COMMENTED, LOWERED
from headrace.operators.notify import Notify
from headrace.operators.rulebook.rule import SEVERITIES

Record = dict[str, Any]

AT_ONCE: Final = SEVERITIES.index("high")
CRITICAL: Final = SEVERITIES.index("critical")
_HOLD, _ESCALATE, _BATCH = range(3)


@dataclass(slots=True)
class Opened:
    """An alert that is firing or acknowledged.

    Attributes:
        alert: Its last record.
        scopes: Where it hides others while it is critical.
        told: Channels that know of it.
        held: Nobody was told, because of a silence or of a critical alert.
        hold_until: When the silence is over.
        escalate_at: When the next level is told.
        escalations: Levels told so far.
    """

    alert: Record
    scopes: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    held: bool = False
    hold_until: int | None = None
    escalate_at: int | None = None
    escalations: int = 0

    @property
    def rank(self) -> int:
        """How severe it is."""
        return rank_of(self.alert)


@dataclass(slots=True)
class Waiting:
    """A record in a batch; `hidden` ones do not make a batch leave."""

    ends: int
    channel: str
    group: str
    hidden: bool
    alert: Record


class Notices:
    """The decisions of one call: what is known in, notifications out.

    Args:
        policy: What the description says.
        silences: Those declared now.
        rules: `group`, `escalate_after` and `labels` by rule.
        opened: Alerts by id: all that the call may touch.
        criticals: Looks up how many critical alerts are open in a scope.
        batched: Looks up what waits for a batch that ends at a time.
        batches: When batches end that hold something.
    """

    def __init__(
        self,
        policy: Notify,
        silences: Iterable[Covering],
        rules: Mapping[str, Record],
        opened: dict[str, Opened],
        criticals: Callable[[str], int],
        batched: Callable[[int], list[Waiting]],
        batches: Iterable[int],
    ) -> None:
        self._policy = policy
        self._silences = list(silences)
        self._rules = rules
        self._criticals = criticals
        self._batched = batched
        self._batch = micros(policy.batch)
        self.opened = opened
        self.touched: dict[str, Opened | None] = {}
        self.counts: dict[str, int] = {}
        self.waiting: list[Waiting] = []
        self.flushed: set[int] = set()
        self.out: list[Record] = []
        self._ends = set(batches)
        self._timers = [(ends, _BATCH, "") for ends in sorted(self._ends)]
        for alert_id, opening in opened.items():
            self._time(alert_id, opening)
        heapq.heapify(self._timers)

    # -- time ---------------------------------------------------------------------------------

    def pass_time(self, until: int) -> None:
        """Do what is due at or before `until`, in the order of time."""
        while self._timers and self._timers[0][0] <= until:
            at, what, alert_id = heapq.heappop(self._timers)
            if what == _BATCH:
                self.flush(at)
                continue
            opening = self.opened.get(alert_id)
            if opening is None:
                continue
            if what == _HOLD and opening.held and opening.hold_until == at:
                self._tell(alert_id, opening, at)
            elif what == _ESCALATE and opening.escalate_at == at:
                self._escalate(alert_id, opening, at)

    def flush(self, ends: int) -> None:
        """Let the batches go that end then."""
        self._ends.discard(ends)
        self.flushed.add(ends)
        mine = [*self._batched(ends), *(one for one in self.waiting if one.ends == ends)]
        self.waiting = [one for one in self.waiting if one.ends != ends]
        places: dict[tuple[str, str], list[Waiting]] = {}
        for one in mine:
            places.setdefault((one.channel, one.group), []).append(one)
        for (channel, group), members in places.items():
            if all(one.hidden for one in members):
                continue
            # One that was hidden and is told of now is named once.
            named = {(one.alert["alert_id"], one.alert["transition"]): one.alert for one in members}
            window = to_datetime(ends).isoformat().replace("+00:00", "Z")
            identity = "/".join(("batch", channel, *([group] if group else []), window))
            self._leave(identity, channel, "batch", sorted(named.values(), key=_place), ends)

    def flush_all(self) -> None:
        """Let all batches go, in the order in which they would end."""
        for ends in sorted(self._ends):
            self.flush(ends)

    # -- transitions --------------------------------------------------------------------------

    def take(self, alert: Record, now: int) -> None:
        """Take a transition at `now`."""
        alert_id = alert["alert_id"]
        opening = self.opened.get(alert_id)
        match alert["state"]:
            case "firing" if opening is None:
                opening = Opened(alert, self._scopes(alert))
                self._count(opening, 1)
                self._keep(alert_id, opening)
                self._tell(alert_id, opening, now)
            case "firing" | "acknowledged" if opening is not None:
                self._change(alert_id, opening, alert, now)
            case "resolved" if opening is not None:
                self._count(opening, -1)
                self.opened.pop(alert_id)
                self.touched[alert_id] = None
                self._follow_up(opening, alert, now)
                self._release(opening, now)
            case _:
                pass

    def _change(self, alert_id: str, opening: Opened, alert: Record, now: int) -> None:
        before = Opened(opening.alert, opening.scopes)
        self._count(opening, -1)
        opening.alert, opening.scopes = alert, self._scopes(alert)
        self._count(opening, 1)
        self._keep(alert_id, opening)
        if alert["reason"] not in (LOWERED, COMMENTED):
            if alert["state"] == "firing":
                opening.escalate_at, opening.escalations = None, 0
                self._tell(alert_id, opening, now)
            else:
                # Somebody has taken it: whom nobody told need not be told any more.
                opening.held, opening.hold_until, opening.escalate_at = False, None, None
                self._follow_up(opening, alert, now)
        elif opening.held:
            # What kept it quiet may not speak of a severity that fell.
            self._tell(alert_id, opening, now)
        if opening.rank != CRITICAL or opening.scopes != before.scopes:
            self._release(before, now)

    def look_again(self, now: int) -> None:
        """Tell of what was held back and no longer is: silences have changed."""
        for alert_id, opening in sorted(self.opened.items()):
            if opening.held:
                self._tell(alert_id, opening, now)

    def _tell(self, alert_id: str, opening: Opened, now: int) -> None:
        """Tell of a firing alert, or hold it back."""
        self._keep(alert_id, opening)
        alert = opening.alert
        was_held = opening.held
        quiet = self._silenced(alert, now)
        opening.held = quiet is not None
        opening.hold_until = quiet
        if quiet is not None:
            self._time(alert_id, opening)
            return
        channels = self._channels(alert, now)
        if opening.rank < AT_ONCE and any(self._open_in(one) for one in opening.scopes):
            opening.held = True
            if not was_held:
                self._gather(alert, channels, now, hidden=True)
            return
        self._send(alert, channels, now)
        opening.told = list(dict.fromkeys([*opening.told, *channels]))
        after = self._escalate_after(alert)
        if after is not None and self._policy.escalate_to:
            opening.escalate_at = now + after
            self._time(alert_id, opening)

    def _escalate(self, alert_id: str, opening: Opened, now: int) -> None:
        self._keep(alert_id, opening)
        after = self._escalate_after(opening.alert) or self._batch
        quiet = self._silenced(opening.alert, now)
        if quiet is not None:
            # Nobody knows when a silence without an end is over.
            opening.escalate_at = quiet if quiet != END_OF_TIME else now + after
            self._time(alert_id, opening)
            return
        level = self._policy.escalate_to[opening.escalations]
        opening.escalations += 1
        name = f"{_transition_of(opening.alert)}/escalation-{opening.escalations}"
        for channel in level:
            self._leave(name, channel, "escalation", [opening.alert], now)
        opening.told = list(dict.fromkeys([*opening.told, *level]))
        left = opening.escalations < len(self._policy.escalate_to)
        opening.escalate_at = now + after if left else None
        self._time(alert_id, opening)

    def _follow_up(self, opening: Opened, alert: Record, now: int) -> None:
        """Tell those of the end, or of an acknowledgement, who know of the alert."""
        if opening.told and self._silenced(alert, now) is None:
            self._send(alert, opening.told, now)

    def _send(self, alert: Record, channels: Iterable[str], now: int) -> None:
        if rank_of(alert) < AT_ONCE:
            self._gather(alert, channels, now, hidden=False)
            return
        for channel in channels:
            self._leave(_transition_of(alert), channel, "transition", [alert], now)

    def _gather(self, alert: Record, channels: Iterable[str], now: int, *, hidden: bool) -> None:
        ends = (now // self._batch + 1) * self._batch
        group = self._group(alert)
        for channel in channels:
            self.waiting.append(Waiting(ends, channel, group, hidden, alert))
        if ends not in self._ends:
            self._ends.add(ends)
            heapq.heappush(self._timers, (ends, _BATCH, ""))

    def _leave(
        self, name: str, channel: str, kind: str, alerts: list[Record], created: int
    ) -> None:
        highest = max(alerts, key=rank_of)["severity"]
        self.out.append(
            {
                "notification_id": name,
                "channel": channel,
                "kind": kind,
                "severity": highest,
                "created": created,
                "alerts": alerts,
            }
        )

    # -- what keeps quiet ---------------------------------------------------------------------

    def _silenced(self, alert: Record, now: int) -> int | None:
        """Return until when an alert is silenced, None where it is not."""
        if not self._silences:
            return None
        labels = json.loads(self._rule(alert).get("labels") or "{}")
        ends = [one.until(alert, labels, now) for one in self._silences]
        return max((end for end in ends if end is not None), default=None)

    def _release(self, critical: Opened, now: int) -> None:
        """Tell of alerts that a critical one hid which is over."""
        if critical.rank != CRITICAL:
            return
        over = {one for one in critical.scopes if not self._open_in(one)}
        for alert_id, opening in sorted(self.opened.items()) if over else ():
            if opening.held and over.intersection(opening.scopes):
                self._tell(alert_id, opening, now)

    def _count(self, opening: Opened, by: int) -> None:
        if opening.rank == CRITICAL:
            for scope in opening.scopes:
                self.counts[scope] = self._open_in(scope) + by

    def _open_in(self, scope: str) -> int:
        if scope not in self.counts:
            self.counts[scope] = self._criticals(scope)
        return self.counts[scope]

    def _scopes(self, alert: Record) -> list[str]:
        """Return where a critical alert hides others: its key or its group."""
        columns = self._policy.group
        scopes = [json.dumps(["key", alert["key"]])]
        if columns:
            scopes = [json.dumps(["columns", *(alert[name] for name in columns)], default=str)]
        group = self._rule(alert).get("group")
        return [*scopes, json.dumps(["group", group])] if group else scopes

    def _group(self, alert: Record) -> str:
        parts = [self._rule(alert).get("group"), *(alert[name] for name in self._policy.group)]
        return "/".join(str(part) for part in parts if part is not None)

    def _channels(self, alert: Record, now: int) -> list[str]:
        taken = [
            channel
            for route in self._policy.routes
            if route.takes(alert["rule_id"], rank_of(alert), now)
            for channel in route.channels
        ]
        return list(dict.fromkeys(taken))

    def _escalate_after(self, alert: Record) -> int | None:
        after = self._rule(alert).get("escalate_after")
        length = micros(after) if after else 0
        return length if length > 0 else None

    def _rule(self, alert: Record) -> Record:
        return self._rules.get(alert["rule_id"], {})

    def _keep(self, alert_id: str, opening: Opened) -> None:
        self.opened[alert_id] = opening
        self.touched[alert_id] = opening

    def _time(self, alert_id: str, opening: Opened) -> None:
        if opening.hold_until is not None and opening.hold_until != END_OF_TIME:
            heapq.heappush(self._timers, (opening.hold_until, _HOLD, alert_id))
        if opening.escalate_at is not None:
            heapq.heappush(self._timers, (opening.escalate_at, _ESCALATE, alert_id))


def rank_of(alert: Record) -> int:
    """Return the place of an alert's severity on the ladder, 0 for a word that is none."""
    severity = alert["severity"]
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0


def _place(alert: Record) -> tuple[int, str, str, int, str]:
    """Return where an alert stands in a batch: the most severe first, then by rule and key."""
    rule, key, number = alert["rule_id"], alert["key"], alert["transition"]
    return -rank_of(alert), rule or "", key or "", number or 0, alert["alert_id"]


def _transition_of(alert: Record) -> str:
    key = "" if alert["key"] is None else alert["key"]
    return f"{alert['rule_id']}/{key}/{alert['transition']}"
