"""`rules`: 10 000 rules over rows of 20 metrics, in memory, compared with NumPy's answer."""

from __future__ import annotations

import resource
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

import headrace as hr
from headrace.bench.contenders import Say
from headrace.bench.result import Result, quantiles
from headrace.bench.stepped import STEP_ROWS, stepped
from headrace.core.errors import BugError
from headrace.core.log import OP, UPSERT
from headrace.core.time import TIME_DTYPE

RULES: Final = 10_000
METRICS: Final = 20
VEHICLES: Final = 1_000
ROWS: Final = 1_000_000
QUICK_ROWS: Final = 131_072
ROUNDS: Final = 3
TARGET_ROWS_PER_S: Final = 100_000
TIME_US: Final = 1_700_000_000_000_000
SPACING_US: Final = 10

Bools = npt.NDArray[np.bool_]


class Limit(NamedTuple):
    """One comparison: the metric is above or below a constant."""

    metric: int
    above: bool
    value: float

    def text(self) -> str:
        """Return it as SQL."""
        return f"m{self.metric} {'>' if self.above else '<'} {self.value!r}"

    def entry(self) -> dict[str, Any]:
        """Return it as an entry of a structured list."""
        operator = "gt" if self.above else "lt"
        return {"metric": f"m{self.metric}", "operator": operator, "threshold": self.value}

    def holds(self, values: npt.NDArray[np.float64]) -> Bools:
        """Return the rows for which it holds, from one line per metric."""
        found: Bools = (
            values[self.metric] > self.value if self.above else values[self.metric] < self.value
        )
        return found


class Wanted(NamedTuple):
    """A rule: every limit holds, and any of the others, for one vehicle or all."""

    every: tuple[Limit, ...]
    some: tuple[Limit, ...]
    vehicle: int | None
    as_list: bool

    def record(self, number: int) -> dict[str, Any]:
        """Return it as people write it."""
        rule: dict[str, Any] = {
            "rule_id": f"r{number:05}",
            "message": "{vehicle}: {m0:.1f}",
            "scope": None if self.vehicle is None else {"vehicle": f"v{self.vehicle}"},
        }
        if self.as_list:
            nested = [{"any": [limit.entry() for limit in self.some]}] if self.some else []
            return rule | {"conditions": [*(limit.entry() for limit in self.every), *nested]}
        others = " OR ".join(limit.text() for limit in self.some)
        parts = [*(limit.text() for limit in self.every), *([f"({others})"] if others else [])]
        return rule | {"condition": " AND ".join(parts)}


def wanted(seed: int = 1) -> list[Wanted]:
    """Return the rules: two fifths one comparison, the others two or three; a tenth for one
    vehicle. Each holds for about one row of 100 000, one vehicle's for one of its 400.
    """
    random = np.random.default_rng(seed)

    def limit(deviations: float) -> Limit:
        value = round(float(random.normal(deviations, 0.1)), 4)
        above = bool(random.random() < 0.5)  # noqa: PLR2004 - either side alike
        return Limit(int(random.integers(METRICS)), above, value if above else -value)

    rules = []
    for number in range(RULES):
        kind = number % 10
        if kind < 4:  # noqa: PLR2004 - two fifths
            rules.append(Wanted((limit(4.3),), (), None, as_list=False))
        elif kind < 7:  # noqa: PLR2004 - three tenths
            rules.append(Wanted((limit(2.8), limit(2.8)), (), None, as_list=kind % 2 == 0))
        elif kind < 9:  # noqa: PLR2004 - a fifth
            some = (limit(2.9), limit(2.9))
            rules.append(Wanted((limit(2.8),), some, None, as_list=kind % 2 == 0))
        else:
            vehicle = int(random.integers(VEHICLES))
            rules.append(Wanted((limit(2.8),), (), vehicle, as_list=False))
    return rules


