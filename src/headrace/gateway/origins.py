"""Who may write or listen from a browser: pages of our own origin and those listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


def origin_allowed(headers: Mapping[bytes, bytes], origins: Iterable[str], host: str) -> bool:
    """Say whether a request may change or follow anything.

    A request without `Origin` does not come from a page of another site. One with it must name
    the host it was sent to or be listed; a gateway bound to this machine answers only names of
    this machine, so that no foreign name that resolves to it (DNS rebinding) counts as our own.

    Args:
        headers: Of the request, names in lower case.
        origins: Listed origins; `*` allows all.
        host: The address the gateway is bound to.
    """
    origin = headers.get(b"origin")
    if origin is None:
        return True
    text = origin.decode("latin-1")
    listed = set(origins)
    if "*" in listed or text in listed:
        return True
    try:
        page = urlsplit(text)
        name = page.hostname or ""
    except ValueError:
        return False
    if page.netloc != headers.get(b"host", b"").decode("latin-1"):
        return False
    return host not in LOOPBACK or name in LOOPBACK
