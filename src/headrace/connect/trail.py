"""The audit trail of a channel: attempts as rows, dead letters, written with the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import structlog

from headrace.alerts.notification import DELIVERIES, DELIVERIES_SCHEMA, Answer
from headrace.alerts.secrets import Secrets
from headrace.core.errors import StorageFullError
from headrace.core.log import Append, Commit, Put, TopicPartition, TopicSpec, Writer
from headrace.core.time import Clock, to_datetime
from headrace.plan.graph import DEAD, DEAD_SCHEMA
from headrace.runners.embedded.dead_letters import dead_letters

_log = structlog.get_logger(__name__)

_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that ended.

    Attributes:
        row: The notification as its topic has it, one row.
        at: The partition it lies in.
        offset: Its place there.
        number: 1 for the first attempt.
        outcome: delivered, failed or dead.
    """

    notification_id: str
    row: pl.DataFrame
    at: TopicPartition
    offset: int
    number: int
    outcome: str
    answer: Answer
    began_us: int
    took_us: int


class Trail:
    """Writes attempts together with what they change, in the order in which they ended.

    Where the disk is full they are kept until there is room: what was delivered must not be
    forgotten, or it would be delivered again.

    Args:
        topic: Where the notifications are.
        channel: Who delivered them.
        writer: Where rows and letters go.
        clock: Stamps them.
        secrets: Values that must not show in reasons.
    """

    def __init__(
        self, topic: str, channel: str, writer: Writer, clock: Clock, secrets: Secrets
    ) -> None:
        self._topic = topic
        self._channel = channel
        self._writer = writer
        self._clock = clock
        self._secrets = secrets
        self._dead = topic + DEAD
        self._partitions = {
            name: writer.create(TopicSpec(name, schema))[0].partition
            for name, schema in ((DELIVERIES, DELIVERIES_SCHEMA), (self._dead, DEAD_SCHEMA))
        }
        self._unwritten: list[Commit] = []

    def reason(self, answer: Answer) -> str:
        """Return why an attempt failed, without secrets."""
        return self._secrets.hide(answer.reason)[:_REASON_CHARACTERS]

    def write(self, attempts: Sequence[Attempt] = (), puts: Sequence[Put] = ()) -> bool:
        """Make attempts and values durable, after what could not be written before.

        Returns:
            Whether nothing is left to write; else the disk is full.
        """
        if attempts or puts:
            self._unwritten.append(Commit(appends=self._appends(attempts), puts=puts))
        if not self._unwritten:
            return True
        try:
            self._writer.commit(self._unwritten)
        except StorageFullError as error:
            _log.error("delivery.not_recorded", channel=self._channel, error=str(error))
            return False
        self._unwritten = []
        return True

    def _appends(self, attempts: Sequence[Attempt]) -> list[Append]:
        if not attempts:
            return []
        rows = [self._row(attempt) for attempt in attempts]
        letters = [self._letter(attempt) for attempt in attempts if attempt.outcome == "dead"]
        frames = {DELIVERIES: pl.DataFrame(rows, DELIVERIES_SCHEMA, orient="row")}
        if letters:
            frames[self._dead] = pl.concat(letters)
        now = self._clock.now()
        return [
            Append(topic, self._partitions[topic], frame, frame.height, arrival_us=now)
            for topic, frame in frames.items()
        ]

    def _row(self, attempt: Attempt) -> tuple[Any, ...]:
        return (
            attempt.notification_id,
            self._channel,
            attempt.number,
            attempt.outcome,
            attempt.answer.status,
            self.reason(attempt.answer) or None,
            to_datetime(attempt.began_us),
            attempt.took_us / 1000,
        )

    def _letter(self, attempt: Attempt) -> pl.DataFrame:
        is_refused = attempt.answer.outcome == "refused"
        tried = "" if is_refused else f" ({attempt.number} attempts)"
        return dead_letters(
            attempt.row,
            self._topic,
            f"{self._channel}: {self.reason(attempt.answer)}{tried}",
            self._clock.now(),
            partition=attempt.at.partition,
            offsets=pl.Series([attempt.offset]),
        )
