"""Addresses of the form host:port."""

from __future__ import annotations

import pytest

from synap.addresses import (
    client_group,
    following_port,
    is_loopback,
    join_address,
    split_address,
)


@pytest.mark.parametrize(
    ("text", "parts"), [("host:1", ("host", 1)), ("[::1]:65535", ("::1", 65535))]
)
def test_address_splits_and_joins(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert join_address(*parts) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":1", "host:0", "host:65536", "::1:1", "h:٣"]
)
def test_address_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|brackets"):
        split_address(text)


def test_address_following_port_stays_below_65536() -> None:
    assert following_port("host:15501") == "host:15502"
    assert following_port("host:65535") == "host:65535"


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
    ],
)
def test_client_is_an_ipv4_address_or_an_ipv6_network(address: str, group: str) -> None:
    assert client_group(address) == group


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_known_by_name_and_address(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "h", "localhost.example", "10.0.0.1", ""])
def test_other_hosts_are_no_loopback(host: str) -> None:
    assert not is_loopback(host)
