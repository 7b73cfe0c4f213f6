"""Every key's chart: what is known of it, and the next samples drawn into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from headrace.core.protocols import Tables, TableSpec
from headrace.core.time import END_OF_TIME, EVENT_TIME, POSITION
from headrace.operators.charts.capability import capability
from headrace.operators.charts.chart import SIZE, Chart
from headrace.operators.charts.constants import Floats
from headrace.operators.charts.lives import LABEL, LIFE, Cut, Lives
from headrace.operators.charts.phases import (
    CLOSED,
    CLOSED_PLACE,
    NUMBER,
    TRIAL,
    Trial,
    lives_of,
)
from headrace.operators.charts.rules import RULES, judged
from headrace.operators.charts.samples import Drawn, Groups, Measures, Rows, Sheet
from headrace.operators.key_runs import ALL, Bools, Ints, key_runs

CHARTS: Final = "charts"
NEXT: Final = "next"
START: Final = "__start"
END: Final = "__end"
OLD: Final = "__old"
WEIGHT: Final = "__weight"
KNOWN: Final = "__known_"

_DONE: Final = "__done"
_COUNT: Final = "__count"
_LATEST: Final = "__latest"
_PLACE: Final = "__place"


def value_name(number: int) -> str:
    """Return the column in which the value column of that number stands."""
    return f"__value{number}"


class Book:
    """Charts by key, kept in the operator's tables.

    A key's state is its unfinished sample (rows), the samples that still matter (all of phase I
    until it ends, then those that rules look back at), its estimates, and its last event time.

    Args:
        tables: Those that `specs` declares.
        chart: What to draw.
        by: Key columns.
        values: Number of value columns.
        forget: Longest silence of a key before its chart begins anew, microseconds.
        label: Dtype of the subgroup column, None without.
    """

    def __init__(
        self,
        tables: Tables,
        chart: Chart,
        by: Sequence[str],
        values: int,
        forget: int,
        label: pl.DataType | None,
    ) -> None:
        self._chart = chart
        self._by = list(by)
        self._values = values
        self._forget = forget
        self._table = tables.keyed(CHARTS)
        self._next = tables.blob(NEXT)
        self._row_columns = list(row_columns(values, label))
        self._sample_columns = list(sample_columns(chart, values, label))
        self._estimates = chart.estimated(values)
        self._measures = (SIZE, *chart.measures(values))

    @staticmethod
    def specs(
        chart: Chart, keys: pl.Schema, values: int, label: pl.DataType | None
    ) -> tuple[TableSpec, ...]:
        """Declare the charts by key, and when the first of them may be forgotten."""
        columns: dict[str, pl.DataType] = {**(keys or {ALL: pl.Boolean()})}
        key = tuple(columns)
        for name, dtype in row_columns(values, label).items():
            columns[_row(name)] = pl.List(dtype)
        for name, dtype in sample_columns(chart, values, label).items():
            columns[_sample(name)] = pl.List(dtype)
        columns |= {KNOWN + name: pl.Float64() for name in chart.estimated(values)}
        columns |= {_DONE: pl.Boolean(), _COUNT: pl.Int64(), _LATEST: pl.Int64()}
        columns[_PLACE] = pl.Int64()
        charts = TableSpec(CHARTS, "keyed", pl.Schema(columns), key=key)
        return (charts, TableSpec(NEXT, "blob"))

    @property
    def deadline(self) -> int:
        """A watermark up to which no key is forgotten; END_OF_TIME without keys."""
        return int(self._next.value or END_OF_TIME)

    def draw(self, rows: pl.DataFrame | None, watermark: int) -> pl.DataFrame | None:
        """Draw rows that come in event order, and what no row before `watermark` can add to.

        Args:
            rows: Key columns, the columns of `row_columns`; None without new rows.
            watermark: Keys silent for longer than `forget` before it are closed and forgotten.

        Returns:
            One row per sample judged: key columns, those of `sample_columns`, `KNOWN` estimates
            and what is drawn, with hidden columns; None when there are none.
        """
        drawn = []
        if rows is not None:
            runs = key_runs(rows, self._by)
            state = self._table.lookup(runs.keys)
            drawn.append(self._work(runs.keys, state, rows[runs.order], runs.key_of, watermark))
        if watermark >= self.deadline:
            # Keys with new rows were judged above; what is left to expire had none.
            gone = self._table.expire(_LATEST, watermark - self._forget)
            if gone.height:
                state = gone.with_columns(pl.lit(value=True).alias("__found"))
                nothing = gone.select(
                    **{n: state[_row(n)].explode().clear() for n in self._row_columns}
                )
                keys = gone.select(self._by or [ALL])
                drawn.append(self._work(keys, state, nothing, np.zeros(0, np.int64), watermark))
            self._set_deadline(self._table.frame()[_LATEST].min())
        found = [frame for frame in drawn if frame is not None]
        if not found:
            return None
        return pl.concat(found).sort(EVENT_TIME, POSITION, maintain_order=True)

    def _work(
        self, keys: pl.DataFrame, state: pl.DataFrame, rows: pl.DataFrame, key_of: Ints, mark: int
    ) -> pl.DataFrame | None:
        lives = Lives.of(state, rows, key_of, self._forget, mark)
        memory = _Memory.of(state, lives, knows=self._chart.phase1 is None)
        open_rows, samples = self._cut(state, rows, lives, memory)
        trial = Trial.of(self._chart.phase1, samples, lives, memory.done)
        known = self._known(memory, samples, lives, trial)
        life = lives_of(samples)
        shown = trial.done[life] | lives.over[life]
        fresh = shown & ~(samples[OLD].to_numpy() & memory.done[life])
        if not fresh.any():
            self._store(keys, lives, memory, trial, known, open_rows, samples)
            return None
        seen = samples.filter(pl.Series(shown))
        sheet = self._sheet(seen, known, trial.rows[shown], lives.count)
        with np.errstate(all="ignore"):
            drawn = self._chart.draw(sheet)
        seen = seen.with_columns(_floats(drawn.more))
        waiting = samples.filter(pl.Series(~shown))
        self._store(keys, lives, memory, trial, known, open_rows, pl.concat([waiting, seen]))
        return self._answers(
            keys, lives, seen, sheet, drawn, trial.time[shown], trial.place[shown], fresh[shown]
        )

    def _cut(
        self, state: pl.DataFrame, rows: pl.DataFrame, lives: Lives, memory: _Memory
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows of unfinished samples, and the samples kept and new, life by life."""
        begun = _unlisted(state, lives, _row, self._row_columns)
        new = rows.select(pl.Series(LIFE, lives.of_row, dtype=pl.Int64), *self._row_columns)
        together = pl.concat([begun, new]).sort(LIFE, maintain_order=True)
        cut = Cut.of(together, lives, self._chart.rows_per_sample)
        closed = cut.closed[cut.sample]
        open_rows = together.filter(pl.Series(~closed))
        kept = _unlisted(state, lives, _sample, self._sample_columns)
        kept = kept.with_columns(pl.lit(value=True).alias(OLD))
        if not closed.any():
            return open_rows, kept
        made = self._made(together.filter(pl.Series(closed)), cut, closed, memory.count)
        samples = pl.concat([kept, made.select(kept.columns)])
        return open_rows, samples.sort(LIFE, maintain_order=True)

    def _made(self, rows: pl.DataFrame, cut: Cut, closed: Bools, count: Ints) -> pl.DataFrame:
        """Return the samples of the rows of closed samples."""
        renumbered = np.cumsum(cut.closed) - 1
        groups = Groups(renumbered[cut.sample[closed]], int(np.count_nonzero(cut.closed)))
        values = tuple(rows[value_name(n)].to_numpy() for n in range(self._values))
        with np.errstate(all="ignore"):
            measures = self._chart.reduce(Rows(values, rows[WEIGHT].to_numpy(), groups))
        sizes = np.bincount(groups.of, minlength=groups.count)
        last = np.cumsum(sizes) - 1
        first = last - sizes + 1
        life = rows[LIFE].to_numpy()[first]
        rank = Groups(life, count.size).place()
        trial = groups.least(rows[TRIAL].to_numpy().astype(np.float64)) > 0
        columns = [
            pl.Series(LIFE, life, dtype=pl.Int64),
            pl.Series(NUMBER, count[life] + rank + 1, dtype=pl.Int64),
            rows[EVENT_TIME][first].alias(START),
            rows[EVENT_TIME][last].alias(END),
            pl.Series(CLOSED, cut.at[cut.closed], dtype=pl.Int64),
            pl.Series(CLOSED_PLACE, cut.place[cut.closed], dtype=pl.Int64),
            pl.Series(TRIAL, trial, dtype=pl.Boolean),
            *_floats(measures),
            *_floats({name: np.full(first.size, np.nan) for name in self._chart.remembers}),
            pl.repeat(value=False, n=first.size, dtype=pl.Boolean, eager=True).alias(OLD),
        ]
        if LABEL in rows.columns:
            columns.append(rows[LABEL][first])
        return pl.DataFrame(columns)

    def _known(
        self, memory: _Memory, samples: pl.DataFrame, lives: Lives, trial: Trial
    ) -> dict[str, Floats]:
        """Return the estimates of each life, those that end phase I among them."""
        given = self._chart.given() if self._chart.phase1 is None else {}
        known = {name: memory.known(name, given.get(name, np.nan)) for name in self._estimates}
        ready = (trial.done | lives.over) & ~memory.done
        if ready.any():
            life = lives_of(samples)
            used = trial.rows & ready[life]
            groups = Groups((np.cumsum(ready) - 1)[life[used]], int(np.count_nonzero(ready)))
            chosen = samples.filter(pl.Series(used))
            measures = {name: chosen[name].to_numpy() for name in self._measures}
            with np.errstate(all="ignore"):
                estimated = self._chart.estimate(measures, groups)
            for name, values in estimated.items():
                known[name][ready] = values
        return known

    def _sheet(
        self, samples: pl.DataFrame, known: dict[str, Floats], trial: Bools, lives: int
    ) -> Sheet:
        life = lives_of(samples)
        names = (*self._measures, *self._chart.remembers)
        measures = {name: samples[name].to_numpy() for name in names}
        measures[NUMBER] = samples[NUMBER].to_numpy().astype(np.float64)
        of_sample = {name: values[life] for name, values in known.items()}
        return Sheet(measures, of_sample, Groups(life, lives), trial)

    def _answers(  # noqa: PLR0913, PLR0917 - one call
        self,
        keys: pl.DataFrame,
        lives: Lives,
        samples: pl.DataFrame,
        sheet: Sheet,
        drawn: Drawn,
        time: Ints,
        place: Ints,
        fresh: Bools,
    ) -> pl.DataFrame:
        numbers = {
            "statistic": drawn.statistic,
            "center": drawn.center,
            "sd": drawn.sd,
            "lcl": drawn.lcl,
            "ucl": drawn.ucl,
        }
        with np.errstate(all="ignore"):
            able = self._capability(sheet)
        more = {name: drawn.more[name] for name in self._chart.shows} | able
        labelled = [samples[LABEL]] if LABEL in samples.columns else []
        answers = pl.DataFrame(
            [
                *keys[lives.key[lives_of(samples)]].get_columns(),
                *labelled,
                *samples.select(NUMBER, START, END).get_columns(),
                pl.Series(SIZE, sheet.samples[SIZE]).cast(self._chart.size_dtype),
                *_floats(numbers),
                pl.Series("phase", np.where(sheet.trial, 1, 2), dtype=pl.Int64),
                violations(self._chart.rules, drawn, sheet.keys),
                *_floats(more),
                pl.Series(EVENT_TIME, time, dtype=pl.Int64),
                pl.Series(POSITION, place, dtype=pl.Int64),
            ]
        )
        return answers.filter(pl.Series(fresh)).with_columns(
            pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name)
            for name in (*numbers, *more)
        )

    def _capability(self, sheet: Sheet) -> dict[str, Floats]:
        limits = self._chart.capability
        return {} if limits is None else capability(limits, sheet.known)

    def _store(
        self,
        keys: pl.DataFrame,
        lives: Lives,
        memory: _Memory,
        trial: Trial,
        known: dict[str, Floats],
        rows: pl.DataFrame,
        samples: pl.DataFrame,
    ) -> None:
        alive = np.flatnonzero(~lives.over)
        ended = np.ones(keys.height, dtype=np.bool_)
        ended[lives.key[alive]] = False
        self._table.delete(keys.filter(pl.Series(ended)))
        if not alive.size:
            return
        made = np.bincount(lives_of(samples.filter(~pl.col(OLD))), minlength=lives.count)
        since = pl.len().over(LIFE) - pl.int_range(pl.len()).over(LIFE)
        finished = pl.Series(trial.done[lives_of(samples)])
        kept = samples.filter(
            ~finished | samples.select(since <= self._chart.look_back).to_series()
        )
        frame = pl.DataFrame(
            [
                pl.Series(LIFE, alive, dtype=pl.Int64),
                *keys[lives.key[alive]].get_columns(),
                *_floats({KNOWN + name: values[alive] for name, values in known.items()}),
                pl.Series(_DONE, trial.done[alive], dtype=pl.Boolean),
                pl.Series(_COUNT, (memory.count + made)[alive], dtype=pl.Int64),
                pl.Series(_LATEST, lives.latest[alive], dtype=pl.Int64),
                pl.Series(_PLACE, lives.place[alive], dtype=pl.Int64),
            ]
        )
        for name, lists in (
            (_row, rows.select(LIFE, *self._row_columns)),
            (_sample, kept.select(LIFE, *self._sample_columns)),
        ):
            listed = lists.group_by(LIFE, maintain_order=True).agg(pl.exclude(LIFE).name.map(name))
            frame = frame.join(listed, on=LIFE, how="left", maintain_order="left")
        self._table.upsert(frame)
        self._set_deadline(min(self.deadline - self._forget - 1, int(lives.latest[alive].min())))

    def _set_deadline(self, latest: object) -> None:
        deadline = latest + self._forget + 1 if isinstance(latest, int) else END_OF_TIME
        self._next.replace(str(deadline).encode())


