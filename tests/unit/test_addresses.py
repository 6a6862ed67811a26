"""Addresses of the form host:port."""

from __future__ import annotations

import pytest

from synap.addresses import following_port, join_address, split_address


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
