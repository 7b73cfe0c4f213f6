"""`hr.channel`: a function per kind of channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypedDict, Unpack

from headrace.alerts.apprise import Apprise
from headrace.alerts.channel import Channel
from headrace.alerts.provider import Push, Sms
from headrace.alerts.slack import Slack
from headrace.alerts.smtp import Email, Tls
from headrace.alerts.webhook import Webhook
from headrace.alerts.websocket import WebSocket

__all__ = ["Channel", "apprise", "email", "push", "slack", "sms", "webhook", "websocket"]


class Options(TypedDict, total=False):
    """What every channel takes; see `Channel`."""

    name: str
    timeout: str | timedelta
    attempts: int
    first_pause: str | timedelta
    longest_pause: str | timedelta
    concurrency: int


class Request(Options, total=False):
    """What SMS and push take; see `Provider`."""

    method: Literal["POST", "PUT"]
    headers: Mapping[str, str]
    json: Mapping[str, Any]
    form: Mapping[str, str]
    auth: tuple[str, str]
    to: str
    sender: str
    most_characters: int
    allow_private: bool


def webhook(
    url: str,
    *,
    secret: str | None = None,
    headers: Mapping[str, str] | None = None,
    allow_private: bool = False,
    **options: Unpack[Options],
) -> Webhook:
    """POST notifications as JSON, signed with the secret of this name; see `Webhook`.

    Raises:
        ConfigError: The URL cannot be used.

    Example:
        >>> hook = webhook("https://hooks.example.com/alerts", secret="HOOK_SECRET")
        >>> hook.name, hook.secrets()
        ('webhook', ('HOOK_SECRET',))
    """
    fields: dict[str, Any] = {**options, "headers": dict(headers or {})}
    return Webhook(url=url, secret=secret, allow_private=allow_private, **fields)


def email(
    smtp_url: str,
    to: str | Sequence[str],
    sender: str,
    *,
    tls: Tls = "auto",
    ca_file: str | None = None,
    **options: Unpack[Options],
) -> Email:
    """Send notifications as e-mail; see `Email`.

    Raises:
        ConfigError: An address is none, or the URL holds a password in the clear.
    """
    fields: dict[str, Any] = {**options}
    recipients = (to,) if isinstance(to, str) else tuple(to)
    return Email(
        smtp_url=smtp_url, to=recipients, sender=sender, tls=tls, ca_file=ca_file, **fields
    )


def slack(url: str, *, allow_private: bool = False, **options: Unpack[Options]) -> Slack:
    """Post notifications to a Slack channel; see `Slack`.

    Raises:
        ConfigError: The URL cannot be used.
    """
    fields: dict[str, Any] = {**options}
    return Slack(url=url, allow_private=allow_private, **fields)


def sms(url: str, **request: Unpack[Request]) -> Sms:
    """Send notifications as text messages by an HTTP provider; see `Provider`.

    Raises:
        ConfigError: The URL cannot be used, or a template has a placeholder without meaning.

    Example:
        >>> message = sms(
        ...     "https://api.example.com/Accounts/${SMS_ACCOUNT}/Messages.json",
        ...     form={"To": "{to}", "From": "{sender}", "Body": "{title}"},
        ...     auth=("${SMS_ACCOUNT}", "SMS_TOKEN"),
        ...     to="+15550100",
        ...     sender="+15550199",
        ... )
        >>> sorted(set(message.secrets()))
        ['SMS_ACCOUNT', 'SMS_TOKEN']
    """
    fields: dict[str, Any] = {**request}
    return Sms(url=url, **fields)


def push(url: str, **request: Unpack[Request]) -> Push:
    """Send notifications as push messages by an HTTP provider; see `Provider`.

    Raises:
        ConfigError: The URL cannot be used, or a template has a placeholder without meaning.

    Example:
        >>> push(
        ...     "https://push.example.com/",
        ...     json={"topic": "alerts", "title": "{title}", "message": "{text}"},
        ...     headers={"Authorization": "Bearer ${PUSH_TOKEN}"},
        ... ).secrets()
        ('PUSH_TOKEN',)
    """
    fields: dict[str, Any] = {**request}
    return Push(url=url, **fields)


def websocket(path: str = "/ws/notifications", **options: Unpack[Options]) -> WebSocket:
    """Push notifications to the clients of a WebSocket route; see `WebSocket`.

    Raises:
        ConfigError: The path does not begin with `/ws/`.
    """
    fields: dict[str, Any] = {**options}
    return WebSocket(path=path, **fields)


def apprise(url: str, **options: Unpack[Options]) -> Apprise:
    """Send notifications by a service of apprise; needs the extra `notify`; see `Apprise`.

    Raises:
        ConfigError: The service is not one that may be used.
    """
    fields: dict[str, Any] = {**options}
    return Apprise(url=url, **fields)
