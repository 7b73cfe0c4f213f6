"""Apprise: any of its services, through the extra `notify`."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pydantic import model_validator

from headrace.alerts.channel import Channel
from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import REFERENCE, Secrets, references
from headrace.alerts.text import text_of, title_of
from headrace.core.errors import ConfigError, MissingExtraError

SERVICES: Final = frozenset(
    {
        *("bark", "discord", "gchat", "gotify", "gotifys", "line", "mastodon", "mastodons"),
        *("matrix", "matrixs", "mmost", "mmosts", "msteams", "nctalk", "nctalks", "ntfy", "ntfys"),
        *("opsgenie", "pagerduty", "pover", "pbul", "rocket", "rockets", "signal", "signals"),
        *("slack", "splunk", "spush", "tgram", "twilio", "victorops", "vonage", "webex"),
        *("whatsapp", "workflows", "wxteams", "zulip"),
    }
)
"""Services that may be used: those of apprise that act on this machine, send mail through it or
fetch any URL are not among them."""

_KINDS: Final = {"info": "info", "warning": "warning", "high": "warning", "critical": "failure"}


class Apprise(Channel):
    """Send each notification by one of apprise's services.

    apprise tells neither a status nor when to come back, and has no idempotency key: what fails is
    tried again after the usual pause, what was lost on its way back is sent again. It connects by
    itself, so its host is not guarded.

    Attributes:
        url: As apprise writes it, with `${NAME}` for secrets: `"tgram://${BOT_TOKEN}/12345"`.
    """

    kind: ClassVar[str] = "apprise"

    url: str

    @model_validator(mode="after")
    def _check_url(self) -> Apprise:
        if REFERENCE.match(self.url) is None:
            _check_service(self.url)
        return self

    def secrets(self) -> tuple[str, ...]:
        """Return the names of the secrets it needs."""
        return references(self.url)

    def open(self, secrets: Secrets, *, allow_private: bool = False) -> AppriseConnection:  # noqa: ARG002 - not ours to guard
        """Return a live connection.

        Raises:
            ConfigError: A secret is missing, or the service is none of `SERVICES`.
            MissingExtraError: apprise is not installed.
        """
        try:
            from apprise import Apprise as Sender
        except ImportError as error:
            raise MissingExtraError(
                "channel apprise needs the package apprise", hint="pip install headrace[notify]"
            ) from error
        url = secrets.expand(self.url)
        _check_service(url)
        sender = Sender()
        if not sender.add(url):
            raise ConfigError(
                f"apprise does not understand the URL of channel {self.name!r}",
                hint="its scheme is known, so look at what follows",
            )
        return AppriseConnection(sender)


def _check_service(url: str) -> None:
    service = url.partition("://")[0].lower()
    if service not in SERVICES:
        raise ConfigError(
            f"{service!r} is no service that apprise may use here",
            hint=f"have {', '.join(sorted(SERVICES))}",
        )


class AppriseConnection:
    """A service of apprise at work."""

    def __init__(self, sender: Any) -> None:
        self._sender = sender

    async def deliver(self, notification: Notification) -> Answer:
        """Send a notification once."""
        sent = await self._sender.async_notify(
            title=title_of(notification),
            body=text_of(notification),
            notify_type=_KINDS.get(notification.severity, "info"),
        )
        if sent:
            return Answer("delivered")
        return Answer("failed", reason="apprise could not send it; its log says why")

    async def close(self) -> None:
        """Do nothing: apprise holds no connection."""
