"""One HTTP request to a place that was checked, and what its answer means."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx2

from headrace.alerts.address import ForbiddenAddressError, check_addresses
from headrace.alerts.notification import Answer

MAX_ANSWER_BYTES: Final = 64 * 1024
"""Bytes of an answer that are read; where there are more the connection is closed."""
REASON_CHARACTERS: Final = 200

_PASSING: Final = (408, 409, 425, 429)
"""Statuses of 4xx that another attempt may not meet."""

Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of `host`, as this machine resolves names; blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class PinnedTransport(httpx2.AsyncBaseTransport):
    """Connects to an address that was checked, not to a name that may resolve otherwise later.

    The name is resolved once per request, all its addresses are checked, and the request goes to
    one of those; `Host` and the name in the certificate stay those of the URL.

    Args:
        allow_private: Addresses are not checked.
        threads: Name look-ups under way at once.
        resolver: Blocks, and returns the addresses of a name.
        tls: How certificates are checked; by default as `httpx2` does.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        threads: int,
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._resolver = resolver
        # Look-ups can hang: in threads of their own they hold up no other channel.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")
        self._inner = httpx2.AsyncHTTPTransport(
            verify=tls if tls is not None else True, trust_env=False
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the first checked address that can be connected to.

        Raises:
            ForbiddenAddressError: The name has an address that is not public.
            httpx2.TransportError: It has no address, or none answers.
        """
        url = request.url
        port = url.port or {"https": 443}.get(url.scheme, 80)
        # As it goes on the wire, other alphabets encoded.
        host = url.raw_host.decode("ascii")
        loop = asyncio.get_running_loop()
        try:
            addresses = await loop.run_in_executor(self._threads, self._resolver, host, port)
        except OSError as error:
            raise httpx2.ConnectError(f"{host} has no address: {error}") from error
        check_addresses(host, addresses, allow_private=self._allow_private)
        request.extensions = {**request.extensions, "sni_hostname": host}
        failure = httpx2.ConnectError(f"{host} has no address")
        for address in addresses:
            request.url = url.copy_with(host=address)
            try:
                return await self._inner.handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = httpx2.ConnectError(f"{address}: {error}")
        raise failure

    async def aclose(self) -> None:
        """Close connections; look-ups under way are left to end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._inner.aclose()


class GuardedHttp:
    """Sends requests of one channel to checked addresses only.

    Redirects are not followed: their target is unchecked, and a POST that was moved is a setting
    to change. No proxy is used, since it would choose the address.

    Args:
        timeout: Longest silence of the other side; who waits for the whole, cancels.
        concurrency: Requests under way at once.
        allow_private: Private addresses may be reached.
        resolver: How names are resolved.
        tls: How certificates are checked.
    """

    def __init__(
        self,
        *,
        timeout: timedelta,
        concurrency: int,
        allow_private: bool,
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._client = httpx2.AsyncClient(
            transport=PinnedTransport(
                allow_private=allow_private, threads=concurrency, resolver=resolver, tls=tls
            ),
            timeout=timeout.total_seconds(),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "headrace", "Accept-Encoding": "identity"},
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        content: bytes,
        headers: Mapping[str, str],
        auth: tuple[str, str] | None = None,
    ) -> Answer:
        """Send a request; what fails is in the answer."""
        basic = httpx2.BasicAuth(*auth) if auth is not None else None
        try:
            async with self._client.stream(
                method, url, content=content, headers=dict(headers), auth=basic
            ) as response:
                if response.is_success:
                    # Accepted: a body that breaks off cannot change that any more.
                    return Answer("delivered", response.status_code)
                said = await _beginning(response)
        except ForbiddenAddressError as error:
            return Answer("refused", reason=str(error))
        except httpx2.TimeoutException as error:
            return Answer("failed", reason=f"no answer in time: {type(error).__name__}")
        except httpx2.TransportError as error:
            return Answer("failed", reason=f"{type(error).__name__}: {error}")
        return _meaning(response, said)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


async def _beginning(response: httpx2.Response) -> str:
    """Return the beginning of an answer, undecoded: a small body may unpack to a huge one."""
    body = b""
    try:
        async for chunk in response.aiter_raw():
            body += chunk[: MAX_ANSWER_BYTES - len(body)]
            if len(body) >= MAX_ANSWER_BYTES:
                break
    except httpx2.TransportError:
        # The status has been read, and it says enough.
        pass
    if response.headers.get("content-encoding", "identity") != "identity":
        return ""
    return " ".join(body.decode("utf-8", "replace").split())[:REASON_CHARACTERS]


def _meaning(response: httpx2.Response, said: str) -> Answer:
    status = response.status_code
    if response.has_redirect_location:
        host = urlsplit(response.headers["location"]).hostname or "another path"
        return Answer("refused", status, f"redirects to {host}: redirects are not followed")
    reason = f"{status} {response.reason_phrase}".strip() + (f": {said}" if said else "")
    passing = status >= 500 or status in _PASSING  # noqa: PLR2004 - "server error" of HTTP
    asked = retry_after_s(response.headers.get("retry-after"), datetime.now(UTC))
    return Answer("failed" if passing else "refused", status, reason, asked if passing else None)


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, None where it says nothing.

    Example:
        >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        >>> retry_after_s("120", noon), retry_after_s("Thu, 01 Jan 2026 12:00:05 GMT", noon)
        (120.0, 5.0)
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(min(int(value.strip()[:12]), 10**9))
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return max((aware - now).total_seconds(), 0.0)
