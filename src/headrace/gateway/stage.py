"""Where steps are tried over rows that the log holds, beside the engine and without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import polars as pl

from headrace.core.errors import ThrottledError
from headrace.core.log import Reader
from headrace.core.time import micros, to_datetime
from headrace.gateway.catalog import VERSION
from headrace.gateway.core import Core
from headrace.gateway.newest import newest_first
from headrace.plan.graph import Plan, TopicDecl
from headrace.stream.data import Rehearsal
from headrace.testing.run import run

TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of an application that can be run."""

    part: Plan

    def plan(self) -> Plan:
        """Return it."""
        return self.part


class Stage:
    """Runs one rehearsal at a time, in a thread of its own.

    Args:
        core: The gateway, whose readers are used.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._thread: ThreadPoolExecutor | None = None
        self._running: Future[Rehearsal] | None = None

    async def run(
        self, plan: Plan, controls: Mapping[str, pl.DataFrame], *, span: str, limit: int
    ) -> Rehearsal:
        """Run `plan` over the newest rows of its topics.

        Raises:
            ThrottledError: Another rehearsal runs, or this one did not end in 20 s.
        """
        if self._running is not None and not self._running.done():
            raise ThrottledError("another rehearsal is under way", hint="try again when it is done")
        rows, cut = {}, set[str]()
        for topic in plan.topics:
            rows[topic.name], older = await self._core.readers.run(
                partial(_newest, topic=topic, limit=limit)
            )
            if older:
                cut.add(topic.name)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="stage")
        work = partial(_rehearse, plan, rows, controls, micros(span), cut)
        self._running = self._thread.submit(work)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._running), TIMEOUT_S)
        except TimeoutError:
            raise ThrottledError(
                f"the rehearsal did not end in {TIMEOUT_S:.0f} s", hint="try a simpler rule"
            ) from None


def _newest(reader: Reader, topic: TopicDecl, limit: int) -> tuple[pl.DataFrame, bool]:
    """Return the newest rows in order of arrival, and whether there are older ones."""
    found, older = newest_first(
        reader, topic.name, topic.schema.columns, lambda frame: frame, limit=limit
    )
    return found.reverse(), older is not None


def _rehearse(
    plan: Plan,
    rows: Mapping[str, pl.DataFrame],
    controls: Mapping[str, pl.DataFrame],
    span_us: int,
    cut: AbstractSet[str],
) -> Rehearsal:
    times = {topic.name: rows[topic.name][topic.time].to_physical() for topic in plan.topics}
    ends = [end for end in (each.max() for each in times.values()) if isinstance(end, int)]
    until = max(ends, default=0)
    since = until - span_us
    taken = {name: rows[name].filter(times[name] >= since) for name in rows}
    outputs = run(
        _Piece(plan),
        {**{name: frame.drop(VERSION, strict=False) for name, frame in controls.items()}, **taken},
    )
    begins = (taken[topic.name][topic.time].to_physical().min() for topic in plan.topics)
    first = min((begin for begin in begins if isinstance(begin, int)), default=None)
    return Rehearsal(
        outputs={output.name: outputs[output.name] for output in plan.outputs},
        rows=sum(frame.height for frame in taken.values()),
        since=_text(first),
        until=_text(until if ends else None),
        # Where rows were left out, they are older than those that were read, which suffice.
        whole=not any((times[name] >= since).all() for name in cut),
    )


def _text(time_us: object) -> str | None:
    return to_datetime(time_us).isoformat() if isinstance(time_us, int) else None
