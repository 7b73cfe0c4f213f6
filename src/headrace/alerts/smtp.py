"""E-mail: a message per notification through an SMTP server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Any, ClassVar, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, model_validator

from headrace.alerts.channel import Channel
from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import Secrets, references
from headrace.alerts.text import text_of, title_of
from headrace.core.errors import ConfigError

Tls = Literal["auto", "starttls", "none"]

_PORTS: Final = {"smtp": 587, "smtps": 465}
_PERMANENT: Final = 500


class Email(Channel):
    """Send each notification as an e-mail to all of `to`, in one SMTP transaction.

    The `Message-ID` is made from the notification's id, so a message whose answer was lost is
    repeated under the same one.

    Attributes:
        smtp_url: `smtps://user:${SMTP_PASSWORD}@host:465` speaks TLS from the start,
            `smtp://host:587` begins in the clear. Or as a whole `${SMTP_URL}`.
        to: Recipients.
        sender: Who it is from.
        tls: For `smtp://`: `auto` uses STARTTLS where the server offers it, and sends a password
            no other way; `starttls` insists; `none` never does.
        ca_file: Certificates to trust instead of the system's, a PEM file.
    """

    kind: ClassVar[str] = "email"

    smtp_url: str
    to: tuple[str, ...] = Field(min_length=1)
    sender: str
    tls: Tls = "auto"
    ca_file: str | None = None

    @model_validator(mode="after")
    def _check_addresses(self) -> Email:
        for address in (*self.to, self.sender):
            if "@" not in parseaddr(address)[1]:
                raise ConfigError(f"{address!r} is no e-mail address")
        if not _is_reference(self.smtp_url):
            parts = _parts(self.smtp_url)
            if parts.password is not None and not references(parts.password):
                raise ConfigError(
                    f"the SMTP URL of {parts.hostname} holds a password",
                    hint="write smtp://user:${NAME_OF_SECRET}@host",
                )
        return self

    def secrets(self) -> tuple[str, ...]:
        """Return the names of the secrets it needs."""
        return references(self.smtp_url)

    def open(self, secrets: Secrets, *, allow_private: bool = False) -> EmailConnection:  # noqa: ARG002 - mail servers are inside
        """Return a live connection.

        Raises:
            ConfigError: A secret is missing, or the URL is none of SMTP.
        """
        whole = _is_reference(self.smtp_url)
        parts = _parts(secrets.expand(self.smtp_url) if whole else self.smtp_url)

        def plain(text: str | None) -> str:
            return unquote(text or "") if whole else secrets.expand(unquote(text or ""))

        return EmailConnection(
            self,
            _Server(
                host=parts.hostname or "",
                port=parts.port or _PORTS[parts.scheme],
                user=plain(parts.username),
                password=plain(parts.password),
                implicit_tls=parts.scheme == "smtps",
                tls=self.tls,
                context=ssl.create_default_context(cafile=self.ca_file),
                timeout_s=self.timeout.total_seconds(),
            ),
        )


def _is_reference(url: str) -> bool:
    return url.startswith("${") and url.endswith("}") and len(references(url)) == 1


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"an SMTP URL cannot be read: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise ConfigError(
            f"an SMTP URL has scheme {parts.scheme!r} and host {parts.hostname!r}",
            hint="write smtp://host:587 or smtps://host:465",
        )
    return parts


@dataclass(frozen=True, slots=True)
class _Server:
    host: str
    port: int
    user: str
    password: str
    implicit_tls: bool
    tls: Tls
    context: ssl.SSLContext
    timeout_s: float


class EmailConnection:
    """An SMTP server at work: a connection per message, in threads of its own."""

    def __init__(self, channel: Email, server: _Server) -> None:
        self._channel = channel
        self._server = server
        self._threads = ThreadPoolExecutor(channel.concurrency, thread_name_prefix="smtp")

    async def deliver(self, notification: Notification) -> Answer:
        """Send a message once."""
        attempt = _Attempt(self._server, message_of(notification, self._channel))
        sending = asyncio.get_running_loop().run_in_executor(self._threads, attempt.send)
        try:
            return await sending
        finally:
            # A thread cannot be cancelled, but its connection can be ended.
            attempt.abort()

    async def close(self) -> None:
        """Start no more; messages under way end with their own time."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Attempt:
    """One message on its way, in a thread; `abort` ends it from another."""

    def __init__(self, server: _Server, message: EmailMessage) -> None:
        self._server = server
        self._message = message
        self._smtp: smtplib.SMTP | None = None
        self._aborted = False

    def send(self) -> Answer:
        """Connect, send, and say what the server answered."""
        try:
            smtp = self._connected()
            try:
                return self._send(smtp)
            finally:
                # Nobody waits for what is said to a farewell: the message is taken by then.
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    smtp.putcmd("quit")
                smtp.close()
        except smtplib.SMTPRecipientsRefused as error:
            code = min(code for code, _ in error.recipients.values())
            return _negative(code, _refusals(error.recipients))
        except smtplib.SMTPResponseException as error:
            return _negative(error.smtp_code, _text(error.smtp_error))
        except smtplib.SMTPNotSupportedError as error:
            return Answer("refused", reason=str(error))
        except (smtplib.SMTPException, OSError) as error:
            return Answer("failed", reason=f"{type(error).__name__}: {error}")

    def abort(self) -> None:
        """End the connection, if there is one, under whoever waits for it."""
        self._aborted = True
        connection = getattr(self._smtp, "sock", None)
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> smtplib.SMTP:
        server = self._server
        if server.implicit_tls:
            return _SmtpTls(
                self, server.host, server.port, timeout=server.timeout_s, context=server.context
            )
        return _Smtp(self, server.host, server.port, timeout=server.timeout_s)

    def _send(self, smtp: smtplib.SMTP) -> Answer:
        server = self._server
        smtp.ehlo()
        offered = smtp.has_extn("starttls")
        secure = server.implicit_tls
        if not secure and server.tls != "none" and (offered or server.tls == "starttls"):
            smtp.starttls(context=server.context)
            smtp.ehlo()
            secure = True
        if server.user:
            if not secure and server.tls == "auto":
                return Answer("refused", reason="the server offers no TLS to send a password over")
            smtp.login(server.user, server.password)
        refused = smtp.send_message(self._message)
        # The others have it: sending it again would give it to them twice.
        return Answer("delivered", 250, f"not to {_refusals(refused)}" if refused else "")

    def begin(self, smtp: smtplib.SMTP) -> None:
        """Learn of the connection before it is made."""
        if self._aborted:
            raise TimeoutError("too late to connect")
        self._smtp = smtp


