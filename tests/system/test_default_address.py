"""A node that is started by hand and told no address serves its own machine alone."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support import HOST, Node

# Of the machine too, but not what a node listens on that listens on 127.0.0.1 alone.
OTHER_ADDRESS = "127.0.0.2"


@pytest.mark.parametrize("auth", [False, True])
def test_node_without_an_address_listens_on_the_loopback_alone(tmp_path: Path, auth: bool) -> None:
    settings = {"replication__role": "master", "auth__enabled": auth}
    node = Node(tmp_path, "node", settings, {"SYNAP_AUTH_ROOT_PASSWORD": "root-password"})
    del node.settings["server.host"]
    with node:
        assert node.is_healthy()
        assert f"http://{HOST}:{node.port}, for this machine alone" in node.log
        for port in (node.port, node.pub_port, node.sync_port):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((OTHER_ADDRESS, port), 5.0).close()


def test_node_that_is_told_every_address_says_what_others_may_do(tmp_path: Path) -> None:
    with Node(tmp_path, "node", {"server__host": "0.0.0.0"}) as node:
        socket.create_connection((OTHER_ADDRESS, node.port), 5.0).close()
        assert "can be reached from other machines, and every client may do everything" in node.log
