"""Channel: a frozen description of where notifications go; `open` makes it a live connection."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from pydantic import Field, model_validator

from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import Secrets
from headrace.core.component import Component, DurationField
from headrace.core.errors import ConfigError
from headrace.core.time import duration

_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Connection(Protocol):
    """A live channel; `deliver` may be under way several times at once."""

    async def deliver(self, notification: Notification) -> Answer:
        """Try once to hand `notification` over; what fails is in the answer.

        Whoever calls keeps the time: cancelling ends the attempt.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


class Channel(Component):
    """Where notifications go, and how hard to try.

    Attributes:
        name: What routes call it, and what its cursor is kept under; the kind by default.
        timeout: Longest time for one attempt, name look-up and answer included.
        attempts: Attempts before a notification becomes a dead letter.
        first_pause: Wait after the first failure; it doubles from failure to failure.
        longest_pause: The most it doubles to, and the most of a `Retry-After` that is obeyed.
        concurrency: Attempts under way at once. A notification that waits to be tried again
            takes no such place.
    """

    name: str = ""
    timeout: DurationField = duration("10s")
    attempts: int = Field(default=10, ge=1)
    first_pause: DurationField = duration("1s")
    longest_pause: DurationField = duration("5m")
    concurrency: int = Field(default=4, ge=1, le=64)

    @model_validator(mode="after")
    def _check_name_and_times(self) -> Channel:
        if not self.name:
            object.__setattr__(self, "name", self.kind)
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} cannot name a channel", hint="use letters, digits, - and _"
            )
        if min(self.timeout, self.first_pause) <= timedelta(0):
            raise ConfigError(f"channel {self.name!r}: timeout and first_pause must be positive")
        if self.longest_pause < self.first_pause:
            raise ConfigError(f"channel {self.name!r}: longest_pause is shorter than first_pause")
        return self

    @abstractmethod
    def secrets(self) -> tuple[str, ...]:
        """Return the names of the secrets it needs."""

    @abstractmethod
    def open(self, secrets: Secrets, *, allow_private: bool = False) -> Connection:
        """Return a live connection; connects to nothing yet.

        Args:
            secrets: Where the values of its secrets are.
            allow_private: Let HTTP channels reach private addresses, whatever they say themselves.

        Raises:
            ConfigError: A secret is missing, or an address cannot be used.
            MissingExtraError: Its client library is not installed.
        """


def check_channels(channels: Sequence[Channel], secrets: Secrets) -> None:
    """Find out before anything starts whether all channels could open.

    Raises:
        ConfigError: Secrets are missing; all of them are named.
    """
    missing = {
        channel.name: names for channel in channels if (names := secrets.missing(channel.secrets()))
    }
    if missing:
        wanted = "; ".join(f"channel {name!r} needs {', '.join(m)}" for name, m in missing.items())
        first = next(iter(missing.values()))[0]
        raise ConfigError(
            f"secrets are not set: {wanted}",
            hint=f"set the environment variable {first}, or {first} under [secrets] in "
            "headrace.toml",
        )
