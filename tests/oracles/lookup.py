"""Lookup as a loop over rows and the table's rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE
from headrace.operators.lookup import Lookup
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "j": pl.Float64(), "x": pl.Int64()})
TABLE = pl.Schema(
    {
        "j": pl.Float64(),
        "id": pl.String(),
        "x": pl.Int64(),
        "word": pl.String(),
        "__op": pl.String(),
    }
)
KEYS = st.sampled_from([0.0, -0.0, 1.0, float("nan"), None])
CHANGES = InputSpec(
    TABLE,
    {
        "j": KEYS,
        "id": st.sampled_from(["a", "b", "c", None]),
        "__op": st.sampled_from(["upsert", "upsert", "upsert", "delete"]),
    },
    max_rows=12,
)


def same(value: Any) -> Any:
    """Return what stands for equal keys: NaN is one key, and 0.0 is -0.0."""
    return "nan" if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN


def answer(
    row: dict[str, Any], hits: list[dict[str, Any]], how: str, added: dict[str, str]
) -> list[dict[str, Any]]:
    """Return what becomes of one row; `added` names the table's columns in the result."""
    if how in ("semi", "anti"):
        return [row] if bool(hits) == (how == "semi") else []
    if not hits and how == "left":
        return [{**row, **dict.fromkeys(added.values())}]
    return [{**row, **{new: hit[old] for old, new in added.items()}} for hit in hits]


def added_columns(lookup: Any, left: pl.Schema, right: pl.Schema) -> dict[str, str]:
    named = {column for _, column in lookup.on}
    return {
        name: f"{name}{lookup.suffix}" if name in left else name
        for name in right
        if name not in (*named, "__op")
    }


def by_hand(
    lookup: Lookup,
) -> Callable[[pl.DataFrame, pl.DataFrame], dict[str, pl.DataFrame]]:
    added = added_columns(lookup, SCHEMA, TABLE)

    def oracle(rows: pl.DataFrame, changes: pl.DataFrame) -> dict[str, pl.DataFrame]:
        table: dict[tuple[Any, ...], dict[str, Any]] = {}
        for change in changes.to_dicts():
            key = tuple(same(change[name]) for name in lookup.key)
            table.pop(key, None)
            if change["__op"] == "upsert":
                table[key] = change
        made = []
        for row in rows.to_dicts():
            hits = [
                held
                for held in table.values()
                if all(
                    row[left] is not None and same(row[left]) == same(held[right])
                    for left, right in lookup.on
                )
            ]
            made += answer(row, hits, lookup.how, added)
        new = {} if lookup.how in ("semi", "anti") else {n: TABLE[o] for o, n in added.items()}
        schema = {**SCHEMA, **new, EVENT_TIME: pl.Int64()}
        return {"main": pl.DataFrame([{n: row[n] for n in schema} for row in made], schema)}

    return oracle


def case(name: str, **parameters: Any) -> Case:
    lookup = Lookup(**parameters)
    rows = InputSpec(SCHEMA, {"j": KEYS})
    return Case(lookup, (rows, CHANGES), by_hand(lookup), name)


LAGGING = Lookup(on={"j": "j", "k": "id"}, key=("id", "j"), lagging=True)

CASES = [
    case("one", on="j", key="j"),
    case("many inner", on="j", key=("id", "j"), many=True, how="inner"),
    case("two keys", on={"k": "id", "j": "j"}, key=("j", "id"), how="semi"),
    Case(LAGGING, (InputSpec(SCHEMA, {"j": KEYS}), CHANGES), name="lagging"),
]
