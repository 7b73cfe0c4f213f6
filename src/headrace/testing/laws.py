"""The laws every operator keeps, checked by hypothesis; plug-ins check theirs the same way.

A law is a function of a `Case` and hypothesis data; it raises AssertionError where the operator
breaks it. Which laws apply follows from what the operator declares, never from its name.
See `docs/laws.md`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from headrace.core.errors import ConfigError
from headrace.core.log import DELETE, OP
from headrace.core.protocols import MAIN, is_late
from headrace.core.registry import kinds
from headrace.core.shard import shard_of
from headrace.core.time import EVENT_TIME, HIDDEN, HIDDEN_SCHEMA, POSITION
from headrace.runners.embedded.digest import frame_digest
from headrace.testing.case import UNIQUE, Case, InputSpec
from headrace.testing.compare import Tolerance, difference
from headrace.testing.solo import Solo, Step, oldest, run, with_hidden
from headrace.testing.strategies import arrivals, cuts, steps_of, whole_inputs

__all__ = ["LAWS", "UNIQUE", "Case", "InputSpec", "applies", "registered_cases", "verify"]

Frames = Sequence[pl.DataFrame]
Law = Callable[[Case, st.DataObject], None]

_FAR: Final = 4
_MOST_TASKS: Final = 4


def cut(case: Case, data: st.DataObject) -> None:
    """Any split into batches gives the same rows."""
    arrived = _arrived(case, data)
    first = run(case, data.draw(cuts(case, arrived), "one cut"))
    second = run(case, data.draw(cuts(case, arrived), "another cut"))
    _same_answers(case, first.outputs(), second.outputs())


def oracle(case: Case, data: st.DataObject) -> None:
    """The result equals one batch query over all rows."""
    arrived = _arrived(case, data)
    solo = run(case, data.draw(cuts(case, arrived), "cut"))
    _equals_oracle(case, solo.outputs(), arrived)


def disorder(case: Case, data: st.DataObject) -> None:
    """Any order of arrival within `delay` gives the same result, and nothing is late."""
    inputs = data.draw(whole_inputs(case), "inputs")
    answers = []
    for _ in range(2):
        arrived = data.draw(arrivals(case, inputs), "arrival")
        answers.append(run(case, data.draw(cuts(case, arrived), "cut")).outputs())
        late = sum(frame.height for port, frame in answers[-1].items() if is_late(port))
        assert not late, f"{late} rows within the delay are late"  # noqa: S101 - a law asserts
    _same_answers(case, *answers)


def late(case: Case, data: st.DataObject) -> None:
    """A row beyond `delay` is exactly once either in the result or in `late`."""
    arrived = _arrived(case, data, beyond=_FAR)
    solo = run(case, data.draw(cuts(case, arrived), "cut"))
    outputs = solo.outputs()
    strayed = [frame[POSITION] for port, frame in outputs.items() if is_late(port)]
    positions = pl.concat(strayed) if strayed else pl.Series(dtype=pl.Int64)
    _require(positions.is_unique().all(), f"rows are in late twice: {positions.to_list()}")
    for port in case.data_ports:
        _only_slow_rows(case, arrived[port], positions, case.inputs[port].delay_us)
    known = pl.concat([frame[POSITION] for frame in arrived])
    _require(positions.is_in(known.implode()).all(), "a late row is none of the input's")
    if case.shown is not None:
        _each_shown_once(case, outputs, arrived)
        return
    taken = [frame.filter(~pl.col(POSITION).is_in(positions.implode())) for frame in arrived]
    _equals_in_order(case, outputs, taken)


def resume(case: Case, data: st.DataObject) -> None:
    """Snapshot and restore at any point changes nothing, not a bit."""
    steps = _any_steps(case, data)
    expected = run(case, steps)
    solo = Solo(case)
    for step in steps:
        solo.step(step, isolate=data.draw(st.booleans(), "undo first"))
        if data.draw(st.booleans(), "resume"):
            solo.resume()
    solo.finish()
    _same_bits(expected, solo)


def shard(case: Case, data: st.DataObject) -> None:
    """Splitting the keys over several tasks gives the same rows."""
    steps = _any_steps(case, data)
    count = data.draw(st.integers(2, _MOST_TASKS), "tasks")
    whole = run(case, steps).outputs()
    shares = [
        run(case, [replace(step, frames=_share(case, step, task, count)) for step in steps])
        for task in range(count)
    ]
    together = {
        port: pl.concat([share.outputs()[port] for share in shares], how="diagonal")
        for port in whole
    }
    _same_answers(case, whole, together)


def replay(case: Case, data: st.DataObject) -> None:
    """The same steps give the same rows in the same order to the last bit."""
    steps = _any_steps(case, data)
    _same_bits(run(case, steps), run(case, steps))


def empty(case: Case, data: st.DataObject) -> None:
    """Neither an empty frame nor a step without rows changes anything."""
    steps = _any_steps(case, data)
    expected = run(case, steps)
    solo = Solo(case)
    nothing = [with_hidden(columns.to_frame()) for columns in case.schemas]
    for step in steps:
        if data.draw(st.booleans(), "empty before"):
            for port, frame in enumerate(nothing):
                for name, out in solo.task.process(frame, port):
                    _require(out.is_empty(), f"an empty frame gave rows on {name}: {out}")
            _require(solo.task.wake() == solo.wake, "an empty frame changed the wake-up")
        solo.step(step)
        if data.draw(st.booleans(), "empty step after"):
            solo.step(replace(step, frames={}))
    solo.finish()
    _same_bits(expected, solo)


def schema(case: Case, data: st.DataObject) -> None:
    """What leaves has exactly the declared columns, and the hidden ones beside them."""
    solo = run(case, _any_steps(case, data))
    ports = case.operator.outputs()
    declared = case.declared
    _require(set(declared) == set(ports), f"ports {ports}, but schemas of {list(declared)}")
    for one in solo.emitted:
        _require(one.port in ports, f"rows left by {one.port!r}, declared are {ports}")
        visible = one.frame.drop(HIDDEN, strict=False)
        _require(
            visible.schema == declared[one.port] and visible.columns == list(declared[one.port]),
            f"{one.port} gave {dict(visible.schema)}, declared {dict(declared[one.port])}",
        )
        for name, dtype in HIDDEN_SCHEMA.items():
            _require(one.frame.schema.get(name) == dtype, f"{one.port} lacks {name} as {dtype}")
        _require(not one.frame[EVENT_TIME].null_count(), f"{one.port} has rows without event time")


def hold(case: Case, data: st.DataObject) -> None:
    """Chained into another operator, no result of rows within `delay` is late there."""
    arrived = _arrived(case, data)
    solo = run(case, data.draw(cuts(case, arrived), "cut"))
    for one in solo.emitted:
        _require(
            is_late(one.port) or oldest(one.frame) >= one.downstream,
            f"{one.port} gave rows of {oldest(one.frame)} behind its watermark {one.downstream}:"
            f"\n{one.frame}",
        )


LAWS: Final[Mapping[str, Law]] = {
    law.__name__: law
    for law in (cut, oracle, disorder, late, resume, shard, replay, empty, schema, hold)
}
"""Every law by name."""


def applies(case: Case, law: str) -> bool:
    """Whether `law` says anything about the case's operator, by what it declares."""
    operator = case.operator
    match law:
        case "oracle":
            return case.oracle is not None
        case "cut" | "late":
            one_input = len(case.data_ports) == 1
            return operator.meaning() != "step" and (operator.meaning() != "arrival" or one_input)
        case "disorder":
            return operator.meaning() in ("rows", "changelog")
        case "shard":
            stateless = not case.state
            return operator.meaning() != "step" and (
                stateless or (operator.parallel and bool(operator.key_columns()))
            )
        case _:
            return True


