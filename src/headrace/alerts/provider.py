"""SMS and push: requests to an HTTP provider, written as templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

import msgspec
from pydantic import Field, model_validator

from headrace.alerts.address import check_url
from headrace.alerts.channel import Channel
from headrace.alerts.guarded_http import GuardedHttp
from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import Secrets, references
from headrace.alerts.template import check_template, expand, fields_of, texts_of
from headrace.core.errors import ConfigError


class Provider(Channel):
    """A request per notification; texts are templates.

    Placeholders: `{title} {text} {severity} {priority} {id} {kind} {key} {to} {sender}`, secrets
    `${NAME}`. Give `json` or `form`, not both; values are encoded, so a message can hold anything.

    Attributes:
        url: Where to; may hold `${NAME}`.
        method: POST, or PUT.
        headers: Further headers.
        json: Body as JSON.
        form: Body as a form.
        auth: User, and name of the secret that is the password (HTTP Basic).
        to: Who gets it; one each, so that a repeat reaches nobody twice.
        sender: Who it is from.
        most_characters: Length at which `{text}` is cut.
        allow_private: Whether the URL may lead to an address that is not public.
    """

    url: str
    method: Literal["POST", "PUT"] = "POST"
    headers: Mapping[str, str] = {}
    json_: Mapping[str, Any] | None = Field(default=None, alias="json")
    form: Mapping[str, str] | None = None
    auth: tuple[str, str] | None = None
    to: str = ""
    sender: str = ""
    most_characters: int = Field(default=1000, ge=20)
    allow_private: bool = False

    @model_validator(mode="after")
    def _check_request(self) -> Provider:
        if not references(self.url):
            check_url(self.url, allow_private=True)
        if (self.json_ is None) == (self.form is None):
            raise ConfigError(
                f"channel {self.name!r} needs json= or form=", hint='e.g. json={"text": "{text}"}'
            )
        check_template([self.body, dict(self.headers)])
        return self

    @property
    def body(self) -> Mapping[str, Any]:
        """The template of the body."""
        return self.json_ if self.json_ is not None else (self.form or {})

    def secrets(self) -> tuple[str, ...]:
        """Return the names of the secrets it needs."""
        own = () if self.auth is None else (self.auth[1],)
        texts = (self.url, *texts_of(self.headers), *texts_of(self.body))
        user = () if self.auth is None else (self.auth[0],)
        return (*own, *references(*texts, *user))

    def open(self, secrets: Secrets, *, allow_private: bool = False) -> ProviderConnection:
        """Return a live connection.

        Raises:
            ConfigError: A secret is missing, or the address is not public.
        """
        for name in self.secrets():
            secrets.reveal(name)
        allowed = allow_private or self.allow_private
        check_url(secrets.expand(self.url), allow_private=allowed)
        http = GuardedHttp(
            timeout=self.timeout, concurrency=self.concurrency, allow_private=allowed
        )
        return ProviderConnection(self, http, secrets)


class Sms(Provider):
    """A text message through an HTTP provider."""

    kind: ClassVar[str] = "sms"


class Push(Provider):
    """A push message through an HTTP provider."""

    kind: ClassVar[str] = "push"


class ProviderConnection:
    """An HTTP provider at work."""

    def __init__(self, provider: Provider, http: GuardedHttp, secrets: Secrets) -> None:
        self._provider = provider
        self._http = http
        self._secrets = secrets

    async def deliver(self, notification: Notification) -> Answer:
        """Send one request."""
        provider, secrets = self._provider, self._secrets
        fields = fields_of(notification, provider.most_characters)
        fields |= {"to": provider.to, "sender": provider.sender}
        body = expand(provider.body, fields, secrets)
        if provider.json_ is not None:
            content, kind = msgspec.json.encode(body), "application/json"
        else:
            content, kind = urlencode(body).encode(), "application/x-www-form-urlencoded"
        headers = {"Content-Type": kind, "Idempotency-Key": notification.idempotency_key}
        headers |= {
            name: _header(str(expand(value, fields, secrets)))
            for name, value in provider.headers.items()
        }
        auth = None
        if provider.auth is not None:
            auth = (secrets.expand(provider.auth[0]), secrets.reveal(provider.auth[1]))
        return await self._http.send(
            provider.method,
            secrets.expand(provider.url),
            content=content,
            headers=headers,
            auth=auth,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


def _header(value: str) -> str:
    """Return `value` as one line of ASCII: what a notification says must not become a header."""
    line = " ".join(value.split())
    return line.encode("ascii", "replace").decode()
