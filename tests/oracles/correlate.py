"""Correlated events as a loop over all pairs, and counts as a loop over all events."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE, micros
from headrace.operators.correlate import Correlate
from headrace.testing.laws import UNIQUE, Case, InputSpec

SCHEMA = pl.Schema({"id": pl.Int64(), "time": TIME_DTYPE, "k": pl.Float64(), "kind": pl.String()})
KINDS = ("b", "a", "c")
EVENTS = InputSpec(
    SCHEMA,
    columns={
        "id": UNIQUE,
        "k": st.sampled_from([0.0, -0.0, math.nan, None]),
        "kind": st.sampled_from(["a", "b", "c", "other", None]),
    },
    max_rows=24,
)
Row = dict[str, Any]


def same(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    return left == right or (math.isnan(left) and math.isnan(right))


def by_hand(operator: Correlate) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    reach = micros(operator.within)

    def oracle(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        events = [row for row in rows.to_dicts() if row["kind"] in KINDS]
        kinds: Counter[str] = Counter()
        after: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        told = []
        for number, event in enumerate(events):
            newest = {
                other["kind"]: other
                for other in events[:number]
                if event[EVENT_TIME] - other[EVENT_TIME] <= reach
                and (not operator.on or same(event["k"], other["k"]))
            }
            kinds[event["kind"]] += 1
            after.update(newest.keys())
            pairs.update((kind, event["kind"]) for kind in newest)
            members = []
            for kind in KINDS:
                if kind == event["kind"] or kind not in newest:
                    continue
                count = pairs[kind, event["kind"]]
                chance = after[kind] * kinds[event["kind"]]
                scores = {
                    "lift": float(Fraction(count * (number + 1), chance)),
                    "confidence": count / after[kind],
                    "support": count / (number + 1),
                }
                if count >= operator.min_count and scores["lift"] >= operator.min_lift:
                    other = newest[kind]
                    known = {"kind": kind, "id": other["id"], "time": other["time"]}
                    members.append({**known, "count": count, **scores})
            if members:
                best = max(members, key=lambda member: member["lift"])
                members.sort(key=lambda member: member["time"])
                told.append(row_of(operator, event, members, best))
        schema = operator.output_schema(SCHEMA)["main"]
        return {"main": pl.DataFrame(told, schema={**schema, EVENT_TIME: pl.Int64()})}

    return oracle


def row_of(operator: Correlate, event: Row, members: list[Row], best: Row) -> Row:
    return {
        **{name: event[name] for name in operator.on},
        "kind": event["kind"],
        **({"id": event["id"]} if operator.id_column else {}),
        "match_start": members[0]["time"],
        "match_end": event["time"],
        "members": [
            {name: value for name, value in member.items() if operator.id_column or name != "id"}
            for member in members
        ],
        **{name: best[name] for name in ("lift", "confidence", "support")},
        EVENT_TIME: event[EVENT_TIME],
    }


def case(name: str, **parameters: Any) -> Case:
    operator = Correlate(kinds=KINDS, within="5s", **parameters)
    return Case(operator, (EVENTS,), by_hand(operator), name=name)


CASES = [
    case("by key", on="k", id_column="id"),
    case("learnt", min_lift=1.2, min_count=2),
]
