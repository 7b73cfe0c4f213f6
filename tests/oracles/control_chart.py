"""Control charts drawn by hand: key by key, sample by sample, with Python's own arithmetic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE
from headrace.operators import charts
from headrace.operators.charts.chart import Chart
from headrace.operators.control_chart import ControlChart
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema(
    {
        "time": TIME_DTYPE,
        "k": pl.String(),
        "batch": pl.Int64(),
        "x": pl.Float64(),
        "y": pl.Float64(),
        "count": pl.Int64(),
        "size": pl.Int64(),
        "trial": pl.Boolean(),
    }
)
FEW = st.sampled_from([-2.5, -1.25, 0.0, 0.5, 1.5, 2.0, 3.5, 40.0, None, math.nan])
COLUMNS = {
    "k": st.sampled_from(["a", "b", None]),
    "batch": st.sampled_from([1, 1, 2, None]),
    "x": FEW,
    "y": st.sampled_from([-1.0, 0.25, 1.0, 1.75, 4.0, 5.5, None]),
    "count": st.sampled_from([0, 1, 2, 3, 5, 9, None]),
    "size": st.sampled_from([4, 5, 5, 8, 0, None]),
    "trial": st.sampled_from([True, True, True, False, None]),
}
SECOND = 1_000_000

# Closed forms of the range of normal values.
D2 = {2: 1.128, 3: 1.693}
D3 = {2: math.sqrt(2 - 4 / math.pi), 3: math.sqrt(2 + 3 * math.sqrt(3) / math.pi - 9 / math.pi)}


def c4(n: int) -> float:
    return math.sqrt(2 / (n - 1)) * math.gamma(n / 2) / math.gamma((n - 1) / 2)


@dataclass
class Sample:
    """Rows of one sample, and when it was complete."""

    rows: list[dict[str, Any]]
    at: int
    values: list[float] = field(default_factory=list)
    phase: int = 2

    def known(self, *names: str) -> list[tuple[float, ...]]:
        """Return the values of the rows that have all of them."""
        found = [tuple(row[name] for name in names) for row in self.rows]
        return [one for one in found if all(v is not None and math.isfinite(v) for v in one)]


Shown = dict[str, Any]
Draw = Callable[[list[Sample], list[Sample]], list[Shown]]
"""(samples of a key, those of phase I) to what is shown of each."""


def lives(rows: pl.DataFrame, by: Sequence[str], forget: int) -> list[list[dict[str, Any]]]:
    """Split rows in event order by key, and where a key was silent for longer than `forget`."""
    found: dict[Any, list[list[dict[str, Any]]]] = {}
    for row in rows.iter_rows(named=True):
        mine = found.setdefault(tuple(row[name] for name in by), [])
        if not mine or row[EVENT_TIME] - mine[-1][-1][EVENT_TIME] > forget:
            mine.append([])
        mine[-1].append(row)
    return [life for mine in found.values() for life in mine]


def samples_of(
    life: list[dict[str, Any]], size: int | None, subgroup: str | None, forget: int
) -> list[Sample]:
    made: list[Sample] = []
    open_ = False
    for row in life:
        if open_ and subgroup is not None and row[subgroup] != made[-1].rows[0][subgroup]:
            made[-1].at = row[EVENT_TIME]
            open_ = False
        if not open_:
            made.append(Sample([], life[-1][EVENT_TIME] + forget))
            open_ = True
        made[-1].rows.append(row)
        if len(made[-1].rows) == size:
            made[-1].at = row[EVENT_TIME]
            open_ = False
    return made


def trial_samples(samples: list[Sample], phase1: int | str | None, end: int) -> list[Sample]:
    """Mark the samples of phase I, which are judged when it ends, and return them."""
    if phase1 is None:
        return []
    if isinstance(phase1, int):
        chosen = samples[:phase1]
        ends = samples[phase1 - 1].at if len(samples) >= phase1 else end
    else:
        others = [n for n, s in enumerate(samples) if not all(row[phase1] for row in s.rows)]
        chosen = samples[: others[0]] if others else samples
        ends = samples[others[0]].at if others else end
    for sample in chosen:
        sample.phase, sample.at = 1, ends
    return chosen


def broken(  # noqa: C901 - one rule after the other
    points: list[Shown], rules: Sequence[str]
) -> list[list[str]]:
    """Return the rules that each point breaks, from the points up to it."""
    stats = [p["statistic"] for p in points]
    z = []
    for p in points:
        if p["statistic"] is None or p["center"] is None or p["error"] is None:
            z.append(math.nan)
            continue
        gap = p["statistic"] - p["center"]
        tiny = 1e-9 * max(abs(p["statistic"]), abs(p["center"]))
        if abs(gap) <= tiny:
            z.append(0.0)
        else:
            z.append(gap / p["error"] if p["error"] > tiny else math.copysign(math.inf, gap))

    def same_side(at: int, need: int, last: int, sigmas: float) -> bool:
        window = z[max(0, at - last + 1) : at + 1]
        return any(
            side * z[at] > sigmas and sum(side * v > sigmas for v in window) >= need
            for side in (1, -1)
        )

    def all_of(at: int, last: int, holds: Callable[[int], bool]) -> bool:
        return at + 1 >= last and all(holds(n) for n in range(at - last + 1, at + 1))

    def move(n: int) -> int:
        if n == 0 or stats[n] is None or stats[n - 1] is None:
            return 0
        gap = stats[n] - stats[n - 1]
        near = abs(gap) <= 1e-9 * max(abs(stats[n]), abs(stats[n - 1]))
        return 0 if near else 1 if gap > 0 else -1

    def rising(at: int, way: int) -> bool:
        return all_of(at, 5, lambda n: move(n) == way)

    def outside(n: int) -> bool:
        p = points[n]
        if p["statistic"] is None or p["ucl"] is None:
            return False
        slack = 1e-9 * max(abs(p["statistic"]), abs(p["ucl"]), abs(p["lcl"]))
        over: bool = p["statistic"] > p["ucl"] + slack
        under: bool = p["statistic"] < p["lcl"] - slack
        return over or under

    checks: dict[str, Callable[[int], bool]] = {
        "we1": outside,
        "we2": lambda n: same_side(n, 2, 3, 2),
        "we3": lambda n: same_side(n, 4, 5, 1),
        "we4": lambda n: same_side(n, 8, 8, 0),
        "nelson1": outside,
        "nelson2": lambda n: same_side(n, 9, 9, 0),
        "nelson3": lambda n: rising(n, 1) or rising(n, -1),
        "nelson4": lambda n: all_of(n, 12, lambda m: m > 1 and move(m) * move(m - 1) == -1),
        "nelson5": lambda n: same_side(n, 2, 3, 2),
        "nelson6": lambda n: same_side(n, 4, 5, 1),
        "nelson7": lambda n: all_of(n, 15, lambda m: abs(z[m]) < 1 - 1e-9),
        "nelson8": lambda n: all_of(n, 8, lambda m: abs(z[m]) > 1 + 1e-9),
    }
    return [[name for name in rules if checks[name](n)] for n in range(len(points))]


def by_hand(
    chart: Chart, by: Sequence[str], forget: int, draw: Draw, value: tuple[str, ...]
) -> Callable[[pl.DataFrame], dict[str, pl.DataFrame]]:
    declared = ControlChart(chart=chart, value=value, by=tuple(by)).output_schema(SCHEMA)["main"]
    size = chart.size if isinstance(chart.size, int) and not chart.sums_rows else None
    if size is None and chart.subgroup is None:
        size = 1

    def oracle(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        answers: list[dict[str, Any]] = []
        for life in lives(rows, by, forget):
            made = samples_of(life, size, chart.subgroup, forget)
            trial = trial_samples(made, chart.phase1, life[-1][EVENT_TIME] + forget)
            shown = draw(made, trial)
            rules = broken(shown, chart.rules)
            for number, (sample, one, found) in enumerate(zip(made, shown, rules, strict=True), 1):
                first, last = sample.rows[0], sample.rows[-1]
                answers.append(
                    {
                        **first,
                        "number": number,
                        "sample_start": first["time"],
                        "sample_end": last["time"],
                        **one,
                        "phase": sample.phase,
                        "violations": found,
                        EVENT_TIME: sample.at,
                    }
                )
        schema = {**declared, EVENT_TIME: pl.Int64()}
        return {"main": pl.DataFrame([{n: a[n] for n in schema} for a in answers], schema=schema)}

    return oracle


def mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def point(
    statistic: float | None,
    center: float | None,
    sd: float | None,
    error: float | None,
    bounds: tuple[float | None, float | None] = (None, None),
    width: float = 3,
) -> Shown:
    """Return what is shown: limits `width` errors from the centre, inside `bounds`."""
    shown: Shown = {"statistic": statistic, "center": center, "sd": sd, "error": error}
    low = None if center is None or error is None else center - width * error
    high = None if center is None or error is None else center + width * error
    floor, top = bounds
    shown["lcl"] = low if low is None or floor is None else max(low, floor)
    shown["ucl"] = high if high is None or top is None else min(high, top)
    return shown


def extent(values: Sequence[float]) -> float | None:
    return max(values) - min(values) if len(values) > 1 else None


def spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def xs(sample: Sample) -> list[float]:
    return [x for (x,) in sample.known("x")]


def sigma_of_samples(trial: list[Sample], method: str) -> float | None:
    sets = [xs(sample) for sample in trial if len(xs(sample)) > 1]
    if method == "range":
        return mean([(max(s) - min(s)) / D2[len(s)] for s in sets])
    if method == "sd":
        return mean([statistics.stdev(s) / c4(len(s)) for s in sets])
    freedom = sum(len(s) - 1 for s in sets)
    if not freedom:
        return None
    squares = math.fsum(statistics.variance(s) * (len(s) - 1) for s in sets)
    return math.sqrt(squares / freedom) / c4(freedom + 1)


def draw_xbar(method: str, limits: tuple[float, float] | None) -> Draw:
    def draw(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
        everything = [x for sample in trial for x in xs(sample)]
        center, sd = mean(everything), sigma_of_samples(trial, method)
        return [
            point(
                mean(xs(s)), center, sd, None if sd is None or not xs(s) else sd / len(xs(s)) ** 0.5
            )
            | {"n": len(xs(s))}
            | ({} if limits is None else able(limits, center, sd, spread(everything)))
            for s in samples
        ]

    return draw


def able(
    limits: tuple[float, float], center: float | None, sd: float | None, overall: float | None
) -> Shown:
    def ratios(by: float | None) -> list[float | None]:
        if center is None or not by:
            return [None] * 3
        low, high = limits
        return [(high - low) / (6 * by), (center - low) / (3 * by), (high - center) / (3 * by)]

    (cp, cpl, cpu), (pp, ppl, ppu) = ratios(sd), ratios(overall)
    target = sum(limits) / 2
    cpm = None
    if cp is not None and center is not None and sd:
        cpm = cp / math.sqrt(1 + ((center - target) / sd) ** 2)
    lesser = [None if a is None or b is None else min(a, b) for a, b in ((cpl, cpu), (ppl, ppu))]
    names = ("cp", "cpl", "cpu", "cpk", "cpm", "pp", "ppk")
    return dict(zip(names, (cp, cpl, cpu, lesser[0], cpm, pp, lesser[1]), strict=True))


def draw_r(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
    sd = sigma_of_samples(trial, "range")
    shown = []
    for s in samples:
        n = len(xs(s))
        known = sd is not None and n > 1
        center = D2[n] * sd if known and sd is not None else None
        error = D3[n] * sd if known and sd is not None else None
        shown.append(point(extent(xs(s)), center, sd, error, (0, None)) | {"n": n})
    return shown


def draw_s(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
    sd, line = sigma_of_samples(trial, "pooled"), sigma_of_samples(trial, "sd")
    shown = []
    for s in samples:
        n = len(xs(s))
        center = error = None
        if sd is not None and line is not None and n > 1:
            center, error = c4(n) * line, math.sqrt(1 - c4(n) ** 2) * sd
        shown.append(point(spread(xs(s)), center, sd, error, (0, None)) | {"n": n})
    return shown


def moving(samples: list[Sample]) -> list[float | None]:
    single = [xs(s)[0] if xs(s) else None for s in samples]
    pairs = zip([None, *single], single, strict=False)
    return [None if a is None or b is None else abs(b - a) for a, b in pairs]


def draw_individuals(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
    center = mean([x for s in trial for x in xs(s)])
    average = mean([m for m in moving(trial) if m is not None])
    sd = None if average is None else average / D2[2]
    return [
        point(mean(xs(s)), center, sd, sd if xs(s) else None) | {"n": len(xs(s))} for s in samples
    ]


def draw_moving_range(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
    average = mean([m for m in moving(trial) if m is not None])
    if average is None:
        return [
            point(m, None, None, None) | {"n": len(xs(s))}
            for m, s in zip(moving(samples), samples, strict=True)
        ]
    sd = average / D2[2]
    return [
        point(m, average, sd, D3[2] * sd, (0, None)) | {"n": len(xs(s))}
        for m, s in zip(moving(samples), samples, strict=True)
    ]


def draw_known(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
    assert not trial
    return [
        point(mean(xs(s)), 0.5, 1.0, 1.0 if xs(s) else None) | {"n": len(xs(s))} for s in samples
    ]


def totals(sample: Sample) -> tuple[float | None, int]:
    """Return what was counted and what was inspected."""
    rows = [(count, size) for count, size in sample.known("count", "size") if size > 0]
    n = sum(int(size) for _, size in rows)
    return (sum(count for count, _ in rows) if n else None), n


def draw_rates(kind: str) -> Draw:
    def draw(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
        counted = sum(totals(s)[0] or 0 for s in trial)
        inspected = sum(totals(s)[1] for s in trial)
        rate = counted / inspected if inspected else None
        return [rate_point(kind, s, rate) for s in samples]

    return draw


def rate_point(kind: str, sample: Sample, rate: float | None) -> Shown:
    total, n = totals(sample)
    center = sd = error = None
    if rate is not None and (n or kind != "np"):
        center = rate * n if kind == "np" else rate
        sd = math.sqrt(rate) if kind == "u" else None
    if rate is not None and n:
        variance = {"p": rate * (1 - rate) / n, "np": n * rate * (1 - rate), "u": rate / n}
        error = math.sqrt(max(variance[kind], 0))
        sd = sd if kind == "u" else error
    top = {"p": 1.0, "np": float(n), "u": None}[kind]
    statistic = total if kind == "np" or total is None else total / n
    return point(statistic, center, sd, error, (0, top)) | {"n": float(n) if kind == "u" else n}


def draw_c(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
    counts = [sum(c for (c,) in s.known("count")) if s.known("count") else None for s in samples]
    known = [c for c, s in zip(counts, samples, strict=True) if s in trial and c is not None]
    center = mean(known)
    sd = None if center is None else math.sqrt(center)
    return [
        point(c, center, sd, None if c is None else sd, (0, None)) | {"n": len(s.known("count"))}
        for c, s in zip(counts, samples, strict=True)
    ]


Process = tuple[float | None, float | None, float | None, float | None, int]


def process(samples: list[Sample], trial: list[Sample]) -> list[Process]:
    """Return average, centre, sd, standard error and n of samples of two."""
    center, sd = mean([x for s in trial for x in xs(s)]), sigma_of_samples(trial, "range")
    found = []
    for s in samples:
        n = len(xs(s))
        error = None if sd is None or not n else sd / math.sqrt(n)
        found.append((mean(xs(s)), center, sd, error, n))
    return found


def draw_ewma(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
    shown = []
    current: float | None = None
    for number, (x, center, sd, error, n) in enumerate(process(samples, trial), 1):
        current = center if number == 1 else current
        if x is not None and current is not None:
            current = 0.3 * x + 0.7 * current
        width = math.sqrt(0.3 / 1.7 * (1 - 0.7 ** (2 * number)))
        narrow = None if error is None else error * width
        shown.append(point(None if x is None else current, center, sd, narrow) | {"n": n})
    return shown


def draw_cusum(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
    shown = []
    up = down = 0.0
    for x, center, sd, error, n in process(samples, trial):
        statistic = None
        if x is not None and center is not None and error:
            z = (x - center) / error
            up, down = max(0, up + z - 0.25), min(0, down + z + 0.25)
            statistic = up if up >= -down else down
        limits = {"lcl": None if sd is None else -2.0, "ucl": None if sd is None else 2.0}
        one = {"statistic": statistic, "center": center, "sd": sd, "error": None, "n": n}
        shown.append({**one, **limits, "cusum_up": up, "cusum_down": down})
    return shown


def draw_t2(samples: list[Sample], trial: list[Sample]) -> list[Shown]:
    def pair(sample: Sample) -> tuple[Fraction, Fraction] | None:
        found = sample.known("x", "y")
        return (Fraction(found[0][0]), Fraction(found[0][1])) if found else None

    known = [one for one in map(pair, trial) if one is not None]
    m = len(known)
    distance = t2_of(known)
    shown = []
    for sample in samples:
        one, ucl = pair(sample), None
        if m > 3:
            # Beta(1, b) and F(2, d) have quantiles in closed form.
            if sample.phase == 1:
                ucl = (m - 1) ** 2 / m * (1 - 0.1 ** (2 / (m - 3)))
            else:
                f = (m - 2) / 2 * (0.1 ** (-2 / (m - 2)) - 1)
                ucl = 2 * (m + 1) * (m - 1) / (m * (m - 2)) * f
        shown.append(
            {
                **dict.fromkeys(("center", "sd", "error")),
                "statistic": None if one is None or distance is None else distance(*one),
                "lcl": None if ucl is None else 0.0,
                "ucl": ucl,
                "n": 1 if one else 0,
            }
        )
    return shown


def t2_of(known: list[tuple[Fraction, Fraction]]) -> Callable[[Fraction, Fraction], float] | None:
    """Return T² of a point, in fractions: what has no inverse differs from what nearly has none."""
    m = len(known)
    if m < 2:
        return None
    mx, my = sum(x for x, _ in known) / m, sum(y for _, y in known) / m
    a = sum((x - mx) ** 2 for x, _ in known) / (m - 1)
    b = sum((x - mx) * (y - my) for x, y in known) / (m - 1)
    d = sum((y - my) ** 2 for _, y in known) / (m - 1)
    if a * d == b * b:
        return None

    def distance(x: Fraction, y: Fraction) -> float:
        u, v = x - mx, y - my
        return float((u * u * d - 2 * u * v * b + v * v * a) / (a * d - b * b))

    return distance


def case(
    name: str,
    chart: Chart,
    draw: Draw,
    *,
    by: tuple[str, ...] = ("k",),
    value: tuple[str, ...] = ("x",),
    forget: int = 40 * SECOND,
    **spec: Any,
) -> Case:
    operator = ControlChart(chart=chart, value=value, by=by, forget=f"{forget}us")
    inputs = InputSpec(SCHEMA, {**COLUMNS, **spec.pop("columns", {})}, **spec)
    return Case(operator, (inputs,), by_hand(chart, by, forget, draw, value), name=name)


STEADY = st.sampled_from([-0.25, 0.0, 0.25, 0.75, 1.0, 1.25, 1.75, 2.75, 3.5, 0.5])

CASES = [
    case(
        "xbar",
        charts.xbar(subgroup="batch", size=3, phase1=2, capability=(-3, 5)),
        draw_xbar("range", (-3, 5)),
    ),
    case(
        "u",
        charts.u(subgroup="batch", size="size", phase1="trial"),
        draw_rates("u"),
        value=("count",),
        forget=9 * SECOND,
    ),
    case("cusum", charts.cusum(size=2, phase1=2, decision=2, shift=0.5), draw_cusum),
    case(
        "known",
        charts.individuals(center=0.5, sigma=1),
        draw_known,
        by=(),
        forget=1000 * SECOND,
        columns={"x": STEADY | FEW},
        max_rows=40,
    ),
]

FURTHER = [
    case(
        "xbar pooled, marked",
        charts.xbar(size=2, phase1="trial", sigma="pooled"),
        draw_xbar("pooled", None),
        by=(),
    ),
    case("r", charts.r(size=3, phase1=2), draw_r),
    case("s", charts.s(subgroup="batch", sigma="pooled", phase1=3), draw_s),
    case("individuals", charts.individuals(phase1=4), draw_individuals, forget=5 * SECOND),
    case("p", charts.p(size="size", phase1=2), draw_rates("p"), value=("count",)),
    case("np", charts.np(size="size", phase1=3), draw_rates("np"), value=("count",), by=()),
    case("c", charts.c(phase1=3), draw_c, value=("count",)),
    case("ewma", charts.ewma(size=2, lam=0.3, phase1=2), draw_ewma),
    case("t2", charts.t2(phase1=5, confidence=0.9), draw_t2, value=("x", "y"), by=()),
    case("moving range", charts.moving_range(phase1=3), draw_moving_range, by=()),
]
"""Charts that differ in formulas alone: tried against their oracle, not under every law."""
