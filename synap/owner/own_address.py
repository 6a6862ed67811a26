"""Whether an address leads to this node itself, by whatever name it is called."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from synap.addresses import host_of_url, split_address

if TYPE_CHECKING:
    from synap.config.keys import Config


def own_address(addresses: Iterable[str], config: Config) -> str:
    """Return the first of `addresses` that is one of this node's own; empty where none is.

    Asks the resolver, so it may take a while.

    Args:
        addresses: `host:port` each.
        config: `replication` and `server.advertise_url`.
    """
    replication = config.replication
    listening = (replication.replica_listen_address, replication.sync_listen_address)
    ports = {split_address(each)[1] for each in listening}
    advertised = host_of_url(config.server.own_url)
    for address in addresses:
        host, port = split_address(address)
        if port in ports and (host == advertised or _is_here(host)):
            return address
    return ""


def _is_here(host: str) -> bool:
    """Say whether a name or an address is one of this machine's: only such can be bound."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return any(_can_bind(family, address) for family, _, _, _, address in found)


def _can_bind(family: int, address: tuple[object, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True
