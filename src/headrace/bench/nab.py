"""`nab`: the default ensemble by the Numenta Anomaly Benchmark's own scoring."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

import headrace as hr
from headrace.bench.contenders import Say
from headrace.bench.nab_score import (
    Profile,
    Series,
    best_threshold,
    corpus,
    normalised,
    profiles,
    score,
)
from headrace.bench.result import Result, checkout
from headrace.core.errors import BugError, ConfigError
from headrace.core.time import TIME_DTYPE
from headrace.operators.detectors.detector import Detector, Floats

DATA: Final = Path("shared", "data", "sentry", "nab")
STANDARD: Final = "standard"
LEADER: Final = "randomCutForest"


def detect(detector: Detector, files: Sequence[Series]) -> dict[str, Floats]:
    """Return the scores of each file's rows; the files are keys of one stream."""
    app = hr.App("bench-nab")
    schema = {"file": pl.String, "time": TIME_DTYPE, "value": pl.Float64}
    rows = app.topic("rows", schema=schema, time="time")
    app.output("scores", rows.detect(detector, value="value", by="file"))
    whole = pl.concat([one.rows.with_columns(file=pl.lit(one.name)) for one in files])
    whole = whole.with_row_index("row").sort("time", maintain_order=True)
    scored = hr.testing.run(app, {"rows": whole.select(*schema)})["scores"]
    if scored.height != whole.height:
        raise BugError(f"{scored.height} of {whole.height} rows were scored")
    parts = scored.partition_by("file", as_dict=True, maintain_order=True)
    return {str(name): part["anomaly_score"].to_numpy() for (name,), part in parts.items()}


def by_group(
    files: Sequence[Series], scores: Mapping[str, Floats], threshold: float, profile: Profile
) -> dict[str, float]:
    """Return the normalised score of each group of files."""
    totals: dict[str, list[float]] = {}
    for one in files:
        raw, _ = score(one, scores[one.name], threshold, profile)
        part = totals.setdefault(one.group, [0.0, 0.0])
        part[0] += raw
        part[1] += len(one.windows)
    return {name: normalised(raw, int(windows), profile) for name, (raw, windows) in totals.items()}


def left_out(files: Sequence[Series], scores: Mapping[str, Floats], profile: Profile) -> float:
    """Return the score with each group judged by the threshold that suits the other groups."""
    total = 0.0
    for group in dict.fromkeys(one.group for one in files):
        others = [one for one in files if one.group != group]
        threshold, _ = best_threshold(others, scores, profile)
        own = (one for one in files if one.group == group)
        total += sum(score(one, scores[one.name], threshold, profile)[0] for one in own)
    return normalised(total, sum(len(one.windows) for one in files), profile)


def published(folder: Path, files: Sequence[Series], profile: str) -> dict[str, float]:
    """Return the published detectors' scores of the same files, normalised in the same way."""
    frame = pl.read_csv(folder / "detector_scores_dev.csv.gz").filter(Profile=profile)
    windows = sum(len(one.windows) for one in files)
    sums = frame.group_by("detector", maintain_order=True).agg(pl.len(), pl.col("Score").sum())
    return {
        name: normalised(raw, windows, profiles(folder)[profile])
        for name, rows, raw in sums.sort("Score", descending=True).iter_rows()
        if rows == len(files)
    }


def run(say: Say, *, quick: bool = False) -> Result:
    """Score the labelled files of the corpus under every profile, a part each.

    The threshold is one for all files and best for them, as the benchmark chooses it.

    Raises:
        ConfigError: The corpus is not beside the checkout.
    """
    root = checkout()
    folder = None if root is None else root.parent / DATA
    if folder is None or not folder.is_dir():
        raise ConfigError("the corpus is not there", hint=f"it is looked for at ../{DATA}")
    files = corpus(folder)
    if quick:
        files = [one for one in files if one.rows.height < 3000]  # noqa: PLR2004 - the short ones
    rows = sum(one.rows.height for one in files)
    began = time.perf_counter()
    scores = detect(hr.detector.ensemble(), files)
    seconds = time.perf_counter() - began
    parts = [_part(folder, files, scores, name) for name in profiles(folder)]
    for part in parts:
        say(f"{part.bench}: {part.detail}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (standard,) = (part for part in parts if part.bench.endswith(STANDARD))
    return Result(
        bench="nab",
        rows_per_s=rows / seconds,
        peak_rss_mb=peak,
        checked=True,
        target=standard.target,
        met=standard.met,
        detail=f"{rows:,} rows of {len(files)} files; {standard.detail}",
        parts=tuple(parts),
    )


def _part(folder: Path, files: Sequence[Series], scores: Mapping[str, Floats], name: str) -> Result:
    profile = profiles(folder)[name]
    windows = sum(len(one.windows) for one in files)
    threshold, raw = best_threshold(files, scores, profile)
    own = normalised(raw, windows, profile)
    groups = by_group(files, scores, threshold, profile)
    others = published(folder, files, name)
    leader = others.get(LEADER)
    return Result(
        bench=f"nab, {name}",
        checked=True,
        target="" if leader is None else f"above {LEADER}'s {leader:.1f} on these files",
        met=None if leader is None else own > leader,
        detail=(
            f"score {own:.1f} at threshold {threshold:.4f} ("
            + ", ".join(f"{group} {one:.1f}" for group, one in groups.items())
            + f"); each group by the others' threshold {left_out(files, scores, profile):.1f}"
            + "".join(f"; {one} {value:.1f}" for one, value in others.items())
        ),
    )
