"""Talk to a running gateway; its answers become our errors."""

from __future__ import annotations

from typing import Any

import httpx2

from headrace.core.errors import ConnectError, DataError, OutsideError


def ask(url: str, path: str, **parameters: Any) -> Any:
    """GET `path` and return the JSON answer.

    Raises:
        ConnectError: Nobody answers there.
        DataError: The gateway refused the request; its reason and hint are kept.
        OutsideError: The gateway failed.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    try:
        answer = httpx2.get(url + path, params=given, timeout=10)
    except httpx2.HTTPError as error:
        raise ConnectError(
            f"no answer from {url}: {error}",
            hint="is it running? start one with `headrace run APP`, or name it with --url",
        ) from error
    return checked(answer).json()


def checked(answer: httpx2.Response) -> httpx2.Response:
    """Return a good answer; raise what a bad one says."""
    if answer.is_success:
        return answer
    try:
        body = answer.json()
    except ValueError:
        body = {}
    message = str(body.get("message") or body.get("detail") or f"HTTP {answer.status_code}")
    hint = str(body.get("hint", ""))
    if answer.is_client_error:
        raise DataError(message, hint=hint)
    raise OutsideError(message, hint=hint)
