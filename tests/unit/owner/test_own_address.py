"""A node's own addresses, as `follow` may name them."""

from __future__ import annotations

import socket

import pytest

from synap.config.loading import load_config
from synap.owner.own_address import own_address

SETTINGS = {
    "replication.replica_listen_address": "0.0.0.0:7501",
    "replication.sync_listen_address": "0.0.0.0:7502",
    "server.advertise_url": "http://node1.example:15500",
}


@pytest.mark.parametrize(
    ("address", "is_own"),
    [
        ("127.0.0.1:7501", True),
        ("localhost:7501", True),
        ("[::1]:7501", True),
        (f"{socket.gethostname()}:7502", True),
        ("0.0.0.0:7501", True),
        ("node1.example:7501", True),
        ("127.0.0.1:7503", False),
        ("192.0.2.1:7501", False),
        ("no-such-host.invalid:7501", False),
    ],
)
def test_address_is_told_for_the_node_s_own(address: str, is_own: bool) -> None:
    config = load_config(None, SETTINGS, environ={})
    assert own_address(["192.0.2.1:1", address], config) == (address if is_own else "")
