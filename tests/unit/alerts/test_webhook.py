from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from datetime import timedelta

import pytest

from headrace.alerts import channels
from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import Secrets
from headrace.alerts.webhook import Webhook, signing_key, webhook_body
from headrace.core.errors import ConfigError
from tests.unit.alerts.samples import alert, batch, notification
from tests.unit.alerts.servers import HttpServer, Reply, http_server

SECRETS = Secrets({"HOOK_SECRET": "s3cret-of-the-hook", "TOKEN": "t0ken"}, environment={})


async def send(hook: Webhook, what: Notification) -> Answer:
    connection = hook.open(SECRETS)
    try:
        async with asyncio.timeout(10):
            return await connection.deliver(what)
    finally:
        await connection.close()


async def answer_to(*replies: Reply) -> tuple[Answer, HttpServer]:
    async with http_server(*replies) as server:
        hook = channels.webhook(server.url, allow_private=True)
        return await send(hook, notification()), server


async def test_a_notification_arrives_as_json_under_its_key() -> None:
    async with http_server() as server:
        hook = channels.webhook(
            server.url, headers={"Authorization": "Bearer ${TOKEN}"}, allow_private=True
        )
        answer = await send(hook, notification(key="auv-7", transition=3))

    (received,) = server.received
    assert answer == Answer("delivered", 200)
    assert (received.method, received.path) == ("POST", "/hook")
    assert received.headers["idempotency-key"] == "deep/auv-7/3"
    assert received.headers["authorization"] == "Bearer t0ken"
    assert received.headers["host"] == f"127.0.0.1:{server.port}"
    body = received.json()
    assert (body["rule_id"], body["key"], body["transition"]) == ("deep", "auv-7", 3)
    assert body["alerts"][0]["metrics"] == [{"metric": "depth_m", "value": 212.5}]
    assert body["created"] == "2026-01-01T12:00:00Z"


async def test_the_signature_is_over_id_time_and_body() -> None:
    async with http_server() as server:
        name = "HOOK_SECRET"
        hook = channels.webhook(server.url, secret=name, allow_private=True)
        await send(hook, notification())

    (received,) = server.received
    signed = b".".join(
        [
            received.headers["webhook-id"].encode(),
            received.headers["webhook-timestamp"].encode(),
            received.body,
        ]
    )
    digest = hmac.new(b"s3cret-of-the-hook", signed, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    assert received.headers["webhook-signature"] == expected
    assert received.headers["webhook-id"] == received.headers["idempotency-key"]


def test_a_standard_secret_is_base64() -> None:
    assert signing_key("whsec_" + base64.b64encode(b"bytes").decode()) == b"bytes"
    with pytest.raises(ConfigError, match="no base64"):
        signing_key("whsec_%%%")


@pytest.mark.parametrize(
    ("rule", "key"), [("a/b", "c"), ("a", "b/c"), ("ä", "x\r\nX-Evil: 1"), ("a", " b")]
)
def test_no_two_alerts_share_a_key_and_no_key_breaks_a_header(rule: str, key: str) -> None:
    what = notification(alerts=[alert(key, rule_id=rule)])

    assert what.idempotency_key.isascii()
    assert what.idempotency_key.isprintable()
    assert " " not in what.idempotency_key
    assert what.idempotency_key.count("/") == 2


def test_a_batch_has_its_alerts_and_no_transition() -> None:
    body = webhook_body(batch(alert("a"), alert("b")))

    assert b'"transition":1' in body
    assert b'"kind":"batch"' in body
    assert b'"rule_id":"deep","rule_name"' in body
    assert not body.startswith(b'{"rule_id"')
    assert b'"created":"2026-01-01T12:00:00Z","alerts":[{' in body


def test_a_value_that_is_not_a_number_is_null() -> None:
    what = notification(alerts=[alert(metrics=[{"metric": "x", "value": float("nan")}])])

    assert b'{"metric":"x","value":null}' in webhook_body(what)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
async def test_what_can_never_pass_is_refused(status: int) -> None:
    answer, _ = await answer_to(Reply(status, body=b"no such\nhook"))

    assert answer.outcome == "refused"
    assert answer.status == status
    assert answer.reason == f"{status} Said: no such hook"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_later_has_failed(status: int) -> None:
    answer, _ = await answer_to(Reply(status))

    assert (answer.outcome, answer.status, answer.retry_after_s) == ("failed", status, None)


async def test_retry_after_is_read() -> None:
    answer, _ = await answer_to(Reply(429, (("Retry-After", "17"),)))

    assert answer.retry_after_s == 17.0


async def test_an_answer_that_breaks_off_before_its_status_has_failed() -> None:
    answer, _ = await answer_to(Reply(200, cut=9))

    assert answer.outcome == "failed"
    assert "RemoteProtocolError" in answer.reason


async def test_an_answer_that_breaks_off_after_its_status_counts() -> None:
    reply = Reply(200, body=b"x" * 1000)
    answer, _ = await answer_to(Reply(200, body=reply.body, cut=len(reply.encoded()) - 500))

    assert answer == Answer("delivered", 200)


async def test_an_endless_answer_is_read_to_its_limit_only() -> None:
    answer, _ = await answer_to(Reply(500, body=b"x" * 5_000_000))

    assert answer.outcome == "failed"
    assert len(answer.reason) < 300


async def test_a_server_that_hangs_does_not_hold_on() -> None:
    async with http_server(Reply(hang=True)) as server:
        hook = channels.webhook(server.url, allow_private=True, timeout="200ms")
        answer = await send(hook, notification())

    assert answer.outcome == "failed"
    assert answer.reason.startswith("no answer in time")


async def test_nobody_listening_has_failed() -> None:
    async with http_server() as server:
        hook = channels.webhook(server.url, allow_private=True)

    answer = await send(hook, notification())

    assert answer.outcome == "failed"
    assert "ConnectError" in answer.reason


async def test_a_redirect_is_not_followed() -> None:
    async with http_server() as inside:
        location = (("Location", inside.url),)
        answer, outside = await answer_to(Reply(307, location))

    assert answer.outcome == "refused"
    assert answer.reason == "redirects to 127.0.0.1: redirects are not followed"
    assert (len(outside.received), len(inside.received)) == (1, 0)


def test_times_are_durations() -> None:
    hook = channels.webhook("https://hooks.example.com", timeout="3s", name="duty")

    assert (hook.timeout, hook.name) == (timedelta(seconds=3), "duty")