def verify(case: Case, law: str, examples: int | None = None, *, shrink: bool = True) -> None:
    """Check one law on one case.

    Args:
        case: The operator and its inputs.
        law: A name in `LAWS`.
        examples: How many examples hypothesis tries; by default a fifth of what its profile says.
        shrink: Whether to look for the smallest example that fails, which takes a while.

    Raises:
        AssertionError: The law is broken; the smallest example found is printed.
        ConfigError: No such law.
    """
    if law not in LAWS:
        raise ConfigError(f"no law {law!r}", hint=f"have {', '.join(LAWS)}")
    if not applies(case, law):
        return
    count = examples or max(5, settings().max_examples // 5)
    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]

    @settings(
        max_examples=count,
        phases=phases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        LAWS[law](case, data)

    holds()


def registered_cases(folder: Path) -> dict[str, list[Case]]:
    """Return the cases of every registered operator kind, read from `folder/<kind>.py`.

    A kind whose file is missing, or exposes no `CASES`, has an empty list.
    """
    return {kind: cases_in(folder / f"{kind}.py") for kind in kinds("headrace.operators")}


def cases_in(path: Path) -> list[Case]:
    """Return the `CASES` of one file of oracles; none where there is no such file."""
    spec = importlib.util.spec_from_file_location(f"_oracles_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        return []
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return list(getattr(module, "CASES", []))


def _require(held: object, otherwise: str) -> None:
    if not held:
        raise AssertionError(otherwise)


def _arrived(case: Case, data: st.DataObject, *, beyond: int = 1) -> Frames:
    inputs = data.draw(whole_inputs(case), "inputs")
    return data.draw(arrivals(case, inputs, beyond=beyond), "arrival")


def _any_steps(case: Case, data: st.DataObject) -> list[Step]:
    """Draw steps with rows beyond the delay and control changes at any time."""
    arrived = _arrived(case, data, beyond=_FAR)
    return data.draw(cuts(case, arrived, control_first=False), "steps")


def _share(case: Case, step: Step, task: int, count: int) -> dict[int, pl.DataFrame]:
    share = {}
    for port, frame in step.frames.items():
        if port in case.operator.control_ports:
            share[port] = frame
            continue
        key = case.inputs[port].key or case.operator.key_columns()
        # Without a key any split will do, and positions are a simple one.
        shards = shard_of(frame, key) if key else frame[POSITION]
        share[port] = frame.filter(shards % count == task)
    return {port: frame for port, frame in share.items() if frame.height}


def _visible(case: Case, frame: pl.DataFrame, *, times: bool = True) -> pl.DataFrame:
    return frame.drop(*case.ignore, POSITION, *(() if times else (EVENT_TIME,)), strict=False)


def _settled(case: Case, port: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that count: of a changelog, the last per key."""
    if case.operator.meaning() != "changelog" or port != MAIN:
        return frame
    key = list(case.operator.changelog_key())
    if "is_final" in frame.columns:
        finals = frame.group_by(key, maintain_order=True).agg(
            pl.col("is_final").sum().alias("count"), pl.col("is_final").last().alias("last")
        )
        bad = finals.filter((pl.col("count") != 1) | ~pl.col("last"))
        _require(bad.is_empty(), f"not exactly one final row, the last, for:\n{bad}")
    last = frame.unique(key, keep="last", maintain_order=True)
    # A key that was deleted and one that never was are the same table.
    return last.filter(pl.col(OP) != DELETE) if OP in last.columns else last


def _same_answers(
    case: Case, left: Mapping[str, pl.DataFrame], right: Mapping[str, pl.DataFrame]
) -> None:
    for port in left:
        found = difference(
            _visible(case, _settled(case, port, left[port])),
            _visible(case, _settled(case, port, right[port])),
            Tolerance(case.relative, case.absolute),
        )
        _require(found is None, f"port {port}: {found}")


def _equals_oracle(case: Case, outputs: Mapping[str, pl.DataFrame], inputs: Frames) -> None:
    if case.oracle is None:
        return
    ordered = [frame.sort(EVENT_TIME, POSITION, maintain_order=True) for frame in inputs]
    for port, expected in case.oracle(*ordered).items():
        times = EVENT_TIME in expected.columns
        found = difference(
            _visible(case, _settled(case, port, outputs[port]), times=times),
            _visible(case, _settled(case, port, expected), times=times),
            Tolerance(case.relative, case.absolute),
        )
        _require(found is None, f"port {port} (second: the oracle): {found}")


def _equals_in_order(case: Case, outputs: Mapping[str, pl.DataFrame], taken: Frames) -> None:
    """The result equals that of the taken rows alone, none of them late any more."""
    if case.operator.meaning() == "arrival":
        (port,) = case.data_ports
        controls = {p: f for p, f in enumerate(taken) if p != port}
        # In one step, as no row is late by a watermark that others of its step moved.
        steps = steps_of(case, [controls, {port: taken[port]}])
    else:
        if case.oracle is not None:
            _equals_oracle(case, outputs, taken)
        ordered = [frame.sort(EVENT_TIME, POSITION, maintain_order=True) for frame in taken]
        steps = steps_of(case, [dict(enumerate(ordered))])
    again = run(case, steps).outputs()
    strayed = {port: frame.height for port, frame in again.items() if is_late(port)}
    _require(not any(strayed.values()), f"taken rows are late when they come in order: {strayed}")
    _same_answers(
        case,
        {port: frame for port, frame in outputs.items() if not is_late(port)},
        {port: frame for port, frame in again.items() if not is_late(port)},
    )


def _only_slow_rows(case: Case, arrived: pl.DataFrame, late_at: pl.Series, delay_us: int) -> None:
    if case.operator.meaning() == "arrival":
        return
    behind = arrived[EVENT_TIME] < arrived[EVENT_TIME].cum_max() - delay_us
    wrong = arrived.filter(~behind & arrived[POSITION].is_in(late_at.implode()))
    _require(wrong.is_empty(), f"rows within the delay are late:\n{wrong}")


def _each_shown_once(case: Case, outputs: Mapping[str, pl.DataFrame], arrived: Frames) -> None:
    assert case.shown is not None  # noqa: S101 - the caller has checked
    shown = set(case.shown(outputs).to_list())
    strayed = {
        value for port, frame in outputs.items() if is_late(port) for value in frame["id"].to_list()
    }
    every = {value for port in case.data_ports for value in arrived[port]["id"].to_list()}
    _require(not shown & strayed, f"in the result and in late: {sorted(shown & strayed)}")
    _require(shown | strayed == every, f"in neither: {sorted(every - shown - strayed)}")


def _same_bits(expected: Solo, solo: Solo) -> None:
    ours, theirs = _digests(expected), _digests(solo)
    if ours == theirs:
        return
    at = next(
        (at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    for name, one in (("expected", expected), ("got", solo)):
        frame = one.emitted[at].frame if at < len(one.emitted) else None
        note(f"{name}, frame {at}: {frame}")
    raise AssertionError(f"the bits differ from frame {at} of {len(ours)} and {len(theirs)} on")


def _digests(solo: Solo) -> list[tuple[str, bytes]]:
    return [(one.port, frame_digest([one.frame])) for one in solo.emitted]
