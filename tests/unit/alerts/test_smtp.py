from __future__ import annotations

import asyncio
from email import message_from_string
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest

from headrace.alerts import channels
from headrace.alerts.notification import Answer
from headrace.alerts.secrets import Secrets
from headrace.alerts.smtp import Email, message_id, message_of
from headrace.core.errors import ConfigError
from tests.unit.alerts.certificates import Certificate
from tests.unit.alerts.samples import alert, batch, notification
from tests.unit.alerts.servers import SmtpServer, smtp_server

SECRETS = Secrets({"SMTP_PASSWORD": "p@ss/word", "USER": "me"}, environment={})
TO = ("duty@example.com", "lead@example.com")


def email(url: str, **options: Any) -> Email:
    return channels.email(url, TO, "Headrace <alerts@example.com>", **options)


async def send(channel: Email, deadline_s: float = 10.0, **fields: Any) -> Answer:
    connection = channel.open(SECRETS)
    try:
        async with asyncio.timeout(deadline_s):
            return await connection.deliver(notification(**fields))
    finally:
        await connection.close()


async def answer_of(server: SmtpServer, **options: Any) -> Answer:
    async with smtp_server(server):
        return await send(email(f"smtp://127.0.0.1:{server.port}", **options))


def body_of(text: str) -> str:
    message = message_from_string(text.removesuffix(".\n"), policy=default)
    assert isinstance(message, EmailMessage)
    return str(message.get_content()).strip()


async def test_a_message_reaches_every_recipient() -> None:
    server = SmtpServer()

    answer = await answer_of(server)

    ((recipients, text),) = server.messages
    assert answer == Answer("delivered", 250)
    assert recipients == list(TO)
    assert "From: Headrace <alerts@example.com>\n" in text
    assert "To: duty@example.com, lead@example.com\n" in text
    assert "Subject: [critical] Too deep: auv-1 firing\n" in text
    assert "Date: Thu, 01 Jan 2026 12:00:00 +0000\n" in text
    assert body_of(text) == (
        "2026-01-01 12:00:00 UTC critical firing: Too deep, auv-1 "
        "212.5 m is below 200 m (depth_m = 212.5)"
    )


async def test_a_repeat_has_the_same_message_id() -> None:
    server = SmtpServer()
    async with smtp_server(server):
        channel = email(f"smtp://127.0.0.1:{server.port}")
        for transition in (1, 1, 2):
            await send(channel, transition=transition)

    ids = [line for _, text in server.messages for line in text.split("\n") if "Message-ID" in line]
    assert ids[0] == ids[1] != ids[2]
    assert message_id(notification(), channel) in ids[0]
    assert ids[0].endswith("@example.com>")


def test_what_a_message_says_cannot_become_a_header() -> None:
    what = notification(alerts=[alert("x\r\nBcc: evil@example.com", message="a\nSubject: b")])
    message = message_of(what, email("smtp://mail.example"))

    assert message["Bcc"] is None
    assert message["Subject"] == "[critical] Too deep: x Bcc: evil@example.com firing"


def test_a_batch_lists_its_alerts_and_counts_the_rest() -> None:
    many = batch(*(alert(f"auv-{n}", severity="warning") for n in range(25)))
    message = message_of(many, email("smtp://mail.example"))

    assert message["Subject"] == "[warning] 25 alerts: 25 warning"
    assert message.get_content().strip().endswith("and 5 more")


@pytest.mark.parametrize(
    ("server", "outcome", "status"),
    [
        (SmtpServer(data_reply="554 5.7.1 rejected as spam"), "refused", 554),
        (SmtpServer(data_reply="451 4.3.0 try later"), "failed", 451),
        (SmtpServer(refuse=dict.fromkeys(TO, "550 5.1.1 nobody")), "refused", 550),
        (SmtpServer(refuse={TO[0]: "550 5.1.1 nobody", TO[1]: "450 4.2.1 busy"}), "failed", 450),
    ],
)
async def test_a_negative_reply_says_whether_to_try_again(
    server: SmtpServer, outcome: str, status: int
) -> None:
    answer = await answer_of(server)

    assert (answer.outcome, answer.status) == (outcome, status)
    assert server.messages == []


async def test_who_was_left_out_is_said_and_the_others_are_not_told_twice() -> None:
    answer = await answer_of(SmtpServer(refuse={TO[1]: "550 5.1.1 nobody"}))

    assert answer == Answer("delivered", 250, "not to lead@example.com: 550 5.1.1 nobody")


