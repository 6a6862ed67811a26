"""Which IP address a request comes from, through proxies that are trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synap.addresses import plain_address
from synap.http.api.headers import FORWARDED_FOR, HeaderName
from synap.http.api.trusted_proxies import TrustedProxies


def client_address(
    scope: Mapping[str, Any], headers: Mapping[HeaderName, bytes], trusted: TrustedProxies
) -> str:
    """Return the client's address; "" where there is none, as on a UNIX socket.

    X-Forwarded-For is believed from the right, for as long as what told it is a trusted proxy.

    Args:
        scope: The connection's ASGI scope.
        headers: By their names in lower case.
        trusted: The node's proxies.
    """
    return told_address(peer_address(scope), headers.get(FORWARDED_FOR, b""), trusted)


def told_address(address: str, forwarded_for: bytes, trusted: TrustedProxies) -> str:
    """Return the client's address where `address` is that of the other end; see `client_address`.

    Args:
        address: As `plain_address` gives it.
        forwarded_for: The value of X-Forwarded-For; b"" for none.
    """
    if not trusted:
        return address
    for told in reversed(forwarded_for.decode("latin-1").split(",")):
        if address not in trusted:
            break
        told_address = plain_address(told.strip())
        if not told_address:
            break
        address = told_address
    return address


def peer_address(scope: Mapping[str, Any]) -> str:
    """Return the address of the other end of the connection; "" where it has none."""
    client = scope.get("client")
    return plain_address(client[0]) if client else ""
