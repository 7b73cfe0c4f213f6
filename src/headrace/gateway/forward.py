"""Changes of control tables at another gateway go to the one of slot 0, which owns them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import httpx2
from starlette.requests import Request
from starlette.responses import Response

from headrace.core.errors import ConnectError, UnsupportedError

if TYPE_CHECKING:
    from headrace.gateway.core import Core

TIMEOUT_S: Final = 10.0
_PASSED: Final = ("content-type", "if-match", "idempotency-key")
_RETURNED: Final = ("content-type", "etag", "idempotency-replayed", "retry-after")


class ElsewhereError(UnsupportedError):
    """Control tables are changed at the gateway of slot 0, e.g. not at `--slot 1`."""

    code = "HR105"


async def forward(core: Core, request: Request, body: bytes) -> Response:
    """Send a request to the gateway of slot 0 and return its answer.

    Raises:
        ConnectError: It does not run, or did not answer; the change may have been made.
    """
    headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
    path = request.url.path
    if request.url.query:
        path += f"?{request.url.query}"
    answer = await send(core, request.method, path, body, headers)
    returned = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
    return Response(answer.content, answer.status_code, returned)


async def send(
    core: Core, method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> httpx2.Response:
    """Send something to the gateway of slot 0."""
    status = core.statuses.get("gateway-0", {})
    if not status.get("port"):
        raise ConnectError(
            "the gateway of slot 0, which owns control tables, does not run",
            hint="start one with --slot 0",
        )
    url = f"http://{status['host']}:{status['port']}{path}"
    try:
        async with httpx2.AsyncClient(timeout=TIMEOUT_S) as client:
            return await client.request(method, url, content=body, headers=dict(headers))
    except httpx2.HTTPError as error:
        raise ConnectError(
            "the gateway of slot 0 did not answer", hint="repeat with the same Idempotency-Key"
        ) from error
