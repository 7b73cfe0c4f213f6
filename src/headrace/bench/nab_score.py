"""The Numenta Anomaly Benchmark's own scoring: windows, sigmoid, profiles, thresholds.

Source: A. Lavin and S. Ahmad, Evaluating real-time anomaly detection algorithms: the Numenta
Anomaly Benchmark (ICMLA 2015), and the benchmark's reference scorer, whose published numbers
`tests/unit/bench/test_nab_score.py` reproduces.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.core.time import TIME_DTYPE

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PROBATION_SHARE: Final = 0.15
PROBATION_ROWS: Final = 750
_OUTSIDE: Final = -1
_FAR: Final = 3.0
_STEEPNESS: Final = 5.0


@dataclass(frozen=True)
class Profile:
    """What an application cares for.

    Attributes:
        true_positive: Weight of a window that is found.
        false_negative: Weight of one that is not.
        false_positive: Weight of a detection outside the windows.
    """

    true_positive: float
    false_negative: float
    false_positive: float


@dataclass(frozen=True)
class Counts:
    """Rows of a file after its probation, by what was said of them."""

    true_positive: int
    true_negative: int
    false_positive: int
    false_negative: int


@dataclass(frozen=True)
class Series:
    """One file of the corpus.

    Attributes:
        name: Its path in the corpus, `realTraffic/speed_6005.csv`.
        rows: `time` (Datetime) and `value` (Float64), in file order.
        windows: First and last row of each window of anomaly.
    """

    name: str
    rows: pl.DataFrame
    windows: tuple[tuple[int, int], ...]

    @property
    def group(self) -> str:
        """The folder: what kind of data it is."""
        return self.name.partition("/")[0]

    @property
    def probation(self) -> int:
        """Number of rows at the beginning that are not scored."""
        return int(min(math.floor(PROBATION_SHARE * self.rows.height), PROBATION_ROWS))


def profiles(folder: Path) -> dict[str, Profile]:
    """Return the scoring profiles that the corpus in `folder` names."""
    read = json.loads((folder / "scoring_profiles.json").read_text())
    return {
        name: Profile(cost["tpWeight"], cost["fnWeight"], cost["fpWeight"])
        for name, cost in ((name, one["CostMatrix"]) for name, one in read.items())
    }


def corpus(folder: Path, labels: str = "labels_dev.json") -> list[Series]:
    """Return the labelled files of the corpus in `folder`, in the order of their labels."""
    windows = json.loads((folder / labels).read_text())
    return [series(folder, name, one["windows"]) for name, one in windows.items()]


def series(folder: Path, name: str, windows: Sequence[Sequence[str]]) -> Series:
    """Return the file `name` with its windows, given as pairs of times."""
    rows = pl.read_csv(folder / f"{name}.gz").select(
        time=pl.col("timestamp").str.to_datetime(time_unit="us").cast(TIME_DTYPE),
        value=pl.col("value").cast(pl.Float64),
    )
    edges = pl.Series([edge for window in windows for edge in window], dtype=pl.String)
    times = edges.str.to_datetime(time_unit="us").cast(TIME_DTYPE)
    places = [int((rows["time"] == time).arg_max() or 0) for time in times]
    return Series(name, rows, tuple(zip(places[::2], places[1::2], strict=True)))


@dataclass(frozen=True)
class Sheet:
    """What each row of a file is worth, were it detected.

    Attributes:
        worth: Scaled sigmoid of the row's place, weighted: up to `true_positive` in a window,
            down to -`false_positive` outside.
        window: Number of the row's window, -1 outside.
        scored: Whether the row is after the probation.
    """

    worth: Floats
    window: Ints
    scored: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, file: Series, profile: Profile) -> Sheet:
        """Lay out the rows of `file`."""
        at = np.arange(file.rows.height)
        worth = np.full(at.size, -profile.false_positive)
        window = np.full(at.size, _OUTSIDE)
        for first, last in file.windows:
            width = last - first + 1
            past = at > last
            # The benchmark divides by the width less one: the next row stands at 1 / (width - 1).
            after = (at[past] - last) / max(width - 1, 1)
            worth[past] = profile.false_positive * _scaled(after)
        for number, (first, last) in enumerate(file.windows):
            width = last - first + 1
            inside = slice(first, last + 1)
            place = -(last - at[inside] + 1) / width
            worth[inside] = profile.true_positive * _scaled(place) / _scaled(np.array([-1.0]))
            window[inside] = number
        return cls(worth, window, at >= file.probation)


def _scaled(place: Floats) -> Floats:
    """Return 1 far before a window's end, 0 at it, -1 far behind."""
    return np.where(place >= _FAR, -1.0, 2 / (1 + np.exp(_STEEPNESS * place)) - 1)


