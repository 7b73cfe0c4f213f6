"""Which addresses a channel may connect to: an alert must not become a way into the network."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit

from headrace.core.errors import ConfigError

SCHEMES: Final = ("https", "http")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv6 ranges that are routed to the IPv4 address in their last 32 bits.
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")


class ForbiddenAddressError(Exception):
    """An address that channels may not connect to; `deliver` turns it into an answer."""


def is_public(text: str) -> bool:
    """Return whether an IP address is one of the public internet.

    Private, loopback, link-local, shared, reserved and multicast addresses are not, nor are IPv6
    addresses that stand for such an IPv4 address.

    Example:
        >>> [is_public(a) for a in ("1.1.1.1", "169.254.169.254", "::ffff:127.0.0.1")]
        [True, False, False]
    """
    address: _Address = ipaddress.ip_address(text.partition("%")[0])
    return all(one.is_global and not one.is_multicast for one in (address, *_embedded(address)))


def _embedded(address: _Address) -> list[_Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[_Address] = []
    if address.ipv4_mapped is not None:
        # Python before 3.13 calls some mapped addresses global.
        found.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    if address in _NAT64 or address in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def check_addresses(host: str, addresses: list[str], *, allow_private: bool) -> None:
    """Check all that a name resolved to: one bad address spoils the name.

    Raises:
        ForbiddenAddressError: One is not public, and `allow_private` does not hold.
    """
    if allow_private:
        return
    for address in addresses:
        if not is_public(address):
            at = f"{host} is at {address}" if host != address else address
            raise ForbiddenAddressError(
                f"{at}, which is not a public address; allow_private=True lets a channel go there"
            )


def check_url(url: str, *, allow_private: bool) -> SplitResult:
    """Return the parts of a channel's URL, its scheme and literal address checked.

    Raises:
        ConfigError: It has no host, another scheme, a password in the clear, or an address that
            is not public.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"a channel's URL cannot be read: {error}") from error
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"a channel's URL has scheme {parts.scheme!r}", hint=f"use {' or '.join(SCHEMES)}"
        )
    if not host:
        raise ConfigError("a channel's URL has no host", hint='e.g. "https://hooks.example.com/a"')
    if parts.password is not None or parts.username is not None:
        raise ConfigError(
            f"the URL of {host} holds a user or password",
            hint='give auth=("user", "NAME_OF_SECRET") or a header with ${NAME_OF_SECRET}',
        )
    try:
        literal = str(ipaddress.ip_address(host))
    except ValueError:
        literal = "127.0.0.1" if host.rstrip(".").endswith("localhost") else ""
    if literal and not allow_private and not is_public(literal):
        raise ConfigError(
            f"{host} is not a public address", hint="allow_private=True lets the channel go there"
        )
    return parts
