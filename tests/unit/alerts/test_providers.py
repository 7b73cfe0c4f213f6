"""Slack, SMS, push and apprise against local servers that stand for theirs."""

from __future__ import annotations

import asyncio
import base64
import sys
from typing import Any
from urllib.parse import parse_qs

import pytest

from headrace.alerts import channels
from headrace.alerts.channel import Channel
from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import Secrets
from headrace.core.errors import ConfigError, MissingExtraError
from tests.unit.alerts.samples import alert, batch, notification
from tests.unit.alerts.servers import HttpServer, Reply, http_server

SECRETS = Secrets({"SLACK_PATH": "T0/B0/xyz", "ACCOUNT": "AC1", "TOKEN": "t0ken"}, environment={})


async def send(channel: Channel, what: Notification) -> Answer:
    connection = channel.open(SECRETS, allow_private=True)
    try:
        async with asyncio.timeout(10):
            return await connection.deliver(what)
    finally:
        await connection.close()


async def test_slack_gets_a_text_that_mentions_nobody() -> None:
    what = notification(alerts=[alert(message="<!channel> & <https://evil.example|click>")])
    async with http_server() as server:
        channel = channels.slack(f"http://127.0.0.1:{server.port}/services/${{SLACK_PATH}}")
        answer = await send(channel, what)

    (received,) = server.received
    assert answer.outcome == "delivered"
    assert received.path == "/services/T0/B0/xyz"
    text = received.json()["text"]
    assert text.startswith("*[critical] Too deep: auv-1 firing*\n")
    assert "&lt;!channel&gt; &amp; &lt;https" in text


async def test_sms_is_a_form_with_basic_auth() -> None:
    async with http_server(Reply(201)) as server:
        channel = channels.sms(
            f"http://127.0.0.1:{server.port}/Accounts/${{ACCOUNT}}/Messages.json",
            form={"To": "{to}", "From": "{sender}", "Body": "{title}"},
            auth=("${ACCOUNT}", "TOKEN"),
            to="+15550100",
            sender="+15550199",
        )
        answer = await send(channel, notification(key="a&Body=b"))

    (received,) = server.received
    assert answer == Answer("delivered", 201)
    assert received.path == "/Accounts/AC1/Messages.json"
    assert parse_qs(received.body.decode()) == {
        "To": ["+15550100"],
        "From": ["+15550199"],
        "Body": ["[critical] Too deep: a&Body=b firing"],
    }
    token = received.headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(token) == b"AC1:t0ken"


async def test_push_is_json_whose_priority_is_a_number() -> None:
    async with http_server() as server:
        channel = channels.push(
            f"http://127.0.0.1:{server.port}/",
            method="PUT",
            json={"topic": "alerts", "message": "{text}", "priority": "{priority}", "n": [1]},
            headers={"Authorization": "Bearer ${TOKEN}", "X-Title": "{title}"},
            most_characters=30,
        )
        what = notification(alerts=[alert("x\r\nX-Evil: 1", message='"} ${TOKEN} {title}')])
        answer = await send(channel, what)

    (received,) = server.received
    assert answer.outcome == "delivered"
    assert received.method == "PUT"
    assert received.headers["authorization"] == "Bearer t0ken"
    assert received.headers["x-title"] == "[critical] Too deep: x X-Evil: 1 firing"
    assert "x-evil" not in received.headers
    body = received.json()
    assert (body["topic"], body["priority"], body["n"]) == ("alerts", 5, [1])
    assert len(body["message"]) == 30
    assert body["message"].endswith("…")


async def test_what_a_message_says_is_not_expanded_again() -> None:
    async with http_server() as server:
        channel = channels.push(f"http://127.0.0.1:{server.port}/", json={"m": "{text}"})
        await send(channel, notification(alerts=[alert(message="${TOKEN} {title}")]))

    assert "${TOKEN} {title}" in server.received[0].json()["m"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"json": {"a": "{nothing}"}}, "nothing of a notification"),
        ({"json": {"a": "b"}, "form": {"a": "b"}}, "needs json= or form="),
        ({}, "needs json= or form="),
        ({"json": {}, "method": "GET"}, "method"),
        ({"json": {}, "name": "a/b"}, "cannot name a channel"),
        ({"json": {}, "timeout": "0s"}, "must be positive"),
        ({"json": {}, "longest_pause": "1ms"}, "shorter than first_pause"),
        ({"json": {}, "attempts": 0}, "attempts"),
    ],
)
def test_what_cannot_work_is_refused(request_: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        channels.push("https://push.example.com", **request_)


def test_no_value_of_a_secret_is_in_a_description() -> None:
    channel = channels.push(
        "https://push.example.com/${ACCOUNT}",
        json={"token": "${TOKEN}"},
        auth=("${ACCOUNT}", "TOKEN"),
    )
    channel.open(SECRETS)

    assert "t0ken" not in channel.model_dump_json()
    assert sorted(set(channel.secrets())) == ["ACCOUNT", "TOKEN"]


async def test_a_websocket_has_delivered_what_is_in_the_topic() -> None:
    answer = await send(channels.websocket("/ws/alerts"), notification())

    assert answer.outcome == "delivered"
    with pytest.raises(ConfigError, match="path"):
        channels.websocket("/alerts")


async def apprise_answer(server: HttpServer, what: Notification) -> Answer:
    channel = channels.apprise(f"gotify://127.0.0.1:{server.port}/${{TOKEN}}")
    return await send(channel, what)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_apprise_sends_by_its_services() -> None:
    pytest.importorskip("apprise")
    async with http_server(Reply(200), Reply(500)) as server:
        answers = [await apprise_answer(server, batch(alert("a"), alert("b"))) for _ in range(2)]

    assert [answer.outcome for answer in answers] == ["delivered", "failed"]
    received = server.received[0]
    assert received.headers["x-gotify-key"] == "t0ken"
    assert received.json()["title"] == "[warning] 2 alerts: 2 critical"


def test_without_apprise_the_hint_is_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)

    with pytest.raises(MissingExtraError, match=r"pip install headrace\[notify\]"):
        channels.apprise("ntfy://alarms").open(SECRETS)


@pytest.mark.parametrize("url", ["syslog://", "dbus://", "json://localhost", "mailto://a:b@c.de"])
def test_apprise_does_not_act_on_this_machine(url: str) -> None:
    with pytest.raises(ConfigError, match="no service that apprise may use"):
        channels.apprise(url)