@pytest.mark.parametrize("word", ["greeting", "EHLO", "DATA"])
async def test_a_server_that_falls_silent_is_left_in_time(word: str) -> None:
    server = SmtpServer(silent_at=word)
    async with smtp_server(server):
        channel = email(f"smtp://127.0.0.1:{server.port}", timeout="20s")
        with pytest.raises(TimeoutError):
            await send(channel, deadline_s=0.3)

        # The thread let go of the connection long before its own time was over.
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_silence_after_the_message_does_not_matter() -> None:
    server = SmtpServer(silent_at="QUIT")
    async with smtp_server(server):
        answer = await send(email(f"smtp://127.0.0.1:{server.port}", timeout="20s"), 5.0)

    assert answer == Answer("delivered", 250)


async def test_nobody_listening_has_failed() -> None:
    async with smtp_server(SmtpServer()) as server:
        pass

    answer = await send(email(f"smtp://127.0.0.1:{server.port}"))

    assert answer.outcome == "failed"
    assert "ConnectionRefusedError" in answer.reason


async def test_a_password_goes_over_starttls(certificate: Certificate) -> None:
    server = SmtpServer(tls=certificate.server, user=("me", "p@ss/word"))
    async with smtp_server(server):
        url = f"smtp://${{USER}}:${{SMTP_PASSWORD}}@127.0.0.1:{server.port}"
        answer = await send(email(url, ca_file=str(certificate.cert)))

    assert answer == Answer("delivered", 250)
    assert server.is_encrypted
    assert server.said.index("STARTTLS") < min(
        number for number, line in enumerate(server.said) if line.startswith("AUTH")
    )


async def test_tls_from_the_start(certificate: Certificate) -> None:
    server = SmtpServer(user=("me", "p@ss/word"))
    async with smtp_server(server, implicit=certificate.server):
        url = f"smtps://me:${{SMTP_PASSWORD}}@127.0.0.1:{server.port}"
        answer = await send(email(url, ca_file=str(certificate.cert)))

    assert answer == Answer("delivered", 250)


async def test_a_certificate_nobody_vouches_for_has_failed(certificate: Certificate) -> None:
    answer = await answer_of(SmtpServer(tls=certificate.server))

    assert answer.outcome == "failed"
    assert "CERTIFICATE_VERIFY_FAILED" in answer.reason


async def test_a_password_is_not_sent_in_the_clear() -> None:
    server = SmtpServer(user=("me", "p@ss/word"))
    async with smtp_server(server):
        url = f"smtp://me:${{SMTP_PASSWORD}}@127.0.0.1:{server.port}"
        answer = await send(email(url))

    assert answer.outcome == "refused"
    assert "no TLS" in answer.reason
    assert not [line for line in server.said if line.startswith("AUTH")]


async def test_starttls_can_be_insisted_on() -> None:
    answer = await answer_of(SmtpServer(), tls="starttls")

    assert answer.outcome == "refused"


async def test_a_wrong_password_is_refused(certificate: Certificate) -> None:
    server = SmtpServer(tls=certificate.server, user=("me", "another"))
    async with smtp_server(server):
        url = f"smtp://me:${{SMTP_PASSWORD}}@127.0.0.1:{server.port}"
        answer = await send(email(url, ca_file=str(certificate.cert)))

    assert (answer.outcome, answer.status) == ("refused", 535)
    assert "p@ss/word" not in answer.reason


@pytest.mark.parametrize(
    ("url", "to", "words"),
    [
        ("smtp://me:plain@mail.example", TO, "holds a password"),
        ("http://mail.example", TO, "has scheme 'http'"),
        ("smtp://mail.example:port", TO, "cannot be read"),
        ("smtp://mail.example", ("nobody",), "no e-mail address"),
        ("smtp://mail.example", (), "to"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    url: str, to: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        channels.email(url, to, "alerts@example.com")


def test_the_whole_url_can_be_a_secret() -> None:
    channel = email("${SMTP_URL}")

    assert channel.secrets() == ("SMTP_URL",)
    with pytest.raises(ConfigError, match="secret 'SMTP_URL' is not set"):
        channel.open(SECRETS)
    channel.open(Secrets({"SMTP_URL": "smtps://me:pw@mail.example"}, environment={}))
