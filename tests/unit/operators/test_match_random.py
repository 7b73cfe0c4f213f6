"""Patterns made at random give what an enumeration of all assignments gives."""

from __future__ import annotations

import random
from typing import Any, Final

import polars as pl

import headrace as hr
from headrace.operators.match import Match
from headrace.operators.patterns.pattern import Pattern
from tests.oracles.match import Enumeration, Holds
from tests.unit.operators.drive import SECOND, Drive, cut, timed
from tests.unit.operators.test_match import SCHEMA, A, B, N, rows

CONDITIONS: Final = {"s0": A, "s1": A | B, "s2": B, "n": N}
HOLDS: Final[dict[str, Holds]] = {
    "s0": lambda row, _: row["c"] == "a",
    "s1": lambda row, _: row["c"] in ("a", "b"),
    "s2": lambda row, _: row["c"] == "b",
    "n": lambda row, _: row["c"] == "n",
    "s1.until": lambda row, _: row["c"] == "n",
}
BOUND_S: Final = 5


def test_random_patterns_give_what_enumeration_gives_however_they_are_cut() -> None:
    rng = random.Random(11)  # noqa: S311 - any numbers will do
    given = 0
    for _ in range(12):
        pattern = random_pattern(rng)
        skip = rng.choice(["none", "past_last", "to_next", ("to_first", "s2"), ("to_last", "s0")])
        measures = (("rows", hr.matched().collect("n")), ("s1", hr.matched("s1").collect("n")))
        operator = Match(pattern=pattern, by=("k",), skip=skip, measures=measures)
        keys = [rows("".join(rng.choices("aaabbnx", k=6)), key=str(key)) for key in range(16)]
        frame = timed(pl.concat(keys).sort("t", maintain_order=True))
        run = Drive(operator, SCHEMA, reopen=True)
        for piece in cut(frame, [rng.randrange(frame.height) for _ in range(3)]):
            run.step(piece, watermark=piece["t"].to_list()[-1])
        expected = [
            (str(key), list(one.order), list(one.rows["s1"]))
            for key, mine in enumerate(keys)
            for one in Enumeration(pattern, HOLDS, mine.to_dicts(), BOUND_S * SECOND).matches(skip)
        ]

        assert sorted(run.finish().rows().select("k", "rows", "s1").rows()) == sorted(expected)
        given += len(expected)
    assert given > 50


def random_pattern(rng: random.Random) -> Pattern:
    """Return a pattern of the steps s0 to s2, the latter two perhaps a group."""
    pattern = hr.Pattern.begin("s0", CONDITIONS["s0"], **words(rng, "s0"))
    absence = rng.choice(["", "", "not_next", "not_followed_by", "for a second"])
    if absence == "not_next":
        pattern = pattern.not_next("n", CONDITIONS["n"])
    elif absence:
        within = "1s" if absence == "for a second" else None
        pattern = pattern.not_followed_by("n", CONDITIONS["n"], within=within)
    if rng.random() < 0.4:
        inner = words(rng, "s1")
        group = hr.Pattern.begin("s1", CONDITIONS["s1"], **inner)
        group = group.next("s2", CONDITIONS["s2"], optional=not inner["optional"])
        if rng.random() < 0.5:
            group = rng.choice([hr.all_of, hr.any_of])(s1=CONDITIONS["s1"], s2=CONDITIONS["s2"])
        return pattern.followed_by(group, **words(rng, "group")).within(f"{BOUND_S}s")
    for name in ("s1", "s2"):
        verb = rng.choice(
            [pattern.next, pattern.followed_by, pattern.followed_by, pattern.followed_by_any]
        )
        more = words(rng, name)
        pattern = verb(
            name, CONDITIONS[name], **{**more, "optional": more["optional"] and name == "s1"}
        )
    return pattern.within(f"{BOUND_S}s")


def words(rng: random.Random, name: str) -> dict[str, Any]:
    """Return what is said of a step beside its condition."""
    times = rng.choice([1, 1, 1, 2, (1, 2), (1, None)])
    ends = name == "s1" and isinstance(times, tuple) and times[1] is None
    until: pl.Expr | None = CONDITIONS["n"] if ends else None
    return {
        "times": times,
        "contiguity": rng.choice(["relaxed", "relaxed", "strict", "any"]),
        "optional": name in ("s1", "s2") and rng.random() < 0.3,
        "greedy": rng.random() < 0.3,
        "until": until,
    }