class _Smtp(smtplib.SMTP):
    def __init__(self, attempt: _Attempt, host: str, port: int, *, timeout: float) -> None:
        attempt.begin(self)
        super().__init__(host, port, timeout=timeout)


class _SmtpTls(smtplib.SMTP_SSL):
    def __init__(
        self, attempt: _Attempt, host: str, port: int, *, timeout: float, context: ssl.SSLContext
    ) -> None:
        attempt.begin(self)
        super().__init__(host, port, timeout=timeout, context=context)


def message_of(notification: Notification, channel: Email) -> EmailMessage:
    """Return the e-mail that says what `notification` does."""
    message = EmailMessage()
    message["From"] = channel.sender
    message["To"] = ", ".join(channel.to)
    message["Subject"] = title_of(notification)
    message["Date"] = format_datetime(notification.created)
    message["Message-ID"] = message_id(notification, channel)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text_of(notification))
    return message


def message_id(notification: Notification, channel: Email) -> str:
    """Return the `Message-ID` of a notification by this channel; always the same."""
    digest = hashlib.sha256(f"{channel.name}\n{notification.id}".encode()).hexdigest()[:32]
    return f"<{digest}@{parseaddr(channel.sender)[1].rpartition('@')[2]}>"


def _negative(code: int, text: str) -> Answer:
    outcome: Literal["failed", "refused"] = "refused" if code >= _PERMANENT else "failed"
    return Answer(outcome, code, f"{code} {text}".strip()[:200])


def _refusals(refused: dict[str, Any]) -> str:
    return "; ".join(f"{who}: {code} {_text(text)}" for who, (code, text) in refused.items())


def _text(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join(text.split())
