"""Rules judged row by row, each condition by its own Python function."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.schema import RowSchema
from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, micros
from headrace.operators.rulebook.rule import Rule
from headrace.operators.rules import Rules
from headrace.testing.laws import UNIQUE, Case, InputSpec

ROWS = pl.Schema(
    {
        "time": TIME_DTYPE,
        "v": pl.String(),
        "x": pl.Float64(),
        "n": pl.Int64(),
        "at": pl.List(pl.String()),
    }
)
RULES = pl.Schema({**RowSchema.of(Rule).columns, "version": pl.Int64(), "__op": pl.String()})
DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
PANES = 60

Truth = bool | None
Row = dict[str, Any]
Test = Callable[["Seen"], Truth]


@dataclass
class Seen:
    """A row with the rows of its key judged so far, itself the last."""

    row: Row
    rows: list[Row]

    def number(self, name: str) -> float | None:
        value = self.row[name]
        return None if value is None or value != value else value  # noqa: PLR0124 - NaN

    def window(self, name: str, seconds: int) -> list[float]:
        pane = -(-seconds * 1_000_000 // PANES)
        first = self.row[EVENT_TIME] // pane - PANES + 1
        reached = (row for row in self.rows if row[EVENT_TIME] // pane >= first)
        values = (Seen(row, []).number(name) for row in reached)
        return [value for value in values if value is not None]

    @property
    def time_of_day(self) -> int:
        return int(self.row[EVENT_TIME] % DAY_US)


def both(*parts: Truth) -> Truth:
    if False in parts:
        return False
    return None if None in parts else True


def either(*parts: Truth) -> Truth:
    if True in parts:
        return True
    return None if None in parts else False


def no(part: Truth) -> Truth:
    return None if part is None else not part


def above(value: float | None, limit: float) -> Truth:
    return None if value is None else value > limit


def average(seen: Seen) -> Truth:
    values = seen.window("x", 30)
    return above(sum(values) / len(values), 1.0) if values else None


def night(seen: Seen) -> Truth:
    return seen.time_of_day >= 22 * HOUR_US or seen.time_of_day <= 10_000_000


def nested(seen: Seen) -> Truth:
    x, n = seen.number("x"), seen.row["n"]
    text = None if seen.row["v"] is None else seen.row["v"] != "a"
    inner = both(above(x, 0.5), text)
    near = None if n is None else 1.999 <= n <= 2.001
    return either(near, both(inner, no(None if n is None else n >= 4)))


def zone(seen: Seen) -> Truth:
    return None if seen.row["at"] is None else "a" in seen.row["at"]


NESTED = [
    {
        "any": [
            {"metric": "n", "operator": "eq", "threshold": 2},
            {
                "all": [
                    {
                        "all": [
                            {"metric": "x", "operator": "gt", "threshold": 0.5},
                            {"metric": "v", "operator": "ne", "threshold": "a"},
                        ]
                    },
                    {"metric": "n", "operator": "lt", "threshold": 4},
                ]
            },
        ]
    }
]

CONDITIONS: dict[str, tuple[Test, tuple[str, ...]]] = {
    "x > 1": (lambda s: above(s.number("x"), 1), ("x",)),
    "NOT x > 1.5 AND n IN (1, 2, 3)": (
        lambda s: both(
            no(above(s.number("x"), 1.5)), None if s.row["n"] is None else s.row["n"] in (1, 2, 3)
        ),
        ("x", "n"),
    ),
    "v = 'a' OR x < -1": (
        lambda s: either(
            None if s.row["v"] is None else s.row["v"] == "a",
            None if (x := s.number("x")) is None else x < -1,
        ),
        ("v", "x"),
    ),
    "x + n > 2": (
        lambda s: None if None in (s.number("x"), s.row["n"]) else s.row["x"] + s.row["n"] > 2,
        ("x", "n"),
    ),
    "avg(x) over 30s > 1": (average, ("avg(x) over 30s",)),
    "count(*) over 12s >= 3 AND max(x) over 12s < 500": (
        lambda s: both(
            sum(1 for r in s.rows if r[EVENT_TIME] // 200_000 >= s.row[EVENT_TIME] // 200_000 - 59)
            >= 3,
            max(found) < 500 if (found := s.window("x", 12)) else None,
        ),
        ("count(*) over 12s", "max(x) over 12s"),
    ),
    "time_of_day() BETWEEN '22:00' AND '00:00:10'": (night, ()),
    "in_zone('a') AND NOT in_zone('b')": (
        lambda s: both(zone(s), no(None if s.row["at"] is None else "b" in s.row["at"])),
        ("at",),
    ),
    "x IS NULL": (lambda s: s.number("x") is None, ("x",)),
}
LOW: dict[str, tuple[Test, tuple[str, ...]]] = {
    "x > 1": CONDITIONS["x > 1"],
    "0.5 >= x": (
        lambda s: None if (x := s.number("x")) is None else x <= 0.5,
        ("x",),
    ),
    "NOT n >= 2": (lambda s: None if s.row["n"] is None else s.row["n"] < 2, ("n",)),
    "avg(x) over 30s > 1": CONDITIONS["avg(x) over 30s > 1"],
}
SINGLE: dict[str, tuple[Callable[[Seen], float | None], str, float]] = {
    "x > 1": (lambda s: s.number("x"), "above", 1.0),
    "0.5 >= x": (lambda s: s.number("x"), "below", 0.5),
    "NOT n >= 2": (lambda s: s.number("n"), "below", 2.0),
    "avg(x) over 30s > 1": (
        lambda s: sum(found) / len(found) if (found := s.window("x", 30)) else None,
        "above",
        1.0,
    ),
    "x + n > 2": (
        lambda s: None if None in (s.number("x"), s.row["n"]) else s.row["x"] + s.row["n"],
        "above",
        2.0,
    ),
}
SEVERITIES: dict[str, Callable[[Seen], str]] = {
    '"high"': lambda _: "high",
    '[{"when": "x > 100", "severity": "critical"}, {"when": "x > 2", "severity": "warning"}]': (
        lambda s: (
            "critical"
            if above(s.number("x"), 100)
            else "warning"
            if above(s.number("x"), 2)
            else "info"
        )
    ),
}


@dataclass
class Key:
    """What is known of one key."""

    rows: list[Row] = field(default_factory=list)
    held: dict[str, bool] = field(default_factory=dict)


class Judge:
    """All rules over the rows of an input, in the order in which they are judged."""

    def __init__(self, operator: Rules, changes: pl.DataFrame) -> None:
        self.operator = operator
        self.rules: dict[str, Row] = {}
        for change in changes.to_dicts():
            self.rules.pop(change["rule_id"], None)
            if change["__op"] == "upsert" and change["enabled"] is not False:
                self.rules[change["rule_id"]] = change
        self.keys: dict[Any, Key] = {}
        self.out: dict[str, list[Row]] = {"main": [], "cleared": [], "absent": [], "late": []}

    def judge(self, row: Row) -> None:
        key = self.keys.setdefault(row["v"], Key())
        newest = max((one[EVENT_TIME] for one in key.rows), default=row[EVENT_TIME])
        if self.operator.order == "arrival" and row[EVENT_TIME] < newest:
            self.out["late"].append(row)
            return
        key.rows.append(row)
        seen = Seen(row, key.rows)
        undecided = 0
        for rule_id in sorted(self.rules):
            rule = self.rules[rule_id]
            if not self._in_scope(rule, row):
                continue
            truth = self._test(rule)(seen)
            undecided += truth is None
            if truth:
                self.out["main"].append(self._violation(rule, seen))
                key.held[rule_id] = False
            elif truth is False and rule_id in key.held:
                self._clear(rule, seen, key)
        if undecided:
            self.out["absent"].append(
                {
                    "key": self._key(row),
                    "metrics": self._lacking(row),
                    "rules": undecided,
                    EVENT_TIME: row[EVENT_TIME],
                }
            )

    def _key(self, row: Row) -> str:
        return "null" if row["v"] is None else row["v"]

    def _lacking(self, row: Row) -> list[str]:
        """Return what the rules read and the row does not say."""
        seen = Seen(row, self.keys[row["v"]].rows)
        names = {name for rule in self.rules.values() for name in self._reads(rule)}
        for rule in self.rules.values():
            names |= set(json.loads(rule["scope"] or "{}"))
            names |= {"x"} if rule["severity"].startswith("[") else set()
        return sorted(name for name in names if self._shown(name, seen) is None)

    def _in_scope(self, rule: Row, row: Row) -> bool:
        scope = json.loads(rule["scope"] or "{}")
        return all(
            row[name] in (values if isinstance(values, list) else [values])
            for name, values in scope.items()
        )

    def _test(self, rule: Row) -> Test:
        if rule["condition"] is None:
            return nested
        return {**CONDITIONS, **LOW}[rule["condition"]][0]

    def _clear(self, rule: Row, seen: Seen, key: Key) -> None:
        single = SINGLE.get(rule["condition"])
        value = None if single is None else single[0](seen)
        back = True
        if rule["hysteresis"] is not None and single is not None and value is not None:
            limit = single[2]
            back = (
                value <= limit - rule["hysteresis"]
                if single[1] == "above"
                else value >= limit + rule["hysteresis"]
            )
        if key.held[rule["rule_id"]] and not back:
            return
        self.out["cleared"].append(
            {
                "rule_id": rule["rule_id"],
                "rule_version": rule["version"],
                "key": self._key(seen.row),
                "is_back": back,
                "value_after": value,
                "reason": None,
                EVENT_TIME: seen.row[EVENT_TIME],
            }
        )
        if back:
            del key.held[rule["rule_id"]]
        else:
            key.held[rule["rule_id"]] = True

    def _violation(self, rule: Row, seen: Seen) -> Row:
        single = SINGLE.get(rule["condition"] or "")
        reads = self._reads(rule)
        before = after = threshold = direction = None
        if single is not None:
            value, direction, threshold = single
            after = value(seen)
            before = next(self._before(seen, value), None)
        name = rule["name"] or rule["rule_id"]
        return {
            **{column: seen.row[column] for column in ROWS},
            "rule_id": rule["rule_id"],
            "rule_name": name,
            "rule_version": rule["version"],
            "severity": SEVERITIES[rule["severity"]](seen),
            "message": f"{name}: v {'-' if seen.row['v'] is None else seen.row['v']}!",
            "metrics": [
                {"metric": metric, "value": self._shown(metric, seen)}
                for metric in reads
                if metric not in ("v", "at")
            ],
            "key": self._key(seen.row),
            "direction": direction,
            "value_before": before,
            "value_after": after,
            "threshold": threshold,
            EVENT_TIME: seen.row[EVENT_TIME],
        }

    def _reads(self, rule: Row) -> tuple[str, ...]:
        if rule["condition"] is None:
            return ("n", "x", "v")
        return {**CONDITIONS, **LOW}[rule["condition"]][1]

    def _shown(self, metric: str, seen: Seen) -> Any:
        if metric in ("v", "at"):
            return seen.row[metric]
        if metric == "avg(x) over 30s":
            values = seen.window("x", 30)
            return sum(values) / len(values) if values else None
        if metric == "max(x) over 12s":
            return max(seen.window("x", 12), default=None)
        if metric == "count(*) over 12s":
            first = seen.row[EVENT_TIME] // 200_000 - 59
            return float(sum(1 for row in seen.rows if row[EVENT_TIME] // 200_000 >= first))
        value = seen.number(metric)
        return None if value is None else float(value)

    def _before(self, seen: Seen, value: Callable[[Seen], float | None]) -> Iterator[float]:
        later = seen.row[EVENT_TIME]
        for place in range(len(seen.rows) - 2, -1, -1):
            row = seen.rows[place]
            if later - row[EVENT_TIME] > micros(self.operator.forget):
                return
            later = row[EVENT_TIME]
            found = value(Seen(row, seen.rows[: place + 1]))
            if found is not None:
                yield float(found)


def by_hand(operator: Rules) -> Callable[[pl.DataFrame, pl.DataFrame], dict[str, pl.DataFrame]]:
    declared = operator.output_schema(ROWS, RULES)

    def oracle(rows: pl.DataFrame, changes: pl.DataFrame) -> dict[str, pl.DataFrame]:
        judge = Judge(operator, changes)
        rows = rows.sort(POSITION) if operator.order == "arrival" else rows
        for row in rows.to_dicts():
            judge.judge(row)
        return {
            port: pl.DataFrame(
                [{name: row[name] for name in schema} for row in judge.out[port]], schema
            )
            for port, columns in declared.items()
            if port != "late"
            for schema in [pl.Schema({**columns, EVENT_TIME: pl.Int64()})]
        }

    return oracle


def case(
    name: str,
    *,
    conditions: list[str] | None = None,
    hysteresis: list[float | None] | None = None,
    delay: str = "10s",
    **parameters: Any,
) -> Case:
    operator = Rules(by="v", zones="at", **parameters)
    none = st.none()
    change = {name: none for name in RULES if name not in ("rule_id", "version")} | {
        "rule_id": st.sampled_from(["a", "b", "c", "d", "e"]),
        "name": st.sampled_from(["", "deep"]),
        "condition": none if conditions is None else st.sampled_from(conditions),
        "conditions": none if conditions is not None else st.just(json.dumps(NESTED)),
        "severity": st.sampled_from(list(SEVERITIES)),
        "hysteresis": none if hysteresis is None else st.sampled_from(hysteresis),
        "message": st.just("{rule_name}: v {v}!"),
        "scope": st.sampled_from(
            [None, None, None, '{"v": ["a", "b"]}', '{"v": "c", "n": [1, 2]}']
        ),
        "enabled": st.sampled_from([True, True, True, False, None]),
        "version": UNIQUE,
        "__op": st.sampled_from(["upsert", "upsert", "upsert", "delete"]),
    }
    rows = InputSpec(ROWS, {"x": X}, delay=delay)
    changes = InputSpec(RULES, change, max_rows=8)
    return Case(operator, (rows, changes), by_hand(operator), name)


X = st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.5, 3.0, -2.0, 150.0, 600.0, float("nan"), None])

CASES = [
    case("conditions", conditions=list(CONDITIONS), order="event"),
    case("conditions by arrival", conditions=list(CONDITIONS)),
    case("nested", order="event"),
    case(
        "crossings",
        conditions=list(LOW),
        hysteresis=[None, 0.5, 2.0],
        order="event",
        forget="8s",
    ),
]
