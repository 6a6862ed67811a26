"""Which address a request comes from."""

from __future__ import annotations

import pytest

from synap.http.api.client_address import client_address
from synap.http.api.trusted_proxies import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.5, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.1, garbage", "10.0.0.1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("fd00::1", "2001:DB8::1", "2001:db8::1"),
    ],
)
def test_forwarded_address_is_believed_of_trusted_proxies_alone(
    peer: str, forwarded: str, address: str
) -> None:
    headers = {b"x-forwarded-for": forwarded.encode()} if forwarded else {}
    assert client_address({"client": (peer, 1)}, headers, PROXIES) == address


def test_connection_without_an_address_has_none() -> None:
    assert client_address({"client": None}, {b"x-forwarded-for": b"192.0.2.1"}, PROXIES) == ""