def rows(count: int, seed: int = 2) -> pl.DataFrame:
    """Return rows of vehicles that report in turn, their metrics normally distributed."""
    random = np.random.default_rng(seed)
    names = pl.Series([f"v{number}" for number in range(VEHICLES)])
    columns = {f"m{number}": random.normal(0.0, 1.0, count) for number in range(METRICS)}
    return pl.DataFrame(
        {
            "vehicle": names[np.arange(count) % VEHICLES],
            "time": pl.Series(TIME_US + np.arange(count) * SPACING_US).cast(TIME_DTYPE),
            **columns,
        }
    )


def application() -> hr.App:
    """Return the app: every violation, as soon as the row is there."""
    app = hr.App("bench-rules")
    metrics = {f"m{number}": pl.Float64() for number in range(METRICS)}
    schema = pl.Schema({"vehicle": pl.String(), "time": TIME_DTYPE, **metrics})
    stream = app.topic("rows", schema, time="time")
    table = app.control_table("rules", hr.Rule, key="rule_id")
    app.output("violations", stream.rules(table, by="vehicle"))
    return app


def answer(frame: pl.DataFrame, rules: list[Wanted]) -> pl.DataFrame:
    """Return row and rule of every violation, rule by rule over all rows."""
    values = np.stack([frame[f"m{number}"].to_numpy() for number in range(METRICS)])
    vehicle = np.arange(frame.height) % VEHICLES
    found = []
    for number, rule in enumerate(rules):
        place = slice(None) if rule.vehicle is None else vehicle == rule.vehicle
        seen = values[:, place]
        holds = np.logical_and.reduce([limit.holds(seen) for limit in rule.every])
        if rule.some:
            holds &= np.logical_or.reduce([limit.holds(seen) for limit in rule.some])
        row = np.arange(frame.height)[place][holds]
        found.append(pl.DataFrame({"row": row, "rule": np.full(row.size, number)}))
    return pl.concat(found).sort("row", "rule")


def run(say: Say, *, quick: bool = False) -> Result:
    """Step the engine over rows in memory; compare every violation with `answer`.

    Raises:
        BugError: A violation is missing or too many.
    """
    count, rounds = (QUICK_ROWS, 1) if quick else (ROWS, ROUNDS)
    rules, frame = wanted(), rows(count)
    records = hr.Rule.frame([rule.record(number) for number, rule in enumerate(rules)])
    changes = records.with_columns(pl.lit(UPSERT).alias(OP), pl.lit(1, pl.Int64).alias("version"))
    batches = [{"rows": batch} for batch in frame.iter_slices(STEP_ROWS)]
    made = []
    for number in range(rounds):
        made.append(stepped(application(), batches, "violations", {"rules.changes": changes}))
        say(f"round {number + 1}: {count / made[-1].seconds:,.0f} rows/s")
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    expected = answer(frame, rules)
    for one in made:
        got = one.output.select(
            row=(pl.col("time").dt.epoch("us") - TIME_US) // SPACING_US,
            rule=pl.col("rule_id").str.tail(5).cast(pl.Int64),
        ).sort("row", "rule")
        if not got.equals(expected):
            raise BugError(f"rules gave {got.height} violations, NumPy {expected.height}")
    speed = count / median(one.seconds for one in made)
    spread = quantiles([step for one in made for step in one.steps_ns])
    return Result(
        bench="rules",
        rows_per_s=speed,
        p50_ms=spread.p50,
        p95_ms=spread.p95,
        p99_ms=spread.p99,
        peak_rss_mb=peak_rss_mb,
        cpu_s_per_million_rows=median(one.cpu_s for one in made) / count * 1e6,
        checked=True,
        target=f"≥ {TARGET_ROWS_PER_S:,} rows/s",
        met=speed >= TARGET_ROWS_PER_S,
        detail=(
            f"{count:,} rows of {METRICS} metrics of {VEHICLES:,} vehicles against {RULES:,} "
            f"rules, {expected.height:,} violations equal to NumPy's; ms are per step of "
            f"{STEP_ROWS:,} rows; median of {rounds}"
        ),
    )
