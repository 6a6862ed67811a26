"""Whether a node may replicate as it is configured: a closed node serves no stranger.

Asked where a node starts and where its role changes, since the role is kept in the data directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synap.errors import ConfigInvalid

if TYPE_CHECKING:
    from synap.config.keys import Config


def check_membership(config: Config) -> None:
    """Refuse a master or replica that asks clients for credentials, and peers for nothing.

    Raises:
        ConfigInvalid: it would serve any machine that reaches its replication ports.
    """
    if config.auth.enabled and config.replication.is_open:
        raise ConfigInvalid([f"auth.enabled asks for credentials, but {open_ports(config)}"])


def open_ports(config: Config) -> str:
    """Say what it means that replication is open."""
    replication = config.replication
    addresses = f"{replication.replica_listen_address} and {replication.sync_listen_address}"
    return (
        f"every machine that reaches the replication ports, {addresses}, is served all data as a "
        "member is; set replication.secret, the same on all nodes, or listen on the loopback"
    )