@dataclass(frozen=True)
class _Memory:
    """What was stored, life by life; lives that begin know nothing."""

    lives: Lives
    state: pl.DataFrame
    done: Bools
    count: Ints

    @classmethod
    def of(cls, state: pl.DataFrame, lives: Lives, *, knows: bool) -> _Memory:
        begun = state.filter(pl.Series(lives.stored >= 0))
        at = lives.stored[lives.stored >= 0]
        done = np.full(lives.count, knows)
        count = np.zeros(lives.count, dtype=np.int64)
        done[at] = begun[_DONE].to_numpy()
        count[at] = begun[_COUNT].to_numpy()
        return cls(lives, begun, done, count)

    def known(self, name: str, otherwise: float) -> Floats:
        """Return the estimate `name` of each life."""
        values = np.full(self.lives.count, otherwise)
        values[self.lives.stored[self.lives.stored >= 0]] = self.state[KNOWN + name].to_numpy()
        return values


def row_columns(values: int, label: pl.DataType | None) -> dict[str, pl.DataType]:
    """Return what is kept of a row of an unfinished sample."""
    columns: dict[str, pl.DataType] = {value_name(n): pl.Float64() for n in range(values)}
    columns |= {WEIGHT: pl.Float64(), TRIAL: pl.Boolean()}
    columns |= {EVENT_TIME: pl.Int64(), POSITION: pl.Int64()}
    return columns if label is None else {**columns, LABEL: label}


