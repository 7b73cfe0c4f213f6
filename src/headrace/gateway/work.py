"""Work for the writer's thread and the answers it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import polars as pl

from headrace.core.errors import HeadraceError
from headrace.core.log import Append, Put
from headrace.gateway.idempotency import Key
from headrace.gateway.intake import Checked, Form, Intake
from headrace.stream.data import Published

REASONS: Final = 10
"""Rejected rows whose reason an answer shows; all of them are in the dead letters."""

Shape = Callable[[Published, dict[str, Any] | None], Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An HTTP answer that is true: what it says is durable."""

    status: int
    body: bytes
    replayed: bool = False
    error: HeadraceError | None = None


@dataclass(slots=True)
class Rows:
    """One request's rows on their way into a topic.

    Attributes:
        shape: Makes the answer of what was published and the first accepted row.
        status: Status of a good answer.
    """

    intake: Intake
    form: Form
    body: bytes | pl.DataFrame
    size: int
    key: Key | None = None
    shape: Shape | None = None
    status: int = 202
    done: asyncio.Future[Outcome] | None = None
    outcome: Outcome | None = None


@dataclass(slots=True)
class Change:
    """Something else to commit with the group, e.g. a row of a control table.

    Attributes:
        prepare: Called in the writer's thread, in order; returns what to append and the answer.
        settle: Called in the writer's thread when the group is durable (True) or was not written.
        puts: Values to store in the same transaction.
    """

    prepare: Callable[[int], tuple[Sequence[Append], Outcome]]
    settle: Callable[[bool], None]
    puts: Sequence[Put] = ()
    key: Key | None = None
    size: int = 0
    done: asyncio.Future[Outcome] | None = None
    outcome: Outcome | None = None


Work = Rows | Change


def repeated(key: Key, digest: str, first: Outcome) -> Outcome:
    """Return the first answer again, or 409 where the key came with another body."""
    if key.digest != digest:
        return Outcome(409, _CONFLICT)
    return Outcome(first.status, first.body, replayed=True)


_CONFLICT: Final = msgspec.json.encode(
    {
        "error": {
            "code": "HR203",
            "message": "this Idempotency-Key was used for another body",
            "hint": "use a new key for each new body",
        }
    }
)


def offset_range(partition: int, start: int, stop: int) -> dict[str, int]:
    """Return the offsets of one request's rows as its answer shows them."""
    return {"partition": partition, "from": start, "to": stop}


def answer(
    work: Rows, result: Checked, offsets: list[dict[str, int]], rows: pl.DataFrame
) -> Outcome:
    """Return what to answer to a body that was checked, before it is committed."""
    published = Published(
        accepted=result.accepted,
        rejected=len(result.rejected),
        offsets=offsets,
        reasons=[{"index": i, "reason": why} for i, _, why in result.rejected[:REASONS]],
        ignored=result.ignored,
    )
    if result.unreadable is not None:
        error = {
            "code": "HR201",
            "message": f"the body could not be read: {result.unreadable}",
            "hint": "it is kept in the dead letters of the topic",
        }
        return Outcome(422, msgspec.json.encode({"error": error, **published.answer()}))
    answer: Any = published.answer()
    if result.dropped:
        answer["dropped"] = result.dropped
    if work.shape is not None:
        first = rows.row(result.start, named=True) if result.accepted else None
        answer = work.shape(published, first)
    status = work.status
    if isinstance(answer, tuple):
        status, answer = answer
    return Outcome(status, msgspec.json.encode(answer))
