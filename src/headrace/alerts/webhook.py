"""Webhook: a signed POST of the notification as JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
from pydantic import model_validator

from headrace.alerts.address import check_url
from headrace.alerts.channel import Channel
from headrace.alerts.guarded_http import GuardedHttp
from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import Secrets, references
from headrace.core.errors import ConfigError

_STANDARD_PREFIX: Final = "whsec_"


class Webhook(Channel):
    """POST each notification as JSON, signed if there is a secret.

    The body is `{"notification_id", "channel", "kind", "severity", "created", "alerts"}`, and of a
    single alert also `rule_id`, `key` and `transition`. `Idempotency-Key` is the same for every
    repeat. Signature and its headers follow the Standard Webhooks specification, version 1.

    Attributes:
        url: Where to; may hold `${NAME}` of secrets.
        secret: Name of the secret to sign with; a value that begins with `whsec_` is base64.
        headers: Further headers; values may hold `${NAME}`.
        allow_private: Whether the URL may lead to an address that is not public.
    """

    kind: ClassVar[str] = "webhook"

    url: str
    secret: str | None = None
    headers: Mapping[str, str] = {}
    allow_private: bool = False

    @model_validator(mode="after")
    def _check_url(self) -> Webhook:
        if not references(self.url):
            # Settings may allow private addresses: those are checked when it opens.
            check_url(self.url, allow_private=True)
        return self

    def secrets(self) -> tuple[str, ...]:
        """Return the names of the secrets it needs."""
        own = (self.secret,) if self.secret is not None else ()
        return (*own, *references(self.url, *self.headers.values()))

    def open(self, secrets: Secrets, *, allow_private: bool = False) -> WebhookConnection:
        """Return a live connection.

        Raises:
            ConfigError: A secret is missing or no base64, or the address is not public.
        """
        allowed = allow_private or self.allow_private
        url = secrets.expand(self.url)
        check_url(url, allow_private=allowed)
        return WebhookConnection(
            GuardedHttp(timeout=self.timeout, concurrency=self.concurrency, allow_private=allowed),
            url,
            {name: secrets.expand(value) for name, value in self.headers.items()},
            None if self.secret is None else signing_key(secrets.reveal(self.secret)),
        )


class WebhookConnection:
    """A webhook at work.

    Args:
        http: Sends the requests.
        url: Where to.
        headers: Further headers.
        key: Bytes to sign with, None leaves requests unsigned.
    """

    def __init__(
        self, http: GuardedHttp, url: str, headers: Mapping[str, str], key: bytes | None
    ) -> None:
        self._http = http
        self._url = url
        self._headers = headers
        self._key = key

    async def deliver(self, notification: Notification) -> Answer:
        """POST a notification once."""
        body = webhook_body(notification)
        headers = {
            **self._headers,
            "Content-Type": "application/json",
            "Idempotency-Key": notification.idempotency_key,
        }
        if self._key is not None:
            headers |= signature(self._key, notification.idempotency_key, int(time.time()), body)
        return await self._http.send("POST", self._url, content=body, headers=headers)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


def webhook_body(notification: Notification) -> bytes:
    """Return the body of a webhook; times are RFC 3339, NaN is null."""
    body: dict[str, Any] = {
        "notification_id": notification.id,
        "channel": notification.channel,
        "kind": notification.kind,
        "severity": notification.severity,
        "created": notification.created,
    }
    alert = notification.single
    if alert is not None:
        body |= {name: alert.get(name) for name in ("rule_id", "key", "transition")}
    body["alerts"] = notification.alerts
    return msgspec.json.encode(body)


def signing_key(secret: str) -> bytes:
    """Return the bytes that a secret stands for.

    Raises:
        ConfigError: It begins with `whsec_` but the rest is no base64.
    """
    if not secret.startswith(_STANDARD_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_STANDARD_PREFIX), validate=True)
    except binascii.Error as error:
        raise ConfigError("a webhook's secret begins with whsec_ but is no base64") from error


def signature(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove who sent `body`, and when.

    Source: Standard Webhooks 1.0: HMAC-SHA256 over `<id>.<timestamp>.<body>`, base64.

    Example:
        >>> signature(b"k", "r/a/1", 1767225600, b"{}")["webhook-signature"]
        'v1,JIbJkZ/c7weY1j/Q7Qi/2DlbKPZ3SKzpiKTg87LgS18='
    """
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