def score(
    file: Series, scores: npt.ArrayLike, threshold: float, profile: Profile
) -> tuple[float, Counts]:
    """Return the raw score of one file whose rows from `threshold` on are detections.

    Each window counts once, by its earliest detection; each detection outside counts.
    """
    sheet = Sheet.of(file, profile)
    found = (np.asarray(scores, dtype=np.float64) >= threshold) & sheet.scored
    outside = sheet.window == _OUTSIDE
    total = float(sheet.worth[found & outside].sum())
    for number in range(len(file.windows)):
        hits = sheet.worth[found & (sheet.window == number)]
        total += float(hits.max()) if hits.size else -profile.false_negative
    scored, missed = sheet.scored, sheet.scored & ~found
    counts = Counts(
        int((found & ~outside).sum()),
        int((missed & outside).sum()),
        int((found & outside).sum()),
        int((missed & ~outside).sum()),
    )
    assert int(scored.sum()) == sum(vars(counts).values())  # noqa: S101 - each row is counted once
    return total, counts


def best_threshold(
    files: Sequence[Series], scores: Mapping[str, npt.ArrayLike], profile: Profile
) -> tuple[float, float]:
    """Return the threshold with the best raw score over all files, and that score.

    Among equals the highest threshold. Cost: one sort of all rows.
    """
    sheets = [Sheet.of(file, profile) for file in files]
    levels = np.concatenate([np.asarray(scores[file.name], dtype=np.float64) for file in files])
    worth = np.concatenate([sheet.worth for sheet in sheets])
    scored = np.concatenate([sheet.scored for sheet in sheets])
    counts = [len(file.windows) for file in files]
    base = np.cumsum([0, *counts])
    window = np.concatenate(
        [
            np.where(sheet.window == _OUTSIDE, _OUTSIDE, sheet.window + first)
            for sheet, first in zip(sheets, base[:-1].tolist(), strict=True)
        ]
    )
    order = np.argsort(-levels, kind="stable")
    order = order[scored[order]]
    level, gain = levels[order], worth[order]
    best: dict[int, float] = {}
    for place in np.flatnonzero(window[order] != _OUTSIDE).tolist():
        number = int(window[order[place]])
        before = best.get(number, -profile.false_negative)
        gain[place] = max(float(gain[place]) - before, 0.0)
        if number not in best:
            gain[place] = worth[order[place]] + profile.false_negative
        best[number] = max(before, float(worth[order[place]]))
    nothing = -profile.false_negative * float(base[-1])
    totals = nothing + np.cumsum(gain)
    ends = np.flatnonzero(np.append(level[1:] != level[:-1], True))
    if not ends.size or totals[ends].max() <= nothing:
        return np.inf, nothing
    at = ends[int(totals[ends].argmax())]
    return float(level[at]), float(totals[at])


def normalised(raw: float, windows: int, profile: Profile) -> float:
    """Return 0 for the detector that says nothing, 100 for one that finds all windows at once."""
    worst, perfect = -profile.false_negative * windows, profile.true_positive * windows
    return 100 * (raw - worst) / (perfect - worst)
