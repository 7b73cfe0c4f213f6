"""Slack: a message through an incoming webhook."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec
from pydantic import model_validator

from headrace.alerts.address import check_url
from headrace.alerts.channel import Channel
from headrace.alerts.guarded_http import GuardedHttp
from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import Secrets, references
from headrace.alerts.text import text_of, title_of

MOST_CHARACTERS: Final = 3000


class Slack(Channel):
    """Post each notification to a Slack channel, or to what takes the same (Mattermost, Rocket).

    Slack knows no idempotency key: a message whose answer was lost is posted again.

    Attributes:
        url: The incoming webhook's URL. It is a secret: give it as `"${SLACK_URL}"`.
        allow_private: Whether the URL may lead to an address that is not public.
    """

    kind: ClassVar[str] = "slack"

    url: str
    allow_private: bool = False

    @model_validator(mode="after")
    def _check_url(self) -> Slack:
        if not references(self.url):
            check_url(self.url, allow_private=True)
        return self

    def secrets(self) -> tuple[str, ...]:
        """Return the names of the secrets it needs."""
        return references(self.url)

    def open(self, secrets: Secrets, *, allow_private: bool = False) -> SlackConnection:
        """Return a live connection.

        Raises:
            ConfigError: A secret is missing, or the address is not public.
        """
        allowed = allow_private or self.allow_private
        url = secrets.expand(self.url)
        check_url(url, allow_private=allowed)
        http = GuardedHttp(
            timeout=self.timeout, concurrency=self.concurrency, allow_private=allowed
        )
        return SlackConnection(http, url)


class SlackConnection:
    """A Slack channel at work."""

    def __init__(self, http: GuardedHttp, url: str) -> None:
        self._http = http
        self._url = url

    async def deliver(self, notification: Notification) -> Answer:
        """Post a notification once."""
        title, text = _escaped(title_of(notification)), _escaped(text_of(notification))
        body = {"text": f"*{title}*\n{text}"[:MOST_CHARACTERS]}
        return await self._http.send(
            "POST",
            self._url,
            content=msgspec.json.encode(body),
            headers={"Content-Type": "application/json"},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


def _escaped(text: str) -> str:
    """Return `text` with the three characters escaped that could make a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
