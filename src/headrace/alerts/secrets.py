"""Secrets by name: looked up when a channel opens, never part of a description."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

from headrace.core.errors import ConfigError

REFERENCE: Final = re.compile(r"\$\{(\w+)\}")
"""How a text names a secret: `${SLACK_URL}`."""

_HIDDEN_FROM: Final = 4


class Secrets:
    """Values of secrets by name: an environment variable, else `[secrets]` of the settings.

    Args:
        settings: What the settings hold.
        environment: Where to look first; this process's by default.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = dict(settings or {})
        self._environment = os.environ if environment is None else environment
        self._revealed: set[str] = set()

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that have no value, each once."""
        return sorted({name for name in names if not self._value(name)})

    def reveal(self, name: str) -> str:
        """Return the value of `name`; `hide` knows it from now on.

        Raises:
            ConfigError: It has none.
        """
        value = self._value(name)
        if not value:
            raise ConfigError(
                f"secret {name!r} is not set",
                hint=f"set the environment variable {name}, or {name} under [secrets] in "
                "headrace.toml",
            )
        self._revealed.add(value)
        return value

    def expand(self, text: str) -> str:
        """Return `text` with every `${NAME}` replaced by the value of that secret.

        Raises:
            ConfigError: One has no value.

        Example:
            >>> Secrets({"TOKEN": "t0p"}, environment={}).expand("Bearer ${TOKEN}")
            'Bearer t0p'
        """
        return REFERENCE.sub(lambda found: self.reveal(found[1]), text)

    def hide(self, text: str) -> str:
        """Return `text` without any value revealed so far.

        Example:
            >>> secrets = Secrets({"TOKEN": "t0ps3cret"}, environment={})
            >>> _ = secrets.reveal("TOKEN")
            >>> secrets.hide("bad token t0ps3cret")
            'bad token ***'
        """
        for value in sorted(self._revealed, key=len, reverse=True):
            if len(value) >= _HIDDEN_FROM:
                text = text.replace(value, "***")
        return text

    def _value(self, name: str) -> str:
        return self._environment.get(name) or self._settings.get(name) or ""


def references(*texts: str) -> tuple[str, ...]:
    """Return the names of all secrets that `texts` refer to.

    Example:
        >>> references("smtps://me:${SMTP_PASSWORD}@mail.example")
        ('SMTP_PASSWORD',)
    """
    return tuple(name for text in texts for name in REFERENCE.findall(text))
