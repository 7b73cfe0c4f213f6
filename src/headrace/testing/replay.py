"""Law *replay* over process borders: the same steps, other hash seeds and thread counts.

A job is a folder: for each run of a case its inputs as Arrow files and its steps as JSON. Each
process executes the job and prints a digest of everything that left, in order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xxhash
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.core.errors import BugError
from headrace.core.time import EVENT_TIME, POSITION, TIME_DTYPE, position
from headrace.runners.embedded.digest import frame_digest
from headrace.testing.case import UNIQUE, Case, InputSpec
from headrace.testing.laws import cases_in
from headrace.testing.solo import Step, run
from headrace.testing.strategies import START, arrivals, cuts, steps_of, whole_inputs


@dataclass(frozen=True)
class Process:
    """How one of the compared processes is started."""

    hash_seed: int
    threads: int


PROCESSES = (Process(hash_seed=0, threads=1), Process(hash_seed=12_345, threads=4))


def prepare(folder: Path, oracles: Mapping[str, Path], *, large_rows: int) -> list[str]:
    """Write a job for every case of every kind; return the names of its runs.

    Each case gets one run of generated examples' size and one of `large_rows` rows, because
    Polars works on several threads only when frames are large.

    Args:
        folder: Where to write.
        oracles: By operator kind, the file that exposes its `CASES`.
        large_rows: Rows of the large run, over all inputs.
    """
    names = []
    for kind, path in oracles.items():
        for number, case in enumerate(cases_in(path)):
            if case.operator.recorded:
                continue
            for size, steps in zip(("small", "large"), _runs(case, large_rows), strict=True):
                name = f"{kind}-{number}-{size}"
                _write(folder / name, path, number, steps)
                names.append(name)
    return names


def digests(folder: Path, processes: Sequence[Process], *, times: int) -> list[dict[str, Any]]:
    """Execute the job `times` in each process, all processes at once; return what each says.

    Raises:
        BugError: A process failed; the message is its error output.
    """
    started = [
        subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "headrace.testing.replay", str(folder), "--times", str(times)],
            env=os.environ
            | {
                "PYTHONHASHSEED": str(one.hash_seed),
                "POLARS_MAX_THREADS": str(one.threads),
                "POLARS_NO_PARTITION": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for one in processes
    ]
    answers = []
    for process in started:
        output, errors = process.communicate()
        if process.returncode:
            raise BugError(f"a replaying process failed:\n{errors}")
        answers.append(json.loads(output))
    return answers


def main() -> None:
    """Execute a job and print, as JSON, a list of one digest per time for every run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=1)
    arguments = parser.parse_args()
    answer = {
        path.name: [_execute(path) for _ in range(arguments.times)]
        for path in sorted(arguments.folder.iterdir())
    }
    sys.stdout.write(json.dumps(answer))


def _runs(case: Case, large_rows: int) -> tuple[list[Step], list[Step]]:
    """Draw the steps of a small run, and of a large one that repeats the drawn values."""
    drawn: list[tuple[list[Step], tuple[pl.DataFrame, ...]]] = []

    @settings(
        max_examples=10,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        inputs = data.draw(whole_inputs(case))
        arrived = data.draw(arrivals(case, inputs, beyond=4))
        drawn.append((data.draw(cuts(case, arrived, control_first=False)), inputs))

    draw()
    small = max(drawn, key=lambda one: sum(frame.height for frame in one[1]))[0]
    pools = [pl.concat([inputs[port] for _, inputs in drawn]) for port in range(len(case.inputs))]
    return small, _large(case, pools, large_rows)


def _large(case: Case, pools: Sequence[pl.DataFrame], large_rows: int) -> list[Step]:
    generator = np.random.default_rng(large_rows)
    count = large_rows // len(case.data_ports)
    arrived = []
    for port, (spec, pool) in enumerate(zip(case.inputs, pools, strict=True)):
        if port in case.operator.control_ports or pool.is_empty():
            chosen = pool.head(spec.max_rows)
            places = position(port, 0) + np.arange(chosen.height)
            arrived.append(chosen.with_columns(pl.Series(POSITION, places)))
        else:
            arrived.append(_many_rows(spec, port, pool, count, generator))
    # Uneven steps: one row, many rows, more than a chunk where there are that many.
    shares = (0, 0.01, 0.011, 0.2, 0.95, 1)
    pieces = []
    for low, high in itertools.pairwise(shares):
        piece = {}
        for port, frame in enumerate(arrived):
            start, stop = int(frame.height * low), int(frame.height * high)
            piece[port] = frame.slice(start, stop - start)
        pieces.append(piece)
    return steps_of(case, pieces)


def _many_rows(
    spec: InputSpec, port: int, pool: pl.DataFrame, count: int, generator: np.random.Generator
) -> pl.DataFrame:
    times = START + np.cumsum(generator.integers(0, 400_000, count))
    frame = pool[generator.integers(0, pool.height, count)].with_columns(
        pl.Series(EVENT_TIME, times),
        pl.Series(POSITION, position(port, 0) + np.arange(count)),
    )
    for name, dtype in spec.schema.items():
        if name == spec.time:
            frame = frame.with_columns(pl.Series(name, times).cast(TIME_DTYPE).cast(dtype))
        elif spec.columns.get(name) is UNIQUE:
            frame = frame.with_columns(pl.Series(name, np.arange(count)).cast(dtype))
        elif dtype.is_float() and name not in spec.columns:
            # Sums of such numbers depend on the order of adding.
            noise = pl.Series(generator.normal(size=count)).cast(dtype)
            frame = frame.with_columns(frame[name] * noise)
    lags = generator.integers(0, 2 * spec.delay_us + 1, count)
    order = np.argsort(times + lags, kind="stable")
    return frame[order].with_columns(pl.Series(POSITION, position(port, 0) + np.arange(count)))


def _write(folder: Path, oracles: Path, number: int, steps: Sequence[Step]) -> None:
    folder.mkdir(parents=True)
    plan = []
    for at, step in enumerate(steps):
        for port, frame in step.frames.items():
            frame.write_ipc(folder / f"{at}-{port}.arrow")
        plan.append(
            {"clock": step.clock, "watermark": step.watermark, "ports": sorted(step.frames)}
        )
    body = {"oracles": str(oracles), "case": number, "steps": plan}
    (folder / "job.json").write_text(json.dumps(body))


def _execute(folder: Path) -> str:
    body = json.loads((folder / "job.json").read_text())
    case = cases_in(Path(body["oracles"]))[body["case"]]
    steps = [
        Step(
            step["clock"],
            step["watermark"],
            {port: pl.read_ipc(folder / f"{at}-{port}.arrow") for port in step["ports"]},
        )
        for at, step in enumerate(body["steps"])
    ]
    digest = xxhash.xxh3_128()
    for one in run(case, steps).emitted:
        digest.update(f"{one.step} {one.port} {one.frame.height}".encode())
        digest.update(frame_digest([one.frame]))
    return digest.hexdigest()


if __name__ == "__main__":
    main()