def sample_columns(chart: Chart, values: int, label: pl.DataType | None) -> dict[str, pl.DataType]:
    """Return what is kept of a sample."""
    columns: dict[str, pl.DataType] = dict.fromkeys(
        (NUMBER, START, END, CLOSED, CLOSED_PLACE), pl.Int64()
    )
    columns[TRIAL] = pl.Boolean()
    floats = (SIZE, *chart.measures(values), *chart.remembers)
    columns |= dict.fromkeys(floats, pl.Float64())
    return columns if label is None else {**columns, LABEL: label}


def violations(rules: Sequence[str], drawn: Drawn, keys: Groups) -> pl.Series:
    """Return the names of the rules that each sample breaks."""
    found: list[list[str]] = [[] for _ in range(drawn.statistic.size)]
    with np.errstate(all="ignore"):
        points = judged(drawn, keys.place())
        for name in rules:
            for at in np.flatnonzero(RULES[name](points)):
                found[at].append(name)
    return pl.Series("violations", found, dtype=pl.List(pl.String))


def _unlisted(
    state: pl.DataFrame, lives: Lives, name_of: Callable[[str], str], names: Sequence[str]
) -> pl.DataFrame:
    """Return what the lists of each stored life hold, one row per element."""
    listed = state.select(
        pl.Series(LIFE, lives.stored, dtype=pl.Int64),
        *(pl.col(name_of(name)).alias(name) for name in names),
    )
    return listed.filter(pl.col(names[0]).list.len() > 0).explode(names)


def _floats(columns: Measures) -> list[pl.Series]:
    return [pl.Series(name, values, dtype=pl.Float64) for name, values in columns.items()]


def _row(name: str) -> str:
    return f"__row_{name}"


def _sample(name: str) -> str:
    return f"__sample_{name}"
