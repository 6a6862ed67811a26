"""Which IP address a request comes from, through proxies that are trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Network = IPv4Network | IPv6Network


def client_address(
    scope: Mapping[str, Any], headers: Mapping[bytes, bytes], trusted: Sequence[Network]
) -> str:
    """Return the client's address; "" where there is none, as on a UNIX socket.

    X-Forwarded-For is believed from the right, for as long as what told it is a trusted proxy.

    Args:
        scope: The connection's ASGI scope.
        headers: By their names in lower case.
        trusted: The proxies' networks (server.trusted_proxies).
    """
    client = scope.get("client")
    address = _plain(client[0]) if client else ""
    if not trusted:
        return address
    forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
    for told in reversed(forwarded):
        if not _is_within(address, trusted):
            break
        told_address = _plain(told.strip())
        if not told_address:
            break
        address = told_address
    return address


def is_from_proxy(scope: Mapping[str, Any], trusted: Sequence[Network]) -> bool:
    """Return whether a trusted proxy is at the other end of the connection."""
    client = scope.get("client")
    return _is_within(_plain(client[0]) if client else "", trusted)


def _plain(text: str) -> str:
    """Return an address in its usual form, IPv4 in IPv6 as IPv4; "" where it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _is_within(address: str, networks: Sequence[Network]) -> bool:
    if not address:
        return False
    parsed = ip_address(address)
    return any(parsed in network for network in networks)
