from __future__ import annotations

import asyncio

import httpx2
import pytest

from headrace.alerts import channels
from headrace.alerts.address import check_url, is_public
from headrace.alerts.guarded_http import GuardedHttp, PinnedTransport
from headrace.alerts.notification import Answer
from headrace.alerts.secrets import Secrets
from headrace.core.errors import ConfigError
from headrace.core.time import duration
from tests.unit.alerts.certificates import Certificate
from tests.unit.alerts.samples import notification
from tests.unit.alerts.servers import http_server

NO_SECRETS = Secrets(environment={})
PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_no_such_address_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_such_an_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com", "scheme 'ftp'"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("https://", "no host"),
        ("https://u:p@example.com", "holds a user"),
        ("https://example.com:http/", "cannot be read"),
        ("http://127.0.0.1/", "not a public address"),
        ("http://[::1]:8000/", "not a public address"),
        ("http://api.localhost/", "not a public address"),
    ],
)
def test_a_url_is_checked_before_anything_starts(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        channels.webhook(url).open(NO_SECRETS)


def test_settings_or_channel_may_allow_what_is_private() -> None:
    assert check_url("http://127.0.0.1", allow_private=True).hostname == "127.0.0.1"
    channels.webhook("http://127.0.0.1", allow_private=True).open(NO_SECRETS)
    channels.webhook("http://127.0.0.1").open(NO_SECRETS, allow_private=True)


async def attempt(url: str, addresses: list[list[str]], *, private: bool = False) -> Answer:
    """Send to a name that resolves to the n-th of `addresses` when asked for the n-th time."""
    asked = iter(addresses)
    http = GuardedHttp(
        timeout=duration("2s"),
        concurrency=1,
        allow_private=private,
        resolver=lambda _host, _port: next(asked),
    )
    try:
        async with asyncio.timeout(5):
            return await http.send("POST", url, content=b"{}", headers={})
    finally:
        await http.close()


async def test_a_name_at_a_private_address_is_refused_and_nobody_is_called() -> None:
    async with http_server() as server:
        url = f"http://hooks.example:{server.port}/"
        answer = await attempt(url, [["127.0.0.1"]])

    assert answer.outcome == "refused"
    assert answer.reason.startswith("hooks.example is at 127.0.0.1, which is not a public")
    assert server.received == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "localhost"])
async def test_no_other_way_to_write_an_address_leads_inside(host: str) -> None:
    async with http_server() as server:
        http = GuardedHttp(timeout=duration("5s"), concurrency=1, allow_private=False)
        answer = await http.send("POST", f"http://{host}:{server.port}/", content=b"", headers={})
        await http.close()

    assert answer.outcome == "refused"
    assert server.received == []


async def test_a_name_in_another_alphabet_is_looked_up_as_it_is_registered() -> None:
    async with http_server() as server:
        http = GuardedHttp(
            timeout=duration("5s"),
            concurrency=1,
            allow_private=True,
            resolver=lambda host, _port: {"xn--mnchen-3ya.example": ["127.0.0.1"]}[host],
        )
        url = f"http://m\u00fcnchen.example:{server.port}/"
        answer = await http.send("POST", url, content=b"{}", headers={})
        await http.close()

    assert answer == Answer("delivered", 200)


async def test_one_private_address_among_public_ones_is_refused() -> None:
    answer = await attempt("http://hooks.example/", [["1.1.1.1", "10.0.0.1"]])

    assert answer.outcome == "refused"


async def test_the_name_is_not_asked_for_again_after_the_check() -> None:
    # A second look-up would raise StopIteration here, and could lead elsewhere in real life.
    async with http_server() as server:
        answer = await attempt(
            f"http://hooks.example:{server.port}/", [["127.0.0.1"]], private=True
        )

    assert answer == Answer("delivered", 200)
    assert server.received[0].headers["host"] == f"hooks.example:{server.port}"


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    async with http_server() as server:
        answer = await attempt(
            f"http://hooks.example:{server.port}/", [["127.0.0.9", "127.0.0.1"]], private=True
        )

    assert answer == Answer("delivered", 200)


async def test_a_name_without_address_has_failed() -> None:
    def resolver(_host: str, _port: int) -> list[str]:
        raise OSError("Name or service not known")

    transport = PinnedTransport(allow_private=False, threads=1, resolver=resolver)
    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx2.ConnectError, match=r"hooks\.example has no address"):
            await client.get("http://hooks.example/")


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_server() as proxy, http_server() as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        connection = channels.webhook(server.url, allow_private=True).open(NO_SECRETS)
        answer = await connection.deliver(notification())
        await connection.close()

    assert answer.outcome == "delivered"
    assert proxy.received == []


@pytest.mark.parametrize(("host", "outcome"), [("hooks.example", "delivered"), ("x", "failed")])
async def test_the_certificate_must_be_of_the_name_though_the_address_is_pinned(
    certificate: Certificate, host: str, outcome: str
) -> None:
    async with http_server(tls=certificate.server) as server:
        http = GuardedHttp(
            timeout=duration("5s"),
            concurrency=1,
            allow_private=True,
            resolver=lambda _host, _port: ["127.0.0.1"],
            tls=certificate.client,
        )
        answer = await http.send(
            "POST", f"https://{host}:{server.port}/", content=b"{}", headers={}
        )
        await http.close()

    assert answer.outcome == outcome
    assert len(server.received) == (outcome == "delivered")
