"""Silence: alerts that nobody is told of for a while, once or every week."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headrace.core.errors import ConstraintError
from headrace.core.time import END_OF_TIME, to_micros
from headrace.operators.alerting.hours import check_hours, ends_at
from headrace.operators.rulebook.rule import Severity


class Silence(BaseModel):
    """Nobody is told of alerts that match, while it lasts; they are recorded as ever.

    What is not given matches everything. An alert that still fires when its silence is over is
    told of then.

    Attributes:
        silence_id: Its identity.
        rule: Id of a rule; `*` and `?` stand for any text and any letter, here and in `key`.
        key: Key of an alert.
        severity: Severity of an alert.
        labels: Labels that the rule must have, with these values.
        starts_at: From when on.
        ends_at: Until when, this moment excluded.
        hours: Maintenance: only at these hours, e.g. `22:00-06:00`.
        weekdays: Only on these days, `mon` to `sun`.
        zone: Time zone of hours and days.
        by: Who asked for it.
        note: Why.
    """

    model_config = ConfigDict(extra="forbid")

    silence_id: str = Field(min_length=1, max_length=200)
    rule: str | None = Field(default=None, max_length=200)
    key: str | None = Field(default=None, max_length=1000)
    severity: Severity | None = None
    labels: dict[str, Any] | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    hours: str | None = None
    weekdays: list[str] | None = None
    zone: str = "UTC"
    by: str = Field(default="", max_length=200)
    note: str = Field(default="", max_length=4000)

    @field_validator("weekdays")
    @classmethod
    def _lower(cls, days: list[str] | None) -> list[str] | None:
        return None if days is None else [day.lower()[:3] for day in days]

    @model_validator(mode="after")
    def _check(self) -> Silence:
        check_hours(self.hours, self.weekdays, self.zone)
        begin, end = self.starts_at, self.ends_at
        if begin is not None and end is not None and to_micros(end) <= to_micros(begin):
            raise ConstraintError("ends_at is not after starts_at")
        return self


class Covering:
    """A silence at work.

    Args:
        row: A row of the table of silences; `labels` is JSON text.
    """

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row
        self._labels: dict[str, Any] = json.loads(row["labels"]) if row["labels"] else {}
        self._start, self._end = (
            None if row[name] is None else to_micros(row[name]) for name in ("starts_at", "ends_at")
        )

    def until(self, alert: Mapping[str, Any], labels: Mapping[str, Any], time: int) -> int | None:
        """Return until when it keeps an alert quiet at `time`, None if it does not."""
        row = self._row
        if not (
            _fits(row["rule"], alert["rule_id"])
            and _fits(row["key"], alert["key"])
            and row["severity"] in (None, alert["severity"])
            and all(labels.get(name) == value for name, value in self._labels.items())
        ):
            return None
        if self._start is not None and time < self._start:
            return None
        end = END_OF_TIME if self._end is None else self._end
        if time >= end:
            return None
        if row["hours"] is None and not row["weekdays"]:
            return end
        closes = ends_at(time, row["hours"], row["weekdays"], row["zone"] or "UTC")
        return None if closes is None else min(end, closes)


def _fits(pattern: str | None, value: str | None) -> bool:
    return pattern is None or (value is not None and fnmatchcase(value, pattern))
